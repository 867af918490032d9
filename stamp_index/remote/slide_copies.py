"""Slides that lie in object storage, copied here to be read: a cache of bounded size.

Readers and image libraries want files. A slide is copied whole when it is first read, and kept for the next who reads it;
when the cache is full, what was read longest ago goes. A copy that somebody is reading stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

from stamp_index.errors import SlideError
from stamp_index.remote.addresses import address_of
from stamp_index.remote.cache import cache_home
from stamp_index.remote.copies_room import address_in, begin, finish, held
from stamp_index.remote.objects import open_objects, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLIDES: Final = "slides"
_BLOCK: Final = 8 << 20  # bytes
_MOST_FILES: Final = 100_000
_ATTEMPTS: Final = 5


class SlideCopy:
    """A local copy of a slide; stays while this object lives.

    Made by `SlideCopy.of`.

    Attributes
    ----------
    path : Path
        File or folder to read.
    """

    def __init__(self, path: Path, lease: int) -> None:
        self.path, self._lease = path, lease

    def __del__(self) -> None:
        os.close(self._lease)  # lets go of the lock

    @classmethod
    def of(cls, address: Path | str) -> Self:
        """Copy an object, or all objects below a prefix, unless a copy is here that is as they are.

        Raises
        ------
        SlideError
            If there is nothing at the address, or it does not fit into the cache.
        StoreError
            If the storage cannot be used.
        """
        address = address_of(address)
        found = _listed(address)
        digest = hashlib.sha256(json.dumps([address, found], sort_keys=True).encode()).hexdigest()
        entry = _home() / digest[:24]
        lease = held(entry)
        if lease is None:
            lease = _fetched(address, found, entry)
        return cls(entry / address.rsplit("/", 1)[-1], lease)


def origin_of(path: Path | str) -> str:
    """Address that a file or folder of the cache is a copy of; the path itself for any other."""
    try:
        entry = _home() / Path(path).relative_to(_home()).parts[0]
    except (ValueError, IndexError):
        return str(path)
    address = address_in(entry)
    if address is None:
        return str(path)
    below = Path(path).relative_to(entry).parts[1:]
    return "/".join([address, *below])


def stamp_of(address: str) -> tuple[int, int] | None:
    """Bytes of what lies at an address, and when it was written last (ns); None where nothing lies there."""
    import obstore

    parent, _, name = address.rpartition("/")
    objects = open_objects(parent)
    with unreachable(address):
        try:
            found = [obstore.head(objects, name)]
        except FileNotFoundError:
            found = [meta for page in obstore.list(objects, prefix=f"{name}/") for meta in page]
    if not found:
        return None
    times = [round(meta["last_modified"].timestamp() * 1e9) for meta in found]
    return sum(meta["size"] for meta in found), max(times)


def _home() -> Path:
    return cache_home() / _SLIDES


def _listed(address: str) -> dict[str, tuple[int, str]]:
    """Length and tag of each object at or below an address, by its path below it; "" for the object itself.

    Raises
    ------
    SlideError
        If there is none, or too many.
    """
    import obstore

    parent, _, name = address.rpartition("/")
    objects = open_objects(parent)
    with unreachable(address):
        try:
            meta = obstore.head(objects, name)
        except FileNotFoundError:
            found = dict(_below(objects, name))
        else:
            return {"": _facts(meta)}
    if not found or len(found) > _MOST_FILES:
        msg = f"{address} has {len(found) or 'no'} objects; expected a slide, or a folder of one with at most {_MOST_FILES:,} files."
        raise SlideError(msg)
    return found


def _below(objects: Any, name: str) -> Iterator[tuple[str, tuple[int, str]]]:  # noqa: ANN401 - obstore's client
    import obstore

    for page in obstore.list(objects, prefix=f"{name}/"):
        for meta in page:
            below = meta["path"].removeprefix(f"{name}/")
            parts = PurePosixPath(below).parts
            if not parts or ".." in parts or below.startswith("/") or "\0" in below:
                msg = (
                    f"An object is called {meta['path']!r}, which is no name of a file. Rename it."
                )
                raise SlideError(msg)
            yield below, _facts(meta)


def _facts(meta: Any) -> tuple[int, str]:  # noqa: ANN401 - a dictionary of obstore
    return int(meta["size"]), str(meta["e_tag"] or meta["last_modified"])


def _fetched(address: str, found: dict[str, tuple[int, str]], entry: Path) -> int:
    """Copy objects beside their place, and move them there whole; returns what holds them (see `held`).

    Raises
    ------
    SlideError
        If they do not fit, or change meanwhile.
    StoreError
        If the storage cannot be used.
    """
    draft, lease = begin(entry, address, sum(size for size, _ in found.values()))
    try:
        _copy(address, found, draft)
        for _ in range(_ATTEMPTS):
            if finish(draft, entry):
                return lease
            theirs = held(entry)  # another process was quicker, and its copy is as good
            if theirs is not None:
                os.close(lease)
                return theirs
        msg = f"The copy of {address} cannot be put at {entry}. Remove what is there."
        raise SlideError(msg)
    except BaseException:
        os.close(lease)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _copy(address: str, found: dict[str, tuple[int, str]], draft: Path) -> None:
    parent, _, name = address.rpartition("/")
    objects = open_objects(parent)
    for below, (size, _) in found.items():
        path = draft / name / below
        path.parent.mkdir(parents=True, exist_ok=True)
        n = 0
        with unreachable(address), path.open("wb") as file:
            for block in _stream(objects, f"{name}/{below}".rstrip("/")):
                n += len(block)
                if n > size:  # more than there is room for
                    break
                file.write(block)
        if n != size:
            msg = (
                f"{address} changed while it was copied: {below or name} has not {size:,} bytes any more. Try again "
                f"when nobody writes there."
            )
            raise SlideError(msg)


def _stream(objects: Any, name: str) -> Iterator[Any]:  # noqa: ANN401 - obstore's client, and its buffers
    """Read blocks of an object; none where it is gone."""
    import obstore

    try:
        found = obstore.get(objects, name)
    except FileNotFoundError:
        return
    yield from found.stream(min_chunk_size=_BLOCK)
