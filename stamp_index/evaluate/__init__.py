"""Evaluation: retrieval recall over the whole held-out gallery, planted domains, expression prediction."""

from __future__ import annotations

from stamp_index.evaluate.metrics import (
    bootstrap_interval,
    pearson_per_gene,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.report import Report, ann_recall, evaluate_run

__all__ = [
    "Report",
    "ann_recall",
    "bootstrap_interval",
    "evaluate_run",
    "pearson_per_gene",
    "retrieval_ranks",
    "retrieval_recall_at_k",
]
