"""Matrices as 10x Genomics writes them, for tests of readers."""

from __future__ import annotations

import gzip
from io import BytesIO
from typing import TYPE_CHECKING

import h5py
import numpy as np
from scipy.io import mmwrite
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GENE = "Gene Expression"


def write_h5(
    path: Path,
    counts: csr_matrix,
    barcodes: Sequence[str],
    features: Sequence[tuple[str, str, str]],
) -> None:
    """Write `counts` of shape (barcodes, features); features are (id, name, type)."""
    matrix = csr_matrix(counts)  # spots x features by row is features x spots by column
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"] = matrix.data.astype(np.int32)
        group["indices"] = matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array(matrix.shape[::-1], dtype=np.int32)
        group["barcodes"] = np.array(barcodes, dtype="S")
        genomes = ["GRCh38" if kind == GENE else "" for _, _, kind in features]
        columns = ("id", "name", "feature_type")
        for name, values in zip(columns, zip(*features, strict=True), strict=True):
            group[f"features/{name}"] = np.array(values, dtype="S")
        group["features/genome"] = np.array(genomes, dtype="S")


def write_mtx(
    folder: Path,
    counts: csr_matrix,
    barcodes: Sequence[str],
    features: Sequence[tuple[str, str, str]],
) -> None:
    """Write the same as a folder of three files."""
    folder.mkdir()
    stream = BytesIO()
    mmwrite(stream, csr_matrix(counts).T.tocsc())
    texts = {
        "matrix.mtx": stream.getvalue(),
        "features.tsv": "".join("\t".join(row) + "\n" for row in features).encode(),
        "barcodes.tsv": "".join(f"{name}\n" for name in barcodes).encode(),
    }
    for name, content in texts.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
