"""What a crew is: it does jobs, at most so many at a time, and hands back results as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

J = TypeVar("J")
R = TypeVar("R")
_MOST_BYTES = 2**50  # a thousand times what machines have
MOST_TRIES = 4  # of a job: once, and three times more after its worker was lost


@dataclass(frozen=True)
class Done(Generic[J, R]):
    """One job that was done.

    Attributes
    ----------
    job : object
        As it was given.
    result : object
        What the worker returned.
    seconds : float
        Wall time in the worker.
    node : str
        Name of the machine.
    tries : int
        1, and one more for every worker that was lost with it.
    """

    job: J
    result: R
    seconds: float
    node: str
    tries: int = 1


@dataclass(frozen=True)
class Needs:
    """What one worker is given; it does one job at a time.

    Attributes
    ----------
    cpus : float
        Cores. Ray has a worker's libraries take as many threads, unless ``OMP_NUM_THREADS`` says otherwise.
    gpus : float
        GPUs, or the share of one.
    memory_bytes : int
        That a worker takes at most, its libraries included; 0 where nobody knows. Ray starts no more workers on
        a machine than fit; it stops none that takes more.

    Raises
    ------
    ValueError
        If one of them is infinite, NaN or negative, `cpus` is 0, or `memory_bytes` is above 2**50.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.cpus < math.inf:
            msg = f"cpus is {self.cpus!r}; expected a number of cores above 0."
            raise ValueError(msg)
        if not 0 <= self.gpus < math.inf:
            msg = f"gpus is {self.gpus!r}; expected a number of GPUs, or 0."
            raise ValueError(msg)
        if not 0 <= self.memory_bytes <= _MOST_BYTES:
            msg = f"memory_bytes is {self.memory_bytes!r}; expected bytes, at most {_MOST_BYTES:,}, or 0."
            raise ValueError(msg)


@dataclass(frozen=True)
class News:
    """Where a run stands.

    Attributes
    ----------
    done, running : int
        Jobs that are finished, and those that are worked at.
    workers : int
        That are ready.
    lost : int
        Workers that died so far.
    """

    done: int
    running: int
    workers: int
    lost: int


class Crew(Protocol):
    """Does jobs, in this process (`LocalCrew`) or on Ray (`RayCrew`).

    Attributes
    ----------
    engine : str
        One of `ENGINES`.
    """

    engine: ClassVar[str]

    def run(
        self,
        make_worker: Callable[[], Callable[[J], R]],
        jobs: Iterable[J],
        *,
        needs: Needs | None = None,
        name: Callable[[J], str] = str,
        progress: Callable[[News], Any] | None = None,
    ) -> Iterator[Done[J, R]]:
        """Do jobs; yields each when it is finished, in any order.

        Parameters
        ----------
        make_worker : callable
            Makes what does one job after another; called once by every worker, where it works. So what jobs share
            (an encoder, an open file) is loaded once. On Ray it is pickled: a class, a function of a module, or a
            `functools.partial` of one with paths and numbers; not with arrays, which would travel to every worker.
        jobs : iterable
            Small things: names, ranges, paths. Read no faster than they are done: at most as many as there are
            workers lie between `jobs` and whoever takes the results. Where nobody takes results, work stops.
        needs : Needs, optional
            Of each worker; one core by default.
        name : callable
            Name of a job in messages.
        progress : callable, optional
            Is told whenever something has changed.

        Raises
        ------
        CrewError
            If a job lost its worker four times, workers cannot be started, or theirs is another release.
        Exception
            What a worker raised, of the same type, with a note that names the job. Jobs that were worked at are
            stopped then, as they are when whoever takes the results stops. A worker that should go on after a bad
            job returns the error instead.

        Notes
        -----
        A job may be begun more than once, even by two workers at a time, as one of them may be cut off and not
        dead. So it must be safe to repeat: write under a name of one's own and rename it in the end.
        """
        ...
