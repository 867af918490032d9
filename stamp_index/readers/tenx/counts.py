"""Count matrices as 10x Genomics writes them: one HDF5 file, or a folder of three text files."""

from __future__ import annotations

import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.common.matrix_market import read_lines, read_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

GENE: Final = "Gene Expression"  # the feature type of genes


@dataclass(frozen=True)
class TenxFeatures:
    """What a matrix counts: genes, and on some platforms antibodies, guides or controls.

    Attributes
    ----------
    ids, names, kinds : list of str, length f
        Identifier (of genes the Ensembl id), symbol, and feature type such as "Gene Expression" or
        "Negative Control Probe".
    genome : str
        The reference's name, empty where the files do not say.
    """

    ids: list[str]
    names: list[str]
    kinds: list[str]
    genome: str = ""

    @cached_property
    def is_gene(self) -> NDArray[np.bool_]:
        """Which features are genes: shape (f,)."""
        return np.array([kind == GENE for kind in self.kinds], dtype=bool)

    @property
    def genes(self) -> list[str]:
        """Symbols of the genes; they may repeat."""
        return [self.names[i] for i in np.flatnonzero(self.is_gene)]

    @property
    def gene_ids(self) -> list[str]:
        """Ensembl ids of the genes, without version."""
        return [self.ids[i].split(".")[0] for i in np.flatnonzero(self.is_gene)]

    @property
    def notes(self) -> list[str]:
        """One note where features are not genes, saying of which types they are; else none."""
        others = Counter(kind for kind in self.kinds if kind != GENE)
        if not others:
            return []
        kinds = ", ".join(f"{number} {kind}" for kind, number in others.most_common())
        return [f"{others.total()} features that are not genes were left out ({kinds})."]

    def keep_genes(self, counts: csr_matrix) -> csr_matrix:
        """Return the genes' columns of counts (n, f)."""
        return counts if self.is_gene.all() else csr_matrix(counts[:, self.is_gene])


@dataclass(frozen=True)
class TenxCounts:
    """Raw counts of one run.

    Attributes
    ----------
    counts : csr_matrix of shape (n, g), float32
        Of genes only.
    barcodes : list of str, length n
    features : TenxFeatures
        Of the whole matrix, those that are no genes included.
    """

    counts: csr_matrix
    barcodes: list[str]
    features: TenxFeatures

    @property
    def genes(self) -> list[str]:
        """Symbols, length g; they may repeat."""
        return self.features.genes

    @property
    def gene_ids(self) -> list[str]:
        """Ensembl ids without version, length g."""
        return self.features.gene_ids


