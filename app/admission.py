"""Who may see the pages: asks for a log-in where one is needed, and checks the name against the allowed ones."""

from __future__ import annotations

from fnmatch import fnmatchcase

import streamlit as st

from app.markup import plain
from app.session import user
from app.settings import settings


def admitted() -> bool:
    """Whether the pages may be shown; where not, the page says why."""
    chosen = settings()
    if chosen.auth == "none":
        return True
    if chosen.auth == "oidc" and not st.user.is_logged_in:
        with st.container(border=True, key="card", width=560):
            st.subheader("Log in to search this store", anchor=False)
            st.button("Log in", type="primary", on_click=st.login)
        return False
    if not is_allowed(user()):
        with st.container(border=True, key="card", width=560):
            st.subheader("This store is not open to you", anchor=False)
            st.markdown(
                plain(f"You are logged in as {user() or 'nobody'}. Ask whoever runs this server.")
            )
            if chosen.auth == "oidc":
                st.button("Log out", on_click=st.logout)
        return False
    return True


def is_allowed(name: str) -> bool:
    """Whether a name fits one of the allowed patterns, or there are none."""
    patterns = settings().allowed
    folded = name.casefold()
    return bool(folded) and (
        not patterns or any(fnmatchcase(folded, one.casefold()) for one in patterns)
    )
