"""How much of exact search the store's indexes find, and at what cost, as measured when they were built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.evaluate.suite.asked import Found, section, table

if TYPE_CHECKING:
    from typing import Any

    from stamp_index.evaluate.suite.asked import Asked

TEXT = (
    "Share of the 10 nearest by exact search that the index finds (ann_recall@10, not retrieval recall), over the store's own "
    "held-out queries of both kinds, for every setting that was measured; cost is CPU time of one query."
)


def ann_part(asked: Asked) -> Found:
    """Read recall and cost of the store's indexes."""
    from stamp_index.index import has_index, read_card
    from stamp_index.store.schema import MODALITIES

    rows: list[dict[str, Any]] = []
    out = Found()
    for modality in MODALITIES:
        if not has_index(asked.store, modality):
            continue
        card = read_card(asked.store, modality)
        if card.store_version != asked.store.version:
            out.notes.append(
                f"The {modality} index was built from version {card.store_version} of the store; it is at {asked.store.version} now."
            )
        head = {"index": modality, "kind": card.kind, "N": card.n}
        for rung in card.calibration["rungs"] or [
            {"recall": card.ann_recall_at_10, "cpu_ms": None}
        ]:
            for side, recall in rung["recall"].items():
                rows.append(
                    {**head, "queries": side, "ann_recall@10": recall, "CPU ms": rung["cpu_ms"]}
                )
    if not rows:
        out.notes.append(
            "The store has no index, so there is no recall of one: `stamp-index build` makes one."
        )
        return out
    out.sections.append(section("Indexes", TEXT, [table(rows)]))
    return out
