"""What is asked of a probe: target, embeddings, split and limits; the address holds all but drawn regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app import probe_drawing
from app.gene_names import example_genes, stored_gene
from app.markup import plain
from app.stores import Opened
from stamp_index.errors import QueryError
from stamp_index.evaluate import ProbeSettings
from stamp_index.store.label_classes import is_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

LABEL, GENE, DRAWN = "Label", "Gene", "Drawn here"
MAX_CLASSES = 100  # as the library's
USUAL_SPOTS = 20_000
LEAK = (
    "Neighbouring spots look alike and share pixels. Where single spots are held out, the probe has trained on their "
    "neighbours, and its numbers are too good."
)


@dataclass(frozen=True)
class Asked:
    """A probe as the widgets have it.

    Attributes
    ----------
    target : {"Label", "Gene", "Drawn here"}
    settings : ProbeSettings or None
        None where it cannot be run.
    labels : mapping of int to str, or None
        Class of each row that was drawn around.
    flaw : str
        Why it cannot be run, in one sentence or two; "" where it can.
    try_blocks : bool
        Whether a split by blocks would help.
    """

    target: str
    settings: ProbeSettings | None = None
    labels: Mapping[int, str] | None = None
    flaw: str = ""
    try_blocks: bool = False


@dataclass(frozen=True)
class _Target:
    """A kind, what it is in the settings, and what is wrong with it."""

    kind: str
    what: Mapping[str, str]
    flaw: str = ""


def controls(opened: Opened) -> tuple[Asked, bool]:
    """Ask what to probe for. Returns it, and whether to run it now."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="probebar"):
        target = _target(opened)
        chosen: dict[str, object] = {"features": _features(opened), "split": _split(opened)}
        chosen["C"] = st.number_input(
            "C",
            min_value=1e-6,
            max_value=1e6,
            value=None,
            format="%g",
            placeholder="auto",
            key="c",
            bind="query-params",
            width=104,
            help="Inverse strength of the penalty. Auto: chosen in each fold on its training part.",
        )
        slides, numbers = _more(opened, str(chosen["split"]))
        asked = _asked(opened, target, chosen | numbers, slides)
        pressed = st.button(
            "Run", type="primary", shortcut="Ctrl+Enter", disabled=bool(asked.flaw), key="run"
        )
    if chosen["split"] == "spot":
        st.warning(LEAK)
    if asked.flaw:
        _explain(asked)
    return asked, pressed


def _explain(asked: Asked) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="probeflaw"):
        st.info(plain(asked.flaw))
        if asked.try_blocks:
            st.button("Split by blocks", on_click=_split_by_blocks)


def _split_by_blocks() -> None:
    st.session_state["split"] = "block"


