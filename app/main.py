"""Streamlit's script: runs for each session at every change. `app.server` serves it."""

from __future__ import annotations

from app import frame
from app.settings import settings

frame.run(settings().store_path)
