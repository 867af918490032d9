"""Adding, replacing and deleting slides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from stamp_index.errors import DuplicateSlideError, EncoderMismatchError, QueryError
from stamp_index.store.arrow import (
    embeddings,
    expression_table,
    slide_table,
    source_labels,
    spots_batches,
    vector_array,
)
from stamp_index.store.labels import carried_over
from stamp_index.store.reading import ROW_ID
from stamp_index.store.rows import SlideRows, check_rows, check_slide, content_hash
from stamp_index.store.schema import EXPRESSION, LABELS, SLIDES, SPOTS, TABLES
from stamp_index.store.transaction import transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.reading import Tables
    from stamp_index.store.transaction import Transaction


def append_slide(path: Path, rows: SlideRows, lock_timeout_s: float, *, instead: bool) -> Manifest:
    """Check a slide and append it to the newest version; `instead` puts it in the place of one of its id.

    Raises
    ------
    EncoderMismatchError, DuplicateSlideError, StoreError, ValueError
        As `Store.add` says; the store is then as it was.
    """
    check_slide(rows.slide)
    digest = content_hash(rows.slide)
    slide_id = rows.slide.slide_id
    with transaction(path, lock_timeout_s) as change:
        encoder = encoder_of(change, rows)
        check_rows(rows, change.before.card(encoder).dim)
        known = set(change.tables.slides["slide_id"])
        if instead and slide_id in known:
            kept = carried_over(change.tables, rows.slide)
            _remove(change, [slide_id])
        else:
            instead, kept = False, None
        check_new(path, change.tables, slide_id, digest, besides=slide_id if instead else "")
        first_spot = _append(change, rows, digest, encoder)
        if kept is not None:
            change.append(LABELS, kept)
        return change.commit(
            f"{'replaced' if instead else 'added'} {slide_id}",
            n_slides=change.before.n_slides + (not instead),
            n_spots=change.before.n_spots + rows.slide.n_spots - _n_spots(change, slide_id),
            n_rows=first_spot + rows.slide.n_spots,
        )


def _n_spots(change: Transaction, slide_id: str) -> int:
    """Spots that a slide had before; 0 for a new one."""
    slides = change.tables.slides
    return int(slides.loc[slides["slide_id"] == slide_id, "n_spots"].sum())


def _append(change: Transaction, rows: SlideRows, digest: str, encoder: str) -> int:
    """Append a slide to every table; returns the row id of its first spot."""
    dims = {name: change.before.card(name).dim for name in change.before.encoders}
    first_spot = change.append(SPOTS, spots_batches(rows, dims, encoder))
    first_gene = change.append(EXPRESSION, expression_table(rows.slide))
    change.append(LABELS, source_labels(rows.slide))
    change.append(SLIDES, slide_table(rows, digest, (first_spot, first_gene), encoder))
    return first_spot


def delete_slides(path: Path, slide_ids: Sequence[str], lock_timeout_s: float) -> Manifest:
    """Delete slides with their spots, expression and labels.

    Raises
    ------
    QueryError
        If one of them is not there; the store is then as it was.
    StoreError
        As `transaction`.
    """
    with transaction(path, lock_timeout_s) as change:
        slides = change.tables.slides
        missing = sorted(set(slide_ids) - set(slides["slide_id"]))
        if missing:
            msg = (
                f"{len(missing)} of {len(set(slide_ids))} slides to delete are not in the store at {path} "
                f"({', '.join(missing)}). Nothing was deleted; its slides are "
                f"{', '.join(slides['slide_id']) or 'none'}."
            )
            raise QueryError(msg)
        gone = slides["slide_id"].isin(list(slide_ids))
        _remove(change, slide_ids)
        return change.commit(
            f"deleted {', '.join(slide_ids)}",
            n_slides=change.before.n_slides - int(gone.sum()),
            n_spots=change.before.n_spots - int(slides.loc[gone, "n_spots"].sum()),
        )


def _remove(change: Transaction, slide_ids: Sequence[str]) -> None:
    for name in TABLES:
        change.delete(name, "slide_id", slide_ids)


def fill_slide(path: Path, rows: SlideRows, lock_timeout_s: float) -> Manifest:
    """Give a slide that is in the store the vectors of another of the store's encoders.

    Raises
    ------
    EncoderMismatchError, QueryError, DuplicateSlideError, StoreError, ValueError
        As `Store.fill` says; the store is then as it was.
    """
    slide_id = rows.slide.slide_id
    with transaction(path, lock_timeout_s) as change:
        encoder = encoder_of(change, rows)
        check_rows(rows, change.before.card(encoder).dim)
        slides = change.tables.slides
        here = slides[slides["slide_id"] == slide_id]
        if not (here["content_hash"] == content_hash(rows.slide)).any():
            msg = (
                f"The store at {path} has no slide '{slide_id}' of this image and these counts. Add it, or "
                f"replace the slide of this id."
            )
            raise QueryError(msg)
        vectors = embeddings(rows, encoder)
        if set(vectors) & set(here.iloc[0]["embedded"]):
            msg = (
                f"Slide '{slide_id}' of the store at {path} has its vectors of encoder '{encoder}' already. "
                f"Leave it out."
            )
            raise DuplicateSlideError(msg)
        first = int(here.iloc[0]["first_spot"])
        _update(change, first, {name: vector_array(values) for name, values in vectors.items()})
        _mark_embedded(change, slide_id, list(vectors))
        return change.commit(f"filled {slide_id} with {encoder}")


def _update(change: Transaction, first: int, columns: dict[str, pa.Array]) -> None:
    """Fill columns of consecutive rows of the spots table, from row id `first`."""
    import lance

    n = len(next(iter(columns.values())))
    ids = pa.array(np.arange(first, first + n, dtype=np.uint64))
    values = pa.table({ROW_ID: ids, **columns})
    table = change.table(SPOTS)
    updated = []
    fields: list[int] = []
    for fragment in table.get_fragments():
        rows = fragment.to_table(columns=[], with_row_id=True).column(ROW_ID).to_numpy()
        if ((rows >= first) & (rows < first + n)).any():
            part, fields = fragment.update_columns(values, left_on=ROW_ID, right_on=ROW_ID)
            updated.append(part)
    step = lance.LanceOperation.Update(updated_fragments=updated, fields_modified=fields)
    change.replace_table(SPOTS, lance.LanceDataset.commit(table, step, read_version=table.version))


def _mark_embedded(change: Transaction, slide_id: str, columns: list[str]) -> None:
    """Name more embedding columns in the slide's row."""
    table = change.table(SLIDES)
    row = table.to_table(filter=pa.compute.field("slide_id") == slide_id)
    embedded = [*row.column("embedded")[0].as_py(), *columns]
    at = row.schema.get_field_index("embedded")
    row = row.set_column(at, row.schema.field(at), pa.array([embedded], row.schema.field(at).type))
    change.delete(SLIDES, "slide_id", [slide_id])
    change.append(SLIDES, row)


