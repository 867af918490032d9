"""A run's answers on the slide: where it is right and wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from app.facts import slide_name
from app.markup import facts, plain, value_bars
from app.viewer import Shown, viewer

if TYPE_CHECKING:
    from app.probe_runs import Run
    from app.stores import Opened
    from stamp_index.evaluate import ProbeResult

OF_CLASSES = {"Right or wrong": "right", "Predicted": "predicted", "Truth": "truth"}
OF_GENE = {"Difference": "right", "Predicted": "predicted", "Measured": "truth"}
HEIGHT = "clamp(360px, calc(100vh - 420px), 620px)"


@st.fragment
def show(opened: Opened, run: Run) -> None:
    """Viewer with the run's layer, and what it said of the spot that was clicked."""
    result = run.result()
    held = set(result.predictions.slide_ids)
    slides = [name for name in opened.slides.index if name in held]
    if not slides:
        st.info("The slides of this run are no longer in the store.")
        return
    kinds = OF_CLASSES if result.classes else OF_GENE
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="probemapbar"):
        slide_id = st.selectbox(
            "Slide",
            slides,
            key="on",
            bind="query-params",
            format_func=lambda name: slide_name(opened, name),
            width=220,
        )
        kind = st.segmented_control(
            "Colour spots by", list(kinds), default=next(iter(kinds)), required=True,
            key="show" if result.classes else "showgene", bind="query-params",
        )  # fmt: skip
    path = "run?" + urlencode({"job": run.ticket, "show": kinds[kind]})
    done = viewer(
        opened,
        slide_id,
        Shown(layer_at=(path, kind), tools=("pan",)),
        key="answers",
        height=HEIGHT,
    )
    at = _place(opened, slide_id, done.spot, result)
    if at is None:
        st.caption(f"{_told(result, slide_id)} Click a spot to see what was said of it.")
    else:
        _spot(result, at)


def _told(result: ProbeResult, slide_id: str) -> str:
    """How the slide does."""
    held = result.predictions
    here = held.slide_ids == slide_id
    n = int(here.sum())
    if not result.classes:
        return f"{n:,} spots of this slide were probed."
    wrong = int((held.truth[here] != held.predicted[here]).sum())
    return f"{wrong:,} of {n:,} spots of this slide are wrong ({wrong / max(n, 1):.1%})."


def _place(opened: Opened, slide_id: str, spot: int | None, result: ProbeResult) -> int | None:
    """Where the run's predictions hold a spot of the slide."""
    slide = opened.slides.loc[slide_id]
    if spot is None or not 0 <= spot < int(slide["n_spots"]):
        return None
    spot_id = opened.store.spots(["spot_id"], [int(slide["first_spot"]) + spot]).iloc[0, 0]
    found = np.flatnonzero(result.predictions.spot_ids == spot_id)
    return int(found[0]) if len(found) else None


def _spot(result: ProbeResult, at: int) -> None:
    held = result.predictions
    with st.container(border=True, key="probespot"):
        left, right = st.columns(2, gap="medium", vertical_alignment="center")
        truth, predicted = held.truth[at], held.predicted[at]
        if not result.classes:
            truth, predicted = f"{truth:.2f} log1p CP10K", f"{predicted:.2f}"
        with left:
            st.markdown(f"**{plain(str(held.spot_ids[at]))}**")
            rows = [
                ("Truth", truth),
                ("Predicted", predicted),
                ("Held out in fold", str(held.fold[at])),
            ]
            if result.classes:
                rows.insert(2, ("So it is", "right" if truth == predicted else "wrong"))
            st.html(facts(rows))
        if result.classes:
            with right:
                share = sorted(zip(held.output[at], result.classes, strict=True), reverse=True)[:5]
                st.html(value_bars([(name, 100 * p) for p, name in share if math.isfinite(p)]))
                st.caption("Probability of each class, %")
