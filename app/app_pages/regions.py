"""Similar regions: a lasso or a QuPath annotation asks, regions of other slides answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import region_asking, region_panel
from app.markup import plain
from app.region_progress import Working
from app.session import current
from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from app.region_asking import Asking
    from app.stores import Opened


def page() -> None:
    opened = current()
    st.title("Similar regions", anchor=False)
    _workplace(opened, region_asking.controls(opened))


@st.fragment
def _workplace(opened: Opened, asking: Asking) -> None:
    """Two viewers and the hits below; a lasso or a picked hit runs only this part again."""
    left, right = st.columns(2, gap="medium")
    with left:
        asked = region_panel.query_viewer(opened, asking)
    with right:
        if asked is None:
            region_panel.nothing_yet(opened)
            return
        try:
            with st.spinner("Looking for similar regions …"):
                working = Working()
                answer = region_asking.ask_region(opened, asked, asking.question, working.slides)
        except StampIndexError as error:
            working.done()
            st.warning(plain(str(error)))
            return
        working.done()
    region_panel.show(opened, asked, answer, colour=asking.colour, right=right)


page()
