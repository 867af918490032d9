"""Whose probe a run is, and what is known of it.

A user who logs in owns the runs of all of their sessions. Where nobody logs in, each session gets a name that
cannot be guessed, and a run's ticket (what stands in the address as ``job=``) is that name with the job's id:
whoever has the link sees the session's runs, and nobody else. A session that opens such a link starts its own
runs under its own name.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.components import short_key
from app.jobs import JOBS, JobError, JobView
from app.probe_work import StoreAt, answered, asked, probe
from app.session import user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.stores import Opened
    from stamp_index.evaluate import ProbeResult, ProbeSettings

JOB = "job"  # in the address
_OWN, _VISITED = "probe_session", "probe_sessions_visited"  # in the session
_KEPT = 24  # results that are kept open, some MB each


@dataclass(frozen=True)
class Run:
    """A probe that was asked for."""

    ticket: str
    owner: str
    view: JobView

    @property
    def short(self) -> str:
        """Name of four letters, for people."""
        return short_name(self.ticket)

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.view.state == "done"

    def result(self) -> ProbeResult:
        """What it found.

        Raises
        ------
        JobError
            If it is not done, or was forgotten.
        """
        return _result(self.view.id, self.owner)


def short_name(ticket: str) -> str:
    """Four letters for a ticket, which itself is not shown."""
    return short_key(ticket)[:4]


def read_ticket(ticket: str, user_name: str) -> tuple[str, str]:
    """Owner and job id that a ticket stands for, when `user_name` shows it ("" where nobody logs in)."""
    session, _, job_id = ticket.rpartition(".")
    if user_name:
        return f"probe-user:{user_name}", job_id
    return f"probe-session:{session}", job_id


def result_of(ticket: str, user_name: str) -> ProbeResult:
    """Result of a run, for whoever may see it.

    Raises
    ------
    JobError
        If there is no such run of theirs, or it is not done.
    """
    owner, job_id = read_ticket(ticket, user_name)
    return _result(job_id, owner)


@functools.lru_cache(maxsize=_KEPT)
def _result(job_id: str, owner: str) -> ProbeResult:
    return answered(JOBS.result(job_id, owner))


def start(opened: Opened, settings: ProbeSettings, labels: Mapping[int, str] | None) -> str:
    """Queue a probe. Returns its ticket.

    Raises
    ------
    JobError
        If this owner has too many unfinished ones.
    """
    store = opened.store
    where = StoreAt(opened.path, store.version, store.store_id, store.encoder)
    owner, _ = read_ticket(_ticket(""), user())
    job_id = JOBS.start(name_of(settings), probe, *asked(where, settings, labels), owner=owner)
    return _ticket(job_id)


def name_of(settings: ProbeSettings) -> str:
    """What a probe asks, in words."""
    looked_at = "image and gene" if settings.features == "both" else settings.features
    unit = "single spot" if settings.split == "spot" else settings.split
    return f"{settings.label or settings.gene} from {looked_at} embeddings, by {unit}"


def look(ticket: str) -> Run:
    """Say how a run is doing.

    Raises
    ------
    JobError
        If this user has no such run.
    """
    owner, job_id = read_ticket(ticket, user())
    run = Run(ticket, owner, JOBS.look(job_id, owner))
    _visit(ticket)
    return run


def cancel(ticket: str) -> None:
    """Stop a run; nothing happens if it has ended."""
    owner, job_id = read_ticket(ticket, user())
    JOBS.cancel(job_id, owner)


def done(opened: Opened) -> list[Run]:
    """Runs on this store that have a result, the newest of each session first."""
    found = []
    for session in dict.fromkeys(
        ["" if user() else _session(), *st.session_state.get(_VISITED, ())]
    ):
        owner, _ = read_ticket(f"{session}.", user())
        for view in JOBS.of(owner):
            ticket = f"{session}.{view.id}" if session else view.id
            found.append(Run(ticket, owner, view))
    return [run for run in found if run.is_done and _is_of(run, opened)]


def _is_of(run: Run, opened: Opened) -> bool:
    try:
        return run.result().source.store_id == opened.store.store_id
    except JobError:  # forgotten meanwhile
        return False


def _session() -> str:
    """This session's own name."""
    if _OWN not in st.session_state:
        st.session_state[_OWN] = secrets.token_urlsafe(12)
    name: str = st.session_state[_OWN]
    return name


def _ticket(job_id: str) -> str:
    return job_id if user() else f"{_session()}.{job_id}"


def _visit(ticket: str) -> None:
    """Remember the session whose run was opened by its link, or before a reload."""
    session = "" if user() else ticket.rpartition(".")[0]
    visited = st.session_state.setdefault(_VISITED, [])
    if session and session not in visited:
        visited.append(session)
