"""Folders kept in an object storage by content: a small listing, and an object for each different file.

``folders/<name>.json`` says which files a folder has, with length and SHA-256; ``objects/<sha256>`` holds them. The
listing is written last, so a folder is replaced whole; a file that has not changed is not sent again, in either way.

Objects are shared by folders and by pushes, so one that no listing names any more may be needed in a moment: by who read
the listing before, or by a push that is about to name it again. Three rules keep it: `dropped/<sha256>` is written when a
push drops an object, and keeps it from then on for as long as clean-up retains what it may; a push sends an object again
unless its folder's own listing names it or it is young; and it looks once more when its listing is there.
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

    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore

_BLOCK: Final = 8 << 20  # bytes
FETCHED: Final = (
    ".fetched.json"  # of the local copy: what was fetched, and its time, to tell it without reading
)
_LOCAL: Final = frozenset({LOCK_FILE, FETCHED, "building", "verified.json"})
_LAST: Final = "CURRENT"  # of an index: names the files that count, so it comes last
_MOST_LISTING: Final = 10 << 20  # bytes
_LONGEST_PART, _MOST_PARTS = 200, 20  # bytes of a name, and folders in each other
_GATES: Final = (
    ".fetching"  # of the local copy: locks of who fetches; beside the folders, as those are swept
)
_FETCH_WAIT_S: Final = 600.0  # for another process that fetches the same folder
# An object that is younger is taken for one that stays until a push is over: well below what clean-up retains (7 days).
_YOUNG: Final = timedelta(days=3)

Files = dict[str, tuple[int, str]]  # length and SHA-256 by relative path


def push_folder(objects: ObjectStore, copy: Path, name: str) -> None:
    """Write a folder of the local copy to the storage, whole or not at all."""
    import obstore

    folder = copy / name
    files: Files = {}
    for path in _files(folder):
        files[path.relative_to(folder).as_posix()] = path.stat().st_size, _sha256(path)
    before = _digests(_read_listing(objects, name) or {})
    _send(objects, folder, files, kept=before)
    for digest in before - _digests(files):
        obstore.put(objects, _dropped(digest), b"")
    obstore.put(objects, _listing(name), json.dumps({"files": files}, indent=1).encode())
    # A sweep that read the listings before may have removed what was old: all that is named is there after this.
    _send(objects, folder, files, kept=_digests(files))
    _note(folder, files)


def _send(objects: ObjectStore, folder: Path, files: Files, *, kept: set[str]) -> None:
    """Send files whose objects are not there, or could go before a listing names them: those not `kept`, unless young."""
    import obstore

    for relative, (size, digest) in files.items():
        there = _head(objects, digest)
        stays = there is not None and (digest in kept or _age(there) <= _YOUNG)
        if there is None or there["size"] != size or not stays:
            obstore.put(objects, _object(digest), folder / relative)


def fetch_folder(objects: ObjectStore, copy: Path, name: str) -> Path:
    """Bring a folder of the local copy to what the storage has.

    Waits for another process that does so. Nothing happens where the storage has none, or somebody is building in the
    folder.

    Raises
    ------
    StoreError
        If a file is not what its listing says, its object is gone, or the listing cannot be read.
    StoreBusyError
        If another process fetches the folder for ten minutes and is not done.
    """
    folder, gate = copy / name, copy / _GATES / name
    if _is_here(objects, folder, name):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    gate.mkdir(parents=True, exist_ok=True)
    with write_lock(gate, _FETCH_WAIT_S, what="local copy"):
        files = _read_listing(objects, name)
        if files is None or files == _noted(folder):
            return folder  # another process has fetched it meanwhile
        try:
            with write_lock(folder, 0.0, what="copy"):
                _bring(objects, folder, files)
        except StoreBusyError:
            pass  # only a builder holds this lock without the other: what is being built here counts when it is done
    return folder


def _is_here(objects: ObjectStore, folder: Path, name: str) -> bool:
    files = _read_listing(objects, name)
    return files is None or files == _noted(folder)


def _bring(objects: ObjectStore, folder: Path, files: Files) -> None:
    held = _noted(folder)
    for relative in sorted(files, key=lambda one: (one == _LAST, one)):
        if held.get(relative) != files[relative]:
            _fetch(objects, folder / relative, *files[relative])
    for path in list(_files(folder)):
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()  # who has it open keeps it
    _note(folder, files)


def sweep_objects(objects: ObjectStore, retained: timedelta) -> None:
    """Remove objects that no listing names: neither written nor dropped within `retained`.

    Who read a listing before it dropped an object has so long to fetch it. A push names old objects only if it has sent
    them again or its folder's listing named them when it began, and then a drop in between is a young one.
    """
    import obstore

    # In this order: a push drops before it writes its listing, and sends before that.
    kept = _named_digests(objects)
    dropped = obstore.list(objects, prefix="dropped").collect()
    kept |= {_name(one) for one in dropped if _age(one) <= retained}
    for one in obstore.list(objects, prefix="objects").collect():
        if _name(one) in kept or _age(one) <= retained:
            continue
        now = _head(objects, _name(one))
        if now is not None and _age(now) > retained:  # it was not sent again since it was listed
            obstore.delete(objects, one["path"])
    for one in dropped:
        if _age(one) > retained:
            obstore.delete(objects, one["path"])


def damaged_folders(objects: ObjectStore) -> list[str]:
    """Say which listings cannot be read, and which files of the others are gone or have another length."""
    import obstore

    said = []
    for one in obstore.list(objects, prefix="folders").collect():
        try:
            files = _read_listing(
                objects, one["path"].removeprefix("folders/").removesuffix(".json")
            )
        except StoreError as exc:
            said.append(str(exc))
            continue
        for name, (size, digest) in (files or {}).items():
            there = _head(objects, digest)
            held = "is gone" if there is None else f"has {there['size']} bytes instead of {size}"
            if there is None or there["size"] != size:
                said.append(f"{name} of {one['path']} {held}. Build or add it anew.")
    return said


def _named_digests(objects: ObjectStore) -> set[str]:
    """Checksums of all objects that any listing names."""
    import obstore

    named: set[str] = set()
    for one in obstore.list(objects, prefix="folders").collect():
        text = bytes(obstore.get(objects, one["path"]).bytes())
        named |= _digests(_parse(text, one["path"]))
    return named


def _fetch(objects: ObjectStore, path: Path, size: int, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    hashed, n = hashlib.sha256(), 0
    try:
        with scratch.open("wb") as file:
            for block in _opened(objects, path, digest).stream(min_chunk_size=_BLOCK):
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


def _opened(objects: ObjectStore, path: Path, digest: str) -> GetResult:
    import obstore

    try:
        return obstore.get(objects, _object(digest))
    except FileNotFoundError:
        msg = (
            f"{path.name} of {path.parent.name} is not in the storage any more: there is no object {digest[:12]}. Open the "
            f"store again; if it stays so, build or add it anew."
        )
        raise StoreError(msg) from None


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder that belong to it, not to this machine."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part in _LOCAL or part.startswith(".") for part in parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _head(objects: ObjectStore, digest: str) -> ObjectMeta | None:
    """Return what the storage says of an object; None where it is not there."""
    import obstore

    try:
        return obstore.head(objects, _object(digest))
    except FileNotFoundError:
        return None


def _age(there: ObjectMeta) -> timedelta:
    """Time since an object was written, by the storage's clock and ours: days count here, not seconds."""
    return datetime.now(UTC) - there["last_modified"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _object(digest: str) -> str:
    return f"objects/{digest}"


def _dropped(digest: str) -> str:
    return f"dropped/{digest}"


def _name(one: ObjectMeta) -> str:
    """Checksum that an object is named by."""
    return one["path"].rsplit("/", 1)[-1]


def _digests(files: Files) -> set[str]:
    return {digest for _, digest in files.values()}


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        msg = f"{where} is no listing of a folder ({type(exc).__name__}). Build or add it anew."
        raise StoreError(msg) from exc
    for name in files:
        if not _is_inside(name):
            msg = f"{where} names a file outside of its folder: {name[:300]!r}. It was not written by this package."
            raise StoreError(msg)
    within = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    if within & set(files):
        msg = f"{where} names a file that is a folder too: {sorted(within & set(files))[0]!r}. It was not written by this package."
        raise StoreError(msg)
    return files


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file within a folder, and one that a disk takes."""
    path = PurePosixPath(name)
    try:
        lengths = [len(part.encode()) for part in path.parts]
    except UnicodeEncodeError:
        return False
    plain = not path.is_absolute() and ".." not in path.parts and not set("\\\0") & set(name)
    return plain and 0 < len(lengths) <= _MOST_PARTS and max(lengths) <= _LONGEST_PART


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
    scratch = folder / f"{FETCHED}.{uuid.uuid4().hex}"
    scratch.write_text(json.dumps(said), encoding="utf-8")
    scratch.replace(folder / FETCHED)


def _noted(folder: Path) -> Files:
    """Return what was fetched or pushed before and is as it was."""
    try:
        said: Mapping[str, list[Any]] = json.loads((folder / FETCHED).read_text(encoding="utf-8"))
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
