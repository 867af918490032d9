"""Shards served by Ray Serve: replicas for each, behind one deployment that asks them all and merges.

On every host that may run a replica the store must lie at the same path, as on a shared file system; a replica reads
the files of its own shard. Ray starts replicas again that end, and spreads them over the machines of its cluster.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stamp_index.crew.ray_connection import load_ray, start
from stamp_index.errors import CrewError, QueryError, ShardError, StalePlanError
from stamp_index.shards.gather import joined, part_questions, raise_refusals
from stamp_index.shards.http_client import ROUTE, TOKEN_VARIABLE
from stamp_index.shards.messages import MOST_BYTES, decode_question, encode_reply
from stamp_index.shards.part import Part
from stamp_index.shards.patience import TIMEOUT_S, announced, check_timeout
from stamp_index.shards.plan import has_plan, read_plan, shards_folder
from stamp_index.shards.service_token import sha256_of, token_for
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from stamp_index.shards.messages import Question
    from stamp_index.shards.part import Hits, PartQuestion
    from stamp_index.shards.plan import ShardPlan
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView

APP: Final = "stamp-index-shards"
_THREADS: Final = 4  # searches that a replica runs at once
_WAITING: Final = 64  # that wait for one; more are refused


class Served(NamedTuple):
    """Where and how shards are served.

    Attributes
    ----------
    host, port : str, int
        Address to listen on.
    replicas : int
        Of every shard.
    timeout_s : float
        For a shard to answer.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    timeout_s: float = TIMEOUT_S

    @property
    def url(self) -> str:
        """Address for `stamp_index.shards.connect`, which knows the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class ShardReplica:
    """One shard of one plan, in an actor of Ray's."""

    def __init__(self, folder: str, number: int, name: str) -> None:
        self._part = Part.open(Path(folder), number, name)

    async def answer(self, question: PartQuestion) -> Hits:
        """See `AnswersPart`."""
        return await asyncio.to_thread(self._part.answer, question)


class Front:
    """Asks all shards and merges what they answer; what clients talk to.

    Parameters
    ----------
    plans : dict of str to ShardPlan
        By modality.
    token_sha256 : str
        Of the bearer token that is asked for; "" for none.
    timeout_s : float
        For a shard to answer.
    shards : sequence of DeploymentHandle
        Those of all plans, in the order of the plans and their parts.
    """

    def __init__(
        self,
        plans: Mapping[str, ShardPlan],
        token_sha256: str,
        timeout_s: float,
        *shards: Any,  # noqa: ANN401 - DeploymentHandle
    ) -> None:
        self._plans, self._token, self._timeout_s = dict(plans), token_sha256, timeout_s
        left = iter(shards)
        self._shards = {
            side: [next(left) for _ in plan.parts] for side, plan in self._plans.items()
        }

    async def plans(self) -> dict[str, Mapping[str, str]]:
        """See `ShardService.plans`; what `Patience.hear` reads."""
        facts = {side: plan.facts for side, plan in self._plans.items()}
        return announced(facts, self._timeout_s)

    async def ask(self, modality: str, body: bytes) -> bytes:
        """See `ShardService.ask`; question and reply as bytes.

        Raises
        ------
        QueryError, StalePlanError, ValueError
            As there.
        """
        # Not in the thread that hears all others: many queries take a while to be read and checked.
        question, plan, asked = await asyncio.to_thread(self._read, modality, body)
        return await self._gathered(question, plan, asked)

    def _read(
        self, modality: str, body: bytes
    ) -> tuple[Question, ShardPlan, dict[int, PartQuestion]]:
        question = decode_question(body)
        plan = self._plans.get(modality)
        if plan is None:
            msg = f"There are no shards of {modality[:20]!r} here; served are {', '.join(self._plans)}."
            raise QueryError(msg)
        asked = part_questions(question, plan)
        return question, plan, {n: one for n, one in asked.items() if n not in question.skip}

    async def _gathered(
        self, question: Question, plan: ShardPlan, asked: Mapping[int, PartQuestion]
    ) -> bytes:
        handles = self._shards[plan.modality]
        answers: Sequence[Any] = await asyncio.gather(
            *(
                asyncio.wait_for(_answer_of(handles[number], one), self._timeout_s)
                for number, one in asked.items()
            ),
            return_exceptions=True,
        )
        by_number = dict(zip(asked, answers, strict=True))
        failed = {n: _cause(one) for n, one in by_number.items() if isinstance(one, BaseException)}
        raise_refusals(plan, failed)
        found = {n: one for n, one in by_number.items() if n not in failed}
        return await asyncio.to_thread(lambda: encode_reply(joined(question, plan, found, failed)))

    async def __call__(self, request: Request) -> Response:
        """Answer over HTTP: GET the plans, POST a question to the path of its modality."""
        from starlette.responses import JSONResponse, Response

        if not self._may(request.headers.get("authorization", "")):
            return _refusal(401, f"This service asks for a bearer token: set {TOKEN_VARIABLE}.")
        if request.method == "GET":
            return JSONResponse(await self.plans())
        if request.method != "POST":
            return _refusal(405, f"{request.method} is not answered here; expected GET or POST.")
        body = await _body_of(request)
        if body is None:
            return _refusal(413, f"The question has more than {MOST_BYTES:,} bytes.")
        modality = request.url.path.rstrip("/").rpartition("/")[2]
        try:
            reply = await self.ask(modality, body)
        except StalePlanError as exc:
            return _refusal(409, str(exc))
        except (QueryError, ValueError) as exc:
            return _refusal(400, str(exc))
        return Response(reply, media_type="application/octet-stream")

    def _may(self, header: str) -> bool:
        if not self._token:
            return True
        given = sha256_of(header.removeprefix("Bearer ").strip())
        return header.startswith("Bearer ") and hmac.compare_digest(given, self._token)


