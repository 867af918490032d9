"""Writing what is large of a slide before it is added: data files that no version names yet.

A draft is made without a lock, on any machine, and added in one short step, so that slides are written side by side.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from stamp_index.errors import StoreError
from stamp_index.store.arrow import (
    embeddings,
    expression_table,
    slide_table,
    source_labels,
    spots_batches,
)
from stamp_index.store.guarded import unwritten
from stamp_index.store.reading import open_table
from stamp_index.store.rows import SlideRows, check_rows, check_slide, content_hash
from stamp_index.store.schema import EXPRESSION, SPOTS

if TYPE_CHECKING:
    import lance

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Place


@dataclass(frozen=True)
class Draft:
    """A slide whose spots and genes are written, and which no version of the store has.

    Attributes
    ----------
    slide_id : str
        Its id.
    digest : str
        Hash of its image and counts.
    fingerprint : str
        Of the encoder that made its vectors.
    barcodes : tuple of n_spots str
        In the order of its rows.
    files : dict of str to tuple of str
        Data files of the tables of spots and of expression: Lance's description of each, as JSON.
    labels, slide : pyarrow.Table
        Rows for the other two tables; row ids are filled in when it is added.
    """

    slide_id: str
    digest: str
    fingerprint: str
    barcodes: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    labels: pa.Table
    slide: pa.Table

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.barcodes)

    def fragments(self, table: str) -> list[lance.FragmentMetadata]:
        """List the data files of one table."""
        from lance.fragment import FragmentMetadata

        return [FragmentMetadata.from_json(text) for text in self.files[table]]


def write_draft(place: Place, manifest: Manifest, rows: SlideRows, encoder: str) -> Draft:
    """Check a slide and write its spots and genes; to be called while the place's `drafting` lasts.

    Raises
    ------
    DuplicateGenesError, ValueError
        If the slide contradicts itself, shapes do not fit, or vectors are not finite unit vectors.
    StoreError
        If it cannot be written.
    """
    check_slide(rows.slide)
    check_rows(rows, manifest.card(encoder).dim)
    dims = {name: manifest.card(name).dim for name in manifest.encoders}
    written: dict[str, tuple[str, ...]] = {}
    parts = {
        SPOTS: spots_batches(rows, dims, encoder),
        EXPRESSION: expression_table(rows.slide),
    }
    for name, part in parts.items():
        table = open_table(place, name, manifest.tables[name])
        written[name] = _write(place, table, part)
    digest = content_hash(rows.slide)
    return Draft(
        slide_id=rows.slide.slide_id,
        digest=digest,
        fingerprint=rows.fingerprint,
        barcodes=tuple(str(barcode) for barcode in rows.slide.spots.index),
        files=written,
        labels=source_labels(rows.slide),
        slide=slide_table(rows, digest, list(embeddings(rows, encoder))),
    )


def _write(
    place: Place, table: lance.LanceDataset, part: pa.Table | pa.RecordBatchReader
) -> tuple[str, ...]:
    from lance.fragment import write_fragments

    if isinstance(part, pa.Table) and part.num_rows == 0:
        return ()
    what = f"The store at {place} could not be written"
    with unwritten(place, what, "It is as it was; make room or mend the disk, and try again."):
        made = write_fragments(part, table, mode="append", enable_stable_row_ids=True)
    return tuple(json.dumps(one.to_json()) for one in made)


def require_files(place: Place, draft: Draft) -> None:
    """Refuse a draft whose data files are not what was written.

    Raises
    ------
    StoreError
        Naming the first that is gone or cut off.
    """
    for table in draft.files:
        for file in (file for one in draft.fragments(table) for file in one.files):
            held, wanted = place.data_file_bytes(table, file.path), file.file_size_bytes
            if held is None or (wanted is not None and held != wanted):
                what = (
                    "is gone from" if held is None else f"has {held} bytes instead of {wanted} in"
                )
                msg = (
                    f"The draft of slide '{draft.slide_id}' cannot be added: its file {file.path} {what} the "
                    f"store at {place}. Embed the slide again."
                )
                raise StoreError(msg)


def discard(place: Place, draft: Draft) -> None:
    """Remove the data files of a draft that is not added."""
    for table in draft.files:
        files = [file.path for one in draft.fragments(table) for file in one.files]
        place.remove_data_files(table, files)
