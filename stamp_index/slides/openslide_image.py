"""Slides in the vendors' formats, and tiled TIFFs, through OpenSlide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import ImageFormatError
from stamp_index.slides.file_image import FileImage
from stamp_index.slides.images import Level, exact_downsample, one_mpp
from stamp_index.slides.plain import to_rgb

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from openslide import OpenSlide


class OpenSlideImage(FileImage):
    """A slide file that OpenSlide opens.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ImageFormatError
        If OpenSlide knows the format but cannot open the file.
    """

    reads_pieces = True

    _HANDLES = ("_slide",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._slide: OpenSlide | None = None
        slide = self._open()
        self.vendor: str = slide.properties.get("openslide.vendor", "")
        self._mpp = one_mpp(
            _number(slide.properties.get("openslide.mpp-x")),
            _number(slide.properties.get("openslide.mpp-y")),
            self.uri,
        )
        full = slide.dimensions
        self._levels = tuple(
            Level(width, height, exact_downsample(full, (width, height)))
            for width, height in slide.level_dimensions
        )
        self._openslide_downsamples = tuple(slide.level_downsamples)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._slide is not None:
                self._slide.close()
                self._slide = None

    def _open(self) -> OpenSlide:
        import openslide

        with self._lock:
            if self._slide is None:
                try:
                    self._slide = openslide.OpenSlide(self.path)
                except openslide.OpenSlideError as exc:
                    msg = f"OpenSlide cannot open {self.path} ({exc}). Copy or export it again."
                    raise ImageFormatError(msg) from exc
            return self._slide

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        import openslide

        left, top, right, bottom = box
        # OpenSlide takes level-0 pixels and divides by its own, rounded, downsample.
        factor = self._openslide_downsamples[level]
        location = (round(left * factor), round(top * factor))
        try:
            region = self._open().read_region(location, level, (right - left, bottom - top))
        except openslide.OpenSlideError as exc:
            # OpenSlide refuses every later call on a slide that failed once. Other threads may be
            # reading through this handle, so it is let go and not closed.
            with self._lock:
                self._slide = None
            msg = (
                f"{self.path} opens, but its pixels cannot be read at x {location[0]}, "
                f"y {location[1]} px ({exc}). The file is damaged: copy or export it again."
            )
            raise ImageFormatError(msg) from exc
        if region.getchannel("A").getextrema() == (255, 255):  # opaque, as nearly always
            # Pillow drops the fourth channel in a fifth of the time that NumPy takes.
            return np.asarray(region.convert("RGB"))
        return to_rgb(region)


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return None
