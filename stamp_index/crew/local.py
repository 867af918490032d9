"""The crew of one: this process."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any, ClassVar

from stamp_index.crew.crew import Done, J, Needs, News, R

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class LocalCrew:
    """Does one job after another here, with all cores that the libraries take; see `Crew`."""

    engine: ClassVar[str] = "local"

    def run(
        self,
        make_worker: Callable[[], Callable[[J], R]],
        jobs: Iterable[J],
        *,
        needs: Needs | None = None,
        name: Callable[[J], str] = str,
        progress: Callable[[News], Any] | None = None,
    ) -> Iterator[Done[J, R]]:
        """See `Crew.run`. `needs` does not matter here."""
        work, node = None, platform.node()
        for number, job in enumerate(jobs):
            work = work or make_worker()
            if progress is not None:
                progress(News(number, 1, 1, 0))
            began = time.perf_counter()
            try:
                result = work(job)
            except Exception as exc:
                exc.add_note(f"in the job {name(job)}")
                raise
            done = Done(job, result, time.perf_counter() - began, node)
            if progress is not None:
                progress(News(number + 1, 0, 1, 0))
            yield done