async def _answer_of(handle: Any, question: PartQuestion) -> Hits:  # noqa: ANN401 - DeploymentHandle
    found: Hits = await handle.answer.remote(question)
    return found


def _cause(failure: BaseException) -> BaseException:
    """Take what a replica raised out of what Ray wraps it in."""
    cause = getattr(failure, "cause", None)
    return cause if isinstance(cause, BaseException) else failure


async def _body_of(request: Request) -> bytes | None:
    """Body of a request; None where it is too long, of which no more is read."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > MOST_BYTES:
        return None
    body = bytearray()
    stream: AsyncIterator[bytes] = request.stream()
    async for chunk in stream:
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _refusal(status: int, words: str) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": words}, status)


# ---- starting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RayService:
    """A service that was started.

    Attributes
    ----------
    url : str
        Its address.
    plans : dict of str to ShardPlan
        What it serves, by modality.
    has_joined : bool
        Whether this process was connected to Ray for it. A Ray that was started for it ends with the connection; a
        cluster that was joined has other people's services too and goes on.
    """

    url: str
    plans: Mapping[Modality, ShardPlan]
    has_joined: bool

    def stop(self) -> None:
        """End the service, and what else was started for it."""
        import ray
        from ray import serve

        with _quiet():
            serve.delete(APP)
        if self.has_joined:
            ray.shutdown()


def serve_shards(
    store: StoreView, served: Served | None = None, *, address: str | None = None
) -> RayService:
    """Serve the current shards of a store on Ray; returns when they answer.

    Parameters
    ----------
    store : StoreView
        Whose indexes were divided. Every machine of the cluster must find it at this path.
    served : Served, optional
        Where and how.
    address : str, optional
        Of the cluster, such as ``ray://host:10001`` or ``auto``; by default Ray is started on this machine.

    Returns
    -------
    RayService
        To be stopped.

    Raises
    ------
    ShardError
        If Ray is not installed, the cluster cannot be reached, Ray Serve listens elsewhere on it, or everybody who
        reaches `host` could ask, as there is no token or one that can be guessed.
    AnnIndexError
        If the store has no shards.
    ValueError
        If shards have no time to answer, or more than an hour.
    """
    served = served or Served()
    check_timeout(served.timeout_s)
    token = token_for(served.host)
    plans = {s: read_plan(shards_folder(store, s)) for s in MODALITIES if has_plan(store, s)}
    if not plans:
        read_plan(shards_folder(store, MODALITIES[0]))  # says what is to be done
    has_joined = start_ray(address)
    with _quiet(), ExitStack() as on_failure:
        if has_joined:
            on_failure.callback(load_ray().shutdown)
        _listen(served)
        _deploy(store, served, plans, token)
        on_failure.pop_all()
    return RayService(served.url, plans, has_joined)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray Serve tells in this process to warnings: its news of starting and stopping sound like errors."""
    from ray import serve  # noqa: F401 - sets the level of its logger when it is imported

    log = logging.getLogger("ray.serve")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _listen(served: Served) -> None:
    """Start Ray Serve, or take the one that the cluster has; what it was started with cannot be changed.

    Raises
    ------
    ShardError
        If it listens elsewhere.
    """
    from ray import serve
    from ray.serve.context import _get_global_client  # nothing public says it

    serve.start(http_options={"host": served.host, "port": served.port})
    options = _get_global_client().http_config  # type: ignore[union-attr]
    if (options.host, options.port) != (served.host, served.port):
        msg = (
            f"Ray Serve runs on this cluster already and listens on {options.host}:{options.port}, not on "
            f"{served.host}:{served.port}. Give that host and port (--host, --port), or end it with `serve shutdown` where "
            f"nobody else needs it."
        )
        raise ShardError(msg)


def _deploy(
    store: StoreView, served: Served, plans: Mapping[Modality, ShardPlan], token: str
) -> None:
    from ray import serve

    shards = [
        _deployed(ShardReplica, f"{side}-{number}", served.replicas).bind(
            str(shards_folder(store, plan.modality).absolute()), number, plan.name
        )
        for side, plan in plans.items()
        for number in range(len(plan.parts))
    ]
    front = _deployed(Front, "front", served.replicas)
    serve.run(
        front.bind(plans, sha256_of(token), served.timeout_s, *shards), name=APP, route_prefix=ROUTE
    )


def _deployed(kind: type, name: str, replicas: int) -> Any:  # noqa: ANN401 - a Deployment
    from ray import serve

    return serve.deployment(
        kind,
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=_THREADS if kind is ShardReplica else _WAITING,
        max_queued_requests=_WAITING,
        health_check_period_s=2,
        ray_actor_options={"num_cpus": 0},  # replicas share the cores that there are
    )


def start_ray(address: str | None) -> bool:
    """Join a cluster, or start Ray here; whether this process was connected to it by this call.

    Raises
    ------
    ShardError
        If Ray is not installed, or the cluster cannot be reached.
    """
    try:
        ray = load_ray()
        if ray.is_initialized():
            return False
        start(ray, address)
    except CrewError as exc:
        raise ShardError(str(exc)) from exc
    return True
