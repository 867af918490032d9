"""Expression prediction of a suite: from the test spots' images, by every method, with per-gene numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stamp_index.evaluate.expression import evaluate_expression
from stamp_index.evaluate.expression.methods import BASELINE, ENCODER
from stamp_index.evaluate.suite.asked import Found, section, table

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.evaluate.expression import ExpressionReport
    from stamp_index.evaluate.suite.asked import Asked

TEXT: Final = (
    "Expression (log1p CP10K) of test spots, predicted from their images alone. Pearson over spots for each gene, then the "
    "mean over genes that are not constant. Lists of genes that nobody named are chosen on training spots."
)
MAX_GENES: Final = 60  # in the table by gene


def expression_part(asked: Asked) -> Found:
    """Measure expression prediction on the split's test slides.

    Raises
    ------
    EvaluationError, MissingGenesError
        As `evaluate_expression`.
    """
    settings = asked.settings
    found = evaluate_expression(
        asked.store,
        asked.split,
        genes=settings.genes or None,
        seed=settings.seed,
        raw=asked.raw,
        progress=lambda *at: asked.told("expression", *at),
    )
    first = found.gene_lists[0]
    return Found(
        sections=[section("Expression", TEXT, [table(found.rows)]), _by_gene(found)],
        genes=[one.to_dict() for one in found.gene_lists],
        paired=_paired(found, set(first.names)),
        notes=list(found.notes),
    )


def _by_gene(found: ExpressionReport) -> dict[str, Any]:
    first = found.gene_lists[0]
    here = found.per_gene[found.per_gene["gene"].isin(first.names[:MAX_GENES])]
    wide = here.pivot_table(
        index=["gene", "held out by"], columns="method", values="Pearson, all spots", sort=False
    )
    return section(
        "Expression gene by gene",
        f"Pearson over all test spots, genes of the list {first.label} ({first.rule}).",
        [table(wide.reset_index().to_dict("records"), "Pearson by gene and method.")],
        [
            _scatter(part, str(kind))
            for kind, part in here.groupby("held out by", sort=False)
            if part["Pearson, all spots"].notna().any()
        ],
    )


def _scatter(here: pd.DataFrame, kind: str) -> dict[str, Any]:
    """Set retrieval by the encoder against the strongest plain baseline, gene by gene."""
    wide = here.pivot_table(index="gene", columns="method", values="Pearson, all spots", sort=False)
    means = {str(name): float(value) for name, value in wide.mean().items()}
    kinds = dict(zip(here["method"], here["kind"], strict=True))
    y, x = (
        max((name for name in means if kinds[name] == side), key=means.__getitem__)
        for side in (ENCODER, BASELINE)
    )
    return {
        "kind": "per_gene_scatter",
        "data": {
            "genes": list(wide.index),
            "x": wide[x].tolist(),
            "y": wide[y].tolist(),
            "x_label": f"Pearson, {x}",
            "y_label": f"Pearson, {y}",
            "is_same_measure": True,
        },
        "caption": f"Held out by {kind}: the encoder's best way against the best baseline. Both are chosen by these numbers.",
    }


def _paired(found: ExpressionReport, genes: set[str]) -> dict[str, dict[str, float | None]]:
    """Pearson of each gene by method and kind of test slides; what two reports are compared by."""
    out: dict[str, dict[str, float | None]] = {}
    for row in found.per_gene.to_dict("records"):
        if row["gene"] in genes:
            value = row["Pearson, all spots"]
            name = f"{row['method']}, held out by {row['held out by']}"
            out.setdefault(name, {})[row["gene"]] = None if value != value else float(value)
    return out
