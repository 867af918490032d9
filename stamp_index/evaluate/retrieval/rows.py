"""What was found, as rows of tables: each with its gallery, its size and its chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.metrics import average_precision, mean_interval, pearson_per_gene
from stamp_index.evaluate.retrieval.neighbours import has_zone, label_chance
from stamp_index.evaluate.retrieval.zones import N_ZONES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.evaluate.retrieval.asked import Asked
    from stamp_index.evaluate.spots import EvaluatedSpots

    Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

GALLERIES: Final = ("own slide", "own patient", "all")  # they grow
ZONES: Final = ("own slide", "other slides of the patient", "other patients")
CUTOFFS: Final = (1, 5, 10, 50)
SHARES: Final = {"1%": 0.01, "5%": 0.05}
K_NEIGHBOURS: Final = 10
MAX_MAP_QUERIES: Final = 1000  # whose whole rankings are sorted


def growing(sizes: NDArray[np.int64]) -> list[int]:
    """Galleries that hold more than the one before."""
    return [at for at in range(N_ZONES) if at == 0 or (sizes[:, at] > sizes[:, at - 1]).any()]


def identity_row(
    ranks: NDArray[np.int64],
    near: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    patient: NDArray[np.int64],
    n_near: NDArray[np.int64],
) -> dict[str, Any]:
    """Recall of the own spot and of one of `n_near` near it; `near` is 0 where no position is known."""
    cuts = {f"R@{k}": np.minimum(k, sizes) for k in CUTOFFS if k < sizes.max()}
    cuts |= {
        f"R@{name}": np.maximum(1, np.round(share * sizes)).astype(np.int64)
        for name, share in SHARES.items()
    }
    placed = near > 0
    row: dict[str, Any] = {
        "queries": len(ranks),
        "N": _span(sizes),
        "patients": len(np.unique(patient)),
    }
    first: list[str] = [name for name in ("R@10", "R@1%") if name in cuts]
    for name in first:
        row[name] = float((ranks <= cuts[name]).mean())
        hit = (ranks <= cuts[name]).astype(np.float64)
        row[f"{name} low"], row[f"{name} high"] = mean_interval(hit, patient)
        row[f"chance {name}"] = float((cuts[name] / sizes).mean())
        row[f"{name} near"] = row[f"chance {name} near"] = None
        if placed.any():
            by_chance = near_chance(sizes[placed], n_near[placed], cuts[name][placed])
            row[f"{name} near"] = float((near <= cuts[name])[placed].mean())
            row[f"chance {name} near"] = float(by_chance.mean())
        row["interval by"] = "patients" if row["patients"] > 1 else "spots"
    for name in [name for name in cuts if name not in first]:
        row[name] = float((ranks <= cuts[name]).mean())
    row["median rank"] = float(np.median(ranks))
    return row


def near_chance(
    sizes: NDArray[np.int64], n_near: NDArray[np.int64], k: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Chance that one of m right targets is among k drawn of N: 1 - C(N - m, k) / C(N, k), for each query (n,)."""
    from scipy.stats import hypergeom

    # Queries of a slide are alike: a hundred thousand are some hundreds of kinds.
    asked = np.column_stack([sizes, np.minimum(n_near, sizes), k])
    kinds, of = np.unique(asked, axis=0, return_inverse=True)
    missed = np.asarray(hypergeom.pmf(0, *kinds.T), np.float64)
    return np.asarray(1.0 - missed[of.reshape(-1)])


def _span(sizes: NDArray[np.int64]) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def slide_rows(
    head: dict[str, str], ranks: NDArray[np.int64], sizes: NDArray[np.int64], spots: EvaluatedSpots
) -> list[dict[str, Any]]:
    """Make a row for each slide: recall of the own spot within it."""
    rows = []
    for at in np.unique(spots.slide):
        here = spots.slide == at
        n = int(sizes[here][0])
        rows.append(
            {
                "slide": spots.slide_ids[at],
                "patient": spots.patient_ids[int(spots.patient[here][0])],
                **head,
                "N": n,
                "R@10": float((ranks[here] <= 10).mean()),
                "chance R@10": min(10 / n, 1.0),
                "R@1%": float((ranks[here] <= max(1, round(0.01 * n))).mean()),
                "median rank": float(np.median(ranks[here])),
            }
        )
    return rows


def zone_precision(
    pair: Pair, spots: EvaluatedSpots, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision of labels in each zone, (n, 3); NaN for queries that were not drawn."""
    found = np.full((len(labels), N_ZONES), np.nan)
    asked = np.flatnonzero(labels >= 0)
    if len(asked) > MAX_MAP_QUERIES:
        asked = np.sort(np.random.default_rng(0).choice(asked, MAX_MAP_QUERIES, replace=False))
    step = max(1, 2**24 // len(labels))  # 64 MiB of cosines
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        cosines = pair[0][rows] @ pair[1].T
        cosines[np.arange(len(rows)), rows] = -np.inf
        cosines[:, labels < 0] = -np.inf
        same = labels[None, :] == labels[rows, None]
        slide = spots.slide[None, :] == spots.slide[rows, None]
        patient = spots.patient[None, :] == spots.patient[rows, None]
        for zone, there in enumerate((slide, patient & ~slide, ~patient)):
            found[rows, zone] = average_precision(np.where(there, cosines, -np.inf), same)
    return found


def neighbour_rows(
    head: dict[str, str],
    asked: Asked,
    found: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]],
) -> list[dict[str, Any]]:
    """Make a row for each zone: precision and mAP of labels, correlation of expression.

    `found` holds label shares (n, 3), average precisions (n, 3), and predicted expression (n, 3, g).
    """
    labelled, precision, predicted = found
    spots, known = asked.spots, asked.known
    chance = label_chance(spots, known.labels)
    there = has_zone(spots)
    rows = []
    for zone, name in enumerate(ZONES):
        here = there[:, zone]
        if not here.any():
            continue
        row: dict[str, Any] = {"hits from": name, **head, "queries": int(here.sum())}
        if (known.labels >= 0).any():
            share = labelled[:, zone]
            low, high = mean_interval(share, spots.patient)
            row[f"label precision@{K_NEIGHBOURS}"] = _mean(share)
            row |= {"low": low, "high": high, "chance precision": _mean(chance[:, zone])}
            known_by = spots.patient[np.isfinite(share)]
            row["interval by"] = "patients" if len(np.unique(known_by)) > 1 else "spots"
            row["label mAP"] = _mean(precision[:, zone])
            row["mAP queries"] = int(np.isfinite(precision[:, zone]).sum())
        if known.genes:
            correlation = pearson_per_gene(predicted[here, zone], known.expression[here])
            row[f"Pearson of the top {K_NEIGHBOURS}"] = _mean(correlation)
            row["genes"] = int(np.isfinite(correlation).sum())
        rows.append(row)
    return rows


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
