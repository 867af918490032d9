"""Linear probes: what stored embeddings tell of a label or a gene, with whole groups held out.

`run_probe` works on a store; `plan_folds` and `cross_validate` are the same on arrays.
"""

from __future__ import annotations

from stamp_index.evaluate.probe.errors import ProbeCancelled, ProbeError
from stamp_index.evaluate.probe.folds import FoldOutcome, ProbeProgress, cross_validate
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

__all__ = [
    "ClassScore",
    "ClassTask",
    "FoldOutcome",
    "GeneTask",
    "Level",
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
    "cross_validate",
    "plan_folds",
    "run_probe",
]
