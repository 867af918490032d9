"""What `evaluate_expression` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.evaluate.expression.genes import GeneList
    from stamp_index.evaluate.split import Split


@dataclass(frozen=True, eq=False)
class ExpressionReport:
    """Predicted against measured log1p CP10K of a store's test spots.

    Attributes
    ----------
    rows : list of dict
        One for each method, gene list, and test slide or all test slides; None where a number is not defined. See
        `stamp_index.evaluate.expression.runner.evaluate_expression`.
    per_gene : DataFrame
        One row for each gene, method, and kind of test slides.
    gene_lists : tuple of GeneList
    split : Split
    store : dict
        Its id and version.
    encoder : dict
        Name and fingerprint.
    settings : dict
        k, temperature and seed.
    notes : tuple of str
        What a reader of the numbers must know.
    """

    rows: list[dict[str, Any]]
    per_gene: pd.DataFrame
    gene_lists: tuple[GeneList, ...]
    split: Split
    store: dict[str, Any]
    encoder: dict[str, str]
    settings: dict[str, Any]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without `per_gene`."""
        return {
            "rows": self.rows,
            "gene_lists": [genes.to_dict() for genes in self.gene_lists],
            "split": self.split.to_dict(),
            "store": self.store,
            "encoder": self.encoder,
            "settings": self.settings,
            "notes": list(self.notes),
        }