@st.cache_data(max_entries=4, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def class_labels(opened: Opened) -> list[str]:
    """Labels of the store that name 2 to 100 classes, and are no quantity."""
    found = []
    for name in opened.store.label_names:
        values = opened.store.label(name)
        if not is_quantity(values) and 2 <= values.nunique() <= MAX_CLASSES:
            found.append(name)
    return found


def _target(opened: Opened) -> _Target:
    """Ask for a label, a gene, or regions drawn here."""
    labels = class_labels(opened)
    kinds = [
        kind for kind, there in ((LABEL, labels), (GENE, opened.measured), (DRAWN, True)) if there
    ]
    kind = st.segmented_control(
        "Probe for", kinds, default=kinds[0], required=True, key="of", bind="query-params"
    )
    if kind == LABEL:
        label = st.selectbox("Label", labels, key="probelabel", bind="query-params", width=150)
        return _Target(LABEL, {"label": label})
    return _gene(opened) if kind == GENE else _Target(DRAWN, {"label": "drawn here"})


def _gene(opened: Opened) -> _Target:
    genes = ("EPCAM", "CD8A", *example_genes(opened))
    first = next((gene for gene in genes if gene in opened.measured), "")
    typed = st.text_input(
        "Gene", value=first, key="probegene", bind="query-params", max_chars=60, width=150
    ).strip()
    try:
        return _Target(GENE, {"gene": stored_gene(opened, typed)})
    except QueryError as error:
        return _Target(GENE, {}, str(error))


def _features(opened: Opened) -> str:
    """Embeddings to look at, of those that the store has."""
    kinds = list(opened.searchable)
    if len(kinds) == 2:
        kinds.append("both")
    return st.segmented_control(
        "Features", kinds, default=kinds[0], required=True, key="features", bind="query-params"
    )


def _split(opened: Opened) -> str:
    """What is held out as a whole; by default the largest there are two of."""
    slides = opened.slides
    usual = next((way for way in ("patient", "slide") if not split_flaw(slides, way)), "block")
    ways = ["patient", "slide", "block"]
    asked_alone = st.query_params.get("alone", "").casefold() == "true"
    if st.session_state.get("alone", asked_alone):
        ways.append("spot")
    return st.selectbox(
        "Hold out by",
        ways,
        index=ways.index(usual),
        key="split",
        bind="query-params",
        width=118,
        help="What is never on both sides of a fold. Blocks are squares of tissue, with a margin left out around them.",
    )


def split_flaw(slides: pd.DataFrame, split: str) -> str:
    """Say why these slides cannot be split so; "" where they can."""
    n = len(slides)
    all_of_them = "The one slide here is" if n == 1 else f"All {n:,} slides here are"
    if split == "slide" and n < 2:
        return (
            "There is one slide here, so none can be held out. Split by blocks, which holds out parts of it, or "
            "choose more slides."
        )
    if split != "patient":
        return ""
    unknown = [str(one) for one in slides.index[slides["patient_id"].eq("")]]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        return (
            f"Slides {', '.join(unknown[:3])}{more} name no patient. Split by slide or by blocks."
        )
    if slides["patient_id"].nunique() < 2:
        return (
            f"{all_of_them} of one patient, so none can be held out. Split by slide or by blocks."
        )
    return ""


def _more(opened: Opened, split: str) -> tuple[tuple[str, ...] | None, dict[str, object]]:
    """Slides (None for all) and numbers; and whether single spots, which leak, are offered as a split."""
    asked = sum(len(st.query_params.get_all(name)) for name in ("organ", "slide"))
    with st.popover(f"More · {asked}" if asked else "More"):
        st.caption("Probe only these; nothing chosen means all.")
        organs, chosen = (
            st.multiselect(
                title,
                sorted(set(opened.slides[column]) - {""}),
                key=key,
                bind="query-params",
                placeholder="all",
                select_all=False,
            )
            for title, column, key in (("Organ", "organ", "organ"), ("Slide", "slide_id", "slide"))
        )
        numbers = _numbers(split)
        st.divider()
        st.caption("Advanced")
        st.toggle("Offer single spots as a split", key="alone", bind="query-params", help=LEAK)
    kept = opened.slides
    if organs:
        kept = kept[kept["organ"].isin(organs)]
    if chosen:
        kept = kept[kept.index.isin(chosen)]
    return (tuple(kept.index) if organs or chosen else None), numbers


def _numbers(split: str) -> dict[str, object]:
    """Numbers of the settings that have a usual value; None is the library's own."""
    rows: list[tuple[str, str, int, int, int | None, str]] = [
        ("max_spots", "Spots at most", 100, 1_000_000, USUAL_SPOTS, "most"),
        ("n_folds", "Folds at most", 2, 50, 5, "folds"),
        ("seed", "Seed", 0, 1_000_000, 0, "seed"),
    ]
    if split == "block":
        rows.insert(2, ("block_um", "Side of a block, µm", 100, 20_000, 1000, "block"))
        rows.insert(3, ("buffer_um", "Margin around it, µm", 0, 20_000, None, "margin"))
    columns = st.columns(2)
    found: dict[str, object] = {}
    for at, (name, title, low, high, usual, key) in enumerate(rows):
        with columns[at % 2]:
            found[name] = st.number_input(
                title, low, high, usual, key=key, bind="query-params", placeholder="auto"
            )
    return found


def _asked(
    opened: Opened, target: _Target, chosen: Mapping[str, object], slides: tuple[str, ...] | None
) -> Asked:
    """Put the widgets' values together, or say what is wrong with them."""
    kind, labels, flaw = target.kind, None, target.flaw
    if slides == ():
        flaw = "No slide is of this organ and name. Choose fewer filters."
    elif kind == DRAWN:
        labels, flaw = probe_drawing.labels(opened, slides)
    if flaw:
        return Asked(kind, flaw=flaw)
    used = opened.slides if slides is None else opened.slides.loc[list(slides)]
    if labels is not None:
        used = used[used.index.isin(probe_drawing.slides())]
        slides = tuple(used.index)
    flaw = split_flaw(used, str(chosen["split"]))
    if flaw:
        return Asked(kind, flaw=flaw, try_blocks=True)
    settings = ProbeSettings(
        **target.what,
        slides=slides,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    return Asked(kind, settings, labels)
