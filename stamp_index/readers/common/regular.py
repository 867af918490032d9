"""Only regular files are opened: a pipe never ends to wait, and a device never ends to read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_MAX_JSON_BYTES: Final = 64 * 1024 * 1024  # those of slides have a few kB


def regular(path: Path) -> Path:
    """Return `path`, which is a regular file or not there.

    Raises
    ------
    OSError
        If it is a folder, a pipe, a socket or a device.
    """
    if path.exists() and not path.is_file():
        msg = "it is no regular file"
        raise OSError(msg)
    return path


def load_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Read a JSON file.

    Raises
    ------
    OSError
        If it is missing or no regular file.
    ValueError
        If it is damaged, larger than 64 MB, or nested too deep to be read.
    """
    if regular(path).stat().st_size > _MAX_JSON_BYTES:
        msg = f"it has more than {_MAX_JSON_BYTES} bytes"
        raise ValueError(msg)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as exc:
        msg = "it is nested too deep"
        raise ValueError(msg) from exc
