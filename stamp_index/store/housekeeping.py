"""Compaction, and removal of what no version needs any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import StoreError
from stamp_index.store.manifest import read_manifest, stored_versions
from stamp_index.store.places import place_of
from stamp_index.store.reading import Tables, open_table
from stamp_index.store.schema import TABLES
from stamp_index.store.transaction import transact

if TYPE_CHECKING:
    import lance

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Place, Where
    from stamp_index.store.transaction import Transaction

_NEVER: Final = timedelta(days=36_500)  # no version is that old
_SMALL_ROWS: Final = 1_048_576  # files with fewer rows than this are joined: Lance's default


def compact(where: Where, lock_timeout_s: float) -> Manifest:
    """Join small files of every table, drop deleted rows, and index what was added.

    Raises
    ------
    StoreError
        As `transact`.
    """
    return transact(where, lock_timeout_s, _compact)


def _compact(change: Transaction) -> Manifest:
    for name in TABLES:
        change.rewrite_table(name, _compact_table)
    return change.commit("compacted")


def _compact_table(table: lance.LanceDataset) -> None:
    table.optimize.compact_files(target_rows_per_fragment=_SMALL_ROWS)
    table.optimize.optimize_indices()


def clean_up(where: Where, keep: int, lock_timeout_s: float) -> int:
    """Remove all but the newest `keep` versions, and files that no version names; returns how many went.

    A version that somebody has open stays, in whatever process. In object storage, where nobody can tell, a version stays
    for seven days after a newer one took its place, and so do files that no version names after they were written.

    Raises
    ------
    ValueError
        If `keep` is below 1.
    StoreError
        If another process keeps writing.
    """
    if keep < 1:
        msg = f"keep is {keep}; expected 1 or more versions to keep."
        raise ValueError(msg)
    place = place_of(where)
    with place.writing(lock_timeout_s):
        versions = stored_versions(place)
        older = list(pairwise(versions))[: len(versions) - keep]
        gone = [one for one, next_one in older if place.remove_version(one, next_one)]
        clean_tables(place)
        place.sweep()
        return len(gone)


def clean_tables(place: Place) -> None:
    """Remove versions of tables that no version of the store names, and files of writers that were killed."""
    needed = [read_manifest(place, number) for number in stored_versions(place)]
    with place.nobody_drafts() as nobody:
        for name in TABLES:
            _clean_table(place, name, {one.tables[name] for one in needed}, unverified=nobody)


def _clean_table(place: Place, name: str, needed: set[int], *, unverified: bool) -> None:
    """Remove a table's versions that are not needed; `unverified` files are those of no version, however young."""
    table = open_table(place, name)
    until = datetime.now(UTC) - place.retained  # written later, somebody may be about to name it
    held: list[Any] = table.versions()
    old = {one["version"] for one in held if one["timestamp"].astimezone(UTC) <= until}
    unneeded = sorted(old - needed - {table.version})  # Lance keeps the newest
    which: dict[str, Any] = {"versions": unneeded} if unneeded else {"older_than": _NEVER}
    table.cleanup_old_versions(**which, delete_unverified=unverified)


def require_whole(where: Where, manifest: Manifest) -> None:
    """Refuse a version whose tables contradict each other or its manifest.

    Raises
    ------
    StoreError
        Naming the first contradiction.
    """
    tables = Tables(where, manifest)
    said, found = manifest.n_slides, len(tables.slides)
    if said != found or manifest.n_spots != tables.spots.n_live:
        msg = (
            f"Version {manifest.version} of the store at {where} says {said} slides and {manifest.n_spots} "
            f"spots; its slides table has {found} and {tables.spots.n_live}. The store is damaged; restore it "
            f"from a copy or embed the slides again."
        )
        raise StoreError(msg)
    _ = tables.genes  # compares the rows of the expression table
