"""Linear probe: what the stored embeddings tell of a label or a gene, with whole groups held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import probe_controls, probe_drawing, probe_progress, probe_result, probe_runs, probe_table
from app.components import FRONTEND
from app.jobs import JobError
from app.markup import plain
from app.probe_runs import JOB
from app.session import current

if TYPE_CHECKING:
    from app.probe_runs import Run
    from app.stores import Opened

CSS = FRONTEND / "probe" / "probe.css"


def page() -> None:
    opened = current()
    st.html(CSS)
    st.title("Linear probe", anchor=False)
    asked, pressed = probe_controls.controls(opened)
    if pressed and asked.settings is not None:
        start(opened, asked)
    run = named_run()
    if run is not None:
        probe_progress.show(run)
    if asked.target == probe_controls.DRAWN:
        if run is not None and run.is_done:
            st.caption(f"Run {run.short} is done; its result stands below the slide.")
        probe_drawing.show(opened)
    results(opened, run)


def start(opened: Opened, asked: probe_controls.Asked) -> None:
    """Queue the probe, and make it the page's run."""
    try:
        st.query_params[JOB] = probe_runs.start(opened, asked.settings, asked.labels)
    except JobError as error:
        st.warning(plain(str(error)))
        return
    st.rerun()


def named_run() -> Run | None:
    """The run that the address names."""
    ticket = st.query_params.get(JOB, "")
    if not ticket:
        return None
    try:
        return probe_runs.look(ticket)
    except JobError as error:
        st.info(plain(str(error)))
        return None


def results(opened: Opened, run: Run | None) -> None:
    """The run's result; the one before it, greyed, while there is none yet."""
    done = probe_runs.done(opened)
    held = {one.ticket: one for one in done}
    shown = held.get(run.ticket) if run is not None else None
    if shown is None and done:
        shown = held.get(st.session_state.get("probe_shown", ""), done[0])
    if shown is None:
        if run is None:
            nothing_yet()
        return
    st.session_state["probe_shown"] = shown.ticket
    waits = run is not None and not run.view.is_over
    with st.container(key="probestale" if waits else "proberesult"):
        probe_result.show(opened, shown)
        probe_table.show(opened, shown, done)


def nothing_yet() -> None:
    """What to do, before there is a run."""
    st.info(
        "A probe asks how well a straight line through the stored embeddings tells a label, or a gene, on tissue that "
        "it has not seen. Choose what to probe for and press Run (Ctrl+Enter)."
    )


page()
