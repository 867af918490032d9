"""The ASGI application over one store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import stamp_index
from stamp_index.serve.answers import ProblemAnswer, StateAnswer
from stamp_index.serve.auth import check_of
from stamp_index.serve.gate import Gate
from stamp_index.serve.live import Live
from stamp_index.serve.metrics import Metrics
from stamp_index.serve.plain import to_json
from stamp_index.serve.problems import Problem, Shown
from stamp_index.serve.search_routes import search_router
from stamp_index.serve.service import JSON, Service, problem_response
from stamp_index.serve.settings import Access, Address, Limits
from stamp_index.serve.store_routes import store_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from stamp_index.encoders.base import Encoder

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemAnswer, "description": words}
    for status, words in {
        400: "The query cannot be understood or answered.",
        401: "Nobody, or nobody known, asks.",
        403: "The user may not ask.",
        404: "There is no such slide or spot.",
        413: "The body is too large.",
        415: "The body is of another kind.",
        422: "The body lacks something, or has something else.",
        429: "Too many requests wait. Retry-After says when to ask again.",
        503: "The store is not open, or there is no memory left.",
        504: "The answer was not ready in time.",
    }.items()
}
_KINDS: Final = {400: "ValueError", 404: "NotFoundError", 405: "MethodError", 413: "TooLargeError", 415: "MediaTypeError"}  # fmt: skip
_MOST_NAMED: Final = 5  # fields in one message


def make_app(
    store_path: Path | str,
    *,
    address: Address | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    encoder: Encoder | str | None = None,
) -> ASGIApp:
    """Make the application over a store, which is opened when the application starts.

    Parameters
    ----------
    store_path : path
        Folder of the store. It is only read.
    address, access, limits
        As `run_server` says.
    encoder : Encoder or str, optional
        As `Searcher.open` says.

    Raises
    ------
    ServeError
        If nobody could log in like this, or everybody on a network could search without.
    """
    address, access, limits = address or Address(), access or Access(), limits or Limits()
    address.check(access)
    shown = Shown(store_path)
    service = Service(Live(store_path, encoder=encoder), limits, shown)
    metrics = Metrics(service.live, service.held)
    return Gate(
        _routes(service, metrics),
        names=address.names(access),
        check=check_of(access),
        limits=limits,
        metrics=metrics,
        shown=shown,
    )


def _routes(service: Service, metrics: Metrics) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.live.start()
        yield
        service.close()

    app = FastAPI(
        title="stamp-index",
        version=stamp_index.__version__,
        description="Search of H&E patches and gene profiles in one store. Row ids are a spot's for life.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lead to whatever name the caller gave
        responses=_PROBLEMS,
    )
    app.include_router(search_router(service))
    app.include_router(store_router(service))
    _add_state(app, service, metrics)
    _add_errors(app, service)
    return app


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", response_model=StateAnswer, tags=["state"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return Response(to_json({"state": "alive"}), media_type=JSON)

    @app.get("/readyz", response_model=StateAnswer, tags=["state"])
    async def readyz() -> Response:
        """Whether the store and its indexes are open."""
        ready = service.live.is_ready
        state = {"state": "ready" if ready else "opening"}
        return Response(to_json(state), 200 if ready else 503, media_type=JSON)

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def numbers() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI, service: Service) -> None:
    async def of_http(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        kind = _KINDS.get(status, "RequestError")
        message = {
            404: "There is nothing at this address.",
            405: "This address takes another method.",
        }
        said = message.get(status, "The request's body cannot be read.")
        headers = getattr(error, "headers", None) or {}
        return problem_response(Problem(status, kind, said, headers))

    async def of_fields(request: Request, error: Exception) -> Response:
        return problem_response(_field_problem(request, error))

    async def of_anything(request: Request, error: Exception) -> Response:
        return problem_response(service.shown.problem(error))

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_fields)
    app.add_exception_handler(Exception, of_anything)


def _field_problem(request: Request, error: Exception) -> Problem:
    """Say which fields are wrong, and never what was in them: it may be a patient's."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind != JSON and not kind.startswith("image/"):
        return Problem(415, "MediaTypeError", f"Send the body as {JSON}.")
    found = error.errors() if isinstance(error, RequestValidationError) else []
    said = []
    for one in found[:_MOST_NAMED]:
        if one["type"] == "json_invalid":
            return Problem(400, "ValueError", "The body is not JSON.")
        name = ".".join(str(part)[:40] for part in one["loc"][1:6]) or "the body"
        said.append(f"{name}: {one['msg']}")
    more = f" And {len(found) - _MOST_NAMED} more." if len(found) > _MOST_NAMED else ""
    return Problem(422, "ValueError", f"The request is not as expected. {'; '.join(said)}.{more}")
