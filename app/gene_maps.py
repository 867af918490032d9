"""A gene all over the query spot's slide: measured where the slide measured it, else predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app import drawing, map_picture
from app.gene_names import predictable_genes
from app.map_picture import Places
from app.markup import plain
from app.slide_views import slide_view
from app.stores import Opened
from app.unmeasured import NOT_MEASURED
from stamp_index.errors import StampIndexError
from stamp_index.search import predict_map
from stamp_index.search.maps import N_NEIGHBOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_PLACES = 20_000  # drawn of one slide; a map of more is made of places on a grid


@dataclass(frozen=True)
class GeneMap:
    """A gene over a slide, as a picture and what must be said of it."""

    jpeg: bytes
    predicted: bool
    n_drawn: int
    n_places: int  # of the slide
    n_slides: int  # that a prediction rests on

    def caption(self, gene: str, slide_id: str) -> str:
        """What the picture shows, in words."""
        if self.predicted:
            slides = f"{self.n_slides} slide{'s' if self.n_slides > 1 else ''}"
            words = (
                f"{gene} on slide {slide_id}: {NOT_MEASURED}. Each place has the weighted mean of the "
                f"{N_NEIGHBOURS} spots whose measured profiles fit its picture best, on {slides} that "
                "measured the gene."
            )
        else:
            words = f"{gene} on slide {slide_id}: measured at its spots."
        if self.n_drawn < self.n_places:
            words += (
                f" {self.n_drawn:,} of {self.n_places:,} places, taken on a grid, are "
                f"{'predicted and ' if self.predicted else ''}drawn."
            )
        return words + " Colours end at the 1st and 99th percentile of the places."


def measures(opened: Opened, slide_id: str, gene: str) -> bool:
    """Whether a slide measured a gene."""
    return bool(opened.store.has_gene(gene)[opened.slides.index.get_loc(slide_id)])


def show(opened: Opened, slide_id: str, first: Sequence[str]) -> None:
    """A switch, a choice of genes, and the map; `first` are the genes that are looked at already."""
    genes = sorted(predictable_genes(opened))
    if not genes:
        st.caption("No slide of this store measured expression, so no gene can be mapped.")
        return
    default = next((gene for gene in first if gene in genes), genes[0])
    chosen = st.session_state.get("mapgene") or st.query_params.get("mapgene")
    chosen = chosen if chosen in genes else default
    kind = "Measured" if measures(opened, slide_id, chosen) else "Predicted"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="mapcontrol"):
        drawn = st.toggle(
            f"{kind} map of gene",
            key="map",
            bind="query-params",
            help="Predicted where the slide did not measure the gene: every place of the slide asks "
            "for measured spots, which takes a while on a large slide.",
        )
        gene = st.selectbox(
            "Gene of the map",
            genes,
            index=genes.index(default),
            key="mapgene",
            bind="query-params",
            label_visibility="collapsed",
            width=150,
        )
    if drawn:
        _show_map(opened, slide_id, gene)


def _show_map(opened: Opened, slide_id: str, gene: str) -> None:
    try:
        with st.spinner(f"Making the map of {gene} …"):
            made = gene_map(opened, slide_id, gene)
    except StampIndexError as error:
        st.info(plain(str(error)))
        return
    if made is None:
        st.info(f"No overview is stored for slide {plain(slide_id)}, so no map can be drawn on it.")
        return
    st.image(
        drawing.data_uri(made.jpeg),
        width="stretch",
        alt=f"Map of {gene} on slide {slide_id}, {NOT_MEASURED if made.predicted else 'measured'}",
        caption=plain(made.caption(gene, slide_id)),
    )


@st.cache_data(max_entries=24, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def gene_map(opened: Opened, slide_id: str, gene: str) -> GeneMap | None:
    """The map of a gene over a slide; None where the store keeps no overview of it.

    Raises
    ------
    QueryError
        If the gene has to be predicted and cannot be: the slide has no pictures.
    """
    view = slide_view(opened, slide_id)
    if view is None:
        return None
    slide = opened.slides.loc[slide_id]
    rows = int(slide["first_spot"]) + np.arange(int(slide["n_spots"]))
    xy = opened.store.spots(["x_px", "y_px"], rows).to_numpy(np.float64)
    kept = thinned(xy, MOST_PLACES)
    rows, xy, n_slides = rows[kept], xy[kept], 1
    predicted = not measures(opened, slide_id, gene)
    if predicted:
        k = min(N_NEIGHBOURS, opened.store.n_spots)
        found = predict_map(opened.searcher, slide_id, [gene], k=k, rows=rows)
        values, n_slides = found.values(gene), len(found.slides)
    else:
        values = opened.store.expression([gene], rows)[:, 0].astype(np.float64)
    size = np.array([view.width_px, view.height_px])
    shares = (xy - [view.left_px, view.top_px]) / size
    jpeg = map_picture.map_picture(
        view.jpeg,
        Places(shares, values, spacing(xy) / view.width_px),
        title=f"{gene}, {NOT_MEASURED if predicted else 'measured'}",
        bar=view.bar(),
    )
    return GeneMap(jpeg, predicted, len(rows), int(slide["n_spots"]), n_slides)


def thinned(xy: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Which of places (n, 2) to keep: all, or the one nearest to the middle of each cell of a grid.

    The grid is the finest of those tried that has at most `most` cells with a place in them.
    """
    if len(xy) <= most:
        return np.arange(len(xy))
    low = xy.min(axis=0)
    extent = np.maximum(xy.max(axis=0) - low, 1e-9)
    too_fine, coarse = 0.0, float(extent.max()) * 2  # the second has one cell
    best = np.array([0])
    for _ in range(14):
        side = (too_fine + coarse) / 2
        cells = np.floor((xy - low) / side)
        away = np.square(xy - low - (cells + 0.5) * side).sum(axis=1)
        order = np.argsort(away, kind="stable")
        name = cells[:, 1] * (np.floor(extent[0] / side) + 1) + cells[:, 0]
        _, first = np.unique(name[order], return_index=True)
        if len(first) > most:
            too_fine = side
        else:
            coarse, best = side, np.sort(order[first])
    return best


def spacing(xy: NDArray[np.float64]) -> float:
    """Median distance to the nearest other place, in the unit of `xy`; 1 for a single place."""
    from scipy.spatial import cKDTree

    if len(xy) < 2:
        return 1.0
    away, _ = cKDTree(xy).query(xy, k=2)
    return float(np.median(away[:, 1]))
