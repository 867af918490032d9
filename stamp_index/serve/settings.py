"""What a server is told when it starts: where it listens, for whom, and how much it does for one caller."""

from __future__ import annotations

import math
import re
import ssl
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from stamp_index.errors import StampIndexError
from stamp_index.machine import LOCAL_HOSTS, usable_cores
from stamp_index.remote.redacted import redacted

if TYPE_CHECKING:
    from pathlib import Path

AUTH_KINDS: Final = ("none", "token", "oidc", "proxy")


class ServeError(StampIndexError):
    """The server cannot be started like this."""


def _limit(default: float, words: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the server does for one request, and for all of them together.

    Each is an option of ``stamp-index serve``. What the library bounds by itself stays as it is: 50 terms of a
    signature, 10,000 characters of a filter, 4096 x 4096 px of a picture.

    Raises
    ------
    ServeError
        If one of them is not above 0 (`queue` may be 0).
    """

    k: int = _limit(1_000, "Hits of one query.")
    vertices: int = _limit(500, "Corners of one polygon, its holes included.")
    polygons: int = _limit(50, "Polygons of one region.")
    region_spots: int = _limit(50_000, "Spots of a region that is given by its spots.")
    queries: int = _limit(256, "Spots or vectors that one request asks with.")
    genes: int = _limit(200, "Genes that one request reports.")
    rows: int = _limit(10_000, "Spots that one request reads.")
    cells: int = _limit(
        200_000, "Values of one answer: spots times genes, labels or columns; queries times hits times genes."
    )  # fmt: skip
    found_spots: int = _limit(1_000_000, "Spots of all regions of one answer.")
    body_mb: float = _limit(20.0, "Megabytes of one request's body.")
    json_values: int = _limit(500_000, "Values in one request's JSON: numbers, texts and lists.")
    body_s: float = _limit(30.0, "Seconds within which a request's body must arrive.")
    header_s: float = _limit(10.0, "Seconds within which a request's headers must arrive.")
    send_s: float = _limit(30.0, "Seconds in which a caller must take something of its answer.")
    time_s: float = _limit(30.0, "Seconds for one request, waiting included; then it gets 504.")
    searches: int = _limit(0, "Searches at the same time; 0 for as many as there are cores.")
    readers: int = _limit(4, "Requests that only read, at the same time.")
    queue: int = _limit(64, "Requests that wait for their turn, of each kind; others get 429.")
    connections: int = _limit(1_000, "Open connections; others get 503.")
    memory_mb: float = _limit(0.0, "Resident megabytes above which searches get 503; 0 for any.")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name in ("queue", "searches", "memory_mb") else 1e-9
            if not least <= value < math.inf:
                msg = f"The limit {one.name} is {value!r}; expected a number above 0."
                raise ServeError(msg)

    @property
    def body_bytes(self) -> int:
        """Bytes of one request's body."""
        return int(self.body_mb * 1_000_000)

    @property
    def search_threads(self) -> int:
        """Searches at the same time."""
        return self.searches or usable_cores()


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who is answered.

    Attributes
    ----------
    auth : {"none", "token", "oidc", "proxy"}
        ``"token"``: whoever sends a bearer token of which `tokens` holds the hash. ``"oidc"``: whoever sends a token that
        the OpenID Connect provider `issuer` signed for `audience`. ``"proxy"``: whoever the proxy in front names in
        `user_header`; the port must then be reachable by the proxy alone.
    tokens : path, optional
        File of lines ``NAME SHA256``, as ``stamp-index serve --new-token NAME`` prints them.
    issuer, audience : str
        Of the tokens of the provider.
    user_header : str
        Header in which the proxy names the user.
    allow : tuple of str
        Patterns such as ``"*@hospital.example"`` of which a user's e-mail or name must fit one; none for all users.
    anyone : bool
        Without a log-in, listen on other addresses than this machine's own all the same.
    allowed_hosts : tuple of str
        Names by which the server may be called besides; without any, a server that listens on this machine's own
        address answers to its own names alone, and any other to every name.

    Raises
    ------
    ServeError
        If something that the kind of log-in needs is missing, or something is given that it does not need.
    """

    auth: str = "none"
    tokens: Path | None = None
    issuer: str = ""
    audience: str = ""
    user_header: str = "X-Forwarded-User"
    allow: tuple[str, ...] = ()
    anyone: bool = False
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.auth not in AUTH_KINDS:
            msg = f"--auth is {self.auth!r}; expected one of {', '.join(AUTH_KINDS)}."
            raise ServeError(msg)
        needs = {"--tokens": ("token", self.tokens), "--issuer": ("oidc", self.issuer),
                 "--audience": ("oidc", self.audience)}  # fmt: skip
        for option, (kind, value) in needs.items():
            if bool(value) != (self.auth == kind):
                verb = "needs" if self.auth == kind else "does not take"
                msg = f"--auth {self.auth} {verb} {option}."
                raise ServeError(msg)
        if self.issuer and not _is_issuer(self.issuer):
            msg = (
                f"--issuer is {redacted(self.issuer)!r}; expected an address that begins with https:// and names a host, "
                f"without a user, query or fragment."
            )
            raise ServeError(msg)
        if self.audience and not self.audience.strip():
            msg = "--audience is blank; expected the name that the provider gave this server."
            raise ServeError(msg)
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", self.user_header):
            msg = (
                f"--user-header is {self.user_header!r}; expected a name such as X-Forwarded-User."
            )
            raise ServeError(msg)
        if self.allow and self.auth in ("none", "token"):
            msg = "--allow says which users may ask, but nobody says who he is. Add --auth oidc or --auth proxy."
            raise ServeError(msg)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server listens.

    Attributes
    ----------
    host, port : str, int
        Address; port 0 takes any that is free.
    certificate, key : path, optional
        PEM files, to speak TLS without a proxy in front.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    certificate: Path | None = None
    key: Path | None = None

    def check(self, access: Access) -> None:
        """Refuse to be open to a network without a log-in, and a certificate that is none.

        Raises
        ------
        ServeError
            Unless `access` says that this is wanted; if `certificate` and `key` are no pair that can be read.
        """
        if self.host not in LOCAL_HOSTS and access.auth == "none" and not access.anyone:
            msg = (
                f"On {self.host} everybody on the network could search the store: nobody logs in. Choose --auth token, "
                f"oidc or proxy, or say that this is wanted with --anyone."
            )
            raise ServeError(msg)
        if bool(self.certificate) != bool(self.key):
            msg = "--certificate and --key go together: both are files in PEM format."
            raise ServeError(msg)
        if self.certificate and self.key:
            _require_pair(self.certificate, self.key)

    def names(self, access: Access) -> tuple[str, ...] | None:
        """Names by which the server may be called; None for any.

        A web page elsewhere must not reach a server of this machine by giving its own name this machine's address.
        """
        if self.host in LOCAL_HOSTS:
            return (*LOCAL_HOSTS, *access.allowed_hosts)
        return (*LOCAL_HOSTS, self.host, *access.allowed_hosts) if access.allowed_hosts else None


def _require_pair(certificate: Path, key: Path) -> None:
    """Refuse files that TLS cannot be spoken with.

    Raises
    ------
    ServeError
        Names the files, and what is wrong with them.
    """

    def locked() -> str:
        msg = f"--key {str(key)!r} is locked by a password. Give a key without one, in a file that only you can read."
        raise ServeError(msg)

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, locked)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        msg = (
            f"--certificate {str(certificate)!r} and --key {str(key)!r} cannot be used ({error}). Expected files in PEM "
            f"format, the key that of the certificate."
        )
        raise ServeError(msg) from error


def _is_issuer(address: str) -> bool:
    """Whether tokens can be of it: a safe address, with a host and nothing but a port and path besides."""
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of brackets
        return False
    return (
        has_host
        and is_safe(address)
        and re.fullmatch(r"[!-~]+", address) is not None
        and not set("@?#") & set(address)
    )


def is_local(address: str) -> bool:
    """Whether an address is of this machine."""
    return urlsplit(address).hostname in LOCAL_HOSTS


def is_safe(address: str) -> bool:
    """Whether nobody between here and there can change what is read."""
    scheme = urlsplit(address).scheme
    return scheme == "https" or (scheme == "http" and is_local(address))
