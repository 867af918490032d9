"""Requests to one server, its errors raised as the library's own."""

from __future__ import annotations

import builtins
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from stamp_index import errors
from stamp_index.errors import RemoteError, StampIndexError
from stamp_index.machine import goes_in_clear

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

NO_IMAGE: Final = "NoImageError"  # kind of a server's refusal
_TRIES: Final = 5  # after the first, where the server says when to ask again
_LONGEST_WAIT_S: Final = 30
_CONNECT_S: Final = 10.0
_BUILTIN: Final = ("ValueError", "TypeError")
_CONNECTIONS: Final = 16  # kept open; more threads than these open their own


class Connection:
    """Asks one server. Threads may share it.

    Parameters
    ----------
    url : str
        Address of the server, such as ``https://stamp.hospital.example``.
    token : str, optional
        Bearer token; it is sent to this server alone.
    timeout_s : float
        Seconds to wait for an answer, once it was asked.
    certificates : path, optional
        PEM file of the authorities that vouch for the server; those that certifi knows by default.

    Raises
    ------
    RemoteError
        If urllib3 is missing.
    ValueError
        If the address is none, or a token would be sent in the clear to another machine.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        certificates: Path | str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            msg = f"The server's address is {url!r}; expected something like https://stamp.example."
            raise ValueError(msg)
        if parts.username or parts.password:
            msg = "The server's address holds a name or password. Pass a token instead."
            raise ValueError(msg)
        if token and goes_in_clear(url):
            msg = (
                f"A token for {parts.hostname} would cross the network in the clear. Use https://."
            )
            raise ValueError(msg)
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = _pool(timeout_s, certificates)

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"  # never the token

    def get(self, *path: str) -> dict[str, Any]:
        """Read JSON at ``/v1/...``."""
        return _json(self._ask("GET", path))

    def get_bytes(self, *path: str) -> bytes | None:
        """Read a picture; None where there is none."""
        try:
            return self._ask("GET", path).data
        except RemoteError as error:
            if error.kind == NO_IMAGE:
                return None
            raise

    def post(self, *path: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON's values
        """Send JSON, and read the answer."""
        # NaN and infinity go as they are: the server says of them what the library says.
        return _json(self._ask("POST", path, json.dumps(body).encode()))

    def close(self) -> None:
        """Close what is open."""
        self._pool.clear()

    def _ask(
        self, method: str, path: tuple[str, ...], body: bytes | None = None
    ) -> BaseHTTPResponse:
        from urllib3.exceptions import HTTPError

        url = "/".join([self.url, "v1", *(quote(part, safe="") for part in path)])
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            answer: BaseHTTPResponse = self._pool.request(method, url, body=body, headers=headers)
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            msg = f"The server at {self.url} does not answer ({type(reason).__name__})."
            raise RemoteError(msg) from error
        if answer.status != 200:
            raise _error_of(answer)
        return answer


def _pool(timeout_s: float, certificates: Path | str | None) -> Any:  # noqa: ANN401 - urllib3 comes with an extra
    try:
        import urllib3
    except ImportError as error:
        msg = "Asking a server needs urllib3. Run: pip install 'stamp-index[client]'"
        raise RemoteError(msg) from error
    retries = urllib3.Retry(
        total=_TRIES,
        connect=1,  # before anything was sent
        read=0,  # the server may be at work on it
        other=0,
        redirect=0,  # the token is for this server
        allowed_methods=None,  # every request only reads
        status_forcelist=(),  # 429 and 503 with Retry-After alone
        retry_after_max=_LONGEST_WAIT_S,
        raise_on_status=False,
        raise_on_redirect=False,
    )
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        retries=retries,
        timeout=urllib3.Timeout(connect=_CONNECT_S, read=timeout_s),
        ca_certs=None if certificates is None else str(certificates),
    )


def _json(answer: BaseHTTPResponse) -> dict[str, Any]:
    try:
        found = json.loads(answer.data)
    except ValueError as error:
        msg = "The server's answer is not JSON. Is this the address of a stamp-index server?"
        raise RemoteError(msg, status=answer.status) from error
    if not isinstance(found, dict):
        msg = "The server's answer is not as expected. Is it of the same release?"
        raise RemoteError(msg, status=answer.status)
    return found


def _error_of(answer: BaseHTTPResponse) -> Exception:
    """Return the error that the server names, as the library would have raised it here."""
    try:
        said: Mapping[str, Any] = json.loads(answer.data)["error"]
        kind, message = str(said["type"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        kind, message = "", f"The server answered with status {answer.status}."
    if kind in _BUILTIN:
        made: Exception = getattr(builtins, kind)(message)
        return made
    known = getattr(errors, kind, None) if kind.endswith("Error") else None
    if isinstance(known, type) and issubclass(known, StampIndexError) and known is not RemoteError:
        return known(message)
    return RemoteError(message, status=answer.status, kind=kind)
