"""Expression predicted from images: by retrieval, by HEST-Benchmark's protocol and by ST-Align's, beside baselines."""

from __future__ import annotations

from stamp_index.evaluate.expression.by_retrieval import (
    mean_weights,
    predict_by_all,
    predict_by_mean,
    predict_by_similarity,
    predict_by_softmax,
    softmax_weights,
)
from stamp_index.evaluate.expression.genes import (
    GeneLevels,
    GeneList,
    all_genes,
    given_genes,
    highly_expressed,
    highly_variable,
)
from stamp_index.evaluate.expression.hest import (
    HestFold,
    HestResult,
    hest_corrected,
    hest_published,
)
from stamp_index.evaluate.expression.metrics import (
    GeneSummary,
    mse_per_gene,
    relative_variance_distance,
    spearman_per_gene,
    summarise_genes,
)
from stamp_index.evaluate.expression.report import ExpressionReport
from stamp_index.evaluate.expression.runner import evaluate_expression
from stamp_index.evaluate.expression.st_align import (
    ST_ALIGN_GENES,
    StAlignResult,
    st_align_mse,
)

__all__ = [
    "ST_ALIGN_GENES",
    "ExpressionReport",
    "GeneLevels",
    "GeneList",
    "GeneSummary",
    "HestFold",
    "HestResult",
    "StAlignResult",
    "all_genes",
    "evaluate_expression",
    "given_genes",
    "hest_corrected",
    "hest_published",
    "highly_expressed",
    "highly_variable",
    "mean_weights",
    "mse_per_gene",
    "predict_by_all",
    "predict_by_mean",
    "predict_by_similarity",
    "predict_by_softmax",
    "relative_variance_distance",
    "softmax_weights",
    "spearman_per_gene",
    "st_align_mse",
    "summarise_genes",
]
