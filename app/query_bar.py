"""The gene query bar on a page: what it is told, what it says back, and what is said of a query below it.

The page's address carries the query. Suggestions are fetched by the browser itself; through Streamlit go the terms and
how each stands, and back the text of an edit or of a pasted list.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.api import frontend
from app.api.routes import asset_address, store_address
from app.api.tokens import mint
from app.gene_names import names
from app.markup import plain
from app.query_controls import set_query
from app.query_terms import Term, Terms, merged, read_terms
from app.session import user
from stamp_index.errors import QueryError
from stamp_index.genes.signature import MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.components.v2.types import ComponentRenderer

    from app.stores import Opened

PLACEHOLDER = 'type a gene, or paste "MS4A1 high, KRT8 low"'
MAX_NAME = 60
SHOWN_PROBLEMS = 3
PROBLEMS = "genes not taken"  # in the session: what of a pasted or chosen list is not in the query


def query_bar(opened: Opened, text: str, *, key: str) -> str | None:
    """Show a gene query to be edited, with what is wrong with it.

    An edit becomes `q` of the address, so that it can be sent, and the browser can go back from it.

    Parameters
    ----------
    opened : Opened
        The store.
    text : str
        The query of the address, or the one that the page opens with. What cannot be read stands in the field.
    key : str
        Name of the element.

    Returns
    -------
    str or None
        The query to search with; None while it cannot be read or a gene of it is not resolved.
    """
    text = _edited(text, key)
    read = read_terms(opened, text)
    _component()(
        key=key,
        data=_data(opened)
        | {
            "terms": [term.to_dict() for term in read.terms],
            "rest": read.rest,
            "stamp": text,
            "placeholder": PLACEHOLDER,
        },
        on_said_change=_nothing,
        on_pasted_change=_nothing,
        on_renew_change=_nothing,
    )
    _problems()
    _said_of(read)
    return text if read.can_be_asked else None


def gene_box(opened: Opened, gene: str, *, key: str, address: str = "gene") -> str:
    """Show one gene to be replaced by typing; the address carries it.

    Returns
    -------
    str
        The name in the address, or `gene` where there is none; it can be one that no store knows.
    """
    name = st.query_params.get(address, gene)[:MAX_NAME]
    if edit := _news(key, "said"):
        name = st.query_params[address] = str(edit.get("text", ""))[:MAX_NAME].strip()
    try:
        found = names(opened).stored.resolve([name], on_missing="ignore").get(name)
        term = Term(found or name, 1.0, "ok" if found else "unknown")
    except QueryError:
        term = Term(name, 1.0, "ambiguous")
    shown = [term.to_dict()] if name else []
    told = {"terms": shown, "stamp": name, "single": True, "label": "Gene"}
    _component()(
        key=key,
        data=_data(opened) | told | {"placeholder": "type a gene"},
        on_said_change=_nothing,
        on_renew_change=_nothing,
        width=240,
    )
    return name


def tell_problems(problems: Sequence[str]) -> None:
    """Say under the bar, until it is dismissed, what of a list is not in the query."""
    st.session_state[PROBLEMS] = tuple(problems)


def _edited(text: str, key: str) -> str:
    """The query after what the browser said since the last run."""
    if edit := _news(key, "said"):
        text = str(edit.get("text", ""))[:MAX_CHARS]
        set_query(text)
    if paste := _news(key, "pasted"):
        text, problems = merged(str(paste.get("text", ""))[:MAX_CHARS], str(paste.get("pasted")))
        set_query(text)
        tell_problems(problems)
    return text


def _news(key: str, event: str) -> Mapping[str, Any] | None:
    """What the browser said by an event, once for each number of it.

    The element's state outlives the run that it was new in. Where the user goes back in the browser, it holds an edit
    that is undone; and a session that begins anew after a lost connection has heard what is there already.
    """
    held = st.session_state.get(key)
    said = held.get(event) if isinstance(held, Mapping) else None
    number = said.get("n") if isinstance(said, Mapping) else None
    heard = f"{key} {event} heard"
    is_new = number is not None and st.session_state.get(heard, number) != number
    st.session_state[heard] = number or st.session_state.get(heard, "")
    return said if is_new else None


def _data(opened: Opened) -> dict[str, Any]:
    return {
        "module": asset_address("query_bar/streamlit.js"),
        "style": asset_address("query_bar/query_bar.css"),
        "api": store_address(opened),
        "token": mint(user()),
    }


def _said_of(read: Terms) -> None:
    """Why nothing is searched, or how a name was understood."""
    if read.error:
        st.error(plain(read.error))
    elif not read.terms:
        st.info("The query names no gene. Type one, or take an example or a marker set.")
    elif read.open:
        _waiting(read.open, read.without_open)
    renamed = [f"{term.asked} is {term.gene} here" for term in read.terms if term.asked]
    if renamed:
        st.caption(plain("; ".join(renamed) + "."))


def _waiting(unresolved: Sequence[Term], rest: str) -> None:
    called = [term.gene for term in unresolved]
    shown = ", ".join(called[:5]) + (f" and {len(called) - 5} more" if len(called) > 5 else "")
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="unresolved"):
        st.markdown(
            f"The search runs once every gene is known to store and encoder. Still open: **{plain(shown)}**.",
            width="content",
        )
        if rest:
            one = f"Leave {called[0]} out" if len(called) == 1 else f"Leave these {len(called)} out"
            st.button(plain(one), key="leave-out", on_click=set_query, args=(rest,))


def _problems() -> None:
    problems = st.session_state.get(PROBLEMS, ())
    if not problems:
        return
    more = problems[SHOWN_PROBLEMS:]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="nottaken"):
        count = "1 thing" if len(problems) == 1 else f"{len(problems)} things"
        st.caption(
            plain(f"{count} of the list: " + " ".join(problems[:SHOWN_PROBLEMS])), width="content"
        )
        if more:
            with st.popover(f"{len(more)} more", type="tertiary"):
                for problem in more:
                    st.caption(plain(problem))
        st.button("Dismiss", type="tertiary", key="dismiss", on_click=tell_problems, args=((),))


@cache
def _component() -> ComponentRenderer:
    """The component: a few lines that load the module, which the browser keeps."""
    js = (frontend.FRONTEND / "query_bar" / "loader.js").read_text("utf-8")
    return st.components.v2.component("stamp_query_bar", html='<div class="gq-host"></div>', js=js)


def _nothing() -> None:
    """A component's state exists only with a callback; the rerun itself does the work."""
