"""What Lance raises, in words: a table for reading whose every failure is a StoreError, and the same for what is written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stamp_index.errors import StoreError
from stamp_index.remote.addresses import is_address
from stamp_index.remote.refusals import plain_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lance
    import pyarrow as pa

    from stamp_index.store.places import Place

_PANIC = "PanicException"  # what Rust's panics become; no Exception, and in no module that can be imported
_LANCE = "LanceError("  # how the ValueErrors begin that it raises where a storage refuses


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
        with refused(self._what, remote=is_address(self.dataset.uri)):
            yield


@contextmanager
def refused(what: str, *, remote: bool) -> Iterator[None]:
    """Turn what Lance raises into a StoreError; of a `remote` place, its own error is not passed on.

    Raises
    ------
    StoreError
        If what is stored is damaged.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, MemoryError) as exc:
        raise _damaged(what, exc) from (None if remote else exc)
    except BaseException as exc:
        if type(exc).__name__ != _PANIC:
            raise
        raise _damaged(what, exc) from (None if remote else exc)


def _damaged(what: str, exc: BaseException) -> StoreError:
    # Lance's own words name folders, and an error's text may be sent to a browser; they stay in its cause. Of an object
    # storage they may hold signed addresses, and are left out.
    return StoreError(
        f"{what} cannot be read ({type(exc).__name__}). Its files are damaged, gone or cannot be reached: restore the store from a copy or "
        "ingest the slides again."
    )


# ---- writing -------------------------------------------------------------------------------------


def is_refusal(exc: BaseException) -> bool:
    """Whether an error of Lance, or of the disk, says that something could not be written; not that a value is wrong."""
    return isinstance(exc, OSError) or (isinstance(exc, ValueError) and str(exc).startswith(_LANCE))


@contextmanager
def unwritten(place: Place, what: str, to_do: str) -> Iterator[None]:
    """Turn what is raised where a disk or a storage refuses into a StoreError.

    Parameters
    ----------
    place : Place
        Where is written.
    what : str
        What could not be done, such as ``"The store at X could not be written"``.
    to_do : str
        Sentences that end the message: how things are now, and what to do.

    Raises
    ------
    StoreError
        ``what (why, without secrets). remedy to_do``. Of an object storage, Lance's own error is not passed on: it
        may hold signed addresses.
    """
    try:
        yield
    except (OSError, ValueError) as exc:
        if not is_refusal(exc):
            raise
        why, remedy = plain_refusal(exc, str(place.name))
        msg = " ".join(part for part in (f"{what} ({why}).", remedy, to_do) if part)
        raise StoreError(msg) from (None if is_address(place.name) else exc)
