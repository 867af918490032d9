"""Similar regions: a lasso or a QuPath annotation asks, regions of other slides answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import region_asking, region_panel
from app.markup import plain
from app.session import current
from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from app.region_asking import RegionQuestion
    from app.stores import Opened
    from stamp_index.export import Annotation


def page() -> None:
    opened = current()
    st.title("Similar regions", anchor=False)
    slide_id, question, loaded = region_asking.controls(opened)
    _workplace(opened, slide_id, question, loaded)


@st.fragment
def _workplace(
    opened: Opened, slide_id: str, question: RegionQuestion, loaded: Annotation | None
) -> None:
    """Two viewers and the hits below; a lasso or a picked hit runs only this part again."""
    left, right = st.columns(2, gap="medium")
    with left:
        asked = region_panel.query_viewer(opened, slide_id, loaded)
    if asked is None:
        with right:
            region_panel.nothing_yet(opened)
        return
    try:
        with right, st.spinner("Looking for similar regions …"):
            answer = region_asking.ask_region(opened, asked, question)
    except StampIndexError as error:
        with right:
            st.warning(plain(str(error)))
        return
    region_panel.show(opened, asked, answer, right)


page()
