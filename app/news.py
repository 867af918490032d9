"""A quiet word when a newer version of the store is ready than the page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from stamp_index.errors import StampIndexError
from stamp_index.store.manifest import read_manifest

if TYPE_CHECKING:
    from app.stores import Opened

EVERY_S = 10


@st.fragment(run_every=EVERY_S)
def notice(opened: Opened) -> None:
    """Offer to show the newest version; a page moves to it by itself only when something is asked of it."""
    newest = _newest(opened)
    if newest > opened.store.version and st.button(
        f"v{newest} is ready · Reload", key="newversion", type="tertiary"
    ):
        st.rerun(scope="app")


def _newest(opened: Opened) -> int:
    """Newest version of the store; 0 where it cannot be told, which the next query says in words."""
    try:
        newest = read_manifest(opened.path)
    except StampIndexError:
        return 0
    return newest.version if newest.store_id == opened.store.store_id else 0
