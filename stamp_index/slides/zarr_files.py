"""Opening zarr folders (formats 2 and 3) without running what a stranger wrote into them."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Iterator

_METADATA: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_MAX_METADATA_BYTES: Final = 64 * 1024 * 1024  # consolidated metadata of a large store has a few MB


def zarr_errors() -> tuple[type[Exception], ...]:
    """Every error that damaged zarr metadata or chunks raise."""
    import zarr.errors

    # numcodecs and imagecodecs raise RuntimeErrors; metadata of a wrong type raise the others
    return (
        zarr.errors.BaseZarrError,
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        zlib.error,
    )


def open_node(path: Path) -> Any:  # noqa: ANN401 - zarr.Group or zarr.Array
    """Open one group or array for reading, by its own metadata.

    Consolidated metadata, which may say something else than what was checked, are not used.

    Raises
    ------
    SlideError
        If it is no zarr group or array, leads out of itself by a link, or its chunks are pickles.
    """
    import zarr

    check_files(path)
    try:
        if (path / ".zarray").is_file() or _says_array(path / "zarr.json"):
            return zarr.open_array(path, mode="r")
        return zarr.open_group(path, mode="r", use_consolidated=False)
    except zarr_errors() as exc:
        msg = f"{path} cannot be opened as zarr ({exc}). Copy or write it again."
        raise SlideError(msg) from exc


def attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a group or array from its metadata file; empty where it has none.

    Raises
    ------
    SlideError
        If the file is damaged.
    """
    found: Any = {}
    if (path / "zarr.json").is_file():
        found = _metadata(path / "zarr.json").get("attributes", {})
    elif (path / ".zattrs").is_file():
        found = _metadata(path / ".zattrs")
    if not isinstance(found, dict):
        msg = f"The attributes of {path} are a {type(found).__name__}; expected a JSON object. Write it again."
        raise SlideError(msg)
    return found


def check_files(path: Path) -> None:
    """Refuse a zarr folder whose links lead out of it, or whose chunks a reader would unpickle.

    Raises
    ------
    SlideError
        Naming the file.
    """
    root = path.resolve()
    for file in walk(path):
        if file.is_symlink() and not _target(file).is_relative_to(root):
            msg = f"{file} leads out of {path}, to {_target(file)}. Put the file itself there."
            raise SlideError(msg)
        if file.exists() and not (file.is_file() or file.is_dir()):
            msg = f"{file} is neither a file nor a folder. Write the zarr folder again."
            raise SlideError(msg)
        if file.name in _METADATA and _names_pickle(_metadata(file)):
            msg = f"{file} asks for a pickle to be opened, which can run any code. Write it again without."
            raise SlideError(msg)


def _target(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError) as exc:  # links that lead to each other
        msg = f"{link} cannot be followed ({exc}). Put the file itself there."
        raise SlideError(msg) from exc


def walk(path: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of names; a link to a folder counts as a file."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in sorted([*files, *links]))


def _says_array(path: Path) -> bool:
    return path.is_file() and _metadata(path).get("node_type") == "array"


def _metadata(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_METADATA_BYTES:
            msg = f"it has more than {_MAX_METADATA_BYTES} bytes"
            raise ValueError(msg)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        msg = f"{path} cannot be read as JSON ({exc}). Copy or write the zarr folder again."
        raise SlideError(msg) from exc
    if not isinstance(found, dict):
        msg = f"{path} holds a {type(found).__name__}; expected a JSON object. Write the zarr folder again."
        raise SlideError(msg)
    return found


def _names_pickle(found: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a codec is a pickle: ``id`` in format 2, ``name`` in format 3."""
    waiting = [found.get(key) for key in ("filters", "compressor", "codecs")]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if any("pickle" in str(one.get(key, "")).lower() for key in ("id", "name")):
                return True
            waiting += one.values()
    return False
