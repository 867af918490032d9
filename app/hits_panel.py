"""Hits of a query on the page: gallery, the picked hit with its slide, hits by slide, download."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import components, drawing, frame, markup, readings
from app.drawing import Mark
from app.facts import hit_facts, slide_name
from app.markup import plain
from app.slide_views import slide_view
from app.unmeasured import guesses
from stamp_index.search.calibration import NOTHING_STANDS_OUT
from stamp_index.search.hits import gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from app.asking import Answer
    from app.stores import Opened


@st.fragment
def show(opened: Opened, answer: Answer, weights: Mapping[str, float]) -> None:
    """Gallery at the left, the picked hit at the right. A pick reruns only this part."""
    card = opened.store.card
    key = components.short_key(
        opened.key, answer.query, answer.against, list(weights), answer.rows.tolist()
    )
    left, right = st.columns([0.6, 0.4], gap="medium")
    with left:
        rank = components.gallery(
            readings.tiles(key, opened, answer, weights),
            key=key,
            bar=drawing.scale_bar(card.patch_width_um),
        )
    with right:
        show_hit(opened, answer, weights, rank)


def show_hit(opened: Opened, answer: Answer, weights: Mapping[str, float], rank: int) -> None:
    """One hit: where it lies, what it looks like, what was measured or is predicted there."""
    hit = answer.table.iloc[rank - 1].to_dict()
    st.markdown(
        f"**#{rank} · {plain(str(hit['spot_id']))}** · cosine {hit['score']:.3f}", width="content"
    )
    overview, patch = st.columns([0.6, 0.4], gap="small")
    with overview:
        _overview(opened, answer, hit)
    with patch:
        _patch(opened, answer, hit, rank)
    row = int(answer.rows[rank - 1])
    if weights:
        guessed = {gene: guess for (_, gene), guess in guesses(opened, [row], weights).items()}
        values = readings.gene_readings(opened, hit, weights, guessed)
        st.html(markup.gene_bars(values))
        if words := readings.caption(values):
            st.caption(words)
    st.html(markup.facts(hit_facts(opened, hit, row)))


def _overview(opened: Opened, answer: Answer, hit: Mapping[str, Any]) -> None:
    slide_id = str(hit["slide_id"])
    view = slide_view(opened, slide_id)
    if view is None:
        st.info(f"No overview is stored for slide {plain(slide_id)}.")
        return
    same = answer.table[answer.table["slide_id"] == slide_id]
    others = [Mark(row.x_px, row.y_px) for row in same.itertuples() if row.rank != hit["rank"]]
    st.image(
        drawing.data_uri(
            view.with_marks(Mark(hit["x_px"], hit["y_px"], f"#{hit['rank']}"), others)
        ),
        width="stretch",
        alt=f"Slide {slide_id} with a ring at hit {hit['rank']}",
        caption=f"Slide {plain(slide_name(opened, slide_id))}"
        + (f", {len(others)} other hits" if others else ""),
    )


def _patch(opened: Opened, answer: Answer, hit: Mapping[str, Any], rank: int) -> None:
    jpeg = opened.store.thumbnails(answer.rows[rank - 1 : rank])[0]
    width_um = opened.store.card.patch_width_um
    if jpeg is None:
        st.info("No picture is stored for this spot.")
        return
    st.image(
        drawing.data_uri(drawing.patch_picture(jpeg, width_um=width_um)),
        width="stretch",
        alt=f"Patch of spot {hit['spot_id']}",
        caption=f"Patch, {width_um:g} µm wide",
    )
    if st.button("Use as query", key="use-as-query", width="stretch"):
        st.switch_page(frame.IMAGE_PAGE, query_params={"spot": str(hit["spot_id"])})


def with_genes(opened: Opened, answer: Answer, genes: Sequence[str]) -> Answer:
    """The answer with the measured expression of more genes at every hit."""
    if not genes:
        return answer
    values = opened.store.expression(list(genes), answer.rows)
    columns = {gene_column(gene): values[:, at] for at, gene in enumerate(genes)}
    return replace(answer, table=answer.table.assign(**columns))


def notes(answer: Answer) -> None:
    """What the library wants to be known about the answer."""
    for note in answer.notes:
        (st.warning if note.startswith(NOTHING_STANDS_OUT) else st.caption)(plain(note))


def below(opened: Opened, answer: Answer) -> None:
    """Hits by slide, and the table as a file."""
    counts = answer.table["slide_id"].value_counts()
    with st.container(width=860):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.markdown(f"**Hits by slide** · {len(counts)} of {len(opened.slides)} slides")
            st.download_button(
                "Download hits (CSV)",
                csv(opened, answer),
                file_name="hits.csv",
                mime="text/csv",
                on_click="ignore",
            )
        shown = {slide_name(opened, str(name)): int(n) for name, n in counts.head(12).items()}
        st.html(markup.slide_bars(shown))


def csv(opened: Opened, answer: Answer) -> bytes:
    """The hits with what they answer: query, store version and encoder."""
    table: pd.DataFrame = answer.table.copy()
    pairs = zip(table["spot_id"], table["slide_id"], strict=True)
    place = int(table.columns.get_loc("spot_id")) + 1
    table.insert(place, "barcode", [str(spot).removeprefix(f"{slide}:") for spot, slide in pairs])
    table["query"] = answer.query
    table["searched"] = answer.against
    table["store_version"] = answer.store_version
    table["encoder"] = opened.store.card.fingerprint
    return table.to_csv(index=False).encode("utf-8")


def summary(opened: Opened, answer: Answer) -> None:
    """One line above the hits: how many, by what measure, out of what."""
    searched = "images" if answer.against == "image" else "gene profiles"
    card, store = opened.store.card, opened.store
    n_searched = int(store.has_vector(answer.against).sum())  # plain H&E has no gene profiles
    st.caption(
        f"{len(answer.table)} hits by cosine among the {searched} of {n_searched:,} spots · "
        f"{answer.seconds * 1000:.0f} ms · encoder {card.name} {card.fingerprint[:8]}"
    )
