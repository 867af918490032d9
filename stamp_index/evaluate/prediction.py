"""Expression predicted by retrieval: a held-out patch's neighbours among the training spots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.metrics import pearson_per_gene
from stamp_index.genes import log1p_cp10k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.report import Embedded
    from stamp_index.genes import GenePanel

_NEIGHBOURS: Final = 50  # BLEEP's K (recipes: Xie et al. 2023, released code)
_TEMPERATURE: Final = 0.05
_N_GENES: Final = 50


def prediction_table(
    name: str,
    panel: GenePanel,
    train: Sequence[Embedded],
    held_out: Sequence[Embedded],
    *,
    genes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Mean Pearson correlation of predicted and measured expression on each held-out slide.

    Parameters
    ----------
    name : str
        Written into the rows.
    panel : GenePanel
        Of the encoder.
    train, held_out : sequence of Embedded
        Reference spots and queries.
    genes : sequence of str
        Genes to predict; by default the panel's 50 that vary most over the training spots.

    Returns
    -------
    list of dict
        One row per held-out slide; empty without training slides.

    Notes
    -----
    The image embedding of a held-out spot is compared with the *gene* embeddings of the training spots
    (BLEEP); the 50 nearest are averaged with weights softmax(cosine / 0.05).
    """
    if not train:
        return []
    reference = np.concatenate([_expression(part, panel) for part in train])  # (m, g)
    chosen = _chosen(panel, reference, genes)
    vectors = np.concatenate([part.gene for part in train])  # (m, d)
    rows = []
    for part in held_out:
        scores = part.image @ vectors.T  # (n, m)
        predicted = weighted_mean(scores, reference[:, chosen])
        correlation = pearson_per_gene(predicted, _expression(part, panel)[:, chosen])
        rows.append(
            {
                "prediction on": part.slide.slide_id,
                "encoder": name,
                "genes": "given" if genes else f"HVG {len(chosen)} of training",
                "n_genes": len(chosen),
                "N": part.slide.n_spots,
                "mean Pearson": float(np.nanmean(correlation)),
                "genes above .5": int((correlation > 0.5).sum()),
                "mean expression (baseline)": "0 (constant)",
            }
        )
    return rows


def weighted_mean(
    scores: NDArray[np.float32], values: NDArray[np.float64], k: int = _NEIGHBOURS
) -> NDArray[np.float64]:
    """Softmax-weighted mean (n, g) of the k best rows of values (m, g) by scores (n, m)."""
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]  # (n, k)
    top = np.take_along_axis(scores, best, axis=1).astype(np.float64)
    weight = np.exp((top - top.max(axis=1, keepdims=True)) / _TEMPERATURE)
    weight /= weight.sum(axis=1, keepdims=True)
    mean: NDArray[np.float64] = np.einsum("nk,nkg->ng", weight, values[best])
    return mean


def _expression(part: Embedded, panel: GenePanel) -> NDArray[np.float64]:
    """Measured log1p CP10K (n, g) over all of the slide's genes, in the panel's columns."""
    aligned = panel.align(log1p_cp10k(part.slide.counts), part.slide.genes)
    dense: NDArray[np.float64] = aligned.toarray().astype(np.float64)
    return dense


def _chosen(
    panel: GenePanel, reference: NDArray[np.float64], genes: Sequence[str]
) -> NDArray[np.int64]:
    if genes:
        return np.array([panel.column_of[gene] for gene in genes], dtype=np.int64)
    return np.sort(np.argsort(-reference.var(axis=0), kind="stable")[:_N_GENES])
