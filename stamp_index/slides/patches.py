"""Square patches around spots, sized in microns and read lazily."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import MissingPixelSizeError, SlideError
from stamp_index.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stamp_index.slides.images import SlideImage
    from stamp_index.slides.slide import Slide


@dataclass(frozen=True)
class PatchSpec:
    """How wide a patch is on the tissue and in pixels.

    Attributes
    ----------
    width_um : float
        Width on the tissue in microns, above 0.
    size_px : int
        Width of the array in pixels, at least 1.
    """

    width_um: float
    size_px: int

    def __post_init__(self) -> None:
        is_width = isinstance(self.width_um, Real) and math.isfinite(self.width_um)
        if not is_width or self.width_um <= 0:
            msg = f"width_um is {self.width_um!r}; a patch must be wider than 0 um."
            raise ValueError(msg)
        if not isinstance(self.size_px, Integral) or self.size_px < 1:
            msg = f"size_px is {self.size_px!r}; a patch has a whole number of pixels, at least 1."
            raise ValueError(msg)

    @property
    def mpp(self) -> float:
        """Microns per pixel of the patch."""
        return self.width_um / self.size_px


def read_patches(
    slide: Slide,
    spec: PatchSpec,
    *,
    rows: Sequence[int] | NDArray[np.integer] | None = None,
    offsets_um: NDArray[np.floating] | None = None,
) -> NDArray[np.uint8]:
    """Read the patches of spots into one array.

    Parameters
    ----------
    slide : Slide
        With an image and a pixel size.
    spec : PatchSpec
        Width in microns and pixels.
    rows : sequence of int, optional
        Which spots, in which order; all of them by default.
    offsets_um : ndarray of shape (n, 2), optional
        Moves each patch's centre by (x, y) microns; n is the number of patches read.

    Returns
    -------
    ndarray of shape (n, size_px, size_px, 3), uint8
        RGB, centred on the spots; white outside the image.

    Raises
    ------
    SlideError
        If the slide has no image.
    MissingPixelSizeError
        If the slide has no pixel size.
    ImageFormatError
        If pixels cannot be decoded.
    """
    image, corners, width_px = _plan(slide, spec, rows, offsets_um)
    if not len(corners):
        return np.empty((0, spec.size_px, spec.size_px, 3), dtype=np.uint8)
    return next(_batches(image, corners, (width_px, spec.size_px), len(corners)))


def iter_patches(
    slide: Slide,
    spec: PatchSpec,
    *,
    batch_size: int,
    rows: Sequence[int] | NDArray[np.integer] | None = None,
    offsets_um: NDArray[np.floating] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Read the patches of spots in batches, in order; see `read_patches`.

    Parameters
    ----------
    slide, spec, rows, offsets_um
        As in `read_patches`.
    batch_size : int
        Patches per batch, at least 1; the last batch may be smaller.

    Yields
    ------
    ndarray of shape (b, size_px, size_px, 3), uint8

    Raises
    ------
    SlideError, MissingPixelSizeError, ImageFormatError
        As in `read_patches`; the first two before anything is read.
    """
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1."
        raise ValueError(msg)
    image, corners, width_px = _plan(slide, spec, rows, offsets_um)
    return _batches(image, corners, (width_px, spec.size_px), batch_size)


def squares_of(
    slide: Slide, specs: Sequence[PatchSpec]
) -> tuple[SlideImage, list[NDArray[np.float64]], tuple[float, ...]]:
    """Find where the patches of a slide's spots lie.

    Returns
    -------
    image : SlideImage
    corners : list of ndarray of shape (n, 2), float64
        Top-left corners in level-0 pixels, for each spec.
    widths : tuple of float
        Widths in level-0 pixels, for each spec.

    Raises
    ------
    SlideError, MissingPixelSizeError
        If the slide has no image or no pixel size.
    """
    plans = [_plan(slide, spec, None, None) for spec in specs]
    return plans[0][0], [corners for _, corners, _ in plans], tuple(width for *_, width in plans)


def _plan(
    slide: Slide,
    spec: PatchSpec,
    rows: Sequence[int] | NDArray[np.integer] | None,
    offsets_um: NDArray[np.floating] | None,
) -> tuple[SlideImage, NDArray[np.float64], float]:
    """Return the image, the patches' top-left corners (n, 2) and their width in level-0 pixels."""
    if slide.image is None:
        msg = (
            f"Slide {slide.slide_id} has no image, so it has no patches. Give its image "
            "(SlideOptions(image=...) or `image` in slide.toml)."
        )
        raise SlideError(msg)
    if slide.mpp is None:
        msg = (
            f"Slide {slide.slide_id} has no microns per pixel, so a patch of {spec.width_um:g} um "
            "has no width in pixels. Give mpp (SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )
        raise MissingPixelSizeError(msg)
    centres = slide.xy_px if rows is None else slide.xy_px[np.asarray(rows, dtype=np.int64)]
    if offsets_um is not None:
        offsets = np.asarray(offsets_um, dtype=np.float64)
        if offsets.shape != centres.shape:
            msg = f"offsets_um has shape {offsets.shape}; expected {centres.shape}."
            raise ValueError(msg)
        centres = centres + offsets / slide.mpp
    width_px = spec.width_um / slide.mpp
    return slide.image, centres - width_px / 2, width_px


def _batches(
    image: SlideImage,
    corners: NDArray[np.float64],
    widths: tuple[float, int],
    batch_size: int,
) -> Iterator[NDArray[np.uint8]]:
    """Read squares of widths[0] level-0 pixels into widths[1] pixels."""
    width_px, size_px = widths

    def read(corner: NDArray[np.float64]) -> NDArray[np.uint8]:
        return image.read(float(corner[0]), float(corner[1]), width_px, size_px)

    # Decoding and resizing leave the interpreter lock, so threads help even within one slide.
    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:
        for start in range(0, len(corners), batch_size):
            part = corners[start : start + batch_size]
            batch = np.empty((len(part), size_px, size_px, 3), dtype=np.uint8)
            for index, patch in enumerate(pool.map(read, part)):
                batch[index] = patch
            yield batch
