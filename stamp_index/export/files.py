"""Files that are there whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def draft(path: Path | str, *, overwrite: bool) -> Iterator[Path]:
    """Give a new name beside `path` to write to, and put it in the place of `path` when all went well.

    Parameters
    ----------
    path : path
        File, or folder, that is to be made.
    overwrite : bool
        Whether something may be there already.

    Raises
    ------
    FileExistsError
        If there is something and `overwrite` is False.
    OSError
        If it could not be written; then nothing is left of it, and what was at `path` is as it was.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    # Not by tempfile, whose files their owner alone can read. The suffix stays: some writers ask for theirs.
    made = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield made
        _put(made, path)
    except (OSError, RuntimeError) as exc:  # h5py raises both where a disk is full
        if isinstance(exc, FileExistsError):
            raise
        msg = (
            f"{path} was not written ({exc}). Look whether its folder is there and the disk has space, and export "
            "again; nothing was left behind."
        )
        raise OSError(msg) from exc
    finally:
        _remove(made)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if there is something at `path`, unless it may be replaced."""
    if not overwrite and (path.exists() or path.is_symlink()):
        msg = f"There is something at {path} already. Give another name, or overwrite it (--overwrite, overwrite=True)."
        raise FileExistsError(msg)


def _put(made: Path, path: Path) -> None:
    """Move into place; a folder cannot take the place of one that holds something, so that one steps aside first."""
    if not path.is_dir() or path.is_symlink():
        made.replace(path)
        return
    aside = made.with_name(f"{made.name}.old")
    path.rename(aside)
    try:
        made.rename(path)
    except OSError:
        aside.rename(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
