"""Long work in processes of their own, which outlive a page's reload and can be stopped.

A job is a function that runs in a fresh Python process, since a thread would share its interpreter lock with every
user of the server. `multiprocessing` is not used: with Streamlit its children would run the page's script again, which
is what stands in ``__main__``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["queued", "running", "done", "failed", "cancelled"]

_CHILD = Path(__file__).with_name("job_process.py")
_LOG = logging.getLogger("stamp_index.app.jobs")


class JobError(Exception):
    """A job that cannot be started or found; the text is for the user."""


@dataclass(frozen=True)
class JobView:
    """A job as its owner sees it.

    Attributes
    ----------
    id : str
        Cannot be guessed, so it may stand in a page's address.
    name : str
        What it does, in words.
    state : {"queued", "running", "done", "failed", "cancelled"}
    step : str
        What it does now.
    share : float
        Of the work, in [0, 1].
    elapsed_s : float
        Since it left the queue, until it ended.
    ahead : int
        Jobs that are before it in the queue.
    message : str
        Why it failed, in one sentence.
    """

    id: str
    name: str
    state: State
    step: str
    share: float
    elapsed_s: float
    ahead: int
    message: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in ("queued", "running")


@dataclass(eq=False)
class _Job:
    id: str
    owner: str
    name: str
    payload: bytes  # where the function is, and its arguments, as JSON
    state: State = "queued"
    step: str = "waiting for a place"
    share: float = 0.0
    message: str = ""
    result: str = ""  # as JSON: each page gets a copy of its own
    started: float | None = None
    ended: float | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


class Jobs:
    """Runs jobs, a few at once, and remembers them for a while.

    Parameters
    ----------
    max_running : int
        Processes at once, of all owners.
    max_waiting : int
        Jobs of one owner that are queued or running.
    keep : int
        Ended jobs that are remembered.
    keep_s : float
        For how long, in seconds.
    keep_bytes : int
        What their results may take together; the newest is kept whatever it takes.
    """

    def __init__(
        self,
        *,
        max_running: int = 2,
        max_waiting: int = 4,
        keep: int = 24,
        keep_s: float = 3600.0,
        keep_bytes: int = 128 * 1024 * 1024,
    ) -> None:
        self._max_running, self._max_waiting = max_running, max_waiting
        self._keep, self._keep_s, self._keep_bytes = keep, keep_s, keep_bytes
        self._jobs: dict[str, _Job] = {}  # in the order in which they were asked for
        self._lock = threading.RLock()

    # ---- asking for work -----------------------------------------------------------------------

    def start(self, name: str, function: Callable[..., Any], *args: object, owner: str) -> str:
        """Queue ``function(*args, tell=tell)``. Returns the job's id.

        Parameters
        ----------
        name : str
            What it does, for people.
        function : callable
            At the top of a module that can be imported. It calls ``tell(step, share)`` to say how far it is; what it
            returns, and `args`, must be plain values that JSON has.
        owner : str
            Session or user; nobody else can see, read or stop the job.

        Raises
        ------
        JobError
            If this owner has too many unfinished jobs.
        ValueError
            If the function belongs to a script, which another process cannot import.
        TypeError
            If an argument is nothing that JSON has.
        """
        if function.__module__ == "__main__":
            msg = f"{function.__qualname__} belongs to a script; a job's function must be in a module that can be imported."
            raise ValueError(msg)
        place = {"module": function.__module__, "function": function.__qualname__}
        payload = json.dumps({"path": sys.path, **place, "args": args}).encode() + b"\n"
        with self._lock:
            self._forget()
            waiting = [job for job in self._of(owner) if job.ended is None]
            if len(waiting) >= self._max_waiting:
                msg = f"You have {len(waiting)} jobs that are not done yet. Wait for one, or cancel one."
                raise JobError(msg)
            job = _Job(secrets.token_urlsafe(8), owner, name, payload)
            self._jobs[job.id] = job
            self._start_waiting()
        return job.id

    def cancel(self, job_id: str, owner: str) -> None:
        """Stop a job; nothing happens if it has ended.

        Raises
        ------
        JobError
            If this owner has no such job.
        """
        with self._lock:
            job = self._find(job_id, owner)
            if job.ended is None:
                self._end(job, "cancelled")
                _kill(job.process)
                self._start_waiting()

    # ---- looking -------------------------------------------------------------------------------

    def look(self, job_id: str, owner: str) -> JobView:
        """Say how a job is doing.

        Raises
        ------
        JobError
            If this owner has no such job.
        """
        with self._lock:
            return self._view(self._find(job_id, owner))

    def result(self, job_id: str, owner: str) -> Any:  # noqa: ANN401 - whatever the function returned
        """What a job's function returned.

        Raises
        ------
        JobError
            If this owner has no such job, or it is not done; a failed job's reason is the text.
        """
        with self._lock:
            job = self._find(job_id, owner)
            if job.state != "done":
                raise JobError(job.message or f"'{job.name}' has no result: it is {job.state}.")
            result = job.result
        return json.loads(result)

    def of(self, owner: str) -> list[JobView]:
        """An owner's jobs, the newest first."""
        with self._lock:
            self._forget()
            return [self._view(job) for job in reversed(self._of(owner))]

    # ---- with the lock held ----------------------------------------------------------------------

    def _of(self, owner: str) -> list[_Job]:
        return [job for job in self._jobs.values() if job.owner == owner]

    def _find(self, job_id: str, owner: str) -> _Job:
        self._forget()
        job = self._jobs.get(job_id)
        if (
            job is None or job.owner != owner
        ):  # one text for both, which tells nothing of others' jobs
            msg = (
                "There is no such job. It may have ended long ago, or the server was started again."
            )
            raise JobError(msg)
        return job

    def _view(self, job: _Job) -> JobView:
        elapsed = 0.0
        if job.started is not None:
            elapsed = (job.ended or time.monotonic()) - job.started
        queue = [one for one in self._jobs.values() if one.state == "queued"]
        ahead = queue.index(job) if job.state == "queued" else 0
        return JobView(
            job.id, job.name, job.state, job.step, job.share, elapsed, ahead, job.message
        )

    def _forget(self) -> None:
        """Drop ended jobs that are old, or more or larger than what is kept."""
        ended = sorted(
            (job for job in self._jobs.values() if job.ended is not None),
            key=lambda job: job.ended or 0.0,
            reverse=True,
        )
        oldest, n_bytes = time.monotonic() - self._keep_s, 0
        for place, job in enumerate(ended):
            n_bytes += len(job.result)
            is_large = place > 0 and n_bytes > self._keep_bytes
            if place >= self._keep or is_large or (job.ended or 0.0) < oldest:
                del self._jobs[job.id]

    def _start_waiting(self) -> None:
        """Start queued jobs while there is room; owners with fewer running ones come first."""
        while True:
            running = [job.owner for job in self._jobs.values() if job.state == "running"]
            queue = [job for job in self._jobs.values() if job.state == "queued"]
            if not queue or len(running) >= self._max_running:
                return
            job = min(queue, key=lambda one: running.count(one.owner))  # the first of equals
            job.state, job.step, job.started = "running", "starting", time.monotonic()
            threading.Thread(target=self._supervise, args=(job,), daemon=True).start()

    def _end(self, job: _Job, state: State, message: str = "") -> None:
        job.state, job.message, job.ended = state, message, time.monotonic()
        job.payload = b""

    # ---- in a thread of the job ------------------------------------------------------------------

    def _supervise(self, job: _Job) -> None:
        """Run a job's process and note what it says, until it ends."""
        code = 1
        try:
            with self._lock:
                if job.state != "running":
                    return  # cancelled at once
                payload = job.payload
                process = job.process = _new_process()
            code = self._attend(job, process, payload)
        finally:  # whatever happens, the job ends and the next one starts
            with self._lock:
                if job.ended is None:
                    self._end(job, "failed", _reason(code, job.name))
                self._start_waiting()

    def _attend(self, job: _Job, process: subprocess.Popen[bytes], payload: bytes) -> int:
        """Stay with a process to its end. Returns its exit status."""
        try:
            self._listen(job, process, payload)
            if job.ended is None:  # it is on its way out, and its exit status will tell why
                _await_end(process)
        finally:
            with self._lock:
                job.process = None  # from here on its number may become another process's
                _kill(process)  # what it has started dies with it
            process.wait()
            with contextlib.suppress(OSError):  # work that it never took
                process.stdin.close()  # type: ignore[union-attr]
            process.stdout.close()  # type: ignore[union-attr]
        return process.returncode

    def _listen(self, job: _Job, process: subprocess.Popen[bytes], payload: bytes) -> None:
        """Hand over the work, and read what the process says until it says how it ended."""
        try:
            process.stdin.write(payload)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            while job.ended is None:
                kind, *values = json.loads(process.stdout.readline())  # type: ignore[union-attr]
                with self._lock:
                    self._note(job, kind, values)
        except (OSError, ValueError):  # an empty line is the end, and no JSON
            pass  # it is gone, which its exit status explains

    def _note(self, job: _Job, kind: str, values: list[Any]) -> None:
        if job.ended is not None:
            return
        if kind == "step":
            job.step, job.share = values
        elif kind == "done":
            job.result, job.share = values[0], 1.0
            self._end(job, "done")
        else:
            self._end(job, "failed", values[0])


def _new_process() -> subprocess.Popen[bytes]:
    """A Python process that waits for its work; it ends when this one does."""
    share = str(max(1, (os.cpu_count() or 2) // 2))  # of the cores, so that pages stay quick
    return subprocess.Popen(
        [sys.executable, "-P", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"OMP_NUM_THREADS": share, **os.environ},
        start_new_session=True,  # a group of its own, so that its children can be ended with it
    )


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    """End a process that was not waited for yet, and those that it has started."""
    if process is None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):  # where all have ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process's end without giving up its number, which its group is named by."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def _reason(code: int, name: str) -> str:
    """Why a process ended without saying so, in one sentence; the log has the rest."""
    incident = secrets.token_hex(4)
    _LOG.error("job '%s' ended with status %d; incident %s", name, code, incident)
    if code < 0:
        return (
            f"The work was ended from outside (signal {-code}), most often because memory ran out. Choose fewer slides "
            f"or spots and start again (incident {incident})."
        )
    return f"The work ended with an error that was not foreseen; the server's log has it (incident {incident})."


JOBS = Jobs()  # one for the whole server: pages come and go
