"""What the routes share: the store, the threads, the limits, and answers or errors as responses."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from stamp_index.errors import QueryError
from stamp_index.process_memory import resident_mb
from stamp_index.serve.lanes import Lane
from stamp_index.serve.plain import to_json
from stamp_index.serve.problems import Problem, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from stamp_index.serve.live import Live, Opened
    from stamp_index.serve.problems import Shown
    from stamp_index.serve.settings import Limits

JSON: Final = "application/json"


class Service:
    """One served store.

    Parameters
    ----------
    live : Live
    limits : Limits
    shown : Shown
        Writes errors.
    """

    def __init__(self, live: Live, limits: Limits, shown: Shown) -> None:
        self.live, self.limits, self.shown = live, limits, shown
        self.searches = Lane("searches", limits.search_threads, limits.queue)
        self.reads = Lane("reads", limits.readers, limits.queue)

    def held(self) -> dict[str, int]:
        """Count requests that are worked on or wait, by lane."""
        return {lane.name: lane.held for lane in (self.searches, self.reads)}

    def close(self) -> None:
        """Take no more work."""
        self.searches.close()
        self.reads.close()
        self.live.close()

    async def search(self, work: Callable[[Opened], Mapping[str, Any]]) -> Response:
        """Answer a search, unless there is no memory left for one."""
        limit = self.limits.memory_mb
        if limit and resident_mb() > limit:
            msg = f"The server holds more than {limit:g} MB. Ask again in a moment."
            error = RefusedError(503, "BusyError", msg, retry_after_s=5)
            return problem_response(self.shown.problem(error))
        return await self._answer(self.searches, lambda opened: _json(work(opened)))

    async def read(self, work: Callable[[Opened], Mapping[str, Any]]) -> Response:
        """Answer with what the store holds."""
        return await self._answer(self.reads, lambda opened: _json(work(opened)))

    async def picture(self, work: Callable[[Opened], bytes]) -> Response:
        """Answer with a JPEG."""
        return await self._answer(
            self.reads, lambda opened: Response(work(opened), media_type="image/jpeg")
        )

    async def _answer(self, lane: Lane, work: Callable[[Opened], Response]) -> Response:
        # What goes wrong becomes a response in the thread: no error with its frames outlives it.
        try:
            return await lane.run(lambda: self._worked(work), within_s=self.limits.time_s)
        except RefusedError as error:
            return problem_response(self.shown.problem(error))
        except asyncio.CancelledError:  # of work that waited when the server was stopped
            problem = Problem(503, "NotReadyError", "The server is going down.")
            return problem_response(problem)

    def _worked(self, work: Callable[[Opened], Response]) -> Response:
        try:
            return work(self.live.now())
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller gets an answer, and the log the rest
            return problem_response(self.shown.problem(error))

    def stopper(self) -> Callable[[int, int], None]:
        """Something to report progress to, which ends work that nobody waits for any more."""
        until = time.monotonic() + self.limits.time_s

        def tell(_: int, __: int) -> None:
            if time.monotonic() > until:
                msg = "This took too long."
                raise RefusedError(504, "TimeoutError", msg)

        return tell

    def check(self, name: str, given: int | Sized | None) -> None:
        """Refuse more than a limit allows.

        Raises
        ------
        QueryError
            Naming the limit.
        """
        most = getattr(self.limits, name)
        n = given if isinstance(given, int) else 0 if given is None else len(given)
        if n > most:
            what = {"k": "hits", "cells": "values", "region_spots": "spots of a region",
                    "found_spots": "spots of all regions"}  # fmt: skip
            msg = (
                f"{n:,} {what.get(name, name)} are asked for; this server answers at most {most:,}."
            )
            raise QueryError(msg)


def problem_response(problem: Problem) -> Response:
    """Make a response of an error."""
    return Response(problem.body(), problem.status, dict(problem.headers), JSON)


def _json(values: Mapping[str, Any]) -> Response:
    return Response(to_json(values), media_type=JSON)
