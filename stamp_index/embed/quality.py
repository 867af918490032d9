"""What is known about the quality of a slide's spots before anybody searches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.slides import PatchSpec, Slide

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
        ``mito_fraction``: counts in mitochondrial genes; absent where none was measured.
        ``outside_fraction``: share of the patch beyond the image's edges; absent without an image.
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
    return found


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
