"""One step over all tables: all of it becomes visible at once, or nothing does."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.errors import StoreError
from stamp_index.store.lock import write_lock
from stamp_index.store.manifest import Manifest, read_manifest, write_manifest
from stamp_index.store.reading import ROW_ID, Tables, open_table, table_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import lance


class Transaction:
    """Changes to the tables that nobody sees before `commit`.

    Made by `transaction`, which holds the store's write lock. Ending without `commit` leaves the store as it
    was: what was written stays in table versions that no manifest names, and the next writer takes it back.

    Attributes
    ----------
    path : Path
        Folder of the store.
    before : Manifest
        The newest version, on which this builds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = read_manifest(path)
        self.tables = Tables(path, self.before)
        self._touched: dict[str, lance.LanceDataset] = {}

    def table(self, name: str) -> lance.LanceDataset:
        """One table as this transaction has left it so far."""
        import lance

        if name not in self._touched:
            committed = open_table(self.path, name, self.before.tables[name])
            if committed.latest_version != committed.version:
                # A writer ended before its commit: take back what it left.
                committed.restore()  # type: ignore[no-untyped-call]
            self._touched[name] = lance.dataset(table_path(self.path, name))
        return self._touched[name]

    def append(self, name: str, part: pa.Table | pa.RecordBatchReader) -> int:
        """Append rows; returns the row id of the first, which the others follow.

        Raises
        ------
        StoreError
            If the row ids do not follow each other.
        """
        import lance

        table = self.table(name)
        if isinstance(part, pa.Table) and part.num_rows == 0:
            return 0
        known = {fragment.fragment_id for fragment in table.get_fragments()}
        table = lance.write_dataset(part, table, mode="append")
        self._touched[name] = table
        new = [part for part in table.get_fragments() if part.fragment_id not in known]
        ids = table.scanner(columns=[], with_row_id=True, fragments=new).to_table()
        rows = ids.column(ROW_ID).to_numpy().astype(np.int64)
        if (np.diff(rows) != 1).any():
            msg = (
                f"Table '{name}' of the store at {self.path} gave row ids from {rows.min()} to {rows.max()} to "
                f"{len(rows)} rows; expected consecutive ones. Nothing was added."
            )
            raise StoreError(msg)
        return int(rows[0])

    def delete(self, name: str, column: str, values: Sequence[str]) -> None:
        """Delete the rows whose `column` is one of `values`."""
        self.table(name).delete(pc.field(column).isin(list(values)))

    def replace_table(self, name: str, table: lance.LanceDataset) -> None:
        """Go on from a version that was committed in another way."""
        self._touched[name] = table

    def commit(self, change: str, **values: Any) -> Manifest:  # noqa: ANN401 - fields of the manifest
        """Make everything visible as the next version."""
        versions = {name: table.version for name, table in self._touched.items()}
        after = replace(
            self.before,
            version=self.before.version + 1,
            tables={**self.before.tables, **versions},
            change=change,
            created_at=datetime.now(UTC).isoformat(),
            **values,
        )
        write_manifest(self.path, after)
        return after


@contextmanager
def transaction(path: Path, lock_timeout_s: float) -> Iterator[Transaction]:
    """Hold the store's write lock and begin on its newest version.

    Raises
    ------
    StoreError
        If another process keeps writing, the store is damaged, or the disk refuses what is written; then the
        store is as it was.
    """
    with write_lock(path, lock_timeout_s):
        begun = Transaction(path)
        try:
            yield begun
        except OSError as exc:
            msg = (
                f"The store at {path} could not be written ({exc}). It is as it was at version "
                f"{begun.before.version}; make room or mend the disk, and try again."
            )
            raise StoreError(msg) from exc
