"""Slides that lie in object storage, copied here to be read: a cache of bounded size.

Readers and image libraries want files. A slide is copied whole when it is first read, and kept for the next who reads it;
when the cache is full, what was read longest ago goes. A copy that somebody is reading stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

from stamp_index.errors import SlideError
from stamp_index.remote.addresses import address_of
from stamp_index.remote.cache import cache_home
from stamp_index.remote.objects import open_objects, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_VARIABLE: Final = "STAMP_INDEX_CACHE_GB"  # of slides
_LIMIT_GB: Final = 50.0
_SLIDES: Final = "slides"
_LOCK: Final = ".lock"  # held shared by who reads the copy
_ORIGIN: Final = ".origin.json"  # address, and what was copied; written last
_BLOCK: Final = 8 << 20  # bytes
_MOST_FILES: Final = 100_000


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
        home = _home()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256(json.dumps([address, found], sort_keys=True).encode()).hexdigest()
        entry = home / digest[:24]
        copy = cls._held(entry, address)
        if copy is None:
            _make_room(sum(size for size, _ in found.values()), address)
            _copy(address, found, entry)
            copy = cls._held(entry, address)
        if copy is None:  # it went before it could be held
            msg = f"The copy of {address} was removed from {home} while it was made. Try again with a larger {LIMIT_VARIABLE}."
            raise SlideError(msg)
        return copy

    @classmethod
    def _held(cls, entry: Path, address: str) -> Self | None:
        """Hold a copy that is whole; None where there is none."""
        try:
            lease = os.open(entry / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(lease, fcntl.LOCK_SH)
        if not (entry / _ORIGIN).is_file():  # removed between the two lines above
            os.close(lease)
            return None
        os.utime(entry / _ORIGIN)
        return cls(entry / address.rsplit("/", 1)[-1], lease)


def origin_of(path: Path | str) -> str:
    """Address that a file or folder of the cache is a copy of; the path itself for any other."""
    try:
        entry = _home() / Path(path).relative_to(_home()).parts[0]
        address = str(json.loads((entry / _ORIGIN).read_text(encoding="utf-8"))["address"])
    except (ValueError, OSError, IndexError, KeyError, TypeError):
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


def _copy(address: str, found: dict[str, tuple[int, str]], entry: Path) -> None:
    """Copy objects beside their place, and move them there whole."""
    import obstore

    parent, _, name = address.rpartition("/")
    objects = open_objects(parent)
    draft = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    try:
        for below in found:
            path = draft / name / below
            path.parent.mkdir(parents=True, exist_ok=True)
            with unreachable(address), path.open("wb") as file:
                stream = obstore.get(objects, f"{name}/{below}".rstrip("/")).stream(
                    min_chunk_size=_BLOCK
                )
                for block in stream:
                    file.write(block)
        (draft / _LOCK).touch()
        (draft / _ORIGIN).write_text(json.dumps({"address": address}), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)
        try:
            draft.replace(entry)
        except OSError:
            if not (entry / _ORIGIN).is_file():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_room(n_bytes: int, address: str) -> None:
    """Remove copies that nobody reads, those read longest ago first, until so many bytes fit.

    Raises
    ------
    SlideError
        If they do not.
    """
    limit = _limit_bytes()
    entries = sorted(_home().glob("*/" + _ORIGIN), key=lambda path: path.stat().st_mtime)
    held = {path.parent: _size(path.parent) for path in entries}
    for entry in list(held):
        if sum(held.values()) + n_bytes <= limit:
            return
        if _removed(entry):
            del held[entry]
    if sum(held.values()) + n_bytes > limit:
        msg = (
            f"{address} has {n_bytes / 1e9:.3g} GB; the cache at {_home()} takes {limit / 1e9:.3g} GB, of which "
            f"{sum(held.values()) / 1e9:.3g} GB are being read. Give it more by {LIMIT_VARIABLE}."
        )
        raise SlideError(msg)


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return (float(text) if text else _LIMIT_GB) * 1e9
    except ValueError as exc:
        msg = f"{LIMIT_VARIABLE} is {text!r}; expected a number of gigabytes, such as 50."
        raise SlideError(msg) from exc


def _size(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())


def _removed(entry: Path) -> bool:
    """Remove a copy that nobody reads; False where somebody does."""
    try:
        lease = os.open(entry / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (entry / _ORIGIN).unlink(missing_ok=True)
        shutil.rmtree(entry, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lease)
    return True
