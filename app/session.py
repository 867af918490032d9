"""What one session looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.settings import settings
from app.stores import open_store

if TYPE_CHECKING:
    from app.stores import Opened

PATH = "_store_path"
STORE = "_store_id"


def current() -> Opened:
    """The newest version of the store that this session looks at."""
    return open_store(st.session_state[PATH])


def look_at(path: str) -> Opened:
    """Make a store the one that this session looks at.

    Raises
    ------
    StampIndexError
        If it cannot be opened.
    """
    opened = open_store(path)
    st.session_state[PATH] = path
    st.session_state[STORE] = opened.store.store_id
    return opened


def hand_over(name: str, value: str) -> None:
    """Tell the next page what its widget `name` is to show, where this page binds a widget of that name too.

    Streamlit refuses to put such a one into the address.
    """
    st.session_state[f"_next_{name}"] = value


def take_over(name: str) -> None:
    """Before the widget `name` is made: show what the last page handed over, if anything."""
    value = st.session_state.pop(f"_next_{name}", None)
    if value is not None:
        st.session_state[name] = value


def user() -> str:
    """Who looks, as the proxy or the log-in says; "" where nobody logs in.

    Of a log-in the e-mail, unless the provider says that nobody checked it; else the provider's id of the user. Never the
    name, which users choose themselves.
    """
    if settings().auth == "proxy":
        return str(st.user.get("name") or "")
    email = str(st.user.get("email") or "")
    if email and str(st.user.get("email_verified", True)).casefold() != "false":
        return email
    return str(st.user.get("sub") or "")
