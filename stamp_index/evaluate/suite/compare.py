"""Two encoders on the same spots: differences with intervals that respect that the spots are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.metrics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stamp_index.evaluate.suite.report import SuiteReport

CUTOFFS: Final = (1, 5, 10, 50)
DIRECTIONS: Final = ("image_to_gene", "gene_to_image")


def compare_reports(a: SuiteReport, b: SuiteReport) -> list[dict[str, Any]]:
    """Compare what two reports found on the same spots.

    Parameters
    ----------
    a, b : SuiteReport
        Of two encoders, or of one before and after a change.

    Returns
    -------
    list of dict
        A row for each measure: its value in both, the difference b - a, the 95 % interval of the difference by paired
        bootstrap over patients (over spots where there is one; over genes for expression), and the units resampled.

    Raises
    ------
    EvaluationError
        If the reports tested other slides or other spots, or hold nothing in common.
    """
    _check_same(a, b)
    rows = [*_retrieval(a, b), *_expression(a, b)]
    if not rows:
        msg = "The two reports measured nothing in common. Evaluate both with the same --suite."
        raise EvaluationError(msg)
    return rows


def _check_same(a: SuiteReport, b: SuiteReport) -> None:
    lists, others = _hashes(a), _hashes(b)
    both = (
        lists.keys() & others.keys()
    )  # a list that one report lacks is of a part that is not compared
    for what, one, other in (
        ("test slides", a.split.get("test"), b.split.get("test")),
        ("gene lists", {name: lists[name] for name in both}, {name: others[name] for name in both}),
    ):
        if one != other:
            msg = (
                f"The two reports have other {what} ({_short(one)} and {_short(other)}), so their numbers cannot be set "
                "against each other. Evaluate both encoders with the same split and genes."
            )
            raise EvaluationError(msg)
    for group, held in a.paired.get("retrieval", {}).items():
        there = b.paired.get("retrieval", {}).get(group)
        if there is not None and there.get("spots") != held.get("spots"):
            msg = (
                f"The two reports looked at other spots ({group}: {held.get('spots')} in store version "
                f"{a.store.get('version')}, {there.get('spots')} in version {b.store.get('version')}). Evaluate both on "
                "the same version of the slides."
            )
            raise EvaluationError(msg)
        if there is not None and there["patient"] != held["patient"]:
            msg = f"The two reports have other patients of the same spots ({group}). Evaluate both on one store."
            raise EvaluationError(msg)


def _hashes(report: SuiteReport) -> dict[str, str]:
    return {one["label"]: one["hash"] for one in report.genes}


def only_in_one(a: SuiteReport, b: SuiteReport) -> list[str]:
    """Name what one report measured and the other did not, and which is therefore not compared."""
    found = []
    for part in ("retrieval", "expression"):
        sides = (a.paired.get(part, {}), b.paired.get(part, {}))
        for name in sorted(sides[0].keys() ^ sides[1].keys()):
            found.append(f"{part} of {name} is in {'A' if name in sides[0] else 'B'} alone")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _retrieval(a: SuiteReport, b: SuiteReport) -> Iterator[dict[str, Any]]:
    """Recall of a spot's own other half in the largest gallery, from the ranks of every query."""
    for group, held in a.paired.get("retrieval", {}).items():
        there = b.paired.get("retrieval", {}).get(group)
        if there is None:
            continue
        patient = np.asarray(held["patient"], np.int64)
        n = len(patient)
        for direction in DIRECTIONS:
            ranks = [np.asarray(side["ranks"][direction], np.int64) for side in (held, there)]
            cuts = {f"R@{k}": k for k in CUTOFFS if k < n} | {"R@1%": max(1, round(0.01 * n))}
            for name, k in cuts.items():
                one, other = ((rank <= k).astype(np.float64) for rank in ranks)
                head = {"measure": name, "on": group, "direction": direction, "N": n}
                yield head | {"chance": k / n} | _difference(one, other, patient, "patients")


def _expression(a: SuiteReport, b: SuiteReport) -> Iterator[dict[str, Any]]:
    """Pearson of each gene that both predicted by the same method."""
    for method, held in a.paired.get("expression", {}).items():
        there = b.paired.get("expression", {}).get(method, {})
        genes = [gene for gene in held if gene in there and None not in (held[gene], there[gene])]
        if len(genes) < 2:  # nothing to resample
            continue
        one, other = (np.array([side[gene] for gene in genes]) for side in (held, there))
        head = {"measure": "Pearson", "on": method, "direction": "image_to_gene", "N": len(genes)}
        alone = np.zeros(len(genes), np.int64)
        yield head | {"chance": 0.0} | _difference(one, other, alone, "genes")


def _difference(
    a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.int64], unit: str
) -> dict[str, Any]:
    low, high = mean_interval(b - a, groups)
    alone = len(np.unique(groups)) == 1 and unit == "patients"
    return {
        "A": float(a.mean()),
        "B": float(b.mean()),
        "B - A": float((b - a).mean()),
        "low": low,
        "high": high,
        "interval by": "spots" if alone else unit,
    }
