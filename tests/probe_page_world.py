"""Probes that are run through the app's jobs, for tests of its page and of its route."""

from __future__ import annotations

import time

from app import probe_runs
from app.jobs import JOBS
from app.probe_work import StoreAt, asked, probe
from stamp_index.evaluate import ProbeSettings

PATIENCE_S = 120.0  # how long a test waits for what must happen


def ticket_of(store, session="someone", labels=None, **settings) -> str:
    """Run a probe to its end as a session does. Returns its ticket."""
    owner, _ = probe_runs.read_ticket(f"{session}.", "")
    return f"{session}.{finished(store, owner, labels, **settings)}"


def finished(store, owner, labels=None, **settings) -> str:
    """Run a probe of an owner to its end. Returns the job's id."""
    chosen = ProbeSettings(**settings)
    where = StoreAt(str(store.path), store.version, store.store_id, store.encoder)
    job_id = JOBS.start(
        probe_runs.name_of(chosen), probe, *asked(where, chosen, labels), owner=owner
    )
    await_end(job_id, owner)
    return job_id


def await_end(job_id: str, owner: str) -> str:
    """Wait until a job is over. Returns its state."""
    end = time.monotonic() + PATIENCE_S
    while not JOBS.look(job_id, owner).is_over:
        assert time.monotonic() < end
        time.sleep(0.05)
    return JOBS.look(job_id, owner).state
