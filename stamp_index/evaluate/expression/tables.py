"""Rows for tables and plots out of per-slide moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.evaluate.expression.metrics import summarise_genes
from stamp_index.evaluate.expression.moments import N, pooled_mse, pooled_pearson, slide_pearson
from stamp_index.evaluate.metrics import group_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stamp_index.evaluate.expression.genes import GeneList
    from stamp_index.evaluate.split import Split
    from stamp_index.evaluate.spots import EvaluatedSpots

_DRAWS: Final = 1000
_DRAWS_OF_MANY: Final = 200  # from so many genes on: their mean varies little
_MANY: Final = 1000


@dataclass(frozen=True, eq=False)
class Measured:
    """Moments of every method with what they are of.

    Attributes
    ----------
    genes : tuple of str
    lists : tuple of GeneList
        Of some of the genes each.
    moments : dict
        By method: ndarray of shape (slides, 7, genes).
    kinds : dict
        By method.
    test : EvaluatedSpots
    split : Split
    n_train : int
    """

    genes: tuple[str, ...]
    lists: tuple[GeneList, ...]
    moments: dict[str, NDArray[np.float64]]
    kinds: dict[str, str]
    test: EvaluatedSpots
    split: Split
    n_train: int

    def patient_of_slide(self) -> list[str]:
        """Patient of each test slide."""
        first = np.searchsorted(self.test.slide, np.arange(len(self.test.slide_ids)))
        return [self.test.patient_ids[number] for number in self.test.patient[first]]

    def held_out_by(self) -> list[str]:
        """Say of each test slide whether its patient was not learnt from, or only the slide itself."""
        return [_held_out_by(patient, self.split) for patient in self.patient_of_slide()]

    def together(self) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        """Name, kind and numbers of all test slides of each kind: what was held out in another way is not mixed."""
        kinds = self.held_out_by()
        for kind in dict.fromkeys(kinds):
            name = "all test" if len(set(kinds)) == 1 else f"all test held out by {kind}"
            yield name, kind, np.flatnonzero(np.array(kinds) == kind)

    def alone(self) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        """Name, kind and number of each test slide."""
        for number, kind in enumerate(self.held_out_by()):
            yield self.test.slide_ids[number], kind, np.array([number])


def _held_out_by(patient: str, split: Split) -> str:
    if patient in split.taught:
        return "section"
    if patient.startswith("["):
        return "slide (patient unknown)"
    return "patient" if split.is_history_known else "patient (training not on record)"


def report_rows(measured: Measured) -> list[dict[str, Any]]:
    """One row for each list, group of slides and method; None where a number is not defined."""
    column_of = {gene: i for i, gene in enumerate(measured.genes)}
    rows = []
    for genes in measured.lists:
        columns = [column_of[name] for name in genes.names]
        for on, held_out_by, slides in (*measured.together(), *measured.alone()):
            known = {
                "on": on,
                "held out by": held_out_by,
                "n patients": len({measured.patient_of_slide()[slide] for slide in slides}),
                "N test": int(np.isin(measured.test.slide, slides).sum()),
                "N train": measured.n_train,
            }
            for method, every in measured.moments.items():
                moments = every[slides][:, :, columns]  # (s, 7, g)
                row = {
                    "method": method,
                    "kind": measured.kinds[method],
                    "genes": genes.label,
                    "genes hash": genes.hash,
                    "n_genes": len(columns),
                }
                patients = np.array(measured.patient_of_slide())[slides]
                rows.append({**row, **known, **_numbers(moments), **_interval(moments, patients)})
    return rows


def _numbers(moments: NDArray[np.float64]) -> dict[str, Any]:
    over_spots = summarise_genes(pooled_pearson(moments))
    of_slides = [summarise_genes(one).mean for one in slide_pearson(moments)]
    defined = [mean for mean in of_slides if not math.isnan(mean)]
    return {
        "mean Pearson": _plain(over_spots.mean),
        "median Pearson": _plain(over_spots.median),
        "mean Pearson over slides": _plain(float(np.mean(defined))) if defined else None,
        "mean MSE": _plain(summarise_genes(pooled_mse(moments)).mean),
        "n constant": over_spots.n_constant,
        "n not measured": int((moments[:, N] == 0).sum()),
    }


def _interval(moments: NDArray[np.float64], patient: NDArray[np.str_]) -> dict[str, Any]:
    """95 % interval of the mean Pearson over patients (`group_interval`); None where there is one patient."""
    patients = np.unique(patient)
    if len(patients) < 2:
        return {"low": None, "high": None}
    groups = [moments[patient == one] for one in patients]
    n_draws = _DRAWS if moments.shape[2] < _MANY else _DRAWS_OF_MANY
    low, high = group_interval(
        groups, lambda drawn: summarise_genes(pooled_pearson(drawn)).mean, n_draws=n_draws
    )
    return {"low": _plain(max(low, -1.0)), "high": _plain(min(high, 1.0))}


def gene_table(measured: Measured) -> pd.DataFrame:
    """One row for each gene, method and kind of test slides.

    Columns: gene, method, kind, held out by, "Pearson, all spots" (of the slides together), "Pearson, mean of slides" (within
    each), MSE, n_slides that measured the gene, and lists (labels of the gene lists that have it).
    """
    held = {one.label: set(one.names) for one in measured.lists}
    lists = [
        ", ".join(label for label, names in held.items() if gene in names)
        for gene in measured.genes
    ]
    parts = []
    for _, kind, slides in measured.together():
        for method, every in measured.moments.items():
            moments = every[slides]
            columns = {
                "gene": list(measured.genes),
                "method": method,
                "kind": measured.kinds[method],
                "held out by": kind,
                "Pearson, all spots": pooled_pearson(moments),
                "Pearson, mean of slides": _mean_of_slides(slide_pearson(moments)),
                "MSE": pooled_mse(moments),
                "n_slides": (moments[:, N] > 0).sum(axis=0),
                "lists": lists,
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _mean_of_slides(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean (g,) over the slides (s, g) where there is a value; NaN where there is none."""
    defined = ~np.isnan(values)
    found: NDArray[np.float64] = np.full(values.shape[1], np.nan)
    n = defined.sum(axis=0)
    np.divide(np.where(defined, values, 0).sum(axis=0), n, out=found, where=n > 0)
    return found


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