def encoder_of(change: Transaction, rows: SlideRows) -> str:
    """Name in the store of the encoder that made the vectors of a slide.

    Raises
    ------
    EncoderMismatchError
        If it is none of the store's.
    """
    held = change.before.encoders
    for name in held:
        if held[name]["fingerprint"] == rows.fingerprint:
            return name
    named = ", ".join(f"'{name}' {held[name]['fingerprint']}" for name in held)
    msg = (
        f"The store at {change.path} holds embeddings of encoder {named}; slide '{rows.slide.slide_id}' was "
        f"embedded by {rows.fingerprint}. Embed it with the store's encoder, or add this one to the store."
    )
    raise EncoderMismatchError(msg)


def check_new(path: Path, tables: Tables, slide_id: str, digest: str, *, besides: str = "") -> None:
    """Raise DuplicateSlideError if a slide of this id or content hash is there, `besides` not counted."""
    slides = tables.slides[tables.slides["slide_id"] != besides]
    if slide_id in set(slides["slide_id"]):
        msg = (
            f"Slide '{slide_id}' is in the store at {path} already. Leave it out, replace it, or give this "
            f"one another slide_id."
        )
        raise DuplicateSlideError(msg)
    same = slides.loc[slides["content_hash"] == digest, "slide_id"]
    if len(same):
        msg = (
            f"Slide '{slide_id}' has the same image and counts as slide '{same.iloc[0]}' of the "
            f"store at {path}. Leave it out."
        )
        raise DuplicateSlideError(msg)
