"""Folders kept in an object storage by content: a small listing, and an object for each different file.

``folders/<name>.json`` says which files a folder has, with length and SHA-256; ``objects/<sha256>`` holds them. The
listing is written last, so a folder is replaced whole; a file that has not changed is not sent again, in either way.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import StoreBusyError, StoreError
from stamp_index.store.lock import LOCK_FILE, write_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obstore.store import ObjectStore

_BLOCK: Final = 8 << 20  # bytes
_FETCHED: Final = (
    ".fetched.json"  # of the local copy: what was fetched, and its time, to tell it without reading
)
_LOCAL: Final = frozenset({LOCK_FILE, _FETCHED, "building", "verified.json"})
_LAST: Final = "CURRENT"  # of an index: names the files that count, so it comes last
_MOST_LISTING: Final = 10 << 20  # bytes

Files = dict[str, tuple[int, str]]  # length and SHA-256 by relative path


def push_folder(objects: ObjectStore, copy: Path, name: str) -> None:
    """Write a folder of the local copy to the storage, whole or not at all."""
    import obstore

    folder = copy / name
    files: Files = {}
    for path in _files(folder):
        size, digest = path.stat().st_size, _sha256(path)
        files[path.relative_to(folder).as_posix()] = size, digest
        if not _has(objects, digest, size):
            obstore.put(objects, _object(digest), path)
    obstore.put(objects, _listing(name), json.dumps({"files": files}, indent=1).encode())
    _note(folder, files)


def fetch_folder(objects: ObjectStore, copy: Path, name: str) -> Path:
    """Bring a folder of the local copy to what the storage has.

    Nothing happens where the storage has none, or somebody is building in the folder.

    Raises
    ------
    StoreError
        If a file is not what its listing says, or the listing cannot be read.
    """
    files = _read_listing(objects, name)
    folder = copy / name
    if files is None or files == _noted(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with write_lock(folder, 0.0, what="copy"):
            held = _noted(folder)
            for relative in sorted(files, key=lambda one: (one == _LAST, one)):
                if held.get(relative) != files[relative]:
                    _fetch(objects, folder / relative, *files[relative])
            for path in list(_files(folder)):
                if path.relative_to(folder).as_posix() not in files:
                    path.unlink()  # who has it open keeps it
            _note(folder, files)
    except StoreBusyError:
        pass  # what is being built here counts when it is done
    return folder


def sweep_objects(objects: ObjectStore, retained: timedelta) -> None:
    """Remove objects that no listing names and that are older than `retained`: somebody may be fetching them."""
    import obstore

    names = [one["path"] for one in obstore.list(objects, prefix="folders").collect()]
    kept: set[str] = set()
    for path in names:
        listing = _parse(bytes(obstore.get(objects, path).bytes()), path)
        kept |= {_object(digest) for _, digest in listing.values()}
    now = datetime.now(UTC)
    for one in obstore.list(objects, prefix="objects").collect():
        if one["path"] not in kept and now - one["last_modified"] > retained:
            obstore.delete(objects, one["path"])


def _fetch(objects: ObjectStore, path: Path, size: int, digest: str) -> None:
    import obstore

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    hashed, n = hashlib.sha256(), 0
    try:
        with scratch.open("wb") as file:
            for block in obstore.get(objects, _object(digest)).stream(min_chunk_size=_BLOCK):
                hashed.update(block)
                n += len(block)
                if n > size:
                    break
                file.write(block)
        if n != size or hashed.hexdigest() != digest:
            msg = (
                f"{path.name} of {path.parent.name} arrived with {n} bytes and checksum {hashed.hexdigest()[:12]}; its "
                f"listing says {size} bytes and {digest[:12]}. Try again; if it stays so, build or add it anew."
            )
            raise StoreError(msg)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder that belong to it, not to this machine."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part in _LOCAL or part.startswith(".") for part in parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _has(objects: ObjectStore, digest: str, size: int) -> bool:
    import obstore

    try:
        return bool(obstore.head(objects, _object(digest))["size"] == size)
    except FileNotFoundError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _object(digest: str) -> str:
    return f"objects/{digest}"


def _listing(name: str) -> str:
    return f"folders/{name}.json"


def _read_listing(objects: ObjectStore, name: str) -> Files | None:
    import obstore

    try:
        found = obstore.get(objects, _listing(name))
    except FileNotFoundError:
        return None
    if found.meta["size"] > _MOST_LISTING:
        msg = f"The listing {_listing(name)} has {found.meta['size']} bytes; expected at most {_MOST_LISTING}."
        raise StoreError(msg)
    return _parse(bytes(found.bytes()), _listing(name))


def _parse(text: bytes, where: str) -> Files:
    """Files of a listing; none may lie outside of the folder.

    Raises
    ------
    StoreError
        If it is no listing.
    """
    try:
        listed = json.loads(text)["files"]
        files = {str(name): _entry(*values) for name, values in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        msg = f"{where} is no listing of a folder ({type(exc).__name__}). Build or add it anew."
        raise StoreError(msg) from exc
    for name in files:
        path = PurePosixPath(name)
        if (
            not path.parts
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or "\0" in name
        ):
            msg = f"{where} names a file outside of its folder: {name!r}. It was not written by this package."
            raise StoreError(msg)
    return files


def _entry(size: Any, digest: Any) -> tuple[int, str]:  # noqa: ANN401 - whatever JSON holds
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        msg = f"length {size!r}"
        raise ValueError(msg)
    if len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
        msg = f"checksum {digest!r}"
        raise ValueError(msg)
    return size, str(digest)


def _note(folder: Path, files: Files) -> None:
    """Remember what the local files are, to see later that nobody has changed them."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {name: [*values, _time(folder / name)] for name, values in files.items()}
    scratch = folder / f"{_FETCHED}.{uuid.uuid4().hex}"
    scratch.write_text(json.dumps(said), encoding="utf-8")
    scratch.replace(folder / _FETCHED)


def _noted(folder: Path) -> Files:
    """Return what was fetched or pushed before and is as it was."""
    try:
        said: Mapping[str, list[Any]] = json.loads((folder / _FETCHED).read_text(encoding="utf-8"))
        rows = {name: (row[0], row[1], row[2]) for name, row in said.items()}
    except (OSError, ValueError, AttributeError, IndexError, TypeError):
        return {}
    return {
        name: (size, digest)
        for name, (size, digest, time) in rows.items()
        if _time(folder / name) == time
    }


def _time(path: Path) -> str | None:
    """When a file was written, and its length; None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{found.st_mtime_ns} {found.st_size}"
