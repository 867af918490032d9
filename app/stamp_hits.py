"""Hits of a query on the page: gallery, the picked hit with its slide, hits by slide, download."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import stamp_frame
import stamp_html
import stamp_parts
import stamp_pictures
import streamlit as st
from stamp_data import percentile
from stamp_html import plain
from stamp_pictures import Mark
from stamp_slides import slide_view

from stamp_index.search.calibration import NOTHING_STANDS_OUT
from stamp_index.search.hits import gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from stamp_data import Answer, Opened

GENES_ON_TILE = 3


def gene_readings(
    opened: Opened, hit: Mapping[str, Any], weights: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Measured expression of genes at one hit, with percentile in the store.

    A gene of weight 0 is shown without having been asked for.
    """
    rows = []
    for gene, weight in weights.items():
        value = float(hit.get(gene_column(gene), math.nan))
        place = percentile(opened, gene, value)
        measured = math.isfinite(value)
        rows.append(
            {
                "gene": gene,
                "side": "plain" if weight == 0 else "high" if weight > 0 else "low",
                "value": f"{value:.1f}" if measured else "–",
                "share": place if measured else 0.0,
                "percentile": f"p{place:.0f}" if measured else "",
                "title": f"{gene}: {value:.2f} log1p CP10K, above {place:.0f} % of the store's spots"
                if measured
                else f"{gene} was not measured on this slide",
            }
        )
    return rows


@st.cache_data(max_entries=16, show_spinner=False)
def tiles(
    key: str, _opened: Opened, _answer: Answer, _weights: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Data of the gallery; `key` names the answer, so that a pick does not make them anew."""
    opened, answer, weights = _opened, _answer, _weights
    pictures = opened.store.thumbnails(answer.rows)
    shown = dict(list(weights.items())[:GENES_ON_TILE])
    more = len(weights) - len(shown)
    out = []
    for hit, jpeg in zip(answer.table.to_dict("records"), pictures, strict=True):
        score = f"{hit['score']:.2f}"
        out.append(
            {
                "rank": int(hit["rank"]),
                "src": stamp_pictures.data_uri(jpeg) if jpeg else "",
                "alt": f"Rank {hit['rank']}, spot {hit['spot_id']}, cosine {score}",
                "score": score,
                "slide": str(hit["slide_id"]),
                "genes": gene_readings(opened, hit, shown),
                "more": f"and {more} more gene{'s' if more > 1 else ''}" if more > 0 else "",
            }
        )
    return out


@st.fragment
def show(opened: Opened, answer: Answer, weights: Mapping[str, float]) -> None:
    """Gallery at the left, the picked hit at the right. A pick reruns only this part."""
    card = opened.store.card
    key = stamp_parts.short_key(
        opened.key, answer.query, answer.against, list(weights), answer.rows.tolist()
    )
    left, right = st.columns([0.6, 0.4], gap="medium")
    with left:
        rank = stamp_parts.gallery(
            tiles(key, opened, answer, weights),
            key=key,
            bar=stamp_pictures.scale_bar(card.patch_width_um),
        )
    with right:
        show_hit(opened, answer, weights, rank)


def show_hit(opened: Opened, answer: Answer, weights: Mapping[str, float], rank: int) -> None:
    """One hit: where it lies, what it looks like, what was measured there."""
    hit = answer.table.iloc[rank - 1].to_dict()
    st.markdown(
        f"**#{rank} · {plain(str(hit['spot_id']))}** · cosine {hit['score']:.3f}", width="content"
    )
    overview, patch = st.columns([0.6, 0.4], gap="small")
    with overview:
        _overview(opened, answer, hit)
    with patch:
        _patch(opened, answer, hit, rank)
    if weights:
        st.html(stamp_html.gene_bars(gene_readings(opened, hit, weights)))
        st.caption("Measured log1p CP10K; percentile = share of the store's spots with less.")
    st.html(stamp_html.facts(hit_facts(hit)))


def hit_facts(hit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known about a hit's score and place."""
    rows = [(name, words) for name, words in _score_facts(hit) if words]
    rows += [("Slide", str(hit["slide_id"])), ("Patient", str(hit["patient_id"]) or "not given")]
    if hit.get("organ"):
        rows.append(("Organ", str(hit["organ"])))
    rows.append(("Position", f"{hit['x_px']:,.0f}, {hit['y_px']:,.0f} px of level 0"))
    if math.isfinite(hit["x_um"]):
        rows.append(("", f"{hit['x_um']:,.0f}, {hit['y_um']:,.0f} µm"))
    return rows


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


def _overview(opened: Opened, answer: Answer, hit: Mapping[str, Any]) -> None:
    slide_id = str(hit["slide_id"])
    view = slide_view(opened, slide_id)
    if view is None:
        st.info(f"No overview is stored for slide {plain(slide_id)}.")
        return
    same = answer.table[answer.table["slide_id"] == slide_id]
    others = [Mark(row.x_px, row.y_px) for row in same.itertuples() if row.rank != hit["rank"]]
    st.image(
        stamp_pictures.data_uri(
            view.with_marks(Mark(hit["x_px"], hit["y_px"], f"#{hit['rank']}"), others)
        ),
        width="stretch",
        alt=f"Slide {slide_id} with a ring at hit {hit['rank']}",
        caption=f"Slide {plain(slide_id)}" + (f", {len(others)} other hits" if others else ""),
    )


def _patch(opened: Opened, answer: Answer, hit: Mapping[str, Any], rank: int) -> None:
    jpeg = opened.store.thumbnails(answer.rows[rank - 1 : rank])[0]
    width_um = opened.store.card.patch_width_um
    if jpeg is None:
        st.info("No picture is stored for this spot.")
        return
    st.image(
        stamp_pictures.data_uri(stamp_pictures.patch_picture(jpeg, width_um=width_um)),
        width="stretch",
        alt=f"Patch of spot {hit['spot_id']}",
        caption=f"Patch, {width_um:g} µm wide",
    )
    if st.button("Use as query", key="use-as-query", width="stretch"):
        st.switch_page(stamp_frame.IMAGE_PAGE, query_params={"spot": str(hit["spot_id"])})


def with_genes(opened: Opened, answer: Answer, genes: Sequence[str]) -> Answer:
    """The answer with the measured expression of more genes at every hit."""
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
        st.html(stamp_html.slide_bars({str(name): int(n) for name, n in counts.head(12).items()}))


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
    card = opened.store.card
    st.caption(
        f"{len(answer.table)} hits by cosine among the {searched} of {opened.store.n_spots:,} spots · "
        f"{answer.seconds * 1000:.0f} ms · encoder {card.name} {card.fingerprint[:8]}"
    )
