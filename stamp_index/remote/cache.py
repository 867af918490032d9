"""Where local copies lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "STAMP_INDEX_CACHE"


def cache_home() -> Path:
    """Folder for what can be fetched again: ``STAMP_INDEX_CACHE``, or ``stamp-index`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stamp-index"
