"""Images in ``spatial/`` of a Space Ranger run, of Visium and Visium HD alike.

Positions are in pixels of the full-resolution image, which is seldom there. This module works out
which image there is, and how many of its pixels make one full-resolution pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.image_scale import (
    FROM_A_SMALL_COPY,
    refuse_other_sizes,
    scale_by_size,
)
from stamp_index.readers.common.regular import load_json
from stamp_index.slides import open_image

if TYPE_CHECKING:
    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

SCALE_FACTORS: Final = "scalefactors_json.json"
_KINDS: Final = ("hires", "lowres")
_KNOWN_SCALE_TOLERANCE: Final = 0.05


@dataclass(frozen=True)
class SpatialImages:
    """Images of one run.

    Attributes
    ----------
    folders : tuple of Path
        Where to look for images, the first choice first.
    root : Path
        The run's folder, which they lie in.
    scale_factors : dict
        As in ``scalefactors_json.json``.
    """

    folders: tuple[Path, ...]
    root: Path
    scale_factors: dict[str, float]

    def choose(
        self, options: SlideOptions, full_mpp: float | None
    ) -> tuple[SlideImage | None, float, str]:
        """Choose the image: what the user gives, else the hires, else the lowres one.

        Parameters
        ----------
        options : SlideOptions
            `image` and `mpp` are used.
        full_mpp : float or None
            Microns per full-resolution pixel, where they are known.

        Returns
        -------
        image : SlideImage, or None
            None where the folder has none: counts and positions serve without.
        scale : float
            Pixels of the image per full-resolution pixel; 1 without an image.
        note : str
            Which image it is and why.

        Raises
        ------
        SlideError
            If the given image cannot be of this slide, or hires and lowres image contradict each other.
        """
        self._check_scales()
        if options.image is not None:
            image = open_image(options.image)
            scale = self._scale_of(image, options.mpp, full_mpp)
            return image, scale, f"Image: {Path(options.image).name}, as given (scale {scale:.4g})."
        for kind in _KINDS:
            path = self._find(kind)
            if path is not None:
                image = open_image(path)
                return image, self._factor(kind), f"Image: {path.name}. {_why(kind)}"
        note = (
            "No image: there is neither tissue_hires_image.png nor tissue_lowres_image.png. To train on images or to "
            "embed them, name it in slide.toml (image = ...)."
        )
        return None, 1.0, note

    @cached_property
    def full_size_px(self) -> tuple[float, float] | None:
        """Size of the full-resolution image, from a scaled one; None where there is none."""
        sizes = (self._full_size_by(kind) for kind in _KINDS)
        return next((size for size in sizes if size is not None), None)

    def _full_size_by(self, kind: str) -> tuple[float, float] | None:
        path = self._find(kind)
        if path is None:
            return None
        factor = self._factor(kind)
        width, height = open_image(path).size_px
        return width / factor, height / factor

    def _check_scales(self) -> None:
        """Refuse two scaled images of one that their scale factors give different sizes."""
        sizes = {kind: self._full_size_by(kind) for kind in _KINDS}
        if None not in sizes.values():
            said = {f"tissue_{k}_image.png and tissue_{k}_scalef": s for k, s in sizes.items() if s}
            refuse_other_sizes(said, 1 / self._factor("lowres"), str(self.folders[0]))

    def _find(self, kind: str) -> Path | None:
        paths = (folder / f"tissue_{kind}_image.png" for folder in self.folders)
        found = (confined(path, self.root) for path in paths)
        return next((path for path in found if path.exists()), None)

    def _factor(self, kind: str) -> float:
        name = f"tissue_{kind}_scalef"
        factor = self.scale_factors.get(name)
        if factor is None or not factor > 0:
            msg = f"scalefactors_json.json has no {name} above 0, so tissue_{kind}_image.png has no scale."
            raise SlideError(msg)
        return factor

    def _scale_of(
        self, image: SlideImage, given_mpp: float | None, full_mpp: float | None
    ) -> float:
        """Work out pixels of a given image per full-resolution pixel."""
        if self.full_size_px is not None:
            return scale_by_size(
                image,
                self.full_size_px,
                full="the slide's image at full resolution",
                remedy="Give the image that Space Ranger was run on, uncropped, or its hires or lowres copy.",
                known_to=FROM_A_SMALL_COPY,
            )
        mpp_image = given_mpp or image.mpp
        if full_mpp is not None and mpp_image is not None:
            scale = full_mpp / mpp_image
            known = [
                1.0,
                *(self.scale_factors.get(f"tissue_{k}_scalef", 1.0) for k in _KINDS),
            ]
            nearest = min(known, key=lambda value: abs(value - scale))
            near = abs(nearest - scale) <= _KNOWN_SCALE_TOLERANCE * scale
            return nearest if near else scale
        msg = (
            f"The scale of {image.uri} against the spot positions is unknown: there is no scaled "
            "Space Ranger image to compare it with, and it has no pixel size. Give mpp "
            "(SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )
        raise SlideError(msg)


def _why(kind: str) -> str:
    if kind == "hires":
        return "No full-resolution image was given."
    return "tissue_hires_image.png is missing and no other image was given, so detail is low."


def read_scale_factors(folder: Path, root: Path) -> dict[str, float]:
    """Read ``scalefactors_json.json``.

    Raises
    ------
    SlideError
        If it is missing or damaged, or leads out of `root`.
    """
    path = confined(folder / SCALE_FACTORS, root)
    try:
        factors = load_json(path)
        return {str(name): float(value) for name, value in factors.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as exc:
        msg = f"The scale factors {path} cannot be read ({exc}). Copy the file again."
        raise SlideError(msg) from exc
