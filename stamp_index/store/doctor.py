"""Finding what a crash or a bad disk left in a store, and mending what can be mended."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stamp_index.errors import StoreError
from stamp_index.remote.refusals import plain_refusal
from stamp_index.store.drafts import is_draft_of
from stamp_index.store.encoders import ENCODERS
from stamp_index.store.housekeeping import clean_tables, require_whole
from stamp_index.store.local_place import VERSIONS
from stamp_index.store.lock import WAIT_S
from stamp_index.store.manifest import read_manifest, stored_versions
from stamp_index.store.places import place_of
from stamp_index.store.reading import open_table
from stamp_index.store.schema import TABLES
from stamp_index.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Place, Where


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


def examine(where: Where, *, lock_timeout_s: float = WAIT_S) -> list[Finding]:
    """Examine a store while nobody writes to it; leftovers only where nothing is damaged.

    Raises
    ------
    StoreError
        If there is no store, or another process keeps writing.
    """
    place = place_of(where)
    stored_versions(place)  # raises where there is no store
    with place.writing(lock_timeout_s):
        damage = [
            *_versions(place),
            *(Finding("damage", text) for text in place.folders_damage()),
        ]
        return damage or [*map(_leftover, _drafts(place)), *_orphans(place)]


def _leftover(draft: Path) -> Finding:
    return Finding("leftover", f"{draft} was never finished and can go.")


def _versions(place: Place) -> Iterator[Finding]:
    for number in stored_versions(place):
        try:
            manifest = read_manifest(place, number)
            require_whole(place, manifest)
            yield from _lost_files(place, manifest)
        except StoreError as exc:
            yield Finding("damage", str(exc))
        except (OSError, ValueError) as exc:  # Lance's, of what it cannot read
            said, _ = plain_refusal(exc, place.name)
            text = f"Version {number} of the store at {place} cannot be read ({said}). Restore it from a copy."
            yield Finding("damage", text)


def _lost_files(place: Place, manifest: Manifest) -> Iterator[Finding]:
    """Files of the tables that are gone, or not as long as they were written."""
    for name in TABLES:
        for fragment in open_table(place, name, manifest.tables[name]).get_fragments():
            for written in fragment.data_files():
                length = written.file_size_bytes
                held = place.data_file_bytes(name, written.path)
                if held is None or (length is not None and held != length):
                    text = (
                        f"{place.table(name)}/data/{written.path} has "
                        f"{'gone' if held is None else f'{held} bytes instead of {length}'}. Restore the "
                        f"store from a copy, or embed its slides again."
                    )
                    yield Finding("damage", text)


def _drafts(place: Place) -> list[Path]:
    """Local files that a writer was making when it ended."""
    folder = place.folder
    beside = [one for one in _entries(folder.parent) if is_draft_of(one, folder.name)]
    held = read_manifest(place).encoders
    copies = [one for one in _entries(folder / ENCODERS) if one.name not in held]
    return [*beside, *(folder / VERSIONS).glob("*.tmp"), *copies]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _orphans(place: Place) -> Iterator[Finding]:
    """Versions of tables that a writer made and no version of the store names."""
    named = read_manifest(place).tables
    found = {name: open_table(place, name).version for name in TABLES}
    for name in TABLES:
        if found[name] > named[name]:
            text = (
                f"Table '{name}' has versions {named[name] + 1} to {found[name]} of a change that was not "
                f"finished. Nobody sees them; the next change takes them back."
            )
            yield Finding("leftover", text)


def mend(where: Where, *, lock_timeout_s: float = WAIT_S) -> list[str]:
    """Remove leftovers; returns what was done. What is damaged is never touched.

    Raises
    ------
    StoreError
        If something is damaged, another process keeps writing, or there is no store.
    """
    place = place_of(where)
    findings = examine(place, lock_timeout_s=lock_timeout_s)
    damage = [finding.text for finding in findings if finding.kind == "damage"]
    if damage:
        msg = f"Nothing was mended, as leftovers may be needed to restore what is damaged: {damage[0]}"
        raise StoreError(msg)
    done = []
    with place.writing(lock_timeout_s):
        for draft in _drafts(place):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
            done.append(f"Removed {draft}.")
        if any(_orphans(place)):
            change = Transaction(place)
            for name in TABLES:
                change.table(name)  # takes back what is not finished
            change.commit("mended")
            done.append("Took back changes that were not finished.")
        clean_tables(place)
    return done
