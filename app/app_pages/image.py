"""Image to gene: spots that look like a picture, and the expression that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import asking, domain, expression_panel, hits_panel, query_controls, upload
from app.markup import plain
from app.session import current
from stamp_index.errors import StampIndexError
from stamp_index.search.sharing.links import LEFT_OUT

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from app.asking import Answer
    from app.stores import Opened
    from app.upload import QueryPicture

    Asked = tuple[QueryPicture | None, Answer | None]

UPLOAD, SPOT = "Upload a picture", "Spot of this store"


def page() -> None:
    opened = current()
    st.title("Image to gene", anchor=False)
    left, right = st.columns([0.3, 0.7], gap="large")
    with left:
        # the address says which: it carries a spot or it does not
        st.session_state["source"] = SPOT if "spot" in st.query_params else UPLOAD
        source = st.segmented_control(
            "Query",
            [UPLOAD, SPOT],
            required=True,
            key="source",
            on_change=_switched,
            args=(opened,),
            width="stretch",
        )
    picture, answer = (by_spot if source == SPOT else by_upload)(opened, left, right)
    if answer is None:
        return
    spot_id = st.query_params["spot"] if source == SPOT else None
    if spot_id is not None:
        with left:
            upload.spot_on_overview(opened, spot_id)
            upload.spot_patch(opened, spot_id)
    with right:
        hits_panel.summary(opened, answer)
        doubts = domain.warnings(opened, picture, answer) if picture is not None else []
        for words in doubts:
            st.warning(plain(words))
        hits_panel.notes(answer, is_far=any(words.startswith(domain.FAR) for words in doubts))
        genes = expression_panel.show(opened, answer, spot_id)
    st.subheader("Retrieved spots", anchor=False)
    answer = hits_panel.with_genes(opened, answer, genes)
    hits_panel.show(opened, answer, dict.fromkeys(genes, 0.0))
    hits_panel.below(opened, answer)


def _switched(opened: Opened) -> None:
    if st.session_state["source"] == SPOT:
        first = str(opened.slides.index[0])
        upload.take_spot(upload.nearest_spot(opened, first, (0.5, 0.5)))
    else:
        st.query_params.pop("spot", None)


def by_upload(opened: Opened, left: DeltaGenerator, right: DeltaGenerator) -> Asked:
    """An uploaded picture and its hits."""
    with right, query_controls.controls():
        question = query_controls.question(opened, against="gene", key="match")
    with left:
        picture = upload.uploaded(opened)
    with right:
        if picture is None:
            nothing_yet(opened)
            return None, None
        try:
            answer = asking.ask_image(opened, picture, question)
        except StampIndexError as error:
            st.error(plain(str(error)))
            return None, None
    return picture, answer


def by_spot(opened: Opened, left: DeltaGenerator, right: DeltaGenerator) -> Asked:
    """Hits of a stored spot's picture, which needs no doubts."""
    with left:
        spot_id = upload.chosen_spot(opened)
    with right:
        with query_controls.controls():
            question = query_controls.question(opened, against="gene", key="match")
            exclude = st.segmented_control(
                "Leave out",
                list(LEFT_OUT),
                default="nothing",
                required=True,
                key="without",
                bind="query-params",
            )
        try:
            answer = asking.ask_spot(opened, spot_id, LEFT_OUT[exclude or "nothing"], question)
        except StampIndexError as error:
            st.error(plain(str(error)))
            return None, None
    return None, answer


def nothing_yet(opened: Opened) -> None:
    """What to do, before there is a picture."""
    card = opened.store.card
    st.info(
        f"Drop an H&E picture at the left, at least {card.patch_width_um:g} µm wide. You get the "
        "spots of this store that match it best, and the expression they predict. "
        "No picture at hand? Choose a spot of this store."
    )


page()
