"""What a user sees of an error that nobody foresaw: an id to pass on, and no traceback."""

from __future__ import annotations

import logging
import secrets

import streamlit as st

from app.session import STORE
from app.settings import settings
from stamp_index.errors import StampIndexError
from stamp_index.store.manifest import read_manifest

_log = logging.getLogger(__name__)


def _store_is_gone() -> bool:
    """Whether the store that the session looks at was deleted or replaced while the page was open."""
    held, path = st.session_state.get(STORE), settings().store_path
    if held is None or path is None:
        return False
    try:
        return read_manifest(path).store_id != held
    except StampIndexError:
        return True


def report(error: Exception) -> bool:
    """Log an error under an id and show the id. True: Streamlit shows nothing of its own."""
    if _store_is_gone():
        st.error("The store is not where it was, or another one lies there now. Reload the page.")
        return True
    incident = secrets.token_hex(2)
    _log.error("incident %s", incident, exc_info=error)
    st.error(
        f"Something went wrong (incident {incident}). The query is kept: try again, or send this id to "
        "whoever runs this server."
    )
    return True
