"""Elements of an ``.h5ad`` file, read one by one so that nothing is held that a slide does not need.

Encodings: https://anndata.readthedocs.io/en/latest/fileformat-prose.html. Files of anndata 0.7 and later are
read; 0.7 kept categories in a group ``__categories`` beside the columns.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.readers.common.hdf5 import open_h5

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

# What h5py raises on damaged files, and what wrong shapes or types inside them lead to.
DAMAGE: Final = (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError)


@contextmanager
def open_h5ad(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Yields
    ------
    h5py.File

    Raises
    ------
    SlideError
        If it is no HDF5 file of anndata 0.7 or later, takes data from other files, or is damaged where it is read.
    """
    import h5py

    try:
        with open_h5(path) as file:
            if not all(isinstance(file.get(name), h5py.Group) for name in ("obs", "var")):
                msg = (
                    f"{path} has no groups obs and var. Expected an .h5ad of anndata 0.7 or later: read it with "
                    "AnnData and write it again."
                )
                raise SlideError(msg)
            yield file
    except DAMAGE as exc:
        msg = (
            f"{path} cannot be read as .h5ad ({exc}). Copy the file again, or read it with AnnData and write it "
            "again."
        )
        raise SlideError(msg) from exc


def index_of(frame: h5py.Group) -> list[str]:
    """Names of a data frame's rows (the group ``obs`` or ``var``)."""
    return [str(name) for name in column_of(frame, str(frame.attrs["_index"])).tolist()]


def row_count(frame: h5py.Group) -> int:
    """Count a data frame's rows without reading them."""
    return int(frame[str(frame.attrs["_index"])].shape[0])


def columns_of(frame: h5py.Group) -> list[str]:
    """Names of a data frame's columns, in their order."""
    return [_text(name) for name in frame.attrs["column-order"]]


def column_of(frame: h5py.Group, name: str) -> pd.Series[Any]:
    """Read one column: numbers, booleans or text; categories come as text, what is missing as NaN or None."""
    import h5py

    item = frame[name]
    if isinstance(item, h5py.Dataset):
        if "categories" in item.attrs:  # anndata 0.7
            names = pd.Series(array_of(frame.file[item.attrs["categories"]]))
            return _from_codes(item[()], names, item.name)
        return pd.Series(array_of(item))
    kind = _text(item.attrs["encoding-type"])
    if kind == "categorical":
        return _from_codes(item["codes"][()], column_of(item, "categories"), item.name)
    if kind.startswith("nullable"):
        values = pd.Series(array_of(item["values"])).astype(object)
        return values.where(~item["mask"][()], None).infer_objects()
    msg = f"column {name} has the encoding {kind}"
    raise ValueError(msg)


def array_of(item: h5py.Group | h5py.Dataset) -> NDArray[Any]:
    """Read a dataset whole; text as str."""
    import h5py

    text = h5py.check_string_dtype(item.dtype) is not None
    values: NDArray[Any] = np.asarray(item.asstr()[()] if text else item[()])
    return values.astype(object) if values.dtype.kind in "SU" else values


def scalar_of(item: h5py.Group | h5py.Dataset) -> str | float:
    """Read a number or a text."""
    value = item[()]
    return _text(value) if isinstance(value, str | bytes) else float(value)


def _from_codes(codes: NDArray[Any], categories: pd.Series[Any], where: str) -> pd.Series[Any]:
    names = categories.to_numpy(dtype=object)
    if codes.size and not -1 <= codes.min() <= codes.max() < len(names):
        msg = f"codes of {where} reach {codes.max()}, but there are {len(names)} categories"
        raise ValueError(msg)
    # Code -1, a missing value, takes the None at the end.
    return pd.Series(np.array([*names, None], dtype=object)[codes]).infer_objects()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
