"""The frame around every page: navigation, store badge, footer, and the cards for stores that
cannot be shown.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.admission import admitted
from app.facts import known_patients
from app.markup import facts, plain
from app.news import notice
from app.session import look_at
from app.settings import as_shown
from stamp_index.errors import EncoderError, StampIndexError, StoreVersionError

if TYPE_CHECKING:
    from app.stores import Opened

HERE = Path(__file__).resolve().parent
FRAME = HERE / "frontend" / "frame"
PAGES = HERE / "app_pages"
SLIDES_PAGE = str(PAGES / "slides.py")
GENE_PAGE = str(PAGES / "genes.py")
IMAGE_PAGE = str(PAGES / "image.py")
REGIONS_PAGE = str(PAGES / "regions.py")
PROBE_PAGE = str(PAGES / "probe.py")
EVALUATION_PAGE = str(PAGES / "evaluation.py")
HELP_PAGE = str(PAGES / "help.py")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
PLAIN_PAGES = (
    "",
    "help",
)  # need neither encoder nor indexes; the first page has no path of its own


def run(store_path: str | None) -> None:
    """Show the page that the address names, over the store at `store_path`."""
    st.set_page_config("stamp-index", page_icon=str(FRAME / "favicon.png"), layout="wide")
    st.html(FRAME / "frame.css")
    st.logo(str(FRAME / "logo.svg"), size="medium")
    page = st.navigation(
        [
            st.Page(SLIDES_PAGE, title="Slides", default=True),
            st.Page(GENE_PAGE, title="Gene to image", url_path="genes"),
            st.Page(IMAGE_PAGE, title="Image to gene", url_path="image"),
            st.Page(REGIONS_PAGE, title="Similar regions", url_path="regions"),
            st.Page(PROBE_PAGE, title="Linear probe", url_path="probe"),
            st.Page(EVALUATION_PAGE, title="Evaluation", url_path="evaluation"),
            st.Page(HELP_PAGE, title="Help", url_path="help"),
        ],
        position="top",
    )
    if not admitted():
        return
    if store_path is None:
        card(
            "No store was given",
            "Start the app with the folder of a store.",
            "stamp-index app STORE",
        )
        return
    if _drop_endless_numbers():
        st.rerun()
    try:
        with st.spinner("Opening the store …"):
            opened = look_at(store_path)
    except StampIndexError as error:
        refused(store_path, error)
        return
    badge(opened)
    if not opened.store.n_spots:
        empty(opened)
    elif page.url_path in PLAIN_PAGES or _can_search(opened):
        page.run()
    footer(opened)


def _drop_endless_numbers() -> bool:
    """Take numbers that no float holds out of the address: Streamlit's fields fail on them. Says whether there were any."""
    asked = st.query_params
    endless = [name for name in asked if any(map(is_endless, asked.get_all(name)))]
    for name in endless:
        del asked[name]
    return bool(endless)


def is_endless(text: str) -> bool:
    """Whether a text is a number that no float holds."""
    return NUMBER.fullmatch(text) is not None and math.isinf(float(text))


def _can_search(opened: Opened) -> bool:
    """Whether the store's encoder and indexes can be used; what is wrong with them is shown."""
    try:
        with st.spinner("Reading the indexes …"):
            _ = opened.searcher
    except StampIndexError as error:
        refused(opened.path, error)
        return False
    return True


def card(title: str, sentence: str, command: str) -> None:
    """One sentence and what to run, in place of a page."""
    with st.container(border=True, key="card", width=680):
        st.subheader(title, anchor=False)
        st.markdown(plain(sentence))
        st.code(as_shown(command), language=None)


def empty(opened: Opened) -> None:
    """Card of a store without slides."""
    card(
        "This store has no slides yet",
        "Add the folder or file of a slide, then reload this page.",
        f"stamp-index add {opened.path} path/to/slide",
    )
    st.caption("Nothing at hand? `stamp-index demo` makes a small synthetic store.")


def refused(path: str, error: StampIndexError) -> None:
    """Card of a store that cannot be opened."""
    command = f"stamp-index app {path}"
    title = "This store cannot be opened"
    if isinstance(error, StoreVersionError):
        title = "This store was written by a newer release"
        command = "pip install --upgrade stamp-index"
    elif isinstance(error, EncoderError):
        title = "The encoder of this store cannot be used"
    card(title, str(error), command)


def badge(opened: Opened) -> None:
    """Name and version of the store at the upper right; a click tells the rest."""
    store = opened.store
    with st.container(
        key="storebadge", horizontal=True, width="content", vertical_alignment="center"
    ):
        if opened.is_synthetic:
            st.badge("Synthetic data", color="orange", help="Every slide of this store is drawn.")
        notice(opened)
        with st.popover(f"{plain(opened.store.place.label)} · v{store.version}", type="tertiary"):
            st.html(facts(store_facts(opened)))


def store_facts(opened: Opened) -> list[tuple[str, str]]:
    """What the badge tells."""
    store, slides = opened.store, opened.slides
    rows = [
        ("Store", opened.path),
        ("Version", str(store.version)),
        ("Encoder", store.card.name),
        ("Fingerprint", store.card.fingerprint[:12]),
        ("Patch", f"{store.card.patch_width_um:g} µm wide, {store.card.patch_size_px} px"),
    ]
    if len(slides):
        rows.append(("Patients", str(known_patients(slides))))
        rows.append(("Organs", ", ".join(sorted(set(slides["organ"]) - {""})) or "not given"))
        rows.append(("Platforms", ", ".join(sorted(set(slides["platform"]) - {""})) or "not given"))
        plain_ones = len(opened.plain_slides)
        rows.append(("With counts", f"{len(slides) - plain_ones:,} of {len(slides):,} slides"))
        rows.append(("Last slide added", f"{slides['added_at'].max():%Y-%m-%d %H:%M} UTC"))
    return rows


def footer(opened: Opened) -> None:
    """What the hits are drawn from, on every page."""
    store = opened.store
    plain_ones = len(opened.plain_slides)
    slides = f"{len(opened.slides):,} slide{'' if len(opened.slides) == 1 else 's'}" + (
        f" ({plain_ones:,} H&E only)" if plain_ones else ""
    )
    genes = f"{len(store.genes):,} genes" if store.genes else "nothing measured"
    counts = (
        f"{slides} · {store.n_spots:,} spots · {genes} · "
        f"encoder {store.card.name} {store.card.fingerprint[:8]}"
    )
    with st.container(key="footer"):
        st.html(f"<span>{_escaped(counts)}</span><b>Research use only</b>")


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
