"""Where local copies lie."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VARIABLE: Final = "STAMP_INDEX_CACHE"


def cache_home() -> Path:
    """Folder for what can be fetched again: ``STAMP_INDEX_CACHE``, or ``stamp-index`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stamp-index"


@contextmanager
def writing_copies() -> Iterator[None]:
    """Say of copies that cannot be written where they were to lie, and by which variable they lie elsewhere.

    Raises
    ------
    StoreError
        In the place of what the disk raises.
    """
    try:
        yield
    except OSError as exc:
        msg = (
            f"The local copies at {cache_home()} cannot be written ({exc.strerror or exc}). Set {CACHE_VARIABLE} to a folder "
            f"with room."
        )
        raise StoreError(msg) from exc
