"""Evaluation: what is known about how well this store is searched, and what is not."""

from __future__ import annotations

import streamlit as st

from app import evaluation_panel
from app.session import current


def page() -> None:
    opened = current()
    st.title("Evaluation", anchor=False)
    evaluation_panel.retrieval(opened)
    evaluation_panel.coverage(opened)
    evaluation_panel.indexes(opened)


page()
