"""Addresses of object storage, as texts and as paths that were made of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Schemes that Lance and obstore both know. A Path has made one of two slashes.
_SCHEME: Final = re.compile(r"^(s3|gs|az):/{1,2}(?=[^/])")


def is_address(where: Path | str) -> bool:
    """Whether a text, or a path made of it, is the address of an object storage."""
    return _SCHEME.match(str(where)) is not None


def named(path: Path) -> str:
    """Name a path so that it means the same from anywhere: an address, or the absolute path."""
    return address_of(path) if is_address(path) else str(path.absolute())


def address_of(where: Path | str) -> str:
    """Write an address as it should be, also where it went through a Path, which takes a slash of two."""
    return _SCHEME.sub(r"\1://", str(where)).rstrip("/")
