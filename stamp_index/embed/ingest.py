"""Embed a slide's spots and add them to a store."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.embed.gene_side import GeneSettings, for_encoder
from stamp_index.embed.provenance import provenance
from stamp_index.embed.quality import spot_quality
from stamp_index.embed.thumbnails import SpooledFiles
from stamp_index.errors import EncoderMismatchError
from stamp_index.slides import PatchSpec
from stamp_index.slides.jpeg import jpeg_bytes
from stamp_index.slides.read_ahead import Batch, read_ahead
from stamp_index.store import SlideRows
from stamp_index.store.lock import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.encoders.features import FeatureCache
    from stamp_index.genes.report import GeneReport
    from stamp_index.slides import Slide, SlideImage
    from stamp_index.store import Store

_BATCH: Final = 64
_PREPARED_BATCH: Final = 128
_THUMBNAIL_PX: Final = 128
_OVERVIEW_PX: Final = 1024


def ingest(  # noqa: PLR0913 - what a slide's rows are made of, and who is told
    store: Store,
    encoder: Encoder,
    slide: Slide,
    *,
    features: FeatureCache | None = None,
    replace: bool = False,
    progress: Callable[[int], object] | None = None,
    request: Mapping[str, object] | None = None,
    genes: GeneSettings | None = None,
    before: Callable[[], object] | None = None,
    lock_timeout_s: float = WAIT_S,
) -> int:
    """Embed one slide and add it to a store, all of it or nothing.

    A slide that the store has from another of its encoders gets this one's vectors beside those.

    Parameters
    ----------
    store : Store
        Opened with the same encoder.
    encoder : Encoder
        Embeds patches and counts.
    slide : Slide
        A slide without an image gets gene embeddings only, one without counts image embeddings only.
    replace : bool
        Put it in the place of a slide of its id.
    features : FeatureCache, optional
        Where the trainer has already prepared the slide's images.
    progress : callable, optional
        As in `embed_slide`; a thumbnail is a step too.
    request : mapping, optional
        What was asked to be read, and how, for the slide's provenance.
    genes : GeneSettings, optional
        How the slide's genes meet the encoder's.
    before : callable, optional
        Called when all is embedded and nothing is written yet; raises where it should not be.
    lock_timeout_s : float
        Seconds to wait for other writers, with what was embedded and written.

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
        If the slide measures too few genes of the encoder's panel, and has no image.
    """
    if store.card.fingerprint != encoder.fingerprint:
        msg = (
            f"The store {store.place} was made by encoder {store.card.name} "
            f"{store.card.fingerprint}, but {encoder.name} {encoder.fingerprint} was given. Use the "
            "store's own encoder, a copy of which lies in it, or make a new store."
        )
        raise EncoderMismatchError(msg)
    lacking = not replace and store.lacks_vectors(slide)
    if not lacking:  # refused before the minutes that embedding takes
        store.refuse_duplicate(slide, replace=replace)
    tell = progress or _unheard
    named, note, report = for_encoder(slide, encoder, genes or GeneSettings())
    gene = None if named is None else encoder.encode_spots(named)
    tell(slide.n_spots)
    with SpooledFiles(slide.n_spots) as thumbnails:
        kept = None if slide.image is None else thumbnails
        image = _embed_images(encoder, slide, features, (tell, kept))
        rows = SlideRows(
            slide=dataclasses.replace(slide, notes=(*slide.notes, note)) if note else slide,
            image=image,
            gene=gene,
            thumbnails=kept,
            overview=_overview(slide.image),
            fingerprint=encoder.fingerprint,
            quality=spot_quality(slide, encoder.patch),
            provenance=provenance(slide, request=dict(request or {}), genes=_in_short(report)),
        )
        if before is not None:
            before()
        if lacking:
            return store.fill(rows, lock_timeout_s=lock_timeout_s)
        return store.add(rows, replace=replace, lock_timeout_s=lock_timeout_s)


def embed_slide(
    encoder: Encoder,
    slide: Slide,
    *,
    features: FeatureCache | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Embed all spots of a slide, whose genes already have the panel's names (see `for_encoder`).

    Parameters
    ----------
    encoder : Encoder
    slide : Slide
    features : FeatureCache, optional
        Holds prepared images, or will.
    progress : callable, optional
        Called with the steps done since the last call; `n_steps` are all of them. Images that come from `features`
        are told by its own ``progress``.

    Returns
    -------
    image : ndarray of shape (n, d), float32, or None
        Unit vectors of patch and region; None where the slide has no image or the encoder sees none. Embeddings
        that came with the slide are taken as they are.
    gene : ndarray of shape (n, d), float32, or None
        Unit vectors of the spots' counts, against the slide's own mean; None where nothing was measured.

    Raises
    ------
    EncoderMismatchError
        If embeddings came with the slide that another encoder made.
    """
    tell = progress or _unheard
    gene = encoder.encode_spots(slide) if slide.has_counts else None
    tell(slide.n_spots)
    return _embed_images(encoder, slide, features, (tell, None)), gene


