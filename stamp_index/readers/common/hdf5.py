"""Opening an HDF5 file that a stranger wrote: nothing outside it is read, and no array is larger than its data."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stamp_index.errors import SlideError
from stamp_index.readers.common.declared import refuse_bomb
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py


def open_h5(path: Path) -> h5py.File:
    """Open a file for reading.

    Parameters
    ----------
    path : Path

    Returns
    -------
    h5py.File
        To be closed by the caller.

    Raises
    ------
    SlideError
        If it takes data from other files (external links, external storage, virtual datasets).
    OSError, KeyError, TypeError, ValueError, RuntimeError
        If it is no regular file or damaged, or a dataset is larger than what is stored of it can be.
    """
    import h5py

    with ExitStack() as opened:
        file = opened.enter_context(h5py.File(regular(path), "r"))
        for name, item in _items(file):
            if item is None or (
                isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
            ):
                msg = f"{path}: {name} lies in another file. Write the file again, so that everything is in one file."
                raise SlideError(msg)
            if isinstance(item, h5py.Dataset) and item.shape is not None:
                # a plain product: `nbytes` wraps around
                declared = math.prod(item.shape) * item.dtype.itemsize
                refuse_bomb(str(item.name), declared, item.id.get_storage_size())
        opened.pop_all()  # it is whole, and the caller's to close
    return file


def _items(file: h5py.File) -> Iterator[tuple[str, object | None]]:
    """Name everything in a file, with None for a link out of it; a group that holds itself is looked at once."""
    import h5py

    seen: set[int] = set()
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            where = f"{group.name}/{name}".replace("//", "/")
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                yield where, None
                continue
            item = group[name]
            yield where, item
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group) and address not in seen:
                seen.add(address)
                waiting.append(item)
