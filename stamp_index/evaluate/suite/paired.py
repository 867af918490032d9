"""What two reports are compared by, checked when a report is read: a file may have been edited by hand."""

from __future__ import annotations

import math
from typing import Any, Final

WAYS: Final = ("image_to_gene", "gene_to_image")


def flaw_of(report: dict[str, Any]) -> str:
    """Say what is wrong with the parts of a report that `compare_reports` looks at, or nothing."""
    for part, keys in (("encoder", ("name", "fingerprint")), ("store", ("id", "version")), ("split", ("by", "test", "hash"))):  # fmt: skip
        missing = [key for key in keys if key not in report[part]]
        if missing:
            return f"lacks {', '.join(missing)} of its {part}"
    for one in report["genes"]:
        if not isinstance(one, dict) or not {"label", "hash"} <= one.keys():
            return "has a gene list without label or hash"
    paired = report["paired"]
    for part in ("retrieval", "expression"):
        if not isinstance(paired.get(part, {}), dict):
            return f"has no mapping of paired {part}"
    for group, held in paired.get("retrieval", {}).items():
        said = _retrieval_flaw(held)
        if said:
            return f"has damaged ranks of {group}: {said}"
    for method, genes in paired.get("expression", {}).items():
        if not isinstance(genes, dict) or not all(map(_is_correlation, genes.values())):
            return f"has correlations of '{method}' that are no numbers from -1 to 1"
    return ""


def _retrieval_flaw(held: object) -> str:
    if not isinstance(held, dict) or not isinstance(held.get("spots"), str):
        return "no hash of the spots"
    patient, ranks = held.get("patient"), held.get("ranks")
    if not isinstance(patient, list) or not patient or not all(map(_is_whole, patient)):
        return "no patient of every query"
    if not isinstance(ranks, dict) or not set(WAYS) <= ranks.keys():
        return "not both directions"
    n = len(patient)
    for way in WAYS:
        one = ranks[way]
        if not isinstance(one, list) or len(one) != n:
            return f"{way} has not {n} ranks"
        if not all(_is_whole(rank) and 1 <= rank <= n for rank in one):
            return f"{way} has ranks that are no whole numbers from 1 to {n}"
    return ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_correlation(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and -1.0 - 1e-9 <= value <= 1.0 + 1e-9
