"""A Lance table for reading, whose every failure is a StoreError."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stamp_index.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lance
    import pyarrow as pa

_PANIC = "PanicException"  # what Rust's panics become; no Exception, and in no module that can be imported


class GuardedTable:
    """What of a table is read, with its errors in words.

    Parameters
    ----------
    name : str
        Of the table.
    dataset : LanceDataset
        At one version.
    """

    def __init__(self, name: str, dataset: lance.LanceDataset) -> None:
        self.dataset = dataset
        self._what = (
            f"Table '{name}' of the store"  # no folder: errors of reading are sent to browsers
        )

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return self.dataset.schema

    def to_table(self, **asked: Any) -> pa.Table:  # noqa: ANN401 - Lance's own
        """Read columns: see `lance.LanceDataset.to_table`.

        Raises
        ------
        StoreError
            If what is stored is damaged.
        """
        with self._guarded():
            return self.dataset.to_table(**asked)

    def take(self, places: list[int], columns: list[str]) -> pa.Table:
        """Read rows: see `lance.LanceDataset.take`; errors as `to_table`."""
        with self._guarded():
            return self.dataset.take(places, columns=columns)

    def to_batches(self, **asked: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401 - Lance's own
        """Read columns in pieces: see `lance.LanceDataset.to_batches`; errors as `to_table`."""
        with self._guarded():
            yield from self.dataset.to_batches(**asked)

    def read_blobs(self, name: str, places: list[int]) -> list[bytes | None]:
        """Read contents of a blob column in the order asked for; errors as `to_table`."""
        with self._guarded():
            read = self.dataset.read_blobs(name, indices=places, preserve_order=True)
            return [content for _, content in read]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with refused(self._what):
            yield


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Turn what Lance raises into a StoreError.

    Raises
    ------
    StoreError
        If what is stored is damaged.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, MemoryError) as exc:
        raise _damaged(what, exc) from exc
    except BaseException as exc:
        if type(exc).__name__ != _PANIC:
            raise
        raise _damaged(what, exc) from exc


def _damaged(what: str, exc: BaseException) -> StoreError:
    # Lance's own words name folders, and an error's text may be sent to a browser; they stay in its cause.
    return StoreError(
        f"{what} cannot be read ({type(exc).__name__}). Its files are damaged, gone or cannot be reached: restore the store from a copy or "
        "ingest the slides again."
    )
