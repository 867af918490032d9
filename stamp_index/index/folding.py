"""Folding rows that were added since into an index, without building it again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.difference import newer_rows, require_same_history, slide_facts
from stamp_index.index.engine import Engine, measure, read_index, write_index
from stamp_index.index.engine.files import cannot_write
from stamp_index.index.files import read_stamps, segment, write_json
from stamp_index.index.folder import (
    CARD,
    FAISS,
    ROWS,
    SLIDES,
    builder,
    current,
    fetch_index,
    new_name,
    publish,
    push_index,
    sweep,
)
from stamp_index.index.generation import (
    check_files,
    map_vectors,
    read_contents,
    require_same_encoder,
    write_stamps,
)
from stamp_index.index.halves import as_float32
from stamp_index.index.held_out import held_out_again, write_backgrounds
from stamp_index.index.plots import draw_card

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.card import IndexCard
    from stamp_index.index.files import Segment
    from stamp_index.index.generation import Contents
    from stamp_index.store import Modality, Store

_BLOCK_ROWS: Final = 16_384
_FOLDING: Final = "folding"
_QUERIES: Final = 128  # of each modality that recall is measured with again


def fold_index(store: Store, modality: Modality) -> IndexCard | None:
    """Add the store's newer rows to its index, and measure recall again.

    Searches go on with what was there until the new state is finished. Rows that were deleted stay in
    the files and are passed over. The centres of the inverted lists and the codes stay as they were trained: see
    `keep_up` for when to build again instead.

    Returns
    -------
    IndexCard or None
        Of the new state; None where there was nothing to add.

    Raises
    ------
    AnnIndexError
        If there is no index, it is damaged or of another store or history, or the disk refuses.
    EncoderMismatchError
        If the index is of another encoder.
    StoreBusyError
        If somebody else builds or folds it.
    """
    folder = fetch_index(store, modality)
    current(folder)  # refused before a lock is made where there is no index
    with builder(folder):
        sweep(folder)
        old = read_contents(folder)
        require_same_encoder(store, modality, old.card)
        require_same_history(store, old.slides, old.rows, old.card.n_rows)
        if store.version < old.card.store_version:
            return None  # the index knows a newer version than is shown here
        newer = newer_rows(store, modality, old.rows)
        if len(newer) == 0:
            return None
        known = read_stamps(old.folder)
        check_files(folder, old.folder, old.card, known=known, only=None)
        try:
            card = _fold(store, old, newer)
        except OSError as exc:
            raise AnnIndexError(cannot_write(f"The index at {folder}", exc)) from exc
        finally:
            if current(folder) == old.folder:  # it was not finished
                os.truncate(folder / old.card.sidecar, old.card.sidecar_bytes)
                write_stamps(folder, old.folder, old.card)
            sweep(folder)
        push_index(store, modality)
        return card


def _fold(store: Store, old: Contents, newer: NDArray[np.int64]) -> IndexCard:
    folder, card, n = old.folder.parent, old.card, old.card.n + len(newer)
    draft = folder / _FOLDING / new_name()[0]
    draft.mkdir(parents=True)
    rows = np.concatenate([old.rows, newer])
    np.save(draft / ROWS, rows)
    # Slides that were deleted stay known: a reader of an older version has them.
    slides = {facts[2]: facts for facts in (*old.slides, *slide_facts(store))}
    write_json(draft / SLIDES, list(slides.values()))
    added = _append(folder / card.sidecar, store, card, newer)
    files = {card.sidecar: [*card.files[card.sidecar], added]}
    vectors = map_vectors(folder / card.sidecar, n, card.dim)
    index = None if card.kind == "flat" else read_index(old.folder / FAISS)
    if index is not None:
        _add(index, vectors[card.n :])
        write_index(index, draft / FAISS)
    engine = Engine(index, vectors, settings=card.settings_for(card.target_recall))
    recalls = {}
    if index is not None:
        queries = held_out_again(store, card, rows, vectors, n=_QUERIES)
        recalls = measure(engine, queries, engine.settings)
    write_backgrounds(store, card.modality, rows, engine, folder=draft, seed=card.seed)
    files |= {path.name: [segment(path)] for path in draft.iterdir()}
    card = _grown_card(card, store, n, files=files, recalls=recalls)
    write_json(draft / CARD, card.to_dict())
    draw_card(card, draft)
    publish(folder, draft)
    write_stamps(folder, folder / draft.name, card)
    return card


def _grown_card(
    card: IndexCard,
    store: Store,
    n: int,
    *,
    files: dict[str, list[Segment]],
    recalls: dict[str, tuple[float, float]],
) -> IndexCard:
    """Card of what now holds `n` vectors and was measured to have these recalls and standard errors."""
    return replace(
        card,
        store_version=store.version,
        n_rows=max(card.n_rows, store.n_rows),
        n=n,
        bytes=files[FAISS][0][0] if FAISS in files else 0,
        sidecar_bytes=2 * n * card.dim,
        ann_recall_at_10=card.ann_recall_at_10
        | {side: mean for side, (mean, _) in recalls.items()},
        reached=all(mean + error >= card.target_recall for mean, error in recalls.values()),
        files=files,
    )


def _append(path: Path, store: Store, card: IndexCard, rows: NDArray[np.int64]) -> Segment:
    """Write vectors of a store behind those of the card, over what a killed writer may have left there."""
    at = card.sidecar_bytes
    with path.open("r+b") as file:
        file.truncate(at)
        file.seek(at)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = store.vectors(card.modality, rows[start : start + _BLOCK_ROWS])
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        os.fsync(file.fileno())
    return segment(path, start=at)


def _add(index: Any, vectors: NDArray[np.float16]) -> None:  # noqa: ANN401 - a faiss.Index
    """Add vectors; their ids go on from those that are there, which are positions."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        index.add(as_float32(vectors[start : start + _BLOCK_ROWS]))
