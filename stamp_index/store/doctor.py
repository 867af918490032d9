"""Finding what a crash or a bad disk left in a store, and mending what can be mended."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stamp_index.errors import StoreError
from stamp_index.store.drafts import is_draft_of
from stamp_index.store.encoders import ENCODERS
from stamp_index.store.housekeeping import clean_table, require_whole
from stamp_index.store.lock import WAIT_S, write_lock
from stamp_index.store.manifest import MANIFESTS, read_manifest, stored_versions
from stamp_index.store.reading import open_table, table_path
from stamp_index.store.schema import TABLES
from stamp_index.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.store.manifest import Manifest


@dataclass(frozen=True)
class Finding:
    """Something that should not be there, or is not as it should be.

    Attributes
    ----------
    kind : {"leftover", "damage"}
        A leftover takes up space and does no harm; what is damaged cannot be read.
    text : str
        What it is, and what to do.
    """

    kind: Literal["leftover", "damage"]
    text: str


def examine(path: Path, *, lock_timeout_s: float = WAIT_S) -> list[Finding]:
    """Examine a store while nobody writes to it; leftovers only where nothing is damaged.

    Raises
    ------
    StoreError
        If there is no store, or another process keeps writing.
    """
    stored_versions(path)  # raises where there is no store
    with write_lock(path, lock_timeout_s):
        damage = list(_versions(path))
        return damage or [*map(_leftover, _drafts(path)), *_orphans(path)]


def _leftover(draft: Path) -> Finding:
    return Finding("leftover", f"{draft} was never finished and can go.")


def _versions(path: Path) -> Iterator[Finding]:
    for number in stored_versions(path):
        try:
            manifest = read_manifest(path, number)
            require_whole(path, manifest)
            yield from _lost_files(path, manifest)
        except StoreError as exc:
            yield Finding("damage", str(exc))
        except (OSError, ValueError) as exc:  # Lance's, of what it cannot read
            text = f"Version {number} of the store at {path} cannot be read ({exc}). Restore it from a copy."
            yield Finding("damage", text)


def _lost_files(path: Path, manifest: Manifest) -> Iterator[Finding]:
    """Files of the tables that are gone, or not as long as they were written."""
    for name in TABLES:
        folder = Path(table_path(path, name)) / "data"
        for fragment in open_table(path, name, manifest.tables[name]).get_fragments():
            for written in fragment.data_files():
                place, length = folder / written.path, written.file_size_bytes
                held = place.stat().st_size if place.is_file() else None
                if held is None or (length is not None and held != length):
                    text = (
                        f"{place} has {'gone' if held is None else f'{held} bytes instead of {length}'}. Restore the "
                        f"store from a copy, or embed its slides again."
                    )
                    yield Finding("damage", text)


def _drafts(path: Path) -> list[Path]:
    """Files that a writer was making when it ended."""
    beside = [place for place in path.parent.iterdir() if is_draft_of(place, path.name)]
    held = read_manifest(path).encoders
    copies = [place for place in _entries(path / ENCODERS) if place.name not in held]
    return [*beside, *(path / MANIFESTS).glob("*.tmp"), *copies]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _orphans(path: Path) -> Iterator[Finding]:
    """Versions of tables that a writer made and no version of the store names."""
    import lance

    named = read_manifest(path).tables
    found = {name: lance.dataset(table_path(path, name)).version for name in TABLES}
    for name in TABLES:
        if found[name] > named[name]:
            text = (
                f"Table '{name}' has versions {named[name] + 1} to {found[name]} of a change that was not "
                f"finished. Nobody sees them; the next change takes them back."
            )
            yield Finding("leftover", text)


def mend(path: Path, *, lock_timeout_s: float = WAIT_S) -> list[str]:
    """Remove leftovers; returns what was done. What is damaged is never touched.

    Raises
    ------
    StoreError
        If something is damaged, another process keeps writing, or there is no store.
    """
    findings = examine(path, lock_timeout_s=lock_timeout_s)
    damage = [finding.text for finding in findings if finding.kind == "damage"]
    if damage:
        msg = f"Nothing was mended, as leftovers may be needed to restore what is damaged: {damage[0]}"
        raise StoreError(msg)
    done = []
    with write_lock(path, lock_timeout_s):
        for draft in _drafts(path):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
            done.append(f"Removed {draft}.")
        if any(_orphans(path)):
            change = Transaction(path)
            for name in TABLES:
                change.table(name)  # takes back what is not finished
            change.commit("mended")
            done.append("Took back changes that were not finished.")
        needed = [read_manifest(path, number) for number in stored_versions(path)]
        for name in TABLES:
            clean_table(path, name, {manifest.tables[name] for manifest in needed})
    return done
