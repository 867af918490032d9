"""Requests to one server, its errors raised as the library's own."""

from __future__ import annotations

import builtins
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from stamp_index import errors
from stamp_index.errors import RemoteError, StampIndexError
from stamp_index.machine import bearer, goes_in_clear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

NO_IMAGE: Final = "NoImageError"  # kind of a server's refusal
_TRIES: Final = 5  # after the first, where the server says when to ask again
_LONGEST_WAIT_S: Final = 30
_CONNECT_S: Final = 10.0
# Of one answer: 200,000 hits, which a server gives at most by default, take a fourth of it
MOST_BYTES: Final = 256_000_000
_PART_BYTES: Final = 1_000_000
_MOST_CHARS: Final = 10_000  # of a message
# What comes of values that are missing, of another type, or too many or too few
_OF_VALUES: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
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
    most_bytes : int
        Of one answer. Answers that are packed are not read: how much they unpack to is not known before.

    Raises
    ------
    RemoteError
        If urllib3 is missing.
    ValueError
        If the address is none, a token would be sent in the clear to another machine, or has a character that no
        token has.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        certificates: Path | str | None = None,
        most_bytes: int = MOST_BYTES,
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
        self._most_bytes = most_bytes
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token:
            self._headers["Authorization"] = bearer(token)
        self._pool = _pool(timeout_s, certificates)

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"  # never the token

    def get(self, *path: str) -> dict[str, Any]:
        """Read JSON at ``/v1/...``."""
        return self._json(self._ask("GET", path))

    def get_bytes(self, *path: str) -> bytes | None:
        """Read a picture; None where there is none."""
        try:
            return self._ask("GET", path)
        except RemoteError as error:
            if error.kind == NO_IMAGE:
                return None
            raise

    def post(self, *path: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON's values
        """Send JSON, and read the answer."""
        # NaN and infinity go as they are: the server says of them what the library says.
        return self._json(self._ask("POST", path, json.dumps(body).encode()))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say of an answer that lacks something, or has something else, that it is the server's.

        Raises
        ------
        RemoteError
            In the place of what reading such values raises.
        """
        try:
            yield
        except _OF_VALUES as error:
            raise RemoteError(self._unexpected(error)) from error

    def close(self) -> None:
        """Close what is open."""
        self._pool.clear()

    def _ask(self, method: str, path: tuple[str, ...], body: bytes | None = None) -> bytes:
        """Body of an answer, asked for again where the server says when."""
        url = "/".join([self.url, "v1", *(quote(part, safe="") for part in path)])
        for left in reversed(range(_TRIES + 1)):
            status, wait_s, said = self._ask_once(method, url, body)
            if wait_s is None or not left:
                break
            time.sleep(wait_s)
        if status != 200:
            raise _error_of(status, said)
        return said

    def _ask_once(
        self, method: str, url: str, body: bytes | None
    ) -> tuple[int, float | None, bytes]:
        """Status, seconds after which to ask again (None: not at all), and body of an answer."""
        from urllib3.exceptions import HTTPError

        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            answer: BaseHTTPResponse = self._pool.request(
                method, url, body=body, headers=headers, preload_content=False, redirect=False
            )
            try:
                return answer.status, _wait_of(answer), self._body_of(answer)
            finally:
                answer.close()  # a connection whose answer was read to its end is back in the pool
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            msg = f"The server at {self.url} does not answer ({type(reason).__name__}).{_advice(reason)}"
            raise RemoteError(msg) from error

    def _body_of(self, answer: BaseHTTPResponse) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            msg = f"The answer of the server at {self.url} is packed, which was not asked for. Is a proxy in between?"
            raise RemoteError(msg, status=answer.status)
        found = bytearray()
        while part := answer.read(_PART_BYTES, decode_content=False):
            found += part
            if len(found) > self._most_bytes:
                msg = f"The answer of the server at {self.url} has more than {self._most_bytes:,} bytes. Ask for less at once."
                raise RemoteError(msg, status=answer.status)
        return bytes(found)

    def _json(self, said: bytes) -> dict[str, Any]:
        try:
            found = json.loads(said)
        except (ValueError, RecursionError) as error:
            msg = f"The answer of {self.url} is not JSON. Is this the address of a stamp-index server?"
            raise RemoteError(msg, status=200) from error
        if not isinstance(found, dict):
            raise RemoteError(self._unexpected(TypeError()), status=200)
        return found

    def _unexpected(self, error: Exception) -> str:
        return (
            f"The answer of the server at {self.url} is not as expected ({type(error).__name__}). "
            "Is it of the same release?"
        )


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
        respect_retry_after_header=False,  # `_ask` does: urllib3 reads what it throws away, however much it is
    )
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        retries=retries,
        timeout=urllib3.Timeout(connect=_CONNECT_S, read=timeout_s),
        ca_certs=None if certificates is None else str(certificates),
    )


def _advice(reason: object) -> str:
    """Say what may be wrong where it is not the network."""
    from urllib3.exceptions import ProtocolError, SSLError

    if isinstance(reason, SSLError):
        return (
            " Its certificate is not trusted, or it speaks no TLS: pass certificates='authority.pem' with who vouches for "
            "it, or check whether the address is http://."
        )
    return " Perhaps it is an https:// address." if isinstance(reason, ProtocolError) else ""


def _wait_of(answer: BaseHTTPResponse) -> float | None:
    """Seconds after which a busy server wants to be asked again; None where it says nothing of the kind."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    said = answer.headers.get("Retry-After")
    if answer.status not in (429, 503) or said is None:
        return None
    try:
        return float(min(max(Retry().parse_retry_after(said), 0), _LONGEST_WAIT_S))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _error_of(status: int, answer: bytes) -> Exception:
    """Return the error that the server names, as the library would have raised it here."""
    try:
        said: Mapping[str, Any] = json.loads(answer)["error"]
        kind, message = str(said["type"]), str(said["message"])[:_MOST_CHARS]
    except (ValueError, KeyError, TypeError, RecursionError):
        kind, message = "", f"The server answered with status {status}."
    if kind in _BUILTIN:
        made: Exception = getattr(builtins, kind)(message)
        return made
    if status == 401:
        message += " In Python: connect(url, token=...)."
    known = getattr(errors, kind, None) if kind.endswith("Error") else None
    if isinstance(known, type) and issubclass(known, StampIndexError) and known is not RemoteError:
        return known(message)
    return RemoteError(message, status=status, kind=kind)
