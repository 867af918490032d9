"""Handing a query on: as an address of this server, and as Python."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import streamlit as st

from app import components
from app.markup import plain
from app.settings import settings
from stamp_index.addresses import DEFAULT_BASE_URL
from stamp_index.errors import QueryError
from stamp_index.search.sharing import python_snippet, request_url

if TYPE_CHECKING:
    from app.stores import Opened
    from stamp_index.search.sharing import Request


def app_url() -> str:
    """Where the app is served, as the browser sees it."""
    parts = urlsplit(st.context.url or DEFAULT_BASE_URL)
    return f"{parts.scheme}://{parts.netloc}{settings().base_path}"


def link(request: Request | None) -> None:
    """Popover with the address of a query; of the page itself where the query is no request."""
    popover = st.popover("Copy link", on_change="rerun", key="copylink")
    if not popover.open:
        return  # where a viewer was moved to meanwhile is known to the browser alone
    with popover:
        whom = "Opens the same on this server, for those who may see it."
        if request is None:
            st.caption(whom)
            components.here("pageaddress", shown=True)
            return
        try:
            address = request_url(request, app_url())
        except QueryError as error:
            st.caption(plain(str(error)))
            return
        st.caption(whom)
        st.code(address, language=None, wrap_lines=True)


def python(opened: Opened, request: Request) -> None:
    """Popover with Python that asks the same."""
    with st.popover("Copy as Python"):
        st.caption("Asks the same of the same store. Put in where the store lies on your machine.")
        st.code(python_snippet(request, opened.store), language="python")
