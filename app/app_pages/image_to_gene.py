"""Image to gene: spots that look like a picture, and the expression that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import stamp_data
import stamp_hits
import stamp_maps
import stamp_prediction
import stamp_query
import stamp_upload
import streamlit as st
from stamp_html import plain

from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from stamp_data import Answer, Opened
    from streamlit.delta_generator import DeltaGenerator

UPLOAD, SPOT = "Upload a picture", "Spot of this store"
EXCLUDE = {"nothing": "nothing", "own slide": "slide", "own patient": "patient"}


def page() -> None:
    opened = stamp_data.current()
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
    answer = (by_spot if source == SPOT else by_upload)(opened, left, right)
    if answer is None:
        return
    spot_id = st.query_params["spot"] if source == SPOT else None
    place = left.container()
    if spot_id is not None:
        with place:
            stamp_upload.spot_on_overview(opened, spot_id)
        with left:
            stamp_upload.spot_patch(opened, spot_id)
    with right:
        stamp_hits.summary(opened, answer)
        stamp_hits.notes(answer)
        genes = stamp_prediction.show(opened, answer, spot_id)
    st.subheader("Retrieved spots", anchor=False)
    answer = stamp_hits.with_genes(opened, answer, genes)
    stamp_hits.show(opened, answer, dict.fromkeys(genes, 0.0))
    stamp_hits.below(opened, answer)
    if spot_id is not None:  # last, as a map may take a while
        with place:
            stamp_maps.show(
                opened, stamp_upload.slide_of(spot_id, list(opened.slides.index)), genes
            )


def _switched(opened: Opened) -> None:
    if st.session_state["source"] == SPOT:
        first = str(opened.slides.index[0])
        stamp_upload.take_spot(stamp_upload.nearest_spot(opened, first, (0.5, 0.5)))
    else:
        st.query_params.pop("spot", None)


def by_upload(opened: Opened, left: DeltaGenerator, right: DeltaGenerator) -> Answer | None:
    """Hits of an uploaded picture."""
    with right, stamp_query.controls():
        question = stamp_query.question(opened, against="gene", key="match")
    with left:
        picture = stamp_upload.uploaded(opened)
    with right:
        if picture is None:
            nothing_yet(opened)
            return None
        try:
            answer = stamp_data.ask_image(opened, picture.pixels, picture.mpp, question)
        except StampIndexError as error:
            st.error(plain(str(error)))
            return None
        blank = stamp_upload.quality_warning(picture.patch)
        if blank:
            st.warning(blank)
    return answer


def by_spot(opened: Opened, left: DeltaGenerator, right: DeltaGenerator) -> Answer | None:
    """Hits of a stored spot's picture."""
    with left:
        spot_id = stamp_upload.chosen_spot(opened)
    with right:
        with stamp_query.controls():
            question = stamp_query.question(opened, against="gene", key="match")
            exclude = st.segmented_control(
                "Leave out",
                list(EXCLUDE),
                default="nothing",
                required=True,
                key="without",
                bind="query-params",
            )
        try:
            answer = stamp_data.ask_spot(opened, spot_id, EXCLUDE[exclude or "nothing"], question)
        except StampIndexError as error:
            st.error(plain(str(error)))
            return None
    return answer


def nothing_yet(opened: Opened) -> None:
    """What to do, before there is a picture."""
    card = opened.store.card
    st.info(
        f"Drop an H&E picture at the left, at least {card.patch_width_um:g} µm wide. You get the "
        "spots of this store that match it best, and the expression they predict. "
        "No picture at hand? Choose a spot of this store."
    )


page()
