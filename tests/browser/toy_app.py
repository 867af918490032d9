"""Entry of the app for tests: the app itself, with the encoder of the toy stores.

A toy store carries no checkpoint, so the encoder is handed over before the app runs. Used by the
page tests, which name the store in the session, and by the browser tests, whose server is started
with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(folder) for folder in (ROOT, ROOT / "app") if str(folder) not in sys.path]

import stamp_data  # noqa: E402
import stamp_frame  # noqa: E402
import streamlit as st  # noqa: E402

from tests.support import ToyEncoder  # noqa: E402

stamp_data.use_encoder(ToyEncoder())
started_with = sys.argv[1] if len(sys.argv) > 1 else None
stamp_frame.run(st.session_state.get("store of the test", started_with))
