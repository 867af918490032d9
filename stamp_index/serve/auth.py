"""Who asks: whatever the kind of log-in, a user's name or a refusal."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from stamp_index.serve.oidc import Provider
from stamp_index.serve.problems import RefusedError
from stamp_index.serve.tokens import TokenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stamp_index.serve.settings import Access


class Check(Protocol):
    """Says who asks."""

    def __call__(self, headers: Mapping[str, str]) -> str:
        """Name of the user; may read files or ask a provider, so it belongs into a thread.

        Raises
        ------
        RefusedError
            401 if nobody is named, 403 if he may not ask.
        """
        ...


def check_of(access: Access) -> Check:
    """Make what a kind of log-in needs.

    Raises
    ------
    ServeError
        If the file of tokens cannot be used, or a library is missing.
    """
    if access.auth == "none":
        return lambda _: ""
    if access.auth == "token":
        return _by_token(TokenFile(access.tokens or _no_file()))
    if access.auth == "oidc":
        provider = Provider(access.issuer, access.audience)
        return _allowed(access.allow, lambda headers: provider.user_of(_bearer(headers)))
    return _allowed(access.allow, _by_proxy(access.user_header))


def _by_token(tokens: TokenFile) -> Check:
    def check(headers: Mapping[str, str]) -> str:
        name = tokens.name_of(_bearer(headers))
        if name is None:
            msg = "This token is not known here. Ask who runs the server for one."
            raise RefusedError(401, "AuthenticationError", msg)
        return name

    return check


def _by_proxy(user_header: str) -> Check:
    def check(headers: Mapping[str, str]) -> str:
        user = headers.get(user_header.lower(), "")
        if not user:
            msg = "Log in first: the proxy in front of this server named no user."
            raise RefusedError(401, "AuthenticationError", msg)
        return user

    return check


def _allowed(patterns: tuple[str, ...], who: Callable[[Mapping[str, str]], str]) -> Check:
    def check(headers: Mapping[str, str]) -> str:
        user = who(headers)
        if patterns and not any(fnmatchcase(user.lower(), one.lower()) for one in patterns):
            msg = "You are logged in, but may not search this store. Ask who runs the server."
            raise RefusedError(403, "ForbiddenError", msg)
        return user

    return check


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        msg = "Say who asks: send the header 'Authorization: Bearer TOKEN'."
        raise RefusedError(401, "AuthenticationError", msg)
    return token.strip()


def _no_file() -> Path:
    msg = "There is no file of tokens."  # `Access` has refused that
    raise ValueError(msg)
