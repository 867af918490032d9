"""Shards that are served over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import queue
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from stamp_index.errors import QueryError, ShardError, StalePlanError
from stamp_index.machine import bearer, goes_in_clear
from stamp_index.remote.redacted import redacted
from stamp_index.shards.messages import MOST_REPLY_BYTES, decode_reply, encode_question
from stamp_index.shards.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.shards.messages import Question, Reply
    from stamp_index.store import Modality

TOKEN_VARIABLE: Final = "STAMP_INDEX_SHARD_TOKEN"
ROUTE: Final = "/stamp-index-shards"
_STALE: Final = 409


class HttpShards:
    """Asks a service of shards over HTTP; see `ShardService`.

    Parameters
    ----------
    address : str
        Such as ``http://host:8000``; the path is ``/stamp-index-shards`` unless it names one.
    token : str, optional
        Sent as a bearer token, to this address alone; by default the environment variable
        STAMP_INDEX_SHARD_TOKEN.
    timeout_s : float, optional
        For an answer; by default what the service gives its shards, and a margin.

    Raises
    ------
    ValueError
        If the address is none of http or https, a token would be sent in the clear to another machine, or has a
        character that no token has.
    """

    def __init__(
        self, address: str, *, token: str | None = None, timeout_s: float | None = None
    ) -> None:
        self.address = address
        self._where, self._path = _parts(address)
        given = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        self._bearer = bearer(given) if given else ""
        if self._bearer and goes_in_clear(address):
            msg = (
                f"The token of the shards ({TOKEN_VARIABLE}) for {self._where[1]} would cross the network in the clear. "
                f"Use https://, which a proxy in front of them answers."
            )
            raise ValueError(msg)
        self._patience = Patience(timeout_s)
        self._open: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def plans(self) -> Mapping[str, Mapping[str, str]]:
        """See `ShardService`."""
        body = self._request("GET", self._path, b"")
        try:
            return self._patience.hear(json.loads(body))
        except ValueError as exc:
            raise ShardError(self._strange(exc)) from exc

    def ask(self, modality: Modality, question: Question) -> Reply:
        """See `ShardService`."""
        body = self._request("POST", f"{self._path}/{modality}", encode_question(question))
        try:
            return decode_reply(body)
        except QueryError as exc:
            raise ShardError(self._strange(exc)) from exc

    def close(self) -> None:
        """Close the connections that are kept open."""
        while (connection := self._kept()) is not None:
            connection.close()

    # ---- helpers -----------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        """Ask once; again where a connection that was kept open had been closed by the other side."""
        status, answer = 0, b""
        for connection in (self._kept(), self._fresh()):
            if connection is None:
                continue
            try:
                status, answer = self._exchange(connection, method, path, body)
                break
            except (ConnectionError, http.client.RemoteDisconnected) as exc:
                connection.close()
                failure: Exception = exc
            # No time is left for another try; a name such as a..b cannot be encoded.
            except (OSError, http.client.HTTPException, UnicodeError) as exc:
                connection.close()
                raise ShardError(self._unreached(exc)) from exc
        if not status:
            raise ShardError(self._unreached(failure)) from failure
        if status == http.HTTPStatus.OK:
            return answer
        words = _words(answer)
        if status == _STALE:
            raise StalePlanError(words)
        msg = f"The shards at {self.address} refuse ({status}): {words}"
        raise ShardError(msg)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/octet-stream"}
        if self._bearer:
            headers["Authorization"] = self._bearer
        connection.timeout = self._patience.wait_s
        if connection.sock is not None:  # open since before the service said how long to wait
            connection.sock.settimeout(connection.timeout)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read(MOST_REPLY_BYTES + 1)
        if len(answer) > MOST_REPLY_BYTES:
            connection.close()
            raise ShardError(self._strange(f"more than {MOST_REPLY_BYTES:,} bytes"))
        self._open.put(connection)
        return response.status, answer

    def _kept(self) -> http.client.HTTPConnection | None:
        try:
            return self._open.get_nowait()
        except queue.Empty:
            return None

    def _fresh(self) -> http.client.HTTPConnection:
        scheme, host, port = self._where
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=self._patience.wait_s)

    def _unreached(self, why: object) -> str:
        return (
            f"The shards at {self.address} cannot be reached ({why}). Start them with `stamp-index serve-shards STORE`, or "
            f"check the address."
        )

    def _strange(self, why: object) -> str:
        return (
            f"What answers at {self.address} is no service of stamp-index's shards, or of another release ({why}). Check "
            f"the address."
        )


def _parts(address: str) -> tuple[tuple[str, str, int | None], str]:
    """Scheme, host and port of an address, and its path.

    Raises
    ------
    ValueError
        If it is none of http or https, its port is none, or it names a user.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # of the port, or of brackets
        host = port = None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        msg = f"The address of the shards is {redacted(address)!r}; expected one such as http://host:8000."
        raise ValueError(msg)
    return (parts.scheme, host, port), parts.path.rstrip("/") or ROUTE


def _words(answer: bytes) -> str:
    """Return what a refusal says, in one sentence."""
    try:
        said: Any = json.loads(answer)
        return str(said["error"])[:1000]
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode("utf-8", "replace")
