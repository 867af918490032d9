"""Slides: images at every size, patches in microns, and uploads opened safely."""

from __future__ import annotations

from stamp_index.slides.array_image import ArrayImage, PlainImage
from stamp_index.slides.images import SlideImage
from stamp_index.slides.opening import open_image
from stamp_index.slides.patches import PatchSpec, iter_patches, read_patches
from stamp_index.slides.safe import safe_open
from stamp_index.slides.slide import GivenEmbeddings, Slide
from stamp_index.slides.tissue import TissueMask, TissueSettings, tissue_mask
from stamp_index.slides.zarr_image import ZarrImage

__all__ = [
    "ArrayImage",
    "GivenEmbeddings",
    "PatchSpec",
    "PlainImage",
    "Slide",
    "SlideImage",
    "TissueMask",
    "TissueSettings",
    "ZarrImage",
    "iter_patches",
    "open_image",
    "read_patches",
    "safe_open",
    "tissue_mask",
]
