"""A crew of Ray actors: each makes its worker once and does one job at a time.

Retries are done here and not by Ray: an actor that Ray restarts may wait for a machine that never comes back, and
its job with it. Here a job whose worker was lost goes to the next worker that is free.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic

from stamp_index.crew.crew import MOST_TRIES, Done, J, Needs, News, R
from stamp_index.crew.ray_hand import PACKAGES, hand_class, require_same_releases
from stamp_index.errors import CrewError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    Hand = Any  # handle of an actor of Ray

_LISTEN_S: Final = 5.0  # between two looks whether there is any worker at all
_PATIENCE_S: Final = (
    300.0  # without any worker that is ready: a cluster may start machines meanwhile
)
_MOST_STILLBORN: Final = 4  # workers that die one after another before they are ready


class RayCrew:
    """Does jobs by actors of the Ray cluster that this process is connected to; see `Crew`.

    Parameters
    ----------
    ray : module
        Connected.
    n_workers : int or None
        At most; None for as many as the cluster has room for when a run begins.
    """

    engine: ClassVar[str] = "ray"

    def __init__(self, ray: ModuleType, n_workers: int | None = None) -> None:
        self._ray, self._n_workers = ray, n_workers
        self._runs: list[_Run[Any, Any]] = []

    def run(
        self,
        make_worker: Callable[[], Callable[[J], R]],
        jobs: Iterable[J],
        *,
        needs: Needs | None = None,
        name: Callable[[J], str] = str,
        progress: Callable[[News], Any] | None = None,
    ) -> Iterator[Done[J, R]]:
        """See `Crew.run`."""
        needs = needs or Needs()
        n_most = self._n_workers or _room(self._ray, needs)
        run = _Run(self._ray, make_worker, iter(jobs), needs=needs, n_most=n_most)
        self._runs.append(run)
        tell = progress or _silent
        try:
            while run.has_work():
                run.employ()
                tell(run.news())
                done = run.listen(name)
                if done is not None:
                    tell(run.news())
                    yield done
        finally:
            run.dismiss()
            self._runs.remove(run)

    def close(self) -> None:
        """Stop what nobody takes results from any longer."""
        for run in self._runs:
            run.dismiss()


def _silent(news: News) -> None:
    pass


def _room(ray: ModuleType, needs: Needs) -> int:
    """Count the workers that fit on the machines that there are, at least 1."""
    asked = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": float(needs.memory_bytes)}
    n_fit = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            n_fit += min(int(has.get(what, 0) // much) for what, much in asked.items() if much > 0)
    return max(1, n_fit)


@dataclass
class _Try(Generic[J]):
    """A job, and how often it was begun."""

    job: J
    number: int = 0


@dataclass(frozen=True)
class _Call:
    """What a worker was asked: to say its releases, to prepare, or to do a job."""

    hand: Hand
    what: str
    attempt: _Try[Any] | None = None


class _Run(Generic[J, R]):
    """One run: jobs that wait, workers that are free, and calls that are not answered yet."""

    def __init__(
        self,
        ray: ModuleType,
        make_worker: Callable[[], Callable[[J], R]],
        jobs: Iterator[J],
        *,
        needs: Needs,
        n_most: int,
    ) -> None:
        self._ray, self._make_worker, self._jobs = ray, make_worker, jobs
        self._needs, self._n_most = needs, n_most
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_restarts": 0}
        if needs.memory_bytes:
            options["memory"] = needs.memory_bytes
        self._hire = ray.remote(hand_class()).options(**options).remote
        self._waiting: deque[_Try[J]] = deque()
        self._free: list[Hand] = []
        self._calls: dict[Any, _Call] = {}
        self._n_done = self._n_lost = self._n_stillborn = 0
        self._last_ready = time.monotonic()

    @property
    def _n_running(self) -> int:
        return sum(call.attempt is not None for call in self._calls.values())

    def has_work(self) -> bool:
        """Whether a job waits or is worked at; takes as many from the source as there are workers without one."""
        n_running = self._n_running
        while len(self._waiting) < self._n_most - n_running:
            try:
                self._waiting.append(_Try(next(self._jobs)))
            except StopIteration:
                break
        return bool(self._waiting) or n_running > 0

    def news(self) -> News:
        """Say where the run stands."""
        n_running = self._n_running
        return News(self._n_done, n_running, n_running + len(self._free), self._n_lost)

    def employ(self) -> None:
        """Give jobs to the workers that are free, and have more workers started if jobs are left."""
        while self._free and self._waiting:
            hand, attempt = self._free.pop(), self._waiting.popleft()
            attempt.number += 1
            self._ask(hand.do.remote(attempt.job), _Call(hand, "do", attempt))
        n_starting = len(self._calls) - self._n_running
        n_hands = len(self._calls) + len(self._free)
        for _ in range(min(len(self._waiting) - n_starting, self._n_most - n_hands)):
            hand = self._hire()
            self._ask(hand.releases.remote(PACKAGES), _Call(hand, "releases"))

    def _ask(self, answer: Any, call: _Call) -> None:  # noqa: ANN401 - a reference of Ray
        self._calls[answer] = call

    def listen(self, name: Callable[[J], str]) -> Done[J, R] | None:
        """Wait a while for one answer; what was done, if it was that.

        Raises
        ------
        CrewError
            See `Crew.run`.
        Exception
            What a worker raised.
        """
        answers, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=_LISTEN_S)
        if not answers:
            self._require_hope()
            return None
        call = self._calls.pop(answers[0])
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(answers[0])
        except errors.RayTaskError as exc:
            raise self._cause(exc, call, name) from None
        except (
            errors.RayError
        ) as exc:  # the worker is gone: killed, out of memory, or its machine with it
            self._lose(call, exc, name)
            return None
        return self._heard(call, answer)

    def _heard(self, call: _Call, answer: Any) -> Done[J, R] | None:  # noqa: ANN401 - what a worker returned
        if call.what == "releases":
            require_same_releases(answer)
            self._ask(call.hand.prepare.remote(self._make_worker), _Call(call.hand, "prepare"))
            return None
        self._free.append(call.hand)
        self._last_ready, self._n_stillborn = time.monotonic(), 0
        if call.attempt is None:
            return None
        self._n_done += 1
        result, seconds, node = answer
        return Done(call.attempt.job, result, seconds, node, call.attempt.number)

    def _lose(self, call: _Call, exc: Exception, name: Callable[[J], str]) -> None:
        """Have the job done by another worker."""
        self._n_lost += 1
        self._kill(call.hand)
        if call.attempt is None:
            self._n_stillborn += 1
            if self._n_stillborn >= _MOST_STILLBORN:
                msg = f"{self._n_stillborn} workers one after another died while they started: {_first_line(exc)}"
                raise CrewError(msg) from exc
        elif call.attempt.number >= MOST_TRIES:
            msg = (
                f"The job {name(call.attempt.job)} lost its worker {MOST_TRIES} times; last: {_first_line(exc)} It may "
                f"need more memory than a worker has, or crash a library: try it on one machine without Ray."
            )
            raise CrewError(msg) from exc
        else:
            self._waiting.appendleft(call.attempt)

    def _cause(self, exc: Any, call: _Call, name: Callable[[J], str]) -> Exception:  # noqa: ANN401 - a RayTaskError
        """Return what the worker raised, of its own type, with what is known of it."""
        doing = "while a worker started"
        if call.attempt is not None:
            doing = f"in the job {name(call.attempt.job)}"
        cause = exc.cause
        if isinstance(cause, Exception) and not isinstance(cause, self._ray.exceptions.RayError):
            known = cause
        else:
            known = CrewError(f"A worker failed {doing}, with an error that cannot be sent here.")
        known.add_note(f"{doing}, where this was raised:\n{exc}")
        return known

    def _require_hope(self) -> None:
        """Refuse to wait for ever for workers that no machine has room for."""
        if self._n_running or self._free:
            self._last_ready = time.monotonic()
        elif time.monotonic() - self._last_ready > _PATIENCE_S:
            has = {
                what: round(much)
                for what, much in sorted(self._ray.cluster_resources().items())
                if ":" not in what
            }
            msg = f"No worker could be started in {_PATIENCE_S:g} s. Each needs {self._needs}; the cluster has {has}."
            raise CrewError(msg)

    def _kill(self, hand: Hand) -> None:
        self._ray.kill(hand, no_restart=True)

    def dismiss(self) -> None:
        """Stop all workers, and what they do."""
        for hand in [*self._free, *(call.hand for call in self._calls.values())]:
            self._kill(hand)
        self._free, self._calls = [], {}
        self._waiting.clear()


def _first_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
