"""How far a run is, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import probe_runs
from app.jobs import JobError
from app.markup import plain

if TYPE_CHECKING:
    from app.probe_runs import Run

EVERY_S = 0.5


def show(run: Run) -> None:
    """Progress of an unfinished run; one sentence for one that came to nothing."""
    view = run.view
    if not view.is_over:
        _progress(run.ticket)
    elif view.state == "failed":
        st.error(f"Run {run.short} ({plain(view.name)}): {plain(view.message)}")
    elif view.state == "cancelled":
        st.info(
            f"Run {run.short} ({plain(view.name)}) was cancelled after {view.elapsed_s:.1f} s, at: {plain(view.step)}."
        )


@st.fragment(run_every=EVERY_S)
def _progress(ticket: str) -> None:
    """Step, share, time and a way to stop; the page runs again when the run is over."""
    try:
        run = probe_runs.look(ticket)
    except JobError:
        st.rerun()
    view = run.view
    if view.is_over:
        st.rerun()
    step = f"{view.ahead + 1} in the queue" if view.state == "queued" else view.step
    words = f"Run {run.short} · {plain(view.name)} · {plain(step)} · {view.elapsed_s:.0f} s"
    with st.container(
        horizontal=True, vertical_alignment="center", gap="medium", key="probeprogress"
    ):
        st.progress(min(max(view.share, 0.0), 1.0), text=words)
        st.button("Cancel", key="cancel", on_click=_cancel, args=(ticket,))


def _cancel(ticket: str) -> None:
    try:
        probe_runs.cancel(ticket)
    except JobError as error:  # it was forgotten meanwhile
        st.toast(plain(str(error)))
