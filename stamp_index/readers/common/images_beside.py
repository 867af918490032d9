"""Image files by their names, and those that lie beside a slide's other files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Scanners' own formats, as OpenSlide lists them. Nothing else has these names.
SCANNERS: Final = frozenset(
    (".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu")
)
TIFFS: Final = frozenset((".tif", ".tiff", ".btf"))
PHOTOGRAPHS: Final = frozenset((".jpg", ".jpeg", ".png"))
SUFFIXES: Final = SCANNERS | TIFFS | PHOTOGRAPHS


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder by their names, sorted; hidden files are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def names_section(path: Path, section: str) -> bool:
    """Say whether a file's name holds the section's name as a word: ``HE_MOB1.jpg`` holds MOB1, not MOB."""
    return bool(re.search(rf"(?<![A-Za-z0-9]){re.escape(section)}(?![A-Za-z0-9])", path.name))
