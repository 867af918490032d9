"""Hits of a query on the page: gallery, the picked hit with its slide, hits by slide, download."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app import components, downloads, drawing, frame, markup, readings, shortlist, shortlist_panel
from app.api.routes import store_address
from app.api.tokens import mint
from app.facts import hit_facts, slide_name
from app.markup import plain
from app.session import user
from app.unmeasured import guesses
from app.viewer import Mark, Shown, viewer
from stamp_index.search.calibration import NOTHING_STANDS_OUT
from stamp_index.search.hits import gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.asking import Answer
    from app.stores import Opened


HIT_WIDTH_UM = 1500.0  # of the tissue that is shown around a hit
HIT_WIDTH_PX = 3000.0  # the same where no pixel size is known


@st.fragment
def show(opened: Opened, answer: Answer, weights: Mapping[str, float]) -> None:
    """Gallery at the left, the picked hit at the right. A pick reruns only this part."""
    key = components.short_key(
        opened.key, answer.query, answer.question, list(weights), answer.rows.tolist(),
        answer.table["score"].tolist(),
    )  # fmt: skip
    spot_ids = [str(spot_id) for spot_id in answer.table["spot_id"]]
    left, right = st.columns([0.58, 0.42], gap="medium")
    with left:
        rank = components.gallery(
            readings.tiles(key, opened, answer, weights),
            key=key,
            addresses={"api": store_address(opened), "token": mint(user())},
            bar=drawing.scale_bar(opened.store.card.patch_width_um),
            marked=shortlist.marked(),
            on_mark=lambda at: shortlist.toggle_ranked(spot_ids, at),
        )
    with right:
        show_hit(opened, answer, weights, rank)
    shortlist_panel.show(opened, weights)


def show_hit(opened: Opened, answer: Answer, weights: Mapping[str, float], rank: int) -> None:
    """One hit: where it lies, what it looks like, what was measured or is predicted there."""
    hit = answer.table.iloc[rank - 1].to_dict()
    row = int(answer.rows[rank - 1])
    st.markdown(
        f"**#{rank} · {plain(str(hit['spot_id']))}** · cosine {hit['score']:.3f}", width="content"
    )
    _on_slide(opened, answer, hit)
    actions(opened, hit, has_genes=any(weights.values()))
    if weights:
        guessed = {gene: guess for (_, gene), guess in guesses(opened, [row], weights).items()}
        values = readings.gene_readings(opened, hit, weights, guessed)
        st.html(markup.gene_bars(values))
        if words := readings.caption(values):
            st.caption(words)
    st.html(markup.facts(hit_facts(opened, hit, row)))


def _on_slide(opened: Opened, answer: Answer, hit: Mapping[str, Any]) -> None:
    """The slide around the hit, with rings at it and at the other hits of the slide."""
    slide_id = str(hit["slide_id"])
    same = answer.table[answer.table["slide_id"] == slide_id]
    marks = [Mark(float(one.x_px), float(one.y_px), f"#{one.rank}") for one in same.itertuples()]
    width = HIT_WIDTH_UM if math.isfinite(hit["x_um"]) else HIT_WIDTH_PX
    viewer(
        opened,
        slide_id,
        Shown(
            marks=marks,
            picked=int(np.flatnonzero(same["rank"] == hit["rank"])[0]),
            focus=(float(hit["x_px"]), float(hit["y_px"]), width),
            focus_stamp=str(hit["spot_id"]),
            tools=("pan",),
        ),
        key="hitview",
        height="clamp(320px, 38vh, 460px)",
    )
    others = len(same) - 1
    st.caption(
        f"Slide {plain(slide_name(opened, slide_id))}"
        + (f", {others} other hit{'s' if others > 1 else ''} on it" if others else "")
    )


def actions(opened: Opened, hit: Mapping[str, Any], *, has_genes: bool) -> None:
    """What can be done with a hit."""
    spot_id, patient = str(hit["spot_id"]), str(hit["patient_id"] or "")
    with st.container(horizontal=True, gap="small", key="hitactions"):
        if st.button("Use as query", key="use-as-query"):
            st.switch_page(frame.IMAGE_PAGE, query_params={"spot": spot_id})
        if has_genes and st.button(
            "Add its look",
            key="add-look",
            help="Ask for these genes and for tissue that looks like this.",
        ):
            st.query_params["like"] = spot_id
            st.rerun()
        st.button(
            "Unmark" if spot_id in shortlist.marked() else "Mark",
            key="mark-hit",
            on_click=shortlist.toggle,
            args=(spot_id,),
            help="Keep it in the shortlist (M).",
        )
        if patient and st.button("Exclude this patient", key="exclude-patient"):
            out = [*st.query_params.get_all("notpatient"), patient]
            st.session_state["notpatient"] = list(dict.fromkeys(out))
            st.rerun()
        if st.button("Open slide", key="open-slide"):
            st.switch_page(
                frame.SLIDES_PAGE, query_params={"s": str(hit["slide_id"]), "spot": spot_id}
            )


def with_genes(opened: Opened, answer: Answer, genes: Sequence[str]) -> Answer:
    """The answer with the measured expression of more genes at every hit."""
    if not genes:
        return answer
    values = opened.store.expression(list(genes), answer.rows)
    columns = {gene_column(gene): values[:, at] for at, gene in enumerate(genes)}
    held = tuple(dict.fromkeys((*answer.genes, *genes)))
    return replace(answer, table=answer.table.assign(**columns), genes=held)


def notes(answer: Answer, *, is_far: bool = False) -> None:
    """What the library wants to be known about the answer; not what was said already of a far picture."""
    for note in answer.notes:
        if is_far and note.startswith(NOTHING_STANDS_OUT):
            continue
        (st.warning if note.startswith(NOTHING_STANDS_OUT) else st.caption)(plain(note))


def below(opened: Opened, answer: Answer) -> None:
    """The hits as files, and how many each slide has."""
    counts = answer.table["slide_id"].value_counts()
    downloads.of_hits(opened, answer)
    st.markdown(f"**Hits by slide** · {len(counts)} of {len(opened.slides)} slides")
    shown = {slide_name(opened, str(name)): int(n) for name, n in counts.head(12).items()}
    with st.container(width=860):
        st.html(markup.slide_bars(shown))


def summary(opened: Opened, answer: Answer) -> None:
    """One line above the hits: how many, by what measure, out of what."""
    searched = "images" if answer.against == "image" else "gene profiles"
    card, store = opened.store.card, opened.store
    n_searched = int(store.has_vector(answer.against).sum())  # plain H&E has no gene profiles
    filtered = "" if answer.question.filters() is None else "those that pass the filters, of "
    st.caption(
        f"{len(answer.table)} hit{'' if len(answer.table) == 1 else 's'} by cosine among the {searched} of {filtered}{n_searched:,} spots · "
        f"{answer.seconds * 1000:.0f} ms · encoder {card.name} {card.fingerprint[:8]}"
    )
