"""One small JSON file per store version: which version of each Lance table belongs to it.

Lance commits one table at a time. A slide goes into several, so what counts as written is the
manifest: it is created last and at once, and whoever opens the store reads the tables at the
versions that the newest manifest names. A process killed in between leaves table versions that no
manifest names; they are invisible, and the next writer puts the tables back first.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError, StoreVersionError
from stamp_index.store.card import EncoderCard, check_card
from stamp_index.store.places import place_of
from stamp_index.store.schema import TABLES

if TYPE_CHECKING:
    from stamp_index.store.places import Place, Where

FORMAT_VERSION: Final = 3  # raised whenever an older release could misread a store
_OLDEST_FORMAT: Final = 3
_MOST: Final = 2**40  # rows and versions: what is read of them must fit into memory one by one


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
    n_rows : int
        Row ids of spots given so far, those of deleted slides included: ids are 0 to n_rows - 1.
    encoders : dict of str to dict
        `EncoderCard` of each encoder, by its name in the store; the first is the default.
    change : str
        What made this version, for people.
    created_at : str
        ISO 8601, UTC.
    """

    store_id: str
    version: int
    tables: dict[str, int]
    n_slides: int
    n_spots: int
    n_rows: int
    encoders: dict[str, dict[str, str | int | float]]
    change: str
    created_at: str

    def card(self, encoder: str) -> EncoderCard:
        """Card of an encoder by its name in the store."""
        return EncoderCard.from_dict(self.encoders[encoder])


def stored_versions(store: Where) -> list[int]:
    """Versions that `store` holds, ascending.

    Raises
    ------
    StoreError
        If there is no store at this place.
    """
    place = place_of(store)
    versions = place.versions()
    if not versions:
        msg = (
            f"There is no store at {place} (it has no version in 'versions'). Give the path of an existing store, "
            f"or make one with `stamp-index add` or Store.create."
        )
        raise StoreError(msg)
    return versions


def lease_manifest(store: Where, version: int | None = None) -> tuple[Manifest, object]:
    """Read one version, by default the newest, and hold it: clean-up leaves it while the lease lives.

    Raises
    ------
    StoreVersionError, StoreError
        As `read_manifest`.
    """
    place = place_of(store)
    while True:
        number = _choose(place, version)
        lease = place.hold_version(number)
        if lease is not None:
            return _read(place, number), lease
        # clean-up was quicker; a newer version is there


def read_manifest(store: Where, version: int | None = None) -> Manifest:
    """Read one version, by default the newest.

    Raises
    ------
    StoreVersionError
        If a newer release wrote it, or one so old that this one cannot read it.
    StoreError
        If it does not exist or cannot be read.
    """
    place = place_of(store)
    return _read(place, _choose(place, version))


def _choose(store: Place, version: int | None) -> int:
    versions = stored_versions(store)
    if version is not None and version not in versions:
        msg = (
            f"The store at {store} has no version {version}; it has {versions[0]} to "
            f"{versions[-1]}. Open one of these, or leave `version` out for the newest."
        )
        raise StoreError(msg)
    return versions[-1] if version is None else version


def _read(store: Place, number: int) -> Manifest:
    try:
        values = json.loads(store.read_version(number))
        _check_format(store, int(values.pop("format_version")))
        return _checked(Manifest(**values), number)
    except (
        OSError,
        ValueError,
        OverflowError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        older = [other for other in stored_versions(store) if other < number]
        instead = f"open the store with version={older[-1]}" if older else "make the store again"
        msg = (
            f"{store.version_name(number)} is not a readable store version ({type(exc).__name__}: {exc}). Restore this "
            f"file from a copy, or {instead}."
        )
        raise StoreError(msg) from exc


def _check_format(store: Place, written_as: int) -> None:
    if written_as > FORMAT_VERSION:
        msg = (
            f"The store at {store} has format version {written_as}; this release reads up to "
            f"{FORMAT_VERSION}. Upgrade stamp-index to open it."
        )
        raise StoreVersionError(msg)
    if written_as < _OLDEST_FORMAT:
        msg = (
            f"The store at {store} has format version {written_as}; this release reads "
            f"{_OLDEST_FORMAT} to {FORMAT_VERSION}. Embed its slides into a new store."
        )
        raise StoreVersionError(msg)


def _checked(manifest: Manifest, number: int) -> Manifest:
    """Refuse values that no writer of this format gives."""
    if manifest.version != number:
        msg = f"it says version {manifest.version}, its name says {number}"
        raise ValueError(msg)
    if set(manifest.tables) != set(TABLES):
        msg = f"it names tables {sorted(manifest.tables)}, expected {sorted(TABLES)}"
        raise ValueError(msg)
    numbers = [*manifest.tables.values(), manifest.n_slides, manifest.n_spots, manifest.n_rows]
    if not all(isinstance(value, int) and 0 <= value < _MOST for value in numbers):
        msg = f"its versions and row counts {str(numbers)[:300]} are not all whole numbers below {_MOST}"
        raise ValueError(msg)
    if not manifest.encoders:
        msg = "it names no encoder"
        raise ValueError(msg)
    for name in manifest.encoders:
        check_card(manifest.card(name))  # a TypeError says which value is missing or unknown
    return manifest


def write_manifest(store: Place, manifest: Manifest) -> None:
    """Create the file of a new version, whole or not at all.

    Raises
    ------
    FileExistsError
        If that version exists already.
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(manifest)}, indent=1)
    store.create_version(manifest.version, text)
