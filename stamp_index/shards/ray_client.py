"""Shards that are asked through the Ray cluster on which they are served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import ShardError, StampIndexError
from stamp_index.shards.messages import decode_reply, encode_question
from stamp_index.shards.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.shards.messages import Question, Reply
    from stamp_index.store import Modality

_THREADS: Final = 32  # questions at a time


class RayShards:
    """Asks a service of shards through Ray; see `ShardService`.

    Who can reach a Ray cluster can run code on it: it asks for no token of ours.

    Parameters
    ----------
    address : str
        Such as ``ray://host:10001``; ``ray://auto`` for the cluster that this machine is a part of.
    timeout_s : float, optional
        For an answer; by default what the service gives its shards, and a margin.

    Raises
    ------
    ShardError
        If the cluster cannot be reached, or runs no such service.
    """

    def __init__(self, address: str, *, timeout_s: float | None = None) -> None:
        from stamp_index.shards.ray_serve import APP, start_ray

        start_ray("auto" if address == "ray://auto" else address)
        from ray import serve
        from ray.serve.exceptions import RayServeException

        self.address, self._patience = address, Patience(timeout_s)
        self._waiting = ThreadPoolExecutor(_THREADS, thread_name_prefix="shards")
        try:
            self._front: Any = serve.get_app_handle(APP)
        except RayServeException as exc:
            msg = (
                f"The Ray cluster at {address} serves no shards ({exc}). Start them with `stamp-index serve-shards STORE "
                f"--address {address}`."
            )
            raise ShardError(msg) from exc

    def plans(self) -> Mapping[str, Mapping[str, str]]:
        """See `ShardService`."""
        return self._patience.hear(self._result(self._front.plans))

    def ask(self, modality: Modality, question: Question) -> Reply:
        """See `ShardService`."""
        return decode_reply(self._result(self._front.ask, modality, encode_question(question)))

    def _result(self, method: Any, *given: Any) -> Any:  # noqa: ANN401 - of a deployment
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            # In a thread, as Ray refuses to wait where an event loop runs: in notebooks one always does.
            return self._waiting.submit(self._called, method, *given).result()
        except (RayError, RayServeException, TimeoutError, ConnectionError) as exc:
            cause = getattr(exc, "cause", None)
            if isinstance(cause, (StampIndexError, ValueError)):
                raise cause from None
            why = str(exc).strip().splitlines()[-1:] or [type(exc).__name__]
            msg = (
                f"The shards at {self.address} cannot be reached ({why[0]}). Try again in a moment."
            )
            raise ShardError(msg) from exc

    def _called(self, method: Any, *given: Any) -> Any:  # noqa: ANN401 - of a deployment
        return method.remote(*given).result(timeout_s=self._patience.wait_s)
