"""Which matrix of an ``.h5ad`` holds raw counts, read sparse; and what its columns are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from stamp_index.errors import BarcodeMismatchError
from stamp_index.readers.build import are_counts
from stamp_index.readers.common.feature_names import Features, name_features
from stamp_index.readers.h5ad.elements import column_of, columns_of, index_of, row_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

# Where counts are kept, the surest place first: (matrix, its columns).
PLACES: Final = (
    ("layers/counts", "var"),
    ("layers/raw_counts", "var"),
    ("raw/X", "raw/var"),
    ("X", "var"),
)
_PIECE: Final = 1 << 24  # values that are looked at in one go


@dataclass(frozen=True)
class Expression:
    """Raw counts of an ``.h5ad``.

    Attributes
    ----------
    counts : csr_matrix of shape (n, g), float32
        g is 0 where the file has no counts.
    genes : tuple of str, length g
        Symbols where the file has them, else ids; they may repeat.
    gene_ids : tuple of str, length g, or empty
        Ensembl ids without version.
    place : str
        The matrix that was read, such as ``layers/counts``; empty where there are no counts.
    notes : tuple of str
    """

    counts: csr_matrix
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...]
    place: str
    notes: tuple[str, ...]


def read_expression(file: h5py.File, n_obs: int, path: Path) -> Expression:
    """Read the raw counts, wherever the file keeps them.

    Parameters
    ----------
    file : h5py.File
    n_obs : int
        Number of observations.
    path : Path
        For messages.

    Returns
    -------
    Expression
        Without genes where no matrix holds whole numbers of 0 or more: a note says so.

    Raises
    ------
    BarcodeMismatchError
        If the matrix has another shape than obs and var say.
    """
    there = [(matrix, var) for matrix, var in PLACES if matrix in file]
    for matrix, var in there:
        check_shape(file[matrix], (n_obs, row_count(file[var])), path)
    chosen = next((place for place in there if _are_counts(file[place[0]])), None)
    if chosen is None:
        tried = ", ".join(matrix for matrix, _ in there) or "no matrix at all"
        note = (
            f"The file holds no raw counts (looked at: {tried}; whole numbers of 0 or more were expected, so they "
            "are normalised): positions and labels are kept, expression is not. Put counts into layers['counts']."
        )
        return Expression(csr_matrix(np.empty((n_obs, 0), dtype=np.float32)), (), (), "", (note,))
    matrix, var = chosen
    return _named(load_matrix(file[matrix]), file[var], matrix)


def check_shape(node: h5py.Group | h5py.Dataset, shape: tuple[int, int], path: Path) -> None:
    """Refuse a matrix of another shape before it is read: a damaged file may claim any size.

    Raises
    ------
    BarcodeMismatchError
    """
    import h5py

    if isinstance(node, h5py.Group):
        found = tuple(int(size) for size in node.attrs["shape"])
        filled = node["data"].shape[0]
        fits = node["indices"].shape[0] == filled <= shape[0] * shape[1]
    else:
        found, fits = node.shape, True
    if found != shape or not fits:
        msg = (
            f"{path}: {node.name} has shape {found}, but there are {shape[0]} observations and {shape[1]} genes, or "
            "more values than places. Write the file again with AnnData."
        )
        raise BarcodeMismatchError(msg)


def _named(counts: csr_matrix, var: h5py.Group, place: str) -> Expression:
    """Name the genes, and leave out features that are none."""
    found = features_of(var)
    notes = (f"Counts: {place}.", *found.notes)
    return Expression(found.of(counts), found.genes, found.gene_ids, place, notes)


def features_of(var: h5py.Group) -> Features:
    """Tell genes from other features by a file's ``var`` (or ``raw/var``)."""
    return name_features(index_of(var), columns_of(var), lambda name: column_of(var, name).tolist())


def _are_counts(node: h5py.Group | h5py.Dataset) -> bool:
    """Say whether a matrix holds whole numbers of 0 or more only; looks no further than the first other one."""
    return all(are_counts(piece) for piece in _pieces(node))


def _pieces(node: h5py.Group | h5py.Dataset) -> Iterator[NDArray[Any]]:
    import h5py

    if isinstance(node, h5py.Group):
        data = node["data"]
        for start in range(0, data.shape[0], _PIECE):
            yield data[start : start + _PIECE]
        return
    for start, stop in _rows(node.shape):
        yield node[start:stop]


def _rows(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Cut a dense matrix into pieces of whole rows."""
    step = max(1, _PIECE // max(shape[1], 1))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def load_matrix(node: h5py.Group | h5py.Dataset) -> csr_matrix:
    """Read a matrix as csr float32; a dense one goes through memory in pieces."""
    import h5py
    from scipy.sparse import vstack

    values = node["data"] if isinstance(node, h5py.Group) else node
    if values.dtype.kind not in "iuf":
        msg = f"{node.name} holds {values.dtype}; expected counts"
        raise ValueError(msg)
    if isinstance(node, h5py.Group):
        kind = node.attrs["encoding-type"]
        if kind not in ("csr_matrix", "csc_matrix"):
            msg = f"{node.name} has the encoding {kind}"
            raise ValueError(msg)
        shape = (int(node.attrs["shape"][0]), int(node.attrs["shape"][1]))
        parts = (node["data"].astype(np.float32)[:], node["indices"][:], node["indptr"][:])
        counts = (csr_matrix if kind == "csr_matrix" else csc_matrix)(parts, shape=shape)
        counts.check_format(full_check=True)
        made = csr_matrix(counts)
        made.sum_duplicates()
        made.eliminate_zeros()
        return made
    pieces = [csr_matrix(node[start:stop], dtype=np.float32) for start, stop in _rows(node.shape)]
    return csr_matrix(vstack(pieces)) if pieces else csr_matrix(node.shape, dtype=np.float32)
