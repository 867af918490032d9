"""Signed tokens: a page hands one to what it shows, and every route asks for it.

Streamlit guards its pages, not routes that are mounted beside them. A token says who asked for the page
and until when it holds. The end is rounded, so that one user's addresses stay the same for hours and the
browser's cache can serve tiles again.
"""

from __future__ import annotations

import time

from itsdangerous import BadSignature, URLSafeSerializer

from app.settings import settings
from stamp_index.errors import StampIndexError

ROUND_S = 6 * 3600


class TokenError(StampIndexError):
    """A route was asked without a token, with one that is not ours, or with one that has run out."""


def mint(user: str = "", *, now_s: float | None = None) -> str:
    """Token for a user; it holds for 6 to 12 hours."""
    now = time.time() if now_s is None else now_s
    until = (int(now // ROUND_S) + 2) * ROUND_S
    return str(_serializer().dumps([user, until]))


def check(token: str, *, now_s: float | None = None) -> str:
    """User that a token was minted for.

    Raises
    ------
    TokenError
        If it is missing, was not signed by this server, or has run out.
    """
    try:
        user, until = _serializer().loads(token)
    except (BadSignature, ValueError, TypeError) as error:
        msg = "This address needs a token of this server. Reload the page that showed it."
        raise TokenError(msg) from error
    if (time.time() if now_s is None else now_s) > until:
        msg = "The token of this address has run out. Reload the page that showed it."
        raise TokenError(msg)
    return str(user)


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(settings().secret, salt="stamp-index routes")
