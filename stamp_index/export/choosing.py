"""What every export says of slides and spots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.store.schema import Modality
    from stamp_index.store.view import StoreView

# Names of the embeddings in AnnData's obsm and in Parquet.
SLOTS: Final[dict[Modality, str]] = {"gene": "X_stamp", "image": "X_stamp_image"}


def choose_slides(store: StoreView, slides: Sequence[str] | str | None) -> pd.DataFrame:
    """Rows of ``store.slides()``, in the order asked for; all by default.

    Raises
    ------
    QueryError
        If the store has no slides, or not one of those asked for; close names are offered.
    """
    from stamp_index.genes import close_names

    table = store.slides()
    if table.empty:
        msg = f"The store at {store.place} has no slides yet, so there is nothing to export. Add some first."
        raise QueryError(msg)
    if slides is None:
        return table
    asked = list(dict.fromkeys([slides] if isinstance(slides, str) else slides))
    held = list(table["slide_id"])
    for name in asked:
        if name not in held:
            near = close_names(name, held) or held[:5]
            msg = f"There is no slide '{name}' in the store at {store.place}. Close names: {', '.join(near)}."
            raise QueryError(msg)
    if not asked:
        msg = "No slide was named to export. Give at least one slide_id, or None for all."
        raise QueryError(msg)
    return table.set_index("slide_id", drop=False).loc[asked].reset_index(drop=True)


def each(slides: pd.DataFrame) -> Iterator[Any]:
    """Rows of the slides table, whose columns are attributes."""
    return iter(slides.itertuples())


def rows_of(slide: Any) -> NDArray[np.int64]:  # noqa: ANN401 - a row of the slides table
    """Row ids of a slide's spots."""
    return np.arange(slide.first_spot, slide.first_spot + slide.n_spots, dtype=np.int64)


def unit_vectors(
    store: StoreView, modality: Modality, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Embeddings (m, d) of length 1 as float32; NaN where a spot has none.

    The store keeps half precision, whose vectors are off unit length by up to 5e-4.
    """
    has = store.has_vector(modality)[rows]
    vectors = np.full((len(rows), store.card.dim), np.nan, np.float32)
    found = store.vectors(modality, rows[has]).astype(np.float32)
    vectors[has] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return vectors


def provenance(store: StoreView, slides: pd.DataFrame) -> dict[str, Any]:
    """Where an export came from, in plain values."""
    card = store.card
    return {
        "encoder": card.name,
        "encoder_fingerprint": card.fingerprint,
        "panel_hash": card.panel_hash,
        "patch_width_um": float(card.patch_width_um),
        "region_width_um": float(card.region_width_um),
        "store_id": store.store_id,
        "store_version": int(store.version),
        "mpp": {plain_key(one.slide_id): float(one.mpp) for one in each(slides)},
    }


def plain_key(name: str) -> str:
    """Name without the slash, which divides groups in HDF5 and zarr."""
    return name.replace("/", "_")
