"""What a user sees of an error that nobody foresaw: an id to pass on, and no traceback."""

from __future__ import annotations

import logging
import secrets

import streamlit as st

_log = logging.getLogger(__name__)


def report(error: Exception) -> bool:
    """Log an error under an id and show the id. True: Streamlit shows nothing of its own."""
    incident = secrets.token_hex(2)
    _log.error("incident %s", incident, exc_info=error)
    st.error(
        f"Something went wrong (incident {incident}). The query is kept: try again, or send this id to "
        "whoever runs this server."
    )
    return True
