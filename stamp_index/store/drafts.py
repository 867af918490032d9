"""Names of folders that are being made, to be renamed when they are whole."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_DRAFT: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}")


def draft_of(folder: Path) -> Path:
    """Return a path that nothing has, beside the folder that it will become."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")


def is_draft_of(place: Path, name: str | None = None) -> bool:
    """Whether a path is one that `draft_of` gave, for a folder of this name if one is given."""
    match = _DRAFT.fullmatch(place.name)
    return match is not None and name in (None, match["name"])
