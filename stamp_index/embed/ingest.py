"""Embed a slide's spots and add them to a store."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import EncoderMismatchError
from stamp_index.slides import PatchSpec, iter_patches
from stamp_index.store import SlideRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import Slide
    from stamp_index.store import Store

_BATCH: Final = 64
_THUMBNAIL_PX: Final = 128
_OVERVIEW_PX: Final = 1024
_JPEG_QUALITY: Final = 85


def ingest(
    store: Store, encoder: Encoder, slide: Slide, *, features: FeatureCache | None = None
) -> int:
    """Embed one slide and add it to a store, all of it or nothing.

    Parameters
    ----------
    store : Store
        Made for the same encoder.
    encoder : Encoder
        Embeds patches and counts.
    slide : Slide
        A slide without an image gets gene embeddings only.
    features : FeatureCache, optional
        Where the trainer has already prepared the slide's images.

    Returns
    -------
    int
        The store's new version.

    Raises
    ------
    EncoderMismatchError
        If the store was made by another encoder; nothing is embedded.
    DuplicateSlideError
        If the slide is already there.
    MissingGenesError
        If no gene of the slide is in the encoder's panel.
    """
    if store.card.fingerprint != encoder.fingerprint:
        msg = (
            f"The store {store.path} was made by encoder {store.card.name} "
            f"{store.card.fingerprint}, but {encoder.name} {encoder.fingerprint} was given. Use the "
            "store's own encoder, a copy of which lies in it, or make a new store."
        )
        raise EncoderMismatchError(msg)
    store.refuse_duplicate(slide)  # before the minutes that embedding takes
    image, gene = embed_slide(encoder, slide, features=features)
    spec = PatchSpec(encoder.patch.width_um, _THUMBNAIL_PX)
    pictured = slide.image is not None
    return store.add(
        SlideRows(
            slide=slide,
            image=image,
            gene=gene,
            thumbnails=_thumbnails(slide, spec) if pictured else None,
            overview=_jpeg(slide.image.overview(_OVERVIEW_PX)) if slide.image else None,
            fingerprint=encoder.fingerprint,
        )
    )


def embed_slide(
    encoder: Encoder, slide: Slide, *, features: FeatureCache | None = None
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
    """Embed all spots of a slide.

    Returns
    -------
    image : ndarray of shape (n, d), float32, or None
        Unit vectors of patch and region; None where the slide has no image or the encoder sees none.
    gene : ndarray of shape (n, d), float32
        Unit vectors of the spots' counts, against the slide's own mean.
    """
    gene = encoder.encode_spots(slide)
    if slide.image is None or not getattr(encoder, "sees_images", True):
        return None, gene
    sees_regions = getattr(encoder, "sees_regions", True)
    if features is not None and hasattr(encoder, "encode_prepared"):
        from stamp_index.encoders.features import CENTRE_CELL

        centre = np.full(slide.n_spots, CENTRE_CELL)
        patches = features.patches(slide, encoder.patch)
        regions = features.regions(slide, encoder.region, centre) if sees_regions else None
        return encoder.encode_prepared(patches, regions), gene
    centres = iter_patches(slide, encoder.patch, batch_size=_BATCH)
    if not sees_regions:
        return np.concatenate([encoder.encode_images(patch) for patch in centres]), gene
    pairs = zip(centres, iter_patches(slide, encoder.region, batch_size=_BATCH), strict=True)
    return np.concatenate([encoder.encode_images(patch, region) for patch, region in pairs]), gene


def _thumbnails(slide: Slide, spec: PatchSpec) -> list[bytes]:
    batches = iter_patches(slide, spec, batch_size=_BATCH)
    return [_jpeg(patch) for batch in batches for patch in batch]


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
