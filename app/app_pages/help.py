"""Help: what the pages do, their keys, and what the numbers mean."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

TEXT = Path(__file__).resolve().parents[1] / "frontend" / "frame" / "help.md"

st.title("Help", anchor=False)
st.markdown(TEXT.read_text("utf-8"))
