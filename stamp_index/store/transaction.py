"""One step over all tables: all of it becomes visible at once, or nothing does.

Writers on several machines may begin on the same version. What they commit to a Lance table is a version of that table,
and theirs is built on what they read only if the numbers follow each other: where one does not, somebody else has written
in between, and the step is taken anew on the newest version. Of two that get through, one creates the next version of the
store; the other is told so, and takes its step anew as well. Nothing rests on a lock; it only keeps writers from meeting.
"""

from __future__ import annotations

import random
import re
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.errors import StoreBusyError, StoreError
from stamp_index.store.guarded import is_refusal, unwritten
from stamp_index.store.manifest import Manifest, read_manifest, write_manifest
from stamp_index.store.places import place_of
from stamp_index.store.reading import ROW_ID, Tables, open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import lance
    from numpy.typing import NDArray

    from stamp_index.store.places import Where

_PAUSE_S: Final = 0.2  # at most, before a step is taken anew
_ATTEMPTS: Final = 50
# Lance has a class of its own for these, but some of its functions raise them as OSError.
_CONFLICT: Final = re.compile(r"incompatible transaction|commit conflict|concurrent", re.IGNORECASE)

T = TypeVar("T")


class OvertakenError(StoreError):
    """Another writer was quicker; the step can be taken anew."""


class Transaction:
    """Changes to the tables that nobody sees before `commit`.

    Made by `transact`. Ending without `commit` leaves the store as it was: what was written stays in table versions
    that no manifest names, and the next writer takes it back.

    Attributes
    ----------
    place : Place
        Where the store lies.
    before : Manifest
        The newest version, on which this builds.
    """

    def __init__(self, where: Where) -> None:
        self.place = place_of(where)
        self.before = read_manifest(self.place)
        self.tables = Tables(self.place, self.before)
        self._touched: dict[str, lance.LanceDataset] = {}

    def table(self, name: str) -> lance.LanceDataset:
        """One table as this transaction has left it so far."""
        if name not in self._touched:
            table = open_table(self.place, name, self.before.tables[name])
            if table.latest_version != table.version:
                # A writer ended before its commit, or is about to find that it was overtaken: take back what it wrote.
                table.restore()  # type: ignore[no-untyped-call]
            self._touched[name] = table
        return self._touched[name]

    def append(
        self, name: str, part: pa.Table | pa.RecordBatchReader | Sequence[lance.FragmentMetadata]
    ) -> int:
        """Append rows, or data files that hold them; returns the row id of the first, which the others follow.

        Raises
        ------
        StoreError
            If the row ids do not follow each other.
        OvertakenError
            If somebody else wrote to the table.
        """
        import lance

        table = self.table(name)
        if isinstance(part, pa.Table) and part.num_rows == 0:
            return 0
        known = {fragment.fragment_id for fragment in table.get_fragments()}
        if isinstance(part, (pa.Table, pa.RecordBatchReader)):
            after = lance.write_dataset(part, table, mode="append")
        elif part:
            step = lance.LanceOperation.Append(list(part))
            after = lance.LanceDataset.commit(table, step, read_version=table.version)
        else:
            return 0
        self.replace_table(name, after)
        new = [one for one in after.get_fragments() if one.fragment_id not in known]
        ids = after.scanner(columns=[], with_row_id=True, fragments=new).to_table()
        rows = ids.column(ROW_ID).to_numpy().astype(np.int64)
        if (np.diff(rows) != 1).any():
            msg = (
                f"Table '{name}' of the store at {self.place} gave row ids from {rows.min()} to {rows.max()} to "
                f"{len(rows)} rows; expected consecutive ones. Nothing was added."
            )
            raise StoreError(msg)
        return int(rows[0])

    def delete(self, name: str, column: str, values: Sequence[str]) -> None:
        """Delete the rows whose `column` is one of `values`."""
        table = self.table(name)
        before = table.version
        table.delete(pc.field(column).isin(list(values)))
        self.require_next(name, before, table.version)

    def replace_table(self, name: str, table: lance.LanceDataset) -> None:
        """Go on from a version that was committed in another way, in one step.

        Raises
        ------
        OvertakenError
            If it does not follow the version that it was to follow: somebody else wrote to the table.
        """
        self.require_next(name, self.table(name).version, table.version)
        self._touched[name] = table

    def rewrite_table(self, name: str, rewrite: Callable[[lance.LanceDataset], object]) -> None:
        """Write a table's files anew; its rows and columns stay what they are.

        Lance puts such a step behind whatever others have committed meanwhile, so numbers that follow each other say
        nothing here: row ids are compared instead, which are given once and stay.

        Raises
        ------
        OvertakenError
            If somebody else wrote to the table.
        """
        table = self.table(name)
        schema, rows = table.schema, _row_ids(table)
        rewrite(table)
        after = open_table(self.place, name)
        if after.schema != schema or not np.array_equal(_row_ids(after), rows):
            raise OvertakenError(self._overtaken(name))
        self._touched[name] = after

    def require_next(self, name: str, before: int, after: int) -> None:
        """Refuse a version of a table that does not follow the one that was read.

        Raises
        ------
        OvertakenError
            As somebody else wrote to the table in between.
        """
        if after > before + 1:
            raise OvertakenError(self._overtaken(name))

    def _overtaken(self, name: str) -> str:
        return (
            f"Somebody else wrote to table '{name}' of the store at {self.place} meanwhile. Nothing was changed; open "
            f"the store again and repeat."
        )

    def commit(self, change: str, **values: Any) -> Manifest:  # noqa: ANN401 - fields of the manifest
        """Make everything visible as the next version.

        Raises
        ------
        OvertakenError
            If somebody else has written it meanwhile.
        """
        versions = {name: table.version for name, table in self._touched.items()}
        after = replace(
            self.before,
            version=self.before.version + 1,
            tables={**self.before.tables, **versions},
            change=change,
            created_at=datetime.now(UTC).isoformat(),
            **values,
        )
        try:
            write_manifest(self.place, after)
        except FileExistsError:
            msg = (
                f"Version {after.version} of the store at {self.place} was written by another process meanwhile. "
                f"Open the store again and repeat."
            )
            raise OvertakenError(msg) from None
        return after


