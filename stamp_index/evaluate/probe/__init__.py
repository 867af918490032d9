"""Linear probes: what stored embeddings tell of a label or a gene, with whole groups held out.

`run_probe` works on a store, `few_shot` from few labels of it, `run_gene_probes` for many genes at once; `plan_folds` and
`cross_validate` are the first on arrays.
"""

from __future__ import annotations

from stamp_index.evaluate.probe.errors import ProbeCancelled, ProbeError
from stamp_index.evaluate.probe.few_shot import FewShotFit, FewShotPoint, FewShotResult, few_shot
from stamp_index.evaluate.probe.folds import FoldOutcome, ProbeProgress, cross_validate
from stamp_index.evaluate.probe.gene_probes import run_gene_probes
from stamp_index.evaluate.probe.logistic import LogisticFit, LogisticProblem
from stamp_index.evaluate.probe.result import (
    ClassScore,
    Level,
    ProbeCounts,
    ProbeFold,
    ProbePredictions,
    ProbeResult,
    ProbeSource,
)
from stamp_index.evaluate.probe.run import run_probe
from stamp_index.evaluate.probe.settings import ProbeSettings
from stamp_index.evaluate.probe.splits import Places, PlannedFold, plan_folds
from stamp_index.evaluate.probe.tasks import ClassTask, GeneTask
from stamp_index.evaluate.probe.transfer import TransferResult, transfer_probe

__all__ = [
    "ClassScore",
    "ClassTask",
    "FewShotFit",
    "FewShotPoint",
    "FewShotResult",
    "FoldOutcome",
    "GeneTask",
    "Level",
    "LogisticFit",
    "LogisticProblem",
    "Places",
    "PlannedFold",
    "ProbeCancelled",
    "ProbeCounts",
    "ProbeError",
    "ProbeFold",
    "ProbePredictions",
    "ProbeProgress",
    "ProbeResult",
    "ProbeSettings",
    "ProbeSource",
    "TransferResult",
    "cross_validate",
    "few_shot",
    "plan_folds",
    "run_gene_probes",
    "run_probe",
    "transfer_probe",
]