class TenxH5:
    """A matrix in Cell Ranger 3's HDF5 layout, which may be too large to be read at once.

    Use as a context manager. Space Ranger and Xenium write the same layout.

    Parameters
    ----------
    path : Path
        ``filtered_feature_bc_matrix.h5`` or ``cell_feature_matrix.h5``.

    Attributes
    ----------
    features : TenxFeatures
    n_spots : int
        Number of barcodes.

    Raises
    ------
    SlideError
        If the file is damaged, of another layout, or inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            self._file = open_h5(path)
        try:
            with _readable(path):
                self._read_head()
        except SlideError:
            self.close()
            raise

    def _read_head(self) -> None:
        self._group: Any = self._file["matrix"]
        features = self._group["features"]
        columns = [_texts(features[name][:]) for name in ("id", "name", "feature_type")]
        genomes = set(_texts(features["genome"][:])) if "genome" in features else set()
        # Features that are no genes carry an empty genome.
        genomes.discard("")
        self.features = TenxFeatures(
            columns[0], columns[1], columns[2], genomes.pop() if len(genomes) == 1 else ""
        )
        _require_genes(self.features, self.path)
        n_features, self.n_spots = (int(size) for size in self._group["shape"][:])
        self._indptr = self._group["indptr"][:].astype(np.int64)
        n_entries = len(self._group["data"])
        lengths = (len(self._group["barcodes"]), *map(len, columns))
        if lengths != (self.n_spots, n_features, n_features, n_features):
            msg = (
                f"The counts {self.path} have {self.n_spots} x {n_features} numbers for {lengths[0]} "
                f"barcodes and {lengths[1]} genes. Copy the files again."
            )
            raise SlideError(msg)
        if (
            len(self._indptr) != self.n_spots + 1
            or (self._indptr[0], self._indptr[-1]) != (0, n_entries)
            or len(self._group["indices"]) != n_entries
            or np.any(np.diff(self._indptr) < 0)
        ):
            msg = f"its indptr does not fit {self.n_spots} barcodes and {n_entries} entries"
            raise ValueError(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, start: int, stop: int) -> csr_matrix:
        """Return the counts of some barcodes, all features: shape (stop - start, f), float32."""
        with _readable(self.path):
            # 10x stores features x spots by column, which is spots x features by row.
            indptr = self._indptr[start : stop + 1]
            entries = slice(int(indptr[0]), int(indptr[-1]))
            parts = (self._group[name][entries] for name in ("data", "indices"))
            shape = (stop - start, len(self.features.ids))
            counts = csr_matrix((*parts, indptr - indptr[0]), shape=shape, dtype=np.float32)
            counts.check_format(full_check=True)
            return counts

    def barcodes(self, start: int, stop: int) -> NDArray[np.bytes_]:
        """Return some barcodes: shape (stop - start,), bytes."""
        with _readable(self.path):
            return np.asarray(self._group["barcodes"][start:stop], dtype=np.bytes_)

    def pieces(self, max_entries: int) -> Iterator[tuple[int, int]]:
        """Cut the barcodes into runs (start, stop) of at most `max_entries` entries, or of one barcode."""
        start = 0
        while start < self.n_spots:
            limit = self._indptr[start] + max_entries
            stop = int(np.searchsorted(self._indptr, limit, side="right")) - 1
            stop = min(max(stop, start + 1), self.n_spots, start + max_entries)
            yield start, stop
            start = stop


def read_h5(path: Path) -> TenxCounts:
    """Read ``filtered_feature_bc_matrix.h5``.

    Raises
    ------
    SlideError
        If the file is damaged, not of Cell Ranger 3's layout or later, or inconsistent.
    """
    with TenxH5(path) as matrix:
        counts = matrix.features.keep_genes(matrix.rows(0, matrix.n_spots))
        barcodes = matrix.barcodes(0, matrix.n_spots)
        with _readable(path):
            return TenxCounts(counts, _texts(barcodes), matrix.features)


def read_mtx(folder: Path) -> TenxCounts:
    """Read a folder ``filtered_feature_bc_matrix`` (matrix.mtx, features.tsv, barcodes.tsv).

    The three files may be gzipped; ``genes.tsv`` of older releases is understood.

    Raises
    ------
    SlideError
        If a file is missing, damaged, or the three do not fit each other.
    """
    features = read_mtx_features(folder)
    barcodes = _lines_of(folder, _one_of(folder, "barcodes.tsv"))
    shape = len(features.ids), len(barcodes)
    counts = read_matrix(_one_of(folder, "matrix.mtx"), shape)
    return TenxCounts(features.keep_genes(counts), barcodes, features)


def read_counts(path: Path) -> TenxCounts:
    """Read a matrix whole: an h5 file, or a folder of three text files.

    Raises
    ------
    SlideError
        See `read_h5` and `read_mtx`.
    """
    return read_mtx(path) if path.is_dir() else read_h5(path)


def read_features(path: Path) -> TenxFeatures:
    """Read only what a matrix counts, from an h5 file or a folder of three text files.

    Raises
    ------
    SlideError
        See `read_h5` and `read_mtx`.
    """
    if path.is_dir():
        return read_mtx_features(path)
    with TenxH5(path) as matrix:
        return matrix.features


def read_mtx_features(folder: Path) -> TenxFeatures:
    """Read ``features.tsv`` (or ``genes.tsv``, which holds genes only) of a folder.

    Raises
    ------
    SlideError
        If it is missing or damaged.
    """
    path = _one_of(folder, "features.tsv", "genes.tsv")
    rows = [line.split("\t") for line in _lines_of(folder, path)]
    if any(len(row) < 2 for row in rows):
        msg = f"{path} has lines without two columns; expected Ensembl id and symbol."
        raise SlideError(msg)
    kinds = [row[2] if len(row) > 2 else GENE for row in rows]
    features = TenxFeatures([row[0] for row in rows], [row[1] for row in rows], kinds)
    _require_genes(features, path)
    return features


def _require_genes(features: TenxFeatures, path: Path) -> None:
    if not features.is_gene.any():
        kinds = ", ".join(sorted(set(features.kinds))[:5]) or "nothing"
        msg = f"The counts {path} hold no features of the type {GENE!r}, but {kinds}. Give the matrix of genes."
        raise SlideError(msg)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what h5py and SciPy raise on a damaged file into one SlideError."""
    try:
        yield
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as exc:
        msg = (
            f"The counts {path} cannot be read as a 10x matrix ({exc}). Expected the h5 file as Cell Ranger 3, "
            "Space Ranger or Xenium write it: copy the file again."
        )
        raise SlideError(msg) from exc


def _texts(values: NDArray[np.bytes_]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
    msg = f"{folder} has no {' or '.join(names)} (plain or .gz). Copy the whole folder."
    raise SlideError(msg)


def _lines_of(folder: Path, path: Path) -> list[str]:
    try:
        return read_lines(path)
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        msg = f"The counts in {folder} cannot be read ({exc}). Copy the folder again."
        raise SlideError(msg) from exc
