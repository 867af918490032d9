"""One small JSON file per store version: which version of each Lance table belongs to it.

Lance commits one table at a time. A slide goes into three, so what counts as written is the
manifest: it is created last and at once, and whoever opens the store reads the tables at the
versions that the newest manifest names. A process killed in between leaves table versions that no
manifest names; they are invisible, and the next writer puts the tables back first.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError, StoreVersionError
from stamp_index.store.card import EncoderCard
from stamp_index.store.schema import TABLES

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 1  # raised whenever an older release could misread a store
MANIFESTS: Final = "versions"  # folder inside the store
_FILE_NAME = re.compile(r"^(\d{8})\.json$")


@dataclass(frozen=True)
class Manifest:
    """State of a store at one version.

    Attributes
    ----------
    store_id : str
        Random name given at creation; tells an index of this store from one of another.
    version : int
        1 for the empty store; every commit adds 1.
    tables : dict of str to int
        Lance version of each table.
    n_slides, n_spots : int
        Rows of the slides and spots tables.
    card : dict
        The `EncoderCard`.
    created_at : str
        ISO 8601, UTC.
    """

    store_id: str
    version: int
    tables: dict[str, int]
    n_slides: int
    n_spots: int
    card: dict[str, str | int | float]
    created_at: str


def stored_versions(store: Path) -> list[int]:
    """Versions that `store` holds, ascending.

    Raises
    ------
    StoreError
        If there is no store at this path.
    """
    folder = store / MANIFESTS
    if not folder.is_dir():
        msg = (
            f"There is no store at {store} (it has no folder '{MANIFESTS}'). Give the path of an "
            f"existing store, or make one with `stamp-index embed` or Store.create."
        )
        raise StoreError(msg)
    matches = (_FILE_NAME.match(entry.name) for entry in folder.iterdir())
    versions = sorted(int(match.group(1)) for match in matches if match)
    if not versions:
        msg = f"The store at {store} has no version in '{MANIFESTS}'. Make it again."
        raise StoreError(msg)
    return versions


def read_manifest(store: Path, version: int | None = None) -> Manifest:
    """Read one version, by default the newest.

    Raises
    ------
    StoreVersionError
        If a newer release wrote it.
    StoreError
        If it does not exist or cannot be read.
    """
    versions = stored_versions(store)
    if version is not None and version not in versions:
        msg = (
            f"The store at {store} has no version {version}; it has {versions[0]} to "
            f"{versions[-1]}. Open one of these, or leave `version` out for the newest."
        )
        raise StoreError(msg)
    number = versions[-1] if version is None else version
    path = _path(store, number)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written_as = int(values.pop("format_version"))
        if written_as > FORMAT_VERSION:
            msg = (
                f"The store at {store} has format version {written_as}; this release reads up to "
                f"{FORMAT_VERSION}. Upgrade stamp-index to open it."
            )
            raise StoreVersionError(msg)
        return _checked(Manifest(**values), number)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        older = [other for other in versions if other < number]
        instead = f"open the store with version={older[-1]}" if older else "make the store again"
        msg = (
            f"{path} is not a readable store version ({type(exc).__name__}: {exc}). Restore this "
            f"file from a copy, or {instead}."
        )
        raise StoreError(msg) from exc


def _checked(manifest: Manifest, number: int) -> Manifest:
    """Refuse values that no writer of this format gives."""
    if manifest.version != number:
        msg = f"it says version {manifest.version}, its name says {number}"
        raise ValueError(msg)
    if set(manifest.tables) != set(TABLES):
        msg = f"it names tables {sorted(manifest.tables)}, expected {sorted(TABLES)}"
        raise ValueError(msg)
    numbers = [*manifest.tables.values(), manifest.n_slides, manifest.n_spots]
    if not all(isinstance(value, int) and value >= 0 for value in numbers):
        msg = f"its versions and row counts {numbers} are not all whole numbers"
        raise ValueError(msg)
    EncoderCard.from_dict(manifest.card)  # a TypeError says which value is missing or unknown
    return manifest


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Create the file of a new version, whole or not at all.

    Raises
    ------
    StoreError
        If that version exists already.
    """
    folder = store / MANIFESTS
    folder.mkdir(exist_ok=True)
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(manifest)}, indent=1)
    with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", suffix=".tmp") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        try:  # a hard link appears complete, and never replaces a file that is already there
            os.link(file.name, _path(store, manifest.version))
        except FileExistsError as exc:
            msg = (
                f"Version {manifest.version} of the store at {store} was written by another "
                f"process meanwhile. Open the store again and repeat."
            )
            raise StoreError(msg) from exc


def _path(store: Path, version: int) -> Path:
    return store / MANIFESTS / f"{version:08d}.json"
