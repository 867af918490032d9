"""What is known about the quality of a slide's spots before anybody searches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stamp_index.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.slides import PatchSpec, Slide, TissueMask

_SEEN: Final[tuple[Literal["tissue", "pen", "fold", "blur"], ...]] = (
    "tissue",
    "pen",
    "fold",
    "blur",
)
_MITO: Final = ("MT-", "mt-")  # human and mouse symbols of the mitochondrial genome


def spot_quality(slide: Slide, patch: PatchSpec) -> dict[str, NDArray[np.float32]]:
    """Measure what the store keeps about spots' quality, apart from what the slide's source says itself.

    Parameters
    ----------
    slide : Slide
    patch : PatchSpec
        Of the encoder: shares are those of its patch.

    Returns
    -------
    dict of str to ndarray of shape (n,), float32
        ``mito_fraction``: counts in mitochondrial genes; absent where none was measured. Without an image,
        the others are absent: ``outside_fraction``, the share of the patch beyond the image's edges, and
        ``tissue_fraction``, ``pen_fraction``, ``fold_fraction`` and ``blur_fraction`` of `tissue_mask` with its
        default thresholds.
    """
    found: dict[str, NDArray[np.float32]] = {}
    mito = np.array([gene.startswith(_MITO) for gene in slide.genes], np.bool_)
    if mito.any():
        total = np.asarray(slide.counts.sum(axis=1)).ravel()
        part = np.asarray(slide.counts[:, np.flatnonzero(mito)].sum(axis=1)).ravel()
        found["mito_fraction"] = (part / np.maximum(total, 1)).astype(np.float32)
    if slide.image is not None and slide.mpp is not None:
        found["outside_fraction"] = outside_fraction(
            slide.xy_px, slide.image.size_px, patch.width_um / slide.mpp
        )
        # A plain slide's grid was laid by them, for places that may have another width than the patch.
        if not (slide.quality and slide.spot_diameter_um == patch.width_um):
            mask = tissue_mask(slide.image, slide.mpp)
            found |= _seen_in_mask(mask, slide.xy_px, patch.width_um / slide.mpp)
    return found


def _seen_in_mask(
    mask: TissueMask, xy_px: NDArray[np.float64], width_px: float
) -> dict[str, NDArray[np.float32]]:
    x_px, y_px = xy_px.T
    return {f"{of}_fraction": mask.share(x_px, y_px, width_px, of=of) for of in _SEEN}


def outside_fraction(
    xy_px: NDArray[np.float64], size_px: tuple[int, int], width_px: float
) -> NDArray[np.float32]:
    """Share of squares that lies beyond an image's edges.

    Parameters
    ----------
    xy_px : ndarray of shape (n, 2), float64
        Centres in level-0 pixels.
    size_px : (int, int)
        The image's width and height.
    width_px : float
        The squares' width in level-0 pixels.

    Returns
    -------
    ndarray of shape (n,), float32
        0 for squares that lie on the image.
    """
    low = np.clip(xy_px - width_px / 2, 0, size_px)
    high = np.clip(xy_px + width_px / 2, 0, size_px)
    inside = np.prod(high - low, axis=1) / width_px**2
    return np.asarray(1.0 - inside, np.float32)
