"""Threads that do the work: so many at a time, so many that wait, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from stamp_index.serve.problems import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

Result = TypeVar("Result")


class Lane:
    """A bounded queue before a bounded number of threads.

    A thread cannot be stopped, so work that takes longer than its caller waits keeps its thread until it ends: there
    are never more threads than these, and whoever comes while all are busy waits or is sent away.

    Parameters
    ----------
    name : str
        What is done here, for messages.
    threads : int
        At a time.
    queue : int
        Callers that wait for a thread.
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"stamp-{name}")
        self._most = threads + queue
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Requests that are worked on or wait."""
        return self._held

    async def run(self, work: Callable[[], Result], *, within_s: float) -> Result:
        """Do some work in a thread.

        Raises
        ------
        RefusedError
            429 if too many wait, 504 if it is not done in time.
        """
        with self._lock:
            if self._held >= self._most:
                msg = f"Too many {self.name} wait already ({self._held}). Ask again in a moment."
                raise RefusedError(429, "BusyError", msg, retry_after_s=1)
            self._held += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._leave)
        waited = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({waited}, timeout=within_s)
        finally:  # what has not begun by then is taken out of the queue
            future.cancel()
            waited.cancel()
        if not done:
            msg = f"The answer was not ready within {within_s:g} s. Ask for less, or later."
            raise RefusedError(504, "TimeoutError", msg)
        return waited.result()

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._held -= 1

    def close(self) -> None:
        """Take no more work; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
