"""HEST-Benchmark on the user's own copy: features, both protocols, one report.

The layout is that of the data set MahmoodLab/hest-bench, see `stamp_index.evaluate.public.hest_task`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.hest import N_GENES, hest_corrected, hest_published
from stamp_index.evaluate.public.features import sample_features
from stamp_index.evaluate.public.hest_tables import read_task_table
from stamp_index.evaluate.public.hest_task import find_tasks
from stamp_index.evaluate.public.published_values import HEST_SOURCE, hest_rows
from stamp_index.evaluate.suite.asked import section, table
from stamp_index.evaluate.suite.report import SuiteReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.evaluate.expression.hest import HestResult
    from stamp_index.evaluate.public.features import PatchFeatures
    from stamp_index.evaluate.public.hest_tables import TaskTable
    from stamp_index.evaluate.public.hest_task import HestTask

    Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
    Measured = tuple["HestTask", "TaskTable", HestResult, HestResult | None]

PUBLISHED: Final = "HEST-Benchmark as published"
CORRECTED: Final = "HEST-Benchmark corrected"
_PUBLISHED_TEXT: Final = (
    "Pearson between measured and predicted log1p counts of the genes of the task's list: over the spots of a fold's test samples "
    "together, mean over genes, then over folds. The genes were chosen on all samples, test included."
)
_CORRECTED_TEXT: Final = (
    "The same with genes chosen on the training samples of each fold and a penalty chosen inside them. Not to be compared with "
    "published numbers."
)


def run_hest_benchmark(
    folder: Path | str,
    features: PatchFeatures,
    *,
    tasks: Sequence[str] = (),
    cache: Path | str,
    progress: Callable[[int, int], object] | None = None,
) -> SuiteReport:
    """Measure features by HEST-Benchmark, as published and corrected.

    Parameters
    ----------
    folder : path
        With the tasks' folders.
    features : PatchFeatures
        See `checkpoint_features` and `backbone_features`.
    tasks : sequence of str
        Names of folders; all that are there by default.
    cache : path
        Folder for features; those that lie in it are not made again.
    progress : callable, optional
        Called with the patches embedded, or found, so far, and those of all tasks.

    Returns
    -------
    SuiteReport
        A corrected number that cannot be had honestly is noted and left out.

    Raises
    ------
    EvaluationError
        If a file is missing or odd, or the published protocol cannot be measured on a task.
    """
    found = find_tasks(Path(folder), tasks)
    tables = [read_task_table(task) for task in found]
    count = _Count(sum(len(one.slide) for one in tables), progress)
    notes: list[str] = []
    measured: list[Measured] = []
    for task, held in zip(found, tables, strict=True):
        parts = [
            sample_features(features, sample.patches, Path(cache) / task.name, progress=count.add)
            for sample in task.samples
        ]
        values = np.concatenate(parts)
        published = hest_published(values, held.published, task.genes.names, held.folds)
        measured.append((task, held, published, _corrected(task, held, values, notes)))
    return _report(features, measured, notes)


def gene_candidates(counts: csr_matrix, folds: Sequence[Fold], n_genes: int) -> NDArray[np.int64]:
    """Columns among which each fold's most variable genes are, so that not all genes need be held densely.

    Parameters
    ----------
    counts : csr_matrix of shape (n, g)
        Raw counts.
    folds : sequence of (train, test)
    n_genes : int
        That a fold chooses by the variance of log1p counts over its training spots.

    Returns
    -------
    ndarray of shape (m,), int64
        Ascending; twice as many of each fold as it chooses, against rounding.
    """
    chosen: set[int] = set()
    for train, _ in folds:
        levels = counts[train].astype(np.float64)
        levels.data = np.log1p(levels.data)
        mean = np.asarray(levels.mean(axis=0)).ravel()
        variance = np.asarray(levels.multiply(levels).mean(axis=0)).ravel() - mean**2
        chosen.update(np.argsort(-variance, kind="stable")[: 2 * n_genes].tolist())
    return np.array(sorted(chosen), np.int64)


def _corrected(
    task: HestTask, held: TaskTable, values: NDArray[np.float32], notes: list[str]
) -> HestResult | None:
    at = gene_candidates(held.counts, held.folds, N_GENES)
    try:
        return hest_corrected(
            values,
            held.counts[:, at].toarray(),
            [held.genes[i] for i in at],
            held.folds,
            patients=[task.patients[name] for name in held.slide.tolist()],
            slides=held.slide.tolist(),
        )
    except EvaluationError as error:
        notes.append(f"Not measured: {task.name} corrected. {error}")
        return None


class _Count:
    """Adds up patches and tells the sum."""

    def __init__(self, total: int, tell: Callable[[int, int], object] | None) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def add(self, n: int) -> None:
        """Count n more."""
        self.done += n
        if self.tell is not None:
            self.tell(self.done, self.total)


def _report(features: PatchFeatures, measured: Sequence[Measured], notes: list[str]) -> SuiteReport:
    import sklearn

    import stamp_index

    tasks = [task for task, *_ in measured]
    report = SuiteReport(
        store={
            "id": "HEST-Benchmark, no store",
            "version": _hash([(task.name, held.hash) for task, held, *_ in measured]),
            "n_spots": sum(len(held.slide) for _, held, *_ in measured),
            "n_slides": sum(len(task.samples) for task in tasks),
        },
        encoder={"name": features.name, "fingerprint": features.fingerprint, "panel_hash": ""},
        split=_split(tasks),
        genes=[task.genes.to_dict() for task in tasks],
        settings={
            "benchmark": "HEST-Benchmark",
            "tasks": ", ".join(task.name for task in tasks),
            "stamp-index": stamp_index.__version__,
            "scikit-learn": sklearn.__version__,
        },
        sections=[_published_section(features, measured)],
        paired={"expression": _paired(measured)},
    )
    if any(corrected for *_, corrected in measured):
        report.sections.append(_corrected_section(measured))
    report.sections.append(_by_gene(measured))
    report.notes = _notes(features, measured, notes)
    return report


def _published_section(features: PatchFeatures, measured: Sequence[Measured]) -> dict[str, Any]:
    rows, means = [], {}
    for task, held, found, _ in measured:
        means[task.name] = found.mean
        rows.append(
            {
                "task": task.name,
                "samples": len(task.samples),
                "folds": len(found.folds),
                "N": len(held.slide),
                "genes": len(task.genes.names),
                "components": min(fold.n_components for fold in found.folds),
                "mean Pearson": found.mean,
                "sd of folds": found.std,
                "constant genes": sum(fold.n_constant for fold in found.folds),
            }
        )
    ours = {"encoder": features.name, "from": "measured here"} | means
    beside = hest_rows(list(means))
    tables = [
        table(rows),
        table([ours | {"mean": float(np.mean(list(means.values())))}, *beside],
              HEST_SOURCE if beside else "No published table has these tasks."),
    ]  # fmt: skip
    return section(PUBLISHED, _PUBLISHED_TEXT, tables, [_bars(measured)])


def _corrected_section(measured: Sequence[Measured]) -> dict[str, Any]:
    rows = []
    for task, _, _, found in measured:
        if found is None:
            continue
        within = [value for fold in found.folds for value in fold.slide_pearson.values()]
        alphas = [fold.alpha for fold in found.folds]
        rows.append(
            {
                "task": task.name,
                "patients": len(set(task.patients.values())),
                "folds": len(found.folds),
                "mean Pearson": found.mean,
                "sd of folds": found.std,
                "mean within samples": float(np.nanmean(within)) if within else float("nan"),
                "alpha, lowest": min(alphas),
                "alpha, highest": max(alphas),
                "constant genes": sum(fold.n_constant for fold in found.folds),
            }
        )
    columns = ("mean Pearson", "mean within samples")
    mean = {name: float(np.mean([row[name] for row in rows])) for name in columns}
    return section(CORRECTED, _CORRECTED_TEXT, [table([*rows, {"task": "mean of tasks"} | mean])])


def _bars(measured: Sequence[Measured]) -> dict[str, Any]:
    series = [{"name": "as published", "values": [one[2].mean for one in measured]}]
    if all(one[3] for one in measured):
        series.append({"name": "corrected", "values": [one[3].mean for one in measured if one[3]]})
    labels = [task.name for task, *_ in measured]
    data = {"labels": labels, "series": series, "chance": 0.0, "x_label": "mean Pearson"}
    return {"kind": "bars_with_interval", "data": data, "caption": "Mean over genes and folds."}


def _by_gene(measured: Sequence[Measured]) -> dict[str, Any]:
    rows = [
        {"task": task.name, "gene": gene, "mean Pearson": value}
        for task, _, found, _ in measured
        for gene, value in _gene_means(found).items()
    ]
    text = "Pearson of each gene of the tasks' lists in the published protocol, mean over folds."
    return section("HEST-Benchmark gene by gene", text, [table(rows)])


def _gene_means(found: HestResult) -> dict[str, float]:
    values = np.mean([fold.pearson for fold in found.folds], axis=0)
    return dict(zip(found.folds[0].genes, values.tolist(), strict=True))


def _paired(measured: Sequence[Measured]) -> dict[str, dict[str, float | None]]:
    """Pearson of each gene by task; what two reports are compared by."""
    return {
        f"{PUBLISHED}, {task.name}": {
            gene: None if value != value else value for gene, value in _gene_means(found).items()
        }
        for task, _, found, _ in measured
    }


def _split(tasks: Sequence[HestTask]) -> dict[str, Any]:
    """Folds of all tasks: every test sample is learnt from in the other folds of its task."""
    sides = [
        sorted(
            {f"{task.name}/{name}" for task in tasks for fold in task.folds for name in fold[at]}
        )
        for at in (0, 1)
    ]
    told = _hash([(task.name, task.folds) for task in tasks])
    return {"by": "folds of the benchmark", "train": sides[0], "test": sides[1], "taught": [], "hash": told}  # fmt: skip


def _notes(
    features: PatchFeatures, measured: Sequence[Measured], notes: Sequence[str]
) -> list[str]:
    said = [*features.notes]
    for task, held, published, corrected in measured:
        said.append(f"{task.name}: {task.patients_from}.")
        said += held.notes
        for found in (published, corrected):
            said += found.notes if found is not None else ()
    said += notes
    said.append(
        "What the network was pretrained on is not known here: HEST-1k holds these samples, so an encoder that learnt from "
        "HEST-1k may have seen them."
    )
    return list(dict.fromkeys(said))


def _hash(value: object) -> str:
    """First 16 hex digits of the SHA-256 over plain values."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]
