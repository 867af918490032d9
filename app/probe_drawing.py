"""Classes that are drawn here: regions on slides, each with a name, kept for the session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import shapely
import streamlit as st

from app import annotations, markup
from app.components import short_key
from app.facts import slide_name
from app.markup import plain
from app.selections import places
from app.session import STORE
from app.viewer import Outline, Shown, viewer
from stamp_index.view.shapes import even_odd, points_inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shapely import MultiPolygon, Polygon

    from app.stores import Opened
    from app.viewer import Polygon as Corners

REGIONS, TAKEN = "probe_regions", "probe_lasso_taken"  # in the session
HEIGHT = "clamp(340px, calc(100vh - 400px), 560px)"
MAX_NAME = 60
MAX_REGIONS = 2000
MAX_LISTED = 50
LIST_PX = 170


@dataclass(frozen=True)
class DrawnRegion:
    """A region with the class of its spots."""

    store_id: str
    slide_id: str
    name: str
    wkb: bytes
    rows: tuple[int, ...]

    def shape(self) -> Polygon | MultiPolygon:
        """The region in level-0 pixels."""
        found: Polygon | MultiPolygon = shapely.from_wkb(self.wkb)
        return found


def regions() -> list[DrawnRegion]:
    """What this session has drawn on the store that it looks at, the oldest first."""
    held: list[DrawnRegion] = st.session_state.setdefault(REGIONS, [])
    held[:] = [one for one in held if one.store_id == st.session_state.get(STORE, one.store_id)]
    return held


def slides() -> set[str]:
    """Slides that have a region."""
    return {region.slide_id for region in regions()}


def labels(opened: Opened, among: tuple[str, ...] | None) -> tuple[dict[int, str], str]:
    """Class by row of what was drawn, on these slides; and what is wrong with it."""
    classes = classes_of(regions(), set(opened.slides.index if among is None else among))
    names = sorted(set(classes.values()))
    if len(names) < 2:
        so_far = f"So far there is '{names[0]}'." if names else "So far there is none."
        return classes, f"Draw and name regions of at least two classes below. {so_far}"
    return classes, ""


def classes_of(drawn: Iterable[DrawnRegion], slide_ids: set[str]) -> dict[int, str]:
    """Class by row; where regions overlap, the one that was added last counts."""
    return {
        row: region.name for region in drawn if region.slide_id in slide_ids for row in region.rows
    }


def region_of(
    opened: Opened, slide_id: str, shape: Polygon | MultiPolygon, name: str
) -> DrawnRegion:
    """A region with the spots whose centres lie inside, by the even-odd rule."""
    shape = even_odd(shape)
    held = places(opened, slide_id)
    rows = tuple(int(row) for row in held.rows[points_inside(shape, held.xy_px)])
    return DrawnRegion(
        opened.store.store_id, slide_id, clean_name(name), shapely.to_wkb(shape), rows
    )


def clean_name(name: str) -> str:
    """A class's name on one line, cut to what can be shown."""
    return re.sub(r"\s+", " ", name).strip()[:MAX_NAME]


def add(found: Iterable[DrawnRegion]) -> int:
    """Keep regions that have a name and a spot. Returns how many there were."""
    kept = [region for region in found if region.name and region.rows]
    room = MAX_REGIONS - len(regions())
    regions().extend(kept[:room])
    return len(kept[:room])


@st.fragment
def show(opened: Opened) -> None:
    """Viewer to draw on, and the list of what was drawn; adding a region runs the page again."""
    with st.container(border=True, key="probedrawing"):
        left, right = st.columns([0.64, 0.36], gap="medium")
        with left:
            slide_id = st.selectbox(
                "Draw on slide",
                list(opened.slides.index),
                key="draw",
                bind="query-params",
                format_func=lambda name: slide_name(opened, name),
                width=280,
            )
            lasso = _viewer(opened, slide_id)
        with right:
            _add_lasso(opened, slide_id, lasso)
            _add_loaded(opened, slide_id)
            _list()


def _viewer(opened: Opened, slide_id: str) -> Corners | None:
    """The slide with its regions; returns a lasso that was not made a region yet."""
    here = [(at, one) for at, one in enumerate(regions()) if one.slide_id == slide_id]
    outlines = [
        Outline(f"drawn-{at}", one.name, annotations.rings(one.shape())) for at, one in here
    ][: annotations.MAX_DRAWN]
    taken = st.session_state.get(TAKEN, ())
    done = viewer(
        opened,
        slide_id,
        Shown(outlines=outlines, lasso_stamp=short_key(taken), tools=("pan", "lasso", "box")),
        key="drawing",
        height=HEIGHT,
    )
    return None if (slide_id, done.lasso) == taken else done.lasso


def _add_lasso(opened: Opened, slide_id: str, lasso: Corners | None) -> None:
    """Ask for the lasso's class."""
    name = clean_name(
        st.text_input("Class", key="drawnname", max_chars=MAX_NAME, placeholder="tumour")
    )
    region = None
    if lasso is not None:
        region = region_of(opened, slide_id, shapely.Polygon(lasso), name)
    if region is None:
        hint = "Draw around tissue of one class (press L, or the lasso button), then add it here."
    elif not region.rows:
        hint = "No spot's centre lies inside the lasso. Draw a larger region."
    else:
        n = len(region.rows)
        hint = f"{n:,} spot{'' if n == 1 else 's'} inside." + ("" if name else " Name their class.")
    ready = region is not None and bool(region.rows) and bool(name)
    if st.button("Add region", disabled=not ready, key="addregion", width="stretch") and ready:
        add([region])
        st.session_state[TAKEN] = slide_id, lasso  # the viewer goes on saying it
        st.rerun()
    st.caption(hint)


def _add_loaded(opened: Opened, slide_id: str) -> None:
    """Take annotations of QuPath over: their classification, or else their name, is the class."""
    shapes = annotations.load(opened, slide_id)
    if not shapes:
        return
    n = len(shapes)
    if st.button(f"Add {n:,} annotation{'' if n == 1 else 's'}", key="addloaded", width="stretch"):
        found = [
            region_of(opened, slide_id, one.shape(), one.classification or one.name)
            for one in shapes
        ]
        kept = add(found)
        if kept < n:
            st.toast(f"{n - kept:,} of {n:,} annotations hold no spot and were left out.")
        st.rerun()


def _list() -> None:
    """Spots by class; and regions, the newest first, each with a button that takes it away."""
    held = regions()
    if not held:
        return
    counts: dict[str, int] = {}
    for region in sorted(held, key=lambda one: one.name):
        counts[region.name] = counts.get(region.name, 0) + len(region.rows)
    st.html(markup.slide_bars(counts))
    height = LIST_PX if len(held) > 4 else "content"
    with st.container(height=height, border=False, gap=None, key="drawnlist"):
        for at in range(len(held) - 1, max(len(held) - 1 - MAX_LISTED, -1), -1):
            _listed(at, held[at])
        if len(held) > MAX_LISTED:
            st.caption(f"and {len(held) - MAX_LISTED:,} older ones")
    if st.button("Clear all", key="cleardrawn", type="tertiary"):
        held.clear()
        st.rerun()


def _listed(at: int, region: DrawnRegion) -> None:
    n = len(region.rows)
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        gap="small",
    ):
        words = f"**{plain(region.name)}** · {plain(region.slide_id)} · {n:,} spot{'' if n == 1 else 's'}"
        st.markdown(words, width="content")
        if st.button("Delete", type="tertiary", key=f"delete-{at}-{short_key(region.wkb)}"):
            regions().pop(at)
            st.rerun()
