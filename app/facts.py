"""What is known about a spot besides its expression: score, slide, platform, quality, place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from app.stores import Opened

ONLY_PICTURE = "H&E only"  # said of a slide on which nothing was measured
ARRAY = ("array_row", "array_col")
SHARES = {
    "tissue_fraction": "tissue",
    "blur_fraction": "blurred",
    "fold_fraction": "folded",
    "pen_fraction": "pen",
    "outside_fraction": "beyond the image",
}


def hit_facts(opened: Opened, hit: Mapping[str, Any], row: int) -> list[tuple[str, str]]:
    """What is known about a hit's score, slide and place."""
    rows = [(name, words) for name, words in _score_facts(hit) if words]
    rows += [("Slide", str(hit["slide_id"])), ("Patient", str(hit["patient_id"]) or "not given")]
    if hit.get("organ"):
        rows.append(("Organ", str(hit["organ"])))
    rows += spot_facts(opened, str(hit["slide_id"]), row)
    rows.append(("Position", f"{hit['x_px']:,.0f}, {hit['y_px']:,.0f} px of level 0"))
    if math.isfinite(hit["x_um"]):
        rows.append(("", f"{hit['x_um']:,.0f}, {hit['y_um']:,.0f} µm"))
    return rows


def spot_facts(opened: Opened, slide_id: str, row: int) -> list[tuple[str, str]]:
    """Platform, what was measured, and the spot's quality where it is known."""
    slide = opened.slides.loc[slide_id]
    spot = opened.store.spots(["n_counts", "mito_fraction", *SHARES], [row]).iloc[0]
    rows = [
        ("Platform", str(slide["platform"]) or "not given"),
        ("Measured", _measured(int(slide["n_genes"]), float(spot["n_counts"]))),
        *_array_place(opened, row),
    ]
    known = [
        f"{float(spot[column]):.0%} {words}"
        for column, words in SHARES.items()
        if math.isfinite(spot[column])
    ]
    if known:
        rows.append(("Patch", ", ".join(known)))
    if math.isfinite(spot["mito_fraction"]):
        rows.append(("Mitochondrial", f"{float(spot['mito_fraction']):.0%} of the spot's counts"))
    return rows


def _array_place(opened: Opened, row: int) -> list[tuple[str, str]]:
    """Row and column of a spot on its array, where the slide's files told them."""
    if not {*ARRAY} <= set(opened.store.label_names):
        return []
    at = [opened.store.label(name, [row]).iloc[0] for name in ARRAY]
    if not all(isinstance(one, float) and math.isfinite(one) for one in at):
        return []
    return [("Array", f"row {at[0]:g}, column {at[1]:g}")]


def slide_name(opened: Opened, slide_id: str) -> str:
    """A slide's id, with a word where nothing was measured on it."""
    return f"{slide_id} · {ONLY_PICTURE}" if slide_id in opened.plain_slides else slide_id


def _measured(n_genes: int, n_counts: float) -> str:
    if n_genes == 0:
        return f"{ONLY_PICTURE}, nothing measured"
    genes = f"{n_genes:,} genes on this slide"
    return f"{genes}, {n_counts:,.0f} counts at this spot" if math.isfinite(n_counts) else genes


def _score_facts(hit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the library holds the score of a hit against; "" where it does not know."""
    z, share = hit["z"], hit["percentile"]
    return [
        (
            "Score",
            f"{z:+.1f} SD from what the query scores on random spots" if math.isfinite(z) else "",
        ),
        (
            "",
            f"above the best hit of {share:.0%} of random queries" if math.isfinite(share) else "",
        ),
    ]


def known_patients(slides: pd.DataFrame) -> int:
    """How many patients slides are of; a slide whose patient is not given counts for none."""
    return int(slides["patient_id"].replace("", None).nunique())
