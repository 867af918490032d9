"""Slides: a slide with its spots, what one spot or a region of them expresses."""

from __future__ import annotations

import streamlit as st

from app import slide_controls, slide_panel
from app.session import current
from app.viewer import Shown, viewer


def page() -> None:
    opened = current()
    st.title("Slides", anchor=False)
    slide_id, layer = slide_controls.choose(opened)
    _workplace(opened, slide_id, layer)


@st.fragment
def _workplace(opened, slide_id, layer) -> None:  # noqa: ANN001
    """Viewer and side panel: a lasso or a click runs only this part again."""
    left, right = st.columns([0.68, 0.32], gap="medium")
    with left:
        done = viewer(
            opened,
            slide_id,
            Shown(
                layer=layer,
                lasso=slide_controls.lasso_of_address(),
                lasso_stamp="address",
                selected=slide_controls.selected_of_address(opened, slide_id),
                in_address=True,
            ),
            key="slide",
        )
    with right:
        slide_panel.show(opened, slide_id, layer, done)


page()
