"""Counts of a task of HEST-Benchmark, spot by spot in the order of the patches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.layout import while_reading
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.h5ad.counts import check_shape, load_matrix
from stamp_index.readers.h5ad.elements import DAMAGE, index_of, open_h5ad, row_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.evaluate.public.hest_task import HestSample, HestTask

    Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

SIDE_PX = 224  # of a patch, at 0.5 um/px


@dataclass(frozen=True, eq=False)
class TaskTable:
    """All spots of a task, sample after sample.

    Attributes
    ----------
    slide : ndarray of shape (n,), str
        Sample of each spot.
    counts : csr_matrix of shape (n, g)
        Raw counts of the genes that every sample measured.
    genes : tuple of str, length g
    published : ndarray of shape (n, p), float32
        Raw counts of the genes of the task's list.
    folds : tuple of (train, test)
        Rows.
    notes : tuple of str
        Samples with the same counts.
    hash : str
        First 16 hex digits of the SHA-256 over barcodes and counts of the task's genes.
    """

    slide: NDArray[np.str_]
    counts: csr_matrix
    genes: tuple[str, ...]
    published: NDArray[np.float32]
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    hash: str


def patch_names(path: Path) -> list[str]:
    """Barcodes of a file of patches, in its order.

    Raises
    ------
    EvaluationError
        If it is damaged, or holds no patches of 224 px.
    """
    try:
        with while_reading("HEST-Benchmark"), open_h5(path) as file:
            shape, kind = file["img"].shape, file["img"].dtype
            raw: Any = file["barcode"]
            values = np.ravel(raw.asstr()[:] if raw.dtype.kind in "OS" else raw[:])
    except DAMAGE as error:
        msg = f"The patches {path} cannot be read ({error}). Expected the datasets img and barcode: copy the file again."
        raise EvaluationError(msg) from error
    if shape != (len(values), SIDE_PX, SIDE_PX, 3) or kind != np.uint8 or not len(values):
        msg = (
            f"The patches {path} have shape {shape} of {kind} and {len(values)} barcodes; expected (N, 224, 224, 3) of "
            "uint8 and one barcode for each, as HEST-Benchmark has them."
        )
        raise EvaluationError(msg)
    names = [str(value) for value in values]
    twice = (
        sorted({name for name in names if names.count(name) > 1})[:3]
        if len(set(names)) < len(names)
        else []
    )
    if twice:
        msg = f"The patches {path} name {', '.join(twice)} more than once. Copy the file again."
        raise EvaluationError(msg)
    return names


def read_task_table(task: HestTask) -> TaskTable:
    """Read the counts of a task's samples.

    Raises
    ------
    EvaluationError
        If a file is damaged, patches and counts do not belong together, or a sample did not measure a gene of the list.
    """
    read = [_read_sample(sample, task) for sample in task.samples]
    common = [
        gene for gene in read[0].genes if all(gene in one.column for one in read) and gene.strip()
    ]
    counts = csr_matrix(vstack([one.of(common) for one in read]))
    published = np.concatenate([one.of(task.genes.names).toarray() for one in read])
    slide = np.concatenate([np.full(len(one.barcodes), one.name) for one in read])
    told = hashlib.sha256("\n".join(name for one in read for name in one.barcodes).encode())
    told.update(np.ascontiguousarray(published, "<f4").tobytes())
    return TaskTable(
        slide,
        counts,
        tuple(common),
        published,
        tuple((_rows(slide, train), _rows(slide, test)) for train, test in task.folds),
        tuple(_alike(task, read)),
        told.hexdigest()[:16],
    )


@dataclass(frozen=True, eq=False)
class _Sample:
    name: str
    barcodes: list[str]
    counts: csr_matrix  # (n, g)
    genes: list[str]
    column: dict[str, int]  # of genes that stand once

    def of(self, genes: Sequence[str]) -> csr_matrix:
        return csr_matrix(self.counts[:, [self.column[gene] for gene in genes]])


def _read_sample(sample: HestSample, task: HestTask) -> _Sample:
    barcodes = patch_names(sample.patches)
    with while_reading(f"HEST-Benchmark {task.name}"), open_h5ad(sample.counts) as file:
        names, genes = index_of(file["obs"]), index_of(file["var"])
        check_shape(file["X"], (row_count(file["obs"]), row_count(file["var"])), sample.counts)
        counts = load_matrix(file["X"])
    at = pd.Index(names)
    wrong = "names a spot twice" if not at.is_unique else ""
    rows = at.get_indexer(pd.Index(barcodes)) if not wrong else np.array([], np.int64)
    lost = [name for name, row in zip(barcodes, rows, strict=False) if row < 0]
    if wrong or lost:
        wrong = wrong or f"lacks {len(lost)} of its {len(barcodes)} patches, such as {lost[0]}"
        msg = f"{sample.counts} {wrong}. Expected one row of counts for each patch of {sample.patches.name}."
        raise EvaluationError(msg)
    series = pd.Series(genes)
    once = ~series.duplicated(keep=False)
    column = {gene: i for i, gene in enumerate(genes) if once[i]}
    missing = [gene for gene in task.genes.names if gene not in column]
    if missing:
        msg = (
            f"{sample.counts} has not each gene of the task {task.name} once: {len(missing)} of {len(task.genes.names)}, such "
            f"as {missing[0]}. The gene list and the counts are not of one release of the benchmark."
        )
        raise EvaluationError(msg)
    return _Sample(sample.name, barcodes, counts[rows], genes, column)


def _rows(slide: NDArray[np.str_], names: Sequence[str]) -> NDArray[np.int64]:
    return np.concatenate([np.flatnonzero(slide == name) for name in names]).astype(np.int64)


def _alike(task: HestTask, read: Sequence[_Sample]) -> list[str]:
    """Name samples with the same counts, as TENX128 and TENX155 (HEST issue 126) have them."""
    held: dict[bytes, list[str]] = {}
    for one in read:
        parts = one.of(task.genes.names).toarray()
        held.setdefault(hashlib.sha256(parts.tobytes()).digest(), []).append(one.name)
    said = []
    for names in map(sorted, held.values()):
        if len(names) > 1:
            apart = any(set(names) & set(a) and set(names) & set(b) for a, b in task.folds)
            where = (
                "some of them are tested against the others"
                if apart
                else "on one side of every fold"
            )
            said.append(f"{task.name}: samples {', '.join(names)} have the same counts, {where}.")
    return said
