"""Plain features of an encoder's frozen network: what its images say before anything is learnt from expression."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import StampIndexError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.store.view import StoreView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import Slide, SlideImage
    from stamp_index.store import Modality

    Images = NDArray[np.float16] | NDArray[np.uint8]

PATCH: Final = "raw features, patch"
WIDE: Final = "raw features, patch + region"
_BATCH: Final = 64
_SEEN_PX: Final = 64  # to which two pictures are scaled to be compared
_OTHER: Final = 6.0  # mean grey levels between them; compression and scaling take less than 1


class RawView(StoreView):
    """A store whose image embeddings are raw features: every measure of image embeddings can be taken of them.

    Parameters
    ----------
    store : StoreView
    place : ndarray of shape (n_rows,), int64
        Of each row in `features`; -1 where it has none.
    features : ndarray of shape (m, c), float32
    """

    def __init__(
        self, store: StoreView, place: NDArray[np.int64], features: NDArray[np.float32]
    ) -> None:
        super().__init__(store.place, store.version, store.encoder)
        self._place, self._features = place, features

    def vectors(self, modality: Modality, rows: ArrayLike | None = None) -> NDArray[Any]:
        """Raw features (n, c) in the place of image embeddings; gene embeddings as they are."""
        if modality != "image":
            return super().vectors(modality, rows)
        at = self._place[self._rows(rows)]
        if (at < 0).any():
            msg = f"{int((at < 0).sum()):,} of the spots have no raw features: read them of their slides too."
            raise EvaluationError(msg)
        return self._features[at]

    def has_vector(self, modality: Modality) -> NDArray[np.bool_]:
        """Which rows (n_rows,) have raw features, or gene embeddings."""
        return super().has_vector(modality) if modality != "image" else self._place >= 0


def raw_views(
    store: StoreView,
    slide_ids: Sequence[str],
    *,
    cache: Path | str | None = None,
    images: Mapping[str, SlideImage] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, RawView]:
    """Read images again and take what the frozen network of the store's encoder makes of them: the mean over its tokens.

    Parameters
    ----------
    store : StoreView
        With its slides' image files where they were when it was made.
    slide_ids : sequence of str
        Those without image embeddings are passed over.
    cache : path, optional
        A trainer's folder of features: what lies there is not computed, and what does not is put there.
    images : mapping of str to SlideImage, optional
        Pictures of slides whose file alone does not give what was embedded, such as one whose background a reader painted.
    progress : callable, optional
        Called with the spots that are done, and those that there are.

    Returns
    -------
    dict of str to RawView
        `PATCH`; and `WIDE`, patch and region side by side, where the encoder looks at regions.

    Raises
    ------
    EvaluationError
        If there is no such slide, an image cannot be read or is another one, the encoder has no frozen network, or no slide
        has images.
    EncoderError
        If a file of the cache is damaged.
    """
    from stamp_index.encoders import FeatureCache, load_encoder

    encoder = load_encoder(store.encoder_path)
    place = np.full(store.n_rows, -1, np.int64)
    parts: list[NDArray[np.float32]] = []
    slides = store.slides().set_index("slide_id", drop=False)
    unknown = [name for name in slide_ids if name not in slides.index]
    if unknown:
        msg = f"There is no slide {', '.join(map(repr, unknown))} in the store at {store.place}."
        raise EvaluationError(msg)
    slides = slides.loc[list(dict.fromkeys(slide_ids))]
    has = store.has_vector("image")
    slides = slides[has[slides["first_spot"].to_numpy(np.int64)]]
    kept = None if cache is None else FeatureCache(cache, encoder)
    done, total = 0, int(slides["n_spots"].sum())
    for _, row in slides.iterrows():
        first, n = int(row["first_spot"]), int(row["n_spots"])
        place[first : first + n] = np.arange(done, done + n)
        slide = _slide(store, row, (images or {}).get(str(row["slide_id"])))
        parts.append(_features(encoder, slide, kept))
        if slide.image is not None and images is None:
            slide.image.close()
        done += n
        if progress is not None:
            progress(done, total)
    if not parts:
        msg = "None of the slides has image embeddings, so there are no raw features to set beside them."
        raise EvaluationError(msg)
    features = np.concatenate(parts)
    width = features.shape[1] // (1 + _sees_regions(encoder))
    views = {PATCH: RawView(store, place, np.ascontiguousarray(features[:, :width]))}
    if _sees_regions(encoder):
        views[WIDE] = RawView(store, place, features)
    return views


def _sees_regions(encoder: Any) -> bool:  # noqa: ANN401 - an Encoder, which may say so
    return bool(getattr(encoder, "sees_regions", True))


def _slide(store: StoreView, row: pd.Series[Any], given: SlideImage | None) -> Slide:
    """Open a slide of the store with its picture and places, without its counts."""
    from scipy.sparse import csr_matrix

    from stamp_index.slides import Slide, open_image
    from stamp_index.slides.stored import require_local

    slide_id, uri = str(row["slide_id"]), str(row["image_uri"] or "")
    try:
        image = given or (open_image(require_local(uri)) if uri else None)
    except StampIndexError as error:
        msg = f"The image of slide {slide_id} cannot be read, so it has no raw features: {error}"
        raise EvaluationError(msg) from error
    size = (row["width_px"], row["height_px"])
    known = image is not None and math.isfinite(float(row["mpp"])) and image.size_px == size
    if image is None or not known or not _looks_alike(image, store.overview(slide_id)):
        held = "has no file" if image is None else f"{uri} is not the picture that was embedded"
        msg = f"The image of slide {slide_id} {held}, so it has no raw features. Put it back, or leave raw features out."
        raise EvaluationError(msg)
    rows = np.arange(int(row["first_spot"]), int(row["first_spot"]) + int(row["n_spots"]))
    spots = store.spots(("barcode", "x_px", "y_px"), rows).set_index("barcode")
    return Slide(
        slide_id=slide_id,
        spots=spots,
        counts=csr_matrix(np.empty((len(rows), 0), np.float32)),
        genes=(),
        image=image,
        mpp=float(row["mpp"]),
        spot_diameter_um=float(row["spot_diameter_um"]),
    )


def _looks_alike(image: SlideImage, overview: bytes | None) -> bool:
    """Whether a picture looks like the overview that the store keeps of it; True where it keeps none."""
    from PIL import Image

    if overview is None:
        return True
    with Image.open(io.BytesIO(overview), formats=["JPEG"]) as kept:
        seen = np.asarray(kept.convert("L").resize((_SEEN_PX, _SEEN_PX)), np.float64)
    now = Image.fromarray(image.overview(max(_SEEN_PX, 256))).convert("L")
    there = np.asarray(now.resize((_SEEN_PX, _SEEN_PX)), np.float64)
    return bool(np.abs(seen - there).mean() < _OTHER)


def _features(encoder: Any, slide: Slide, cache: FeatureCache | None) -> NDArray[np.float32]:  # noqa: ANN401 - any that prepares
    """Mean tokens (n, c) of a slide's patches, or (n, 2c) with its regions."""
    from stamp_index.encoders.features import CENTRE_CELL
    from stamp_index.slides.read_ahead import read_ahead

    wide = _sees_regions(encoder)
    if cache is not None:
        prepared = [cache.patches(slide, encoder.patch)]
        if wide:
            centre = np.full(slide.n_spots, CENTRE_CELL)
            prepared.append(cache.regions(slide, encoder.region, centre))
        return np.hstack([_pooled(one) for one in prepared])
    specs, sides = [encoder.patch, encoder.region][: 1 + wide], ("patch", "region")
    out: NDArray[np.float32] | None = None
    for batch in read_ahead(slide, specs, batch_size=_BATCH):
        found = np.hstack(
            [
                _pooled(encoder.prepare(images, side))
                for images, side in zip(batch.patches, sides, strict=False)
            ]
        )
        if out is None:
            out = np.empty((slide.n_spots, found.shape[1]), np.float32)
        out[batch.rows] = found
    return np.empty((0, 0), np.float32) if out is None else out


def _pooled(prepared: Images) -> NDArray[np.float32]:
    """Mean over the grid of tokens (n, h, w, c).

    Raises
    ------
    EvaluationError
        If these are pixels.
    """
    if prepared.dtype == np.uint8:
        msg = "The network of this encoder was trained as a whole, so it has no features from before training. Leave raw features out."
        raise EvaluationError(msg)
    pooled: NDArray[np.float32] = prepared.mean(
        axis=tuple(range(1, prepared.ndim - 1)), dtype=np.float32
    )
    return pooled
