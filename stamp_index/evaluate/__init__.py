"""Evaluation: retrieval recall over the whole held-out gallery, planted domains, expression prediction, probes."""

from __future__ import annotations

from stamp_index.evaluate.metrics import (
    average_precision,
    bootstrap_interval,
    mean_interval,
    pearson_per_gene,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.probe import (
    ProbeCancelled,
    ProbeError,
    ProbeProgress,
    ProbeResult,
    ProbeSettings,
    run_probe,
)
from stamp_index.evaluate.report import Report, ann_recall, evaluate_run

__all__ = [
    "ProbeCancelled",
    "ProbeError",
    "ProbeProgress",
    "ProbeResult",
    "ProbeSettings",
    "Report",
    "ann_recall",
    "average_precision",
    "bootstrap_interval",
    "evaluate_run",
    "mean_interval",
    "pearson_per_gene",
    "retrieval_ranks",
    "retrieval_recall_at_k",
    "run_probe",
]