def _row_ids(table: lance.LanceDataset) -> NDArray[np.uint64]:
    """Ids of the rows that are there, ascending."""
    ids = table.scanner(columns=[], with_row_id=True).to_table().column(ROW_ID)
    return np.sort(ids.to_numpy())


def transact(where: Where, lock_timeout_s: float, step: Callable[[Transaction], T]) -> T:
    """Take one step on the newest version of a store, anew where another writer was quicker.

    Parameters
    ----------
    where : Place, path or str
        The store.
    lock_timeout_s : float
        Seconds to wait for another writer.
    step : callable
        Is given a `Transaction`, and commits it. It may be called several times.

    Raises
    ------
    StoreBusyError
        If another process keeps writing.
    StoreError
        If the store is damaged, or the disk refuses what is written; then the store is as it was.
    """
    place = place_of(where)
    for _ in range(_ATTEMPTS):
        with place.writing(lock_timeout_s), suppress(OvertakenError):
            return _taken(Transaction(place), step)
        time.sleep(_PAUSE_S * random.random())  # so that two do not meet again
    msg = (
        f"Others wrote to the store at {place} {_ATTEMPTS} times while this change was made. It is as they left it; "
        f"try again when they are done."
    )
    raise StoreBusyError(msg)


def _taken(begun: Transaction, step: Callable[[Transaction], T]) -> T:
    """Take a step; what the disk refuses is a StoreError, and of it what another writer caused an OvertakenError."""
    from lance.commit import CommitConflictError

    what = f"The store at {begun.place} could not be written"
    to_do = f"It is as it was at version {begun.before.version}; make room or mend the disk, and try again."
    with unwritten(begun.place, what, to_do):
        try:
            return step(begun)
        except (OSError, ValueError) as exc:
            conflict = isinstance(exc, CommitConflictError) or _CONFLICT.search(str(exc))
            if not conflict or not is_refusal(exc):
                raise
            msg = f"Somebody else wrote to the store at {begun.place} meanwhile."
            raise OvertakenError(msg) from None