def _embed_images(
    encoder: Encoder,
    slide: Slide,
    features: FeatureCache | None,
    heard: tuple[Callable[[int], object], SpooledFiles | None],
) -> NDArray[np.float32] | None:
    """Embed a slide's images, and keep their thumbnails where that is asked; `heard` is who is told, and where."""
    tell, thumbnails = heard
    image = None if slide.embeddings is None else given_vectors(slide, encoder)
    if _n_images(encoder, slide):
        if features is None or not hasattr(encoder, "encode_prepared"):
            return _embed_read(encoder, slide, thumbnails, tell)
        image = _embed_prepared(encoder, slide, features, tell)
    if thumbnails is not None:
        spec = PatchSpec(encoder.patch.width_um, _THUMBNAIL_PX)
        for batch in read_ahead(slide, [spec], batch_size=_BATCH, thumbnail_px=_THUMBNAIL_PX):
            _keep(batch, thumbnails, tell)
    return image


def _embed_read(
    encoder: Encoder,
    slide: Slide,
    thumbnails: SpooledFiles | None,
    tell: Callable[[int], object],
) -> NDArray[np.float32]:
    """Embed a slide's images as they are read; thumbnails are made of the same patches."""
    n_images = _n_images(encoder, slide)
    vectors = np.empty((slide.n_spots, encoder.dim), np.float32)
    specs = [encoder.patch, encoder.region][:n_images]
    px = 0 if thumbnails is None else _THUMBNAIL_PX
    for batch in read_ahead(slide, specs, batch_size=_BATCH, thumbnail_px=px):
        vectors[batch.rows] = encoder.encode_images(*batch.patches)
        tell(len(batch.rows) * (1 + n_images))
        if thumbnails is not None:
            _keep(batch, thumbnails, tell)
    return vectors


def _keep(batch: Batch, thumbnails: SpooledFiles, tell: Callable[[int], object]) -> None:
    for row, jpeg in zip(batch.rows.tolist(), batch.thumbnails, strict=True):
        thumbnails.put(row, jpeg)
    tell(len(batch.rows))


def given_vectors(slide: Slide, encoder: Encoder) -> NDArray[np.float32]:
    """Embeddings that came with a slide, brought to unit length.

    Raises
    ------
    EncoderMismatchError
        If they are not of this encoder, by name or fingerprint, or not of its length.
    """
    given = slide.embeddings
    if given is None:
        msg = f"Slide {slide.slide_id} came without embeddings."
        raise ValueError(msg)
    known = given.encoder in (encoder.name, encoder.fingerprint)
    if not known or given.image.shape[1] != encoder.dim:
        msg = (
            f"Slide {slide.slide_id} comes with embeddings of encoder {given.encoder}, of length "
            f"{given.image.shape[1]}; the store's encoder is {encoder.name} {encoder.fingerprint}, of length "
            f"{encoder.dim}. Embeddings of another encoder lie in another space: add the slide's image instead, "
            f"or make a store of that encoder."
        )
        raise EncoderMismatchError(msg)
    lengths = np.linalg.norm(given.image.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(given.image / lengths, np.float32)


def n_steps(encoder: Encoder, slide: Slide) -> int:
    """Count what `embed_slide` does: images to read and prepare, and embeddings to make of them and of counts."""
    images = _n_images(encoder, slide)
    return slide.n_spots * (1 + images + bool(images))


def _n_images(encoder: Encoder, slide: Slide) -> int:
    """Images that an encoder looks at for each spot of a slide: none, its patch, or its region too."""
    if (
        slide.image is None
        or slide.embeddings is not None
        or not getattr(encoder, "sees_images", True)
    ):
        return 0
    return 1 + bool(getattr(encoder, "sees_regions", True))


def _embed_prepared(
    encoder: Any,  # noqa: ANN401 - an Encoder that has `encode_prepared`
    slide: Slide,
    features: FeatureCache,
    tell: Callable[[int], object],
) -> NDArray[np.float32]:
    """Embed a slide's prepared images in parts: with a network that is trained as a whole, this is most of the work."""
    from stamp_index.encoders.features import CENTRE_CELL

    patches = features.patches(slide, encoder.patch)
    regions = None
    if _n_images(encoder, slide) > 1:
        regions = features.regions(slide, encoder.region, np.full(slide.n_spots, CENTRE_CELL))
    parts = []
    for start in range(0, slide.n_spots, _PREPARED_BATCH):
        rows = slice(start, start + _PREPARED_BATCH)
        around = None if regions is None else regions[rows]
        parts.append(encoder.encode_prepared(patches[rows], around))
        tell(len(parts[-1]))
    return np.concatenate(parts)


def _unheard(n: int) -> None:
    """Tell nobody."""


def _overview(image: SlideImage | None) -> bytes | None:
    from PIL import Image

    return None if image is None else jpeg_bytes(Image.fromarray(image.overview(_OVERVIEW_PX)))


def _in_short(report: GeneReport | None) -> dict[str, object] | None:
    """Numbers of a gene report, for the slide's provenance."""
    if report is None:
        return None
    covered = report.coverage
    return {
        "species": report.species,
        "orthologs": report.orthologs,
        "reference_date": report.reference_date,
        "fates": {fate: n for fate, n in report.counts.items() if n},
        "panel_share": None if covered is None else round(covered.share, 4),
    }
