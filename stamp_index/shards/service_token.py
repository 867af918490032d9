"""The bearer token that a service of shards asks for."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from stamp_index.errors import ShardError
from stamp_index.machine import LOCAL_HOSTS, bearer
from stamp_index.shards.http_client import TOKEN_VARIABLE

_SHORTEST: Final = 16  # characters


def token_for(host: str) -> str:
    """Token of the environment; "" for none.

    Raises
    ------
    ShardError
        If others than this machine reach `host` and there is none, or one is so short that it can be guessed, or has
        characters that no client can send.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    make = 'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
    if host not in LOCAL_HOSTS and not token:
        msg = (
            f"Everybody who reaches {host} could ask these shards. Set the environment variable {TOKEN_VARIABLE} here and "
            f"where they are asked, or listen on 127.0.0.1. {make}"
        )
        raise ShardError(msg)
    if 0 < len(token) < _SHORTEST:
        msg = (
            f"The token of the shards ({TOKEN_VARIABLE}) has {len(token)} characters and could be guessed; expected "
            f"{_SHORTEST} or more. {make}"
        )
        raise ShardError(msg)
    if token:
        try:
            bearer(token)
        except ValueError as exc:  # no client could send it
            msg = f"{TOKEN_VARIABLE}: {exc} {make}"
            raise ShardError(msg) from None
    return token


def sha256_of(token: str) -> str:
    """SHA-256 of a token, so that the token itself goes to no machine; "" for none."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""
