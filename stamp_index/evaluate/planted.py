"""Precision of the phantom's planted queries: the one place where the right answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.genes import parse_signature
from stamp_index.phantom import PLANTED_QUERIES, load_truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.evaluate.report import Embedded

TOP = 20


def planted_precision(
    name: str, encoder: Encoder, parts: Sequence[Embedded]
) -> list[dict[str, Any]]:
    """Share of the first 20 hits of each planted query that lie in its domain.

    Parameters
    ----------
    name : str
        Written into the rows.
    encoder : Encoder
        Embeds the signatures.
    parts : sequence of Embedded
        The gallery; parts that are no phantom slides are left out.

    Returns
    -------
    list of dict
        One row per domain and side searched; empty where there is no planted truth.
    """
    known = [part for part in parts if (Path(part.slide.source) / "truth.parquet").exists()]
    if not known:
        return []
    domain = np.concatenate([_domains(part) for part in known])
    sides = {
        "image": np.concatenate([part.image for part in known]),
        "gene": np.concatenate([part.gene for part in known]),
    }
    rows: list[dict[str, Any]] = []
    for planted, text in PLANTED_QUERIES.items():
        weights = parse_signature(text).weights
        missing = [gene for gene in weights if gene not in encoder.panel.column_of]
        if missing:
            rows.append(
                {
                    "planted query": text,
                    "encoder": name,
                    "domain": f"not in panel: {', '.join(missing)}",
                }
            )
            continue
        vector = encoder.encode_signature(weights)
        row: dict[str, Any] = {"planted query": text, "encoder": name, "domain": planted}
        for side, vectors in sides.items():
            top = np.argsort(-(vectors @ vector), kind="stable")[:TOP]
            row[f"{side} precision@{TOP}"] = float((domain[top] == planted).mean())
        row["N"] = len(domain)
        row["chance"] = round(float((domain == planted).mean()), 3)
        rows.append(row)
    return rows


def _domains(part: Embedded) -> NDArray[np.str_]:
    truth = load_truth(Path(part.slide.source))
    truth = truth.set_index("barcode") if "barcode" in truth.columns else truth
    found: NDArray[np.str_] = truth.loc[part.slide.spots.index, "domain"].to_numpy().astype(str)
    return found
