"""How much of exact search each index recipe finds on the store's own vectors, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.suite.asked import Found, section, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from stamp_index.evaluate.suite.asked import Asked
    from stamp_index.index import MeasuredRecipe
    from stamp_index.store import Modality

TEXT = (
    "Every index recipe built on the store's vectors and measured with its own held-out queries of both kinds: the share of the "
    "10 nearest by exact search that it finds (ann_recall@10, not retrieval recall), and CPU time of one query in batches "
    "of 64 on one thread. For each target the cheapest setting that reaches it, or the best there is, on queries that did not "
    "choose it."
)


def ann_part(asked: Asked) -> Found:
    """Build and measure every recipe, and say how the store's own indexes stand.

    Raises
    ------
    EvaluationError
        If the store has no embeddings.
    """
    from stamp_index.index import measure_recipes
    from stamp_index.store.schema import MODALITIES

    sides = [side for side in MODALITIES if asked.store.has_vector(side).any()]
    if not sides:
        msg = f"The store has no embeddings of encoder '{asked.store.encoder}', so there is nothing to index."
        raise EvaluationError(msg)
    out = Found()
    rows: list[dict[str, Any]] = []
    plots: list[dict[str, Any]] = []
    for at, side in enumerate(sides):

        def told(done: int, total: int, before: int = at) -> None:
            asked.told("ann", before * total + done, len(sides) * total)

        found = measure_recipes(asked.store, side, seed=asked.settings.seed, progress=told)
        rows += [row for one in found for row in _rows(side, one)]
        plots += _plots(side, found)
        out.notes += _standing(asked, side)
    out.sections.append(section("Index recipes", TEXT, [table(rows)], plots))
    return out


def _rows(side: Modality, one: MeasuredRecipe) -> list[dict[str, Any]]:
    head = {"index of": side, "recipe": one.recipe, "built": one.kind, "N": one.n}
    return [
        {
            **head,
            "target": choice.target,
            **{f"{queries} queries": recall for queries, recall in choice.recall.items()},
            "reached": choice.reached,
            "CPU ms": choice.cpu_ms,
            "exact CPU ms": one.calibration.exact_cpu_ms,
            "bytes a row": one.bytes_per_row,
            "build CPU s": one.build_cpu_s,
        }
        for choice in one.calibration.choices
    ]


def _plots(side: Modality, found: Sequence[MeasuredRecipe]) -> list[dict[str, Any]]:
    """Recall against cost, one plot for each kind of query."""
    plots = []
    for queries in found[0].calibration.n_queries:
        series = [_curve(one, queries) for one in found if one.calibration.rungs]
        if series:
            data = {"series": series, "exact_cpu_ms": found[0].calibration.exact_cpu_ms}
            caption = f"{side} index, {queries} queries: settings that no cheaper one equals."
            plots.append({"kind": "recall_by_cost", "data": data, "caption": caption})
    return plots


def _curve(one: MeasuredRecipe, queries: str) -> dict[str, Any]:
    best = -1.0
    cost: list[float] = []
    values: list[float] = []
    for rung in sorted(one.calibration.rungs, key=lambda rung: rung.cpu_ms):
        if rung.recall[queries] > best:
            best = rung.recall[queries]
            cost.append(rung.cpu_ms)
            values.append(best)
    return {"name": one.recipe, "cost": cost, "values": values}


def _standing(asked: Asked, side: Modality) -> list[str]:
    """Which index the store has, and whether it is of this version."""
    from stamp_index.index import has_index, read_card

    if not has_index(asked.store, side):
        return [f"The store has no {side} index; `stamp-index build` makes one."]
    card = read_card(asked.store, side)
    recall = ", ".join(f"{value:.3f} ({name})" for name, value in card.ann_recall_at_10.items())
    said = f"The store's {side} index is {card.kind} with ann_recall@10 {recall}"
    if card.store_version != asked.store.version:
        said += f", built from version {card.store_version} of the store, which is at {asked.store.version} now"
    return [said + "."]
