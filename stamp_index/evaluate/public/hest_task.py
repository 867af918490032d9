"""A task of HEST-Benchmark as it lies on disk: samples, genes and folds.

A task is a folder such as ``IDC`` with ``splits/train_0.csv``, ``splits/test_0.csv``, ... (columns sample_id,
patches_path, expr_path, relative to the task), ``var_50genes.json`` (``{"genes": [...]}``), ``patches/<id>.h5`` (``img`` of
shape (N, 224, 224, 3), ``barcode``) and ``adata/<id>.h5ad`` (raw counts in ``X``). Source: what
``src/hest/bench/benchmark.py`` and ``st_dataset.py`` of mahmoodlab/HEST at afd42c3 read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.genes import GeneList
from stamp_index.evaluate.public.layout import below, need_folder, read_json, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GENES_FILE: Final = "var_50genes.json"
_COLUMNS: Final = ("sample_id", "patches_path", "expr_path")
_TRAIN: Final = re.compile(r"train_(\d+)\.csv")
_METADATA: Final = "HEST_v*.csv"


@dataclass(frozen=True)
class HestSample:
    """A sample of a task: its name, its patches (h5) and its counts (h5ad)."""

    name: str
    patches: Path
    counts: Path


@dataclass(frozen=True)
class HestTask:
    """A task.

    Attributes
    ----------
    name : str
    genes : GeneList
        To be predicted in the published protocol.
    samples : tuple of HestSample
        In the order in which the folds name them first.
    folds : tuple of (train, test)
        Names of samples.
    patients : dict of str to str
        Patient of each sample; where the metadata of HEST-1k are not there, the fold that tests it.
    patients_from : str
        Where the patients are known from, in words.
    """

    name: str
    genes: GeneList
    samples: tuple[HestSample, ...]
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    patients: dict[str, str]
    patients_from: str


def find_tasks(folder: Path, names: Sequence[str] = ()) -> list[HestTask]:
    """Read the tasks of a benchmark folder.

    Parameters
    ----------
    folder : Path
        That holds the tasks, or has them in ``bench_data``; or one task.
    names : sequence of str
        Tasks to read, as their folders are called; all by default.

    Raises
    ------
    EvaluationError
        If there is no task, or not that one, or a file of one is missing or odd.
    """
    need_folder(folder, "the tasks of HEST-Benchmark (IDC, PRAD, ...)")
    root = folder / "bench_data" if (folder / "bench_data").is_dir() else folder
    if (root / "splits").is_dir():
        root, names = root.parent, [root.resolve().name]
    there = sorted(path.parent.name for path in root.glob("*/splits") if path.is_dir())
    unknown = [name for name in names if name not in there]
    if unknown or not there:
        held = f"it has {', '.join(there)}" if there else "it has none"
        msg = (
            f"{root} has no task {', '.join(unknown) or 'at all'}; {held}. Expected a folder for each task with splits/, "
            f"patches/, adata/ and {GENES_FILE}, as MahmoodLab/hest-bench has them."
        )
        raise EvaluationError(msg)
    return [read_task(root / name) for name in names or there]


def read_task(folder: Path) -> HestTask:
    """Read one task's folds, samples and genes; patches and counts are only looked for.

    Raises
    ------
    EvaluationError
        If a file is missing or odd.
    """
    samples: dict[str, HestSample] = {}
    folds = []
    for number in range(_n_folds(folder / "splits")):
        train, test = (
            _side(folder, folder / "splits" / f"{side}_{number}.csv", samples)
            for side in ("train", "test")
        )
        folds.append((train, test))
    patients, known = _patients(folder, list(samples), folds)
    return HestTask(
        folder.name, _genes(folder), tuple(samples.values()), tuple(folds), patients, known
    )


def _n_folds(splits: Path) -> int:
    found = sorted(int(m[1]) for path in splits.iterdir() if (m := _TRAIN.fullmatch(path.name)))
    if not found or found != list(range(len(found))):
        has = ", ".join(f"train_{number}.csv" for number in found) or "none"
        msg = f"{splits} has {has}. Expected train_0.csv and test_0.csv, train_1.csv and test_1.csv, and so on."
        raise EvaluationError(msg)
    return len(found)


def _side(folder: Path, path: Path, samples: dict[str, HestSample]) -> tuple[str, ...]:
    """Names in one side of a fold; adds those that are new to `samples`."""
    table = read_table(path, _COLUMNS)
    if table.empty:
        msg = f"The split {path} names no sample. Copy the file again."
        raise EvaluationError(msg)
    for name, patches, counts in table[list(_COLUMNS)].itertuples(index=False):
        sample = HestSample(name, below(folder, patches, path), below(folder, counts, path))
        if samples.setdefault(name, sample) != sample:
            msg = f"{path} names other files for sample {name} than a split before. Copy the splits again."
            raise EvaluationError(msg)
    return tuple(table["sample_id"])


def _genes(folder: Path) -> GeneList:
    path = folder / GENES_FILE
    held = read_json(path, 'a file {"genes": [...]}')
    names = held.get("genes") if isinstance(held, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = f'{path} has no list of gene names. Expected {{"genes": ["EPCAM", ...]}}.'
        raise EvaluationError(msg)
    rule = f"{GENES_FILE} of the task, chosen by its authors on all samples, test included"
    return GeneList(folder.name, tuple(names), rule)


def _patients(
    folder: Path, names: list[str], folds: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> tuple[dict[str, str], str]:
    """Patient of each sample, from HEST-1k's metadata beside the tasks, else from the folds that test it."""
    tables = sorted(path for at in (folder, folder.parent) for path in at.glob(_METADATA))
    if tables:
        table = read_table(tables[-1], ("id", "patient"))
        said = dict(zip(table["id"], table["patient"], strict=True))
        # A sample without a patient there counts as one of its own.
        found = {name: said.get(name, "").strip() or f"[{name}]" for name in names}
        return found, f"patients from {tables[-1].name}"
    tested = {
        name: "fold " + "+".join(str(at) for at, (_, test) in enumerate(folds) if name in test)
        for name in names
    }
    return tested, (
        "the benchmark's folder does not say whose the samples are: those that are tested together count as one patient "
        "(HEST_v1_1_0.csv of HEST-1k beside the tasks would tell)"
    )
