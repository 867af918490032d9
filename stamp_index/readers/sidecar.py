"""``slide.toml``: what a lab knows about a slide, kept beside the slide's files."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import SlideError
from stamp_index.readers.base import ABOVE_0, SlideOptions
from stamp_index.readers.common.confined import confined

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 1_000_000
_LARGEST: Final = 1e300  # larger whole numbers may be no float; SlideOptions refuses them
_MAX_TEXT: Final = 1000  # characters


def read_sidecar(path: Path) -> SlideOptions:
    """Read a ``slide.toml``.

    Parameters
    ----------
    path : Path
        The file; need not exist. A relative ``image`` in it starts from its folder.

    Returns
    -------
    SlideOptions
        All None where there is no file.

    Raises
    ------
    SlideError
        If it is not TOML, leads out of its folder, has over 1 MB, an unknown key, or a value of the wrong type.
    """
    try:
        if confined(path, path.parent).stat().st_size > _MAX_BYTES:
            msg = f"it has more than {_MAX_BYTES} bytes"
            raise ValueError(msg)
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SlideOptions()
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as exc:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        msg = f"{path} cannot be read as TOML ({exc}). Correct or remove it."
        raise SlideError(msg) from exc
    known = [field.name for field in fields(SlideOptions)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        msg = f"{path} has the unknown keys {', '.join(unknown)}; known are {', '.join(known)}."
        raise SlideError(msg)
    values: dict[str, Any] = {key: _checked(key, value, path) for key, value in table.items()}
    if "image" in values:
        values["image"] = path.parent / values["image"]
    try:
        return SlideOptions(**values)
    except (ValueError, TypeError) as exc:
        msg = f"{path}: {exc}"
        raise SlideError(msg) from exc


def _checked(key: str, value: object, path: Path) -> float | str:
    if key in ABOVE_0:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) if abs(value) < _LARGEST else value
        msg = f"{path}: {key} is {value!r}; expected {ABOVE_0[key]}."
        raise SlideError(msg)
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            msg = f"{path}: {key} has {len(value)} characters; expected {_MAX_TEXT} at most."
            raise SlideError(msg)
        return value
    msg = f"{path}: {key} is {value!r}; expected text in quotes."
    raise SlideError(msg)
