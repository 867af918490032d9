"""Expression of genes at hits, as tiles and tables show it: measured, predicted, or neither."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.distribution import percentile
from app.facts import ONLY_PICTURE
from app.unmeasured import NOT_MEASURED, Guess, guesses, why_unknown
from stamp_index.search.hits import gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.asking import Answer
    from app.stores import Opened

GENES_ON_TILE = 3
MEDIAN = 50  # percentile
MEASURED, PREDICTED, UNKNOWN = "measured", "predicted", "unknown"


def gene_readings(
    opened: Opened,
    hit: Mapping[str, Any],
    weights: Mapping[str, float],
    guessed: Mapping[str, Guess],
) -> list[dict[str, Any]]:
    """Expression of genes at one hit, with percentile in the store.

    A gene of weight 0 is shown without having been asked for. `guessed` has the predictions for
    this hit; what is measured comes first.
    """
    rows = []
    for gene, weight in weights.items():
        side = "plain" if weight == 0 else "high" if weight > 0 else "low"
        value = float(hit.get(gene_column(gene), math.nan))
        if math.isfinite(value):
            reading = _measured(opened, gene, value)
        elif gene in guessed:
            reading = _predicted(opened, gene, guessed[gene])
        else:
            words, why = why_unknown(opened, gene)
            reading = {"kind": UNKNOWN, "value": words, "spread": "", "share": 0.0}
            reading |= {"percentile": "", "title": why}
        rows.append({"gene": gene, "side": side, **reading})
    return rows


def _measured(opened: Opened, gene: str, value: float) -> dict[str, Any]:
    place = percentile(opened, gene, value)
    return {
        "kind": MEASURED,
        "value": f"{value:.1f}",
        "spread": "",
        "share": place,
        "percentile": f"p{int(place)}",
        "title": f"{gene}: {value:.2f} log1p CP10K, above {int(place)} % of the store's measured spots",
    }


def _predicted(opened: Opened, gene: str, guess: Guess) -> dict[str, Any]:
    place = percentile(opened, gene, guess.mean)
    slides = f"{guess.n_slides} slide{'s' if guess.n_slides > 1 else ''}"
    return {
        "kind": PREDICTED,
        "value": f"{guess.mean:.1f}",
        "spread": f"± {guess.sd:.1f}",
        "share": place,
        "percentile": f"p{int(place)}",
        "title": f"{gene}: {NOT_MEASURED}. {guess.mean:.2f} ± {guess.sd:.2f} log1p CP10K (mean and SD), "
        f"from the {guess.n} measured spots on {slides} whose profiles fit this spot's picture best; "
        f"above {int(place)} % of the store's measured spots",
    }


@st.cache_data(max_entries=16, show_spinner=False)
def tiles(
    key: str, _opened: Opened, _answer: Answer, _weights: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Data of the gallery; `key` names the answer, so that a pick does not make them anew."""
    opened, answer, weights = _opened, _answer, _weights
    has_picture = opened.store.has_vector("image")
    shown = dict(list(weights.items())[:GENES_ON_TILE])
    more = len(weights) - len(shown)
    guessed = guesses(opened, answer.rows, shown)
    out = []
    for hit, row in zip(answer.table.to_dict("records"), answer.rows.tolist(), strict=True):
        score = f"{hit['score']:.2f}"
        own = {gene: guessed[row, gene] for gene in shown if (row, gene) in guessed}
        genes = gene_readings(opened, hit, shown, own)
        is_plain = str(hit["slide_id"]) in opened.plain_slides
        out.append(
            {
                "rank": int(hit["rank"]),
                "row": row if has_picture[row] else None,
                "spot": str(hit["spot_id"]),
                "alt": f"Rank {hit['rank']}, spot {hit['spot_id']}, cosine {score}"
                + (f", {ONLY_PICTURE}" if is_plain else ""),
                "score": score,
                "slide": str(hit["slide_id"]),
                "organ": str(hit["organ"] or ""),
                "patient": str(hit["patient_id"] or ""),
                "mark": ONLY_PICTURE if is_plain else "",
                "genes": genes,
                "note": _note([gene["kind"] for gene in genes]),
                "more": f"and {more} more gene{'s' if more > 1 else ''}" if more > 0 else "",
            }
        )
    return out


def _note(kinds: list[str]) -> str:
    """What a tile says under its values where not all of them were measured."""
    if PREDICTED not in kinds:
        return ""
    return f"italic: {NOT_MEASURED}" if MEASURED in kinds else NOT_MEASURED


def caption(readings: list[dict[str, Any]]) -> str:
    """What the values of a picked hit are, in words."""
    kinds = {reading["kind"] for reading in readings}
    parts = []
    if agreed := agreement(readings):
        parts.append(agreed)
    if MEASURED in kinds:
        parts.append("Measured log1p CP10K; percentile = share of the store's spots with less.")
    if PREDICTED in kinds:
        parts.append(
            "*Italic and hatched*: predicted, not measured. Weighted mean ± SD, in log1p CP10K, of the "
            "measured spots whose profiles fit this spot's picture best; percentile = share of the "
            "store's measured spots with less."
        )
    return " ".join(parts)


def agreement(readings: list[dict[str, Any]]) -> str:
    """How many of the asked genes that were measured at a hit lie on the asked side; "" where none was."""
    asked = [one for one in readings if one["kind"] == MEASURED and one["side"] != "plain"]
    right = sum((one["side"] == "high") == (one["share"] >= MEDIAN) for one in asked)
    if not asked:
        return ""
    return f"**{right} of {len(asked)}** measured on the asked side of the store's median."
