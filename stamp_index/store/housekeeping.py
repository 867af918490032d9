"""Compaction, and removal of what no version needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import StoreError
from stamp_index.store.lease import remove_if_free
from stamp_index.store.lock import write_lock
from stamp_index.store.manifest import manifest_path, read_manifest, stored_versions
from stamp_index.store.reading import Tables, table_path
from stamp_index.store.schema import TABLES
from stamp_index.store.transaction import transaction

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.store.manifest import Manifest

_NEVER: Final = timedelta(days=36_500)  # no version is that old
_SMALL_ROWS: Final = 1_048_576  # files with fewer rows than this are joined: Lance's default


def compact(path: Path, lock_timeout_s: float) -> Manifest:
    """Join small files of every table, drop deleted rows, and index what was added.

    Raises
    ------
    StoreError
        As `transaction`.
    """
    import lance

    with transaction(path, lock_timeout_s) as change:
        for name in TABLES:
            table = change.table(name)
            table.optimize.compact_files(target_rows_per_fragment=_SMALL_ROWS)
            table.optimize.optimize_indices()
            change.replace_table(name, lance.dataset(table_path(path, name)))
        return change.commit("compacted")


def clean_up(path: Path, keep: int, lock_timeout_s: float) -> int:
    """Remove all but the newest `keep` versions, and files that no version names; returns how many went.

    A version that somebody has open stays, in whatever process.

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
    with write_lock(path, lock_timeout_s):
        versions = stored_versions(path)
        gone = [one for one in versions[:-keep] if remove_if_free(manifest_path(path, one))]
        needed = [read_manifest(path, one) for one in stored_versions(path)]
        for name in TABLES:
            clean_table(path, name, {manifest.tables[name] for manifest in needed})
        return len(gone)


def clean_table(path: Path, name: str, needed: set[int]) -> None:
    """Remove a table's versions that no manifest names, and files of writers that were killed."""
    import lance

    table = lance.dataset(table_path(path, name))
    unneeded = [one["version"] for one in table.versions() if one["version"] not in needed]
    unneeded = [one for one in unneeded if one != table.version]  # Lance keeps the newest
    which: dict[str, Any] = {"versions": unneeded} if unneeded else {"older_than": _NEVER}
    # Nobody else writes while we hold the lock, so files without a version are leftovers.
    table.cleanup_old_versions(**which, delete_unverified=True)


def require_whole(path: Path, manifest: Manifest) -> None:
    """Refuse a version whose tables contradict each other or its manifest.

    Raises
    ------
    StoreError
        Naming the first contradiction.
    """
    tables = Tables(path, manifest)
    said, found = manifest.n_slides, len(tables.slides)
    if said != found or manifest.n_spots != tables.spots.n_live:
        msg = (
            f"Version {manifest.version} of the store at {path} says {said} slides and {manifest.n_spots} "
            f"spots; its slides table has {found} and {tables.spots.n_live}. The store is damaged; restore it "
            f"from a copy or embed the slides again."
        )
        raise StoreError(msg)
    _ = tables.genes  # compares the rows of the expression table
