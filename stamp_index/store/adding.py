"""Adding, replacing and deleting slides."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from stamp_index.errors import (
    DuplicateSlideError,
    EncoderMismatchError,
    QueryError,
    StoreBusyError,
)
from stamp_index.store.arrow import embeddings, vector_array, with_first_rows
from stamp_index.store.drafting import Draft, discard, require_files, write_draft
from stamp_index.store.labels import carried_over
from stamp_index.store.manifest import read_manifest
from stamp_index.store.places import place_of
from stamp_index.store.reading import ROW_ID, Tables
from stamp_index.store.rows import SlideRows, check_rows, check_slide, content_hash
from stamp_index.store.schema import EXPRESSION, LABELS, SLIDES, SPOTS, TABLES
from stamp_index.store.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Place, Where
    from stamp_index.store.transaction import Transaction


def append_slide(
    where: Where, rows: SlideRows, lock_timeout_s: float, *, instead: bool
) -> Manifest:
    """Check a slide and append it to the newest version; `instead` puts it in the place of one of its id.

    Raises
    ------
    EncoderMismatchError, DuplicateSlideError, StoreError, ValueError
        As `Store.add` says; the store is then as it was.
    """
    place = place_of(where)
    with place.drafting():
        draft = draft_slide(place, rows, instead=instead)
        try:
            return append_draft(place, draft, lock_timeout_s, instead=instead)
        except (DuplicateSlideError, EncoderMismatchError, StoreBusyError):
            discard(
                place, draft
            )  # of other errors nobody knows whether the version was created before
            raise


def draft_slide(where: Where, rows: SlideRows, *, instead: bool) -> Draft:
    """Check a slide against the newest version and write what is large of it: see `drafting`.

    Raises
    ------
    EncoderMismatchError, DuplicateSlideError, StoreError, ValueError
        As `Store.add` says.
    """
    place = place_of(where)
    check_slide(rows.slide)
    manifest = read_manifest(place)
    encoder = encoder_of(place, manifest, rows.slide.slide_id, rows.fingerprint)
    check_rows(rows, manifest.card(encoder).dim)
    besides = rows.slide.slide_id if instead else ""
    tables = Tables(place, manifest)
    check_new(place, tables, rows.slide.slide_id, content_hash(rows.slide), besides=besides)
    return write_draft(place, manifest, rows, encoder)


def append_draft(where: Where, draft: Draft, lock_timeout_s: float, *, instead: bool) -> Manifest:
    """Add a slide that was drafted.

    Raises
    ------
    EncoderMismatchError, DuplicateSlideError, StoreError
        As `Store.add` says; the store is then as it was.
    """
    return transact(where, lock_timeout_s, partial(_append, draft=draft, instead=instead))


def _append(change: Transaction, draft: Draft, *, instead: bool) -> Manifest:
    """Append a slide to every table, in the place of one of its id where that is asked and there is one."""
    slide_id = draft.slide_id
    encoder_of(change.place, change.before, slide_id, draft.fingerprint)
    slides = change.tables.slides
    there = slides.loc[slides["slide_id"] == slide_id, "n_spots"]
    instead = instead and not there.empty
    check_new(
        change.place, change.tables, slide_id, draft.digest, besides=slide_id if instead else ""
    )
    require_files(change.place, draft)
    kept = None
    if instead:
        kept = carried_over(change.tables, slide_id, draft.barcodes)
        _remove(change, [slide_id])
    first_spot = change.append(SPOTS, draft.fragments(SPOTS))
    first_gene = change.append(EXPRESSION, draft.fragments(EXPRESSION))
    change.append(LABELS, draft.labels)
    change.append(SLIDES, with_first_rows(draft.slide, first_spot, first_gene))
    if kept is not None:
        change.append(LABELS, kept)
    return change.commit(
        f"{'replaced' if instead else 'added'} {slide_id}",
        n_slides=change.before.n_slides + (not instead),
        n_spots=change.before.n_spots + draft.n_spots - int(there.sum()),
        n_rows=first_spot + draft.n_spots,
    )


def delete_slides(where: Where, slide_ids: Sequence[str], lock_timeout_s: float) -> Manifest:
    """Delete slides with their spots, expression and labels.

    Raises
    ------
    QueryError
        If one of them is not there; the store is then as it was.
    StoreError
        As `transact`.
    """
    return transact(where, lock_timeout_s, partial(_delete, slide_ids=slide_ids))


def _delete(change: Transaction, slide_ids: Sequence[str]) -> Manifest:
    slides = change.tables.slides
    missing = sorted(set(slide_ids) - set(slides["slide_id"]))
    if missing:
        msg = (
            f"{len(missing)} of {len(set(slide_ids))} slides to delete are not in the store at {change.place} "
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


def fill_slide(where: Where, rows: SlideRows, lock_timeout_s: float) -> Manifest:
    """Give a slide that is in the store the vectors of another of the store's encoders.

    Raises
    ------
    EncoderMismatchError, QueryError, DuplicateSlideError, StoreError, ValueError
        As `Store.fill` says; the store is then as it was.
    """
    return transact(where, lock_timeout_s, partial(_fill, rows=rows))


def _fill(change: Transaction, rows: SlideRows) -> Manifest:
    slide_id = rows.slide.slide_id
    encoder = encoder_of(change.place, change.before, slide_id, rows.fingerprint)
    check_rows(rows, change.before.card(encoder).dim)
    slides = change.tables.slides
    here = slides[slides["slide_id"] == slide_id]
    if not (here["content_hash"] == content_hash(rows.slide)).any():
        msg = (
            f"The store at {change.place} has no slide '{slide_id}' of this image and these counts. Add it, or "
            f"replace the slide of this id."
        )
        raise QueryError(msg)
    vectors = embeddings(rows, encoder)
    if set(vectors) & set(here.iloc[0]["embedded"]):
        msg = (
            f"Slide '{slide_id}' of the store at {change.place} has its vectors of encoder '{encoder}' already. "
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


def encoder_of(place: Place, manifest: Manifest, slide_id: str, fingerprint: str) -> str:
    """Name in the store of the encoder that made the vectors of a slide.

    Raises
    ------
    EncoderMismatchError
        If it is none of the store's.
    """
    held = manifest.encoders
    for name in held:
        if held[name]["fingerprint"] == fingerprint:
            return name
    named = ", ".join(f"'{name}' {held[name]['fingerprint']}" for name in held)
    msg = (
        f"The store at {place} holds embeddings of encoder {named}; slide '{slide_id}' was "
        f"embedded by {fingerprint}. Embed it with the store's encoder, or add this one to the store."
    )
    raise EncoderMismatchError(msg)


def check_new(
    place: Place, tables: Tables, slide_id: str, digest: str, *, besides: str = ""
) -> None:
    """Raise DuplicateSlideError if a slide of this id or content hash is there, `besides` not counted."""
    slides = tables.slides[tables.slides["slide_id"] != besides]
    if slide_id in set(slides["slide_id"]):
        msg = (
            f"Slide '{slide_id}' is in the store at {place} already. Leave it out, replace it, or give this "
            f"one another slide_id."
        )
        raise DuplicateSlideError(msg)
    same = slides.loc[slides["content_hash"] == digest, "slide_id"]
    if len(same):
        msg = (
            f"Slide '{slide_id}' has the same image and counts as slide '{same.iloc[0]}' of the "
            f"store at {place}. Leave it out."
        )
        raise DuplicateSlideError(msg)
