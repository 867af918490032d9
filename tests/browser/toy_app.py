"""Entry of the app for page tests: the app's script, with the encoder of the toy stores.

A toy store carries no checkpoint, so the encoder is handed over before the app runs. The page tests name the store in
the session. `toy_server` does the same for the browser tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app import frame, stores  # noqa: E402
from tests.support import ToyEncoder  # noqa: E402

stores.use_encoder(ToyEncoder())
frame.run(st.session_state.get("store of the test"))
