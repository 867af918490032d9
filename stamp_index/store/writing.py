"""Adding a slide: one transaction over the tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stamp_index.errors import DuplicateSlideError, EncoderMismatchError
from stamp_index.store.card import EncoderCard
from stamp_index.store.lock import write_lock
from stamp_index.store.manifest import Manifest, read_manifest, write_manifest
from stamp_index.store.reading import Tables, open_table, table_path
from stamp_index.store.rows import (
    SlideRows,
    check_rows,
    content_hash,
    expression_table,
    slide_table,
    spots_table,
)
from stamp_index.store.schema import EXPRESSION, SLIDES, SPOTS

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def append_slide(path: Path, rows: SlideRows, lock_timeout_s: float) -> Manifest:
    """Check a slide and append it to the newest version of the store at `path`.

    Raises
    ------
    EncoderMismatchError, DuplicateSlideError, StoreError, ValueError
        As `Store.add` says; the store is then as it was.
    """
    digest = content_hash(rows.slide)
    with write_lock(path, lock_timeout_s):
        before = read_manifest(path)
        card = EncoderCard.from_dict(before.card)
        _check_encoder(path, rows, card)
        check_rows(rows, card.dim)
        tables = Tables(path, before)
        tables.require_slide_columns()
        check_new(path, tables, rows.slide.slide_id, digest)
        first_gene = sum(len(genes) for genes in tables.gene_lists)
        parts = {
            SLIDES: slide_table(rows, digest, before.n_spots, first_gene),
            SPOTS: spots_table(rows, card),
            EXPRESSION: expression_table(rows.slide),
        }
        versions = {
            name: _append(path, name, part, before.tables[name]) for name, part in parts.items()
        }
        after = replace(
            before,
            version=before.version + 1,
            tables=versions,
            n_slides=before.n_slides + 1,
            n_spots=before.n_spots + rows.slide.n_spots,
            created_at=datetime.now(UTC).isoformat(),
        )
        write_manifest(path, after)
    return after


def _append(path: Path, name: str, part: pa.Table, version: int) -> int:
    """Append to one table as it was at `version`; returns the table's new version."""
    import lance

    if lance.dataset(table_path(path, name)).version != version:
        # A writer was killed before it wrote its manifest: take back what it left.
        open_table(path, name, version).restore()  # type: ignore[no-untyped-call]
    written: int = lance.write_dataset(part, table_path(path, name), mode="append").version
    return written


def _check_encoder(path: Path, rows: SlideRows, card: EncoderCard) -> None:
    if rows.fingerprint != card.fingerprint:
        msg = (
            f"The store at {path} holds embeddings of encoder '{card.name}' {card.fingerprint}; "
            f"slide '{rows.slide.slide_id}' was embedded by {rows.fingerprint}. Embed it with the "
            f"store's encoder, or make another store."
        )
        raise EncoderMismatchError(msg)


def check_new(path: Path, tables: Tables, slide_id: str, digest: str) -> None:
    """Raise DuplicateSlideError if a slide of this id, or with this content hash, is there."""
    slides = tables.slides
    if slide_id in set(slides["slide_id"]):
        msg = (
            f"Slide '{slide_id}' is in the store at {path} already. Leave it out, or give this one "
            f"another slide_id."
        )
        raise DuplicateSlideError(msg)
    same = slides.loc[slides["content_hash"] == digest, "slide_id"]
    if len(same):
        msg = (
            f"Slide '{slide_id}' has the same image and counts as slide '{same.iloc[0]}' of the "
            f"store at {path}. Leave it out."
        )
        raise DuplicateSlideError(msg)
