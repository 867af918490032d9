"""The session's shortlist: spots that were marked, whatever query found them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from app.stores import Opened

KEY = "shortlist"
MOST = 100


def marked() -> tuple[str, ...]:
    """Ids of the marked spots, in the order in which they were marked."""
    return tuple(st.session_state.setdefault(KEY, []))


def toggle(spot_id: str) -> None:
    """Mark a spot, or take its mark away; at most `MOST` spots are marked."""
    held: list[str] = st.session_state.setdefault(KEY, [])
    if spot_id in held:
        held.remove(spot_id)
    elif len(held) < MOST:
        held.append(spot_id)


def clear() -> None:
    """Take all marks away."""
    st.session_state[KEY] = []


def rows(opened: Opened) -> dict[str, int]:
    """Row of each marked spot that the store has; one that was deleted meanwhile is left out."""
    found = {}
    for spot_id in marked():
        try:
            found[spot_id] = opened.store.row_of(spot_id)
        except QueryError:
            continue
    return found


def toggle_ranked(spot_ids: list[str], rank: int) -> None:
    """Toggle the spot of a rank; for what the gallery says."""
    if 1 <= rank <= len(spot_ids):
        toggle(spot_ids[rank - 1])
