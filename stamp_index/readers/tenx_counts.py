"""Count matrices as 10x Genomics writes them: one HDF5 file, or a folder of three text files."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class TenxCounts:
    """Raw counts of one run.

    Attributes
    ----------
    counts : csr_matrix of shape (n, g), float32
    barcodes : list of str, length n
    genes, gene_ids : list of str, length g
        Symbols (they may repeat) and Ensembl ids without version.
    genome : str
        The reference's name, empty where the files do not say.
    n_dropped : int
        Features left out because they are not genes (antibodies, guides).
    """

    counts: csr_matrix
    barcodes: list[str]
    genes: list[str]
    gene_ids: list[str]
    genome: str
    n_dropped: int


def read_h5(path: Path) -> TenxCounts:
    """Read ``filtered_feature_bc_matrix.h5``.

    Raises
    ------
    SlideError
        If the file is damaged, not of Cell Ranger 3's layout or later, or inconsistent.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group: Any = file["matrix"]
            features = group["features"]
            n_features, n_spots = (int(size) for size in group["shape"][:])
            # 10x stores features x spots by column, which is spots x features by row.
            parts = tuple(group[name][:] for name in ("data", "indices", "indptr"))
            counts = csr_matrix(parts, shape=(n_spots, n_features), dtype=np.float32)
            counts.check_format(full_check=True)
            columns = {name: _texts(features[name][:]) for name in ("id", "name", "feature_type")}
            genomes = set(_texts(features["genome"][:])) if "genome" in features else set()
            barcodes = _texts(group["barcodes"][:])
    except (OSError, KeyError, ValueError, RuntimeError) as exc:
        msg = (
            f"The counts {path} cannot be read as a 10x matrix ({exc}). Expected "
            "filtered_feature_bc_matrix.h5 as Space Ranger writes it: copy the file again."
        )
        raise SlideError(msg) from exc
    genome = genomes.pop() if len(genomes) == 1 else ""
    return _genes_only(counts, barcodes, columns, path, genome=genome)


def read_mtx(folder: Path) -> TenxCounts:
    """Read a folder ``filtered_feature_bc_matrix`` (matrix.mtx, features.tsv, barcodes.tsv).

    The three files may be gzipped; ``genes.tsv`` of older releases is understood.

    Raises
    ------
    SlideError
        If a file is missing, damaged, or the three do not fit each other.
    """
    from scipy.io import mmread

    features_path = _one_of(folder, "features.tsv", "genes.tsv")
    barcodes_path = _one_of(folder, "barcodes.tsv")
    matrix_path = _one_of(folder, "matrix.mtx")
    try:
        rows = [line.split("\t") for line in _lines(features_path)]
        barcodes = _lines(barcodes_path)
        counts = csr_matrix(mmread(matrix_path).T, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        msg = f"The counts in {folder} cannot be read ({exc}). Copy the folder again."
        raise SlideError(msg) from exc
    if any(len(row) < 2 for row in rows):
        msg = f"{features_path} has lines without two columns; expected Ensembl id and symbol."
        raise SlideError(msg)
    columns = {
        "id": [row[0] for row in rows],
        "name": [row[1] for row in rows],
        "feature_type": [row[2] if len(row) > 2 else "Gene Expression" for row in rows],
    }
    return _genes_only(counts, barcodes, columns, folder, genome="")


def _genes_only(
    counts: csr_matrix,
    barcodes: list[str],
    columns: dict[str, list[str]],
    path: Path,
    *,
    genome: str,
) -> TenxCounts:
    if counts.shape != (len(barcodes), len(columns["id"])):
        msg = (
            f"The counts {path} have {counts.shape[0]} x {counts.shape[1]} numbers for "
            f"{len(barcodes)} barcodes and {len(columns['id'])} genes. Copy the files again."
        )
        raise SlideError(msg)
    kept = [i for i, kind in enumerate(columns["feature_type"]) if kind == "Gene Expression"]
    n_dropped = counts.shape[1] - len(kept)
    return TenxCounts(
        counts=csr_matrix(counts[:, kept]) if n_dropped else counts,
        barcodes=barcodes,
        genes=[columns["name"][i] for i in kept],
        gene_ids=[columns["id"][i].split(".")[0] for i in kept],
        genome=genome,
        n_dropped=n_dropped,
    )


def _texts(values: NDArray[np.bytes_]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / f"{name}.gz", folder / name):
            if path.exists():
                return path
    msg = f"{folder} has no {' or '.join(names)} (plain or .gz). Copy the whole folder."
    raise SlideError(msg)


def _lines(path: Path) -> list[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return stream.read().splitlines()
    return path.read_text(encoding="utf-8").splitlines()
