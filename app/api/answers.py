"""What every route has in common: token, store, threads, and errors as one plain sentence."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.api.tokens import TokenError, check
from app.settings import as_shown, settings
from app.stores import open_version
from stamp_index.errors import QueryError, StampIndexError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from app.stores import Opened

    Work = Callable[[Opened, Request], Response]

# A version never changes, so neither does what an address that names it answers.
FOREVER = {
    "Cache-Control": "private, max-age=86400, immutable",
    "X-Content-Type-Options": "nosniff",
}


_log = logging.getLogger(__name__)


class NotThereError(StampIndexError):
    """What the address names is not in the store."""


def of_store(work: Work) -> Callable[[Request], Awaitable[Response]]:
    """Route that reads the version of the store that its address names, in a thread of its own.

    What goes wrong is answered in plain text: 401 for the token, 404 for what is not there, 410 for a store
    or version that is gone, 400 for a value that means nothing, 503 where encoder or index cannot be used.
    """

    @functools.wraps(work)
    async def answer(request: Request) -> Response:
        return await anyio.to_thread.run_sync(_answered, work, request)

    return answer


def _answered(work: Work, request: Request) -> Response:
    try:
        check(request.query_params.get("t", ""))
        return work(_opened(request), request)
    except TokenError as error:
        return refusal(401, str(error))
    except NotThereError as error:
        return refusal(404, str(error))
    except StoreError as error:
        return refusal(410, f"The store has changed since. Reload the page. ({error})")
    except QueryError as error:
        return refusal(400, str(error))
    except StampIndexError as error:  # of the encoder or an index
        return refusal(503, str(error))
    except (OSError, ValueError):
        # Lance raises either where its files are gone; its text names their folders, so it goes to the log alone
        _log.exception("%s was not answered", request.url.path)
        return refusal(410, "The store or a slide's file is not where it was. Reload the page.")


def _opened(request: Request) -> Opened:
    path = settings().store_path
    if path is None:
        msg = "No store is served here."
        raise NotThereError(msg)
    return open_version(path, request.path_params["version"], request.path_params["store_id"])


def refusal(status: int, sentence: str) -> Response:
    """An error as text; never HTML, which Streamlit answers with for addresses that it does not know."""
    return PlainTextResponse(as_shown(sentence), status, {"Cache-Control": "no-store"})


def json_answer(values: object) -> Response:
    """JSON that may be kept as long as the version."""
    return JSONResponse(values, headers=FOREVER)
