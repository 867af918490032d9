"""What is wrong with a query picture: blank, out of focus, or like nothing in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from app import drawing
from app.reliability import reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.asking import Answer
    from app.stores import Opened
    from app.upload import QueryPicture

FAR = "This patch is far from every spot of the store"
BLANK_TISSUE = 0.08  # share of tissue below which a patch is called blank
BLANK_CONTRAST = 3.0  # grey levels; sensor noise alone gives 1 to 2

# Focus by the variance of the Laplacian (Pech-Pacheco et al. 2000) of grey values at 1 um per pixel, alone and as a
# share of the variance of the grey values. Measured on 112 um patches of her2st's sections C2-C5 (0.69 um/px), of
# CMU-1-Small-Region.svs (0.50) and of the phantom (0.50): the lowest hundredth of sharp ones has 206 and 0.085; 19 of 20
# of the same patches after a Gaussian blur of 2 um stay below 31 and 0.048.
FOCUS_MPP = 1.0
COARSEST_MPP = 1.25  # coarser pictures show no focus
BLURRED_EDGES = 80.0
BLURRED_SHARE = 0.065


def warnings(opened: Opened, picture: QueryPicture, answer: Answer) -> list[str]:
    """What should be known before the hits of a picture are believed."""
    found = [blank(picture.patch)]
    if found[0] is None:
        found += [blurred(picture.patch, picture.mpp), far(opened, answer)]
    return [words for words in found if words]


def blank(patch: NDArray[np.uint8]) -> str | None:
    """Why a patch is no tissue to the eye, or None."""
    share = drawing.tissue_share(patch)
    if share >= BLANK_TISSUE and drawing.contrast(patch) >= BLANK_CONTRAST:
        return None
    return (
        f"This patch looks blank ({share:.0%} of it is tissue). The hits below are what is "
        "nearest to blank glass; move the patch onto tissue."
    )


def blurred(patch: NDArray[np.uint8], mpp: float) -> str | None:
    """Why a patch is out of focus, or None; nothing is said of pictures coarser than 1.25 um per pixel."""
    if mpp > COARSEST_MPP:
        return None
    edges, share = sharpness(patch, mpp)
    if edges >= BLURRED_EDGES or share >= BLURRED_SHARE:
        return None
    return (
        f"This patch looks out of focus, or was enlarged: its edges have {edges:.0f} (variance of the Laplacian at "
        f"{FOCUS_MPP:g} µm per pixel), sharp tissue at least {BLURRED_EDGES:.0f}. Hits may be of blurred tissue, and the "
        "prediction unsure."
    )


def sharpness(patch: NDArray[np.uint8], mpp: float) -> tuple[float, float]:
    """Variance of the Laplacian of a patch at 1 um per pixel, and as a share of the grey values' variance."""
    from scipy.ndimage import laplace

    side = max(8, round(patch.shape[0] * mpp / FOCUS_MPP))
    small = Image.fromarray(patch).resize((side, side), Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.float32).mean(axis=2)
    edges = float(laplace(grey).var())
    return edges, edges / max(float(grey.var()), 1e-9)


def far(opened: Opened, answer: Answer) -> str | None:
    """Why a picture is like nothing in the store, or None; filters are no fault of the picture's."""
    if answer.question.filters() is not None or len(answer.scores) == 0:
        return None
    known = reach(opened, answer.against)
    best = float(answer.scores.max())
    if known is None or not known.is_far(best):
        return None
    searched = "picture" if answer.against == "image" else "gene profile"
    return (
        f"{FAR}: its best {searched} has cosine {best:.2f}, and 99 of 100 of "
        f"the store's own spots (a sample) reach {known.far:.2f} on slides other than theirs. Tissue, stain or pixel size may be "
        "of a kind that is not here: do not trust the prediction."
    )
