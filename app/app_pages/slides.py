"""Slides: a slide with its spots, what one spot or a region of them expresses, and all of it as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import annotations, slide_controls, slide_files, slide_panel
from app.session import current
from app.viewer import Shown, viewer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.stores import Opened


def page() -> None:
    opened = current()
    st.title("Slides", anchor=False)
    slide_id, layer = slide_controls.choose(opened)
    _workplace(opened, slide_id, layer)


@st.fragment
def _workplace(opened: Opened, slide_id: str, layer: Mapping[str, str] | None) -> None:
    """Viewer and side panel: a lasso or a click runs only this part again."""
    left, right = st.columns([0.68, 0.32], gap="medium")
    with left:
        slide = st.container()
        bar = st.container(horizontal=True, gap="small", key="slidefiles")
    with bar:
        files = st.container(horizontal=True, gap="small", width="content")
        annotations.load(opened, slide_id)  # before the viewer, which draws what was loaded
    with slide:
        done = viewer(
            opened,
            slide_id,
            Shown(
                layer=layer,
                outlines=annotations.outlines(slide_id),
                lasso=slide_controls.lasso_of_address(slide_id),
                lasso_stamp="address",
                selected=slide_controls.selected_of_address(opened, slide_id),
                in_address=True,
            ),
            key="slide",
        )
    selection = slide_panel.chosen(opened, slide_id, done)
    with files:
        slide_files.show(opened, slide_id, layer, selection)
    with right:
        slide_panel.show(opened, slide_id, done, selection)


page()
