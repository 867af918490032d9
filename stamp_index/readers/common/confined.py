"""Files that a reader finds by itself must lie in the slide's own folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path


def confined(path: Path, root: Path) -> Path:
    """Return the file that `path` leads to, which must lie inside `root`.

    Parameters
    ----------
    path : Path
        A file that the user did not name; it may be a link.
    root : Path
        The slide's folder; it may be a link too.

    Raises
    ------
    SlideError
        If the file is a link that leads out of `root`, a ring of links, or a pipe or a device.
    """
    try:
        target, inside = path.resolve(), root.resolve()
    except (OSError, RuntimeError) as exc:  # a ring of links is a RuntimeError up to Python 3.12
        msg = f"{path} leads nowhere ({exc}). Replace the link by the file."
        raise SlideError(msg) from exc
    if not target.is_relative_to(inside):
        msg = (
            f"{path} is a link to {target}, which lies outside the slide's folder {inside}. Put the file itself there, or "
            "name it if it is the image (SlideOptions(image=...) or `image` in slide.toml)."
        )
        raise SlideError(msg)
    if target.exists() and not (target.is_file() or target.is_dir()):
        msg = f"{path} is neither a file nor a folder. Replace it by the file."
        raise SlideError(msg)
    return target
