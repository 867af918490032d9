"""Evaluation: a store's embeddings measured by retrieval, expression prediction, probes, domains and index recall.

`evaluate_store` measures everything and makes one report; every part of it can be had alone. Functions on arrays: `metrics`
here, and those of `stamp_index.evaluate.expression`, ``.probe``, ``.domains`` and ``.baselines``. `evaluate_run` measures a
training run on slides that are in no store.
"""

from __future__ import annotations

from stamp_index.evaluate.domains import evaluate_domains
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import (
    evaluate_expression,
    hest_corrected,
    hest_published,
    st_align_mse,
)
from stamp_index.evaluate.metrics import (
    average_precision,
    group_interval,
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
    few_shot,
    run_gene_probes,
    run_probe,
    transfer_probe,
)
from stamp_index.evaluate.raw_features import raw_views
from stamp_index.evaluate.report import Report, ann_recall, evaluate_run
from stamp_index.evaluate.split import (
    Split,
    make_split,
    split_by_patient,
    split_of_encoder,
    taught_patients,
)
from stamp_index.evaluate.suite.asked import SuiteSettings
from stamp_index.evaluate.suite.compare import compare_reports
from stamp_index.evaluate.suite.report import SuiteReport, read_report
from stamp_index.evaluate.suite.run import evaluate_store

__all__ = [
    "EvaluationError",
    "ProbeCancelled",
    "ProbeError",
    "ProbeProgress",
    "ProbeResult",
    "ProbeSettings",
    "Report",
    "Split",
    "SuiteReport",
    "SuiteSettings",
    "ann_recall",
    "average_precision",
    "compare_reports",
    "evaluate_domains",
    "evaluate_expression",
    "evaluate_run",
    "evaluate_store",
    "few_shot",
    "group_interval",
    "hest_corrected",
    "hest_published",
    "make_split",
    "mean_interval",
    "pearson_per_gene",
    "raw_views",
    "read_report",
    "retrieval_ranks",
    "retrieval_recall_at_k",
    "run_gene_probes",
    "run_probe",
    "split_by_patient",
    "split_of_encoder",
    "st_align_mse",
    "taught_patients",
    "transfer_probe",
]
