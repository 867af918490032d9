"""Tokens of an OpenID Connect provider: signed by its keys, for this server, and not run out."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from stamp_index.serve.problems import RefusedError
from stamp_index.serve.settings import ServeError, is_safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from joserfc.jwk import KeySet

_log = logging.getLogger(__name__)

# Signatures with a public key alone: with an HMAC, whoever knows the public key could sign, and "none" signs nothing.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # fmt: skip
CONFIGURATION: Final = "/.well-known/openid-configuration"
REFETCH_S: Final = 60.0  # an unknown key is looked for at most so often
KEEP_S: Final = (
    3600.0  # a key that was taken back is forgotten by then, unless the provider is down
)
RETRY_S: Final = 900.0  # a provider that cannot is asked at most so often for keys that are merely old: callers wait
LONGEST_S: Final = 24 * 3600.0  # no key is believed longer without the provider
LEEWAY_S: Final = 30  # clocks differ
_OF_NO_TOKEN: Final = (ValueError, TypeError, KeyError, RecursionError)
_MOST_BYTES: Final = 1_000_000
_WITHIN_S: Final = 5.0
_MOST_CHARS: Final = 16_000  # of a token


class Provider:
    """Checks tokens of one provider. Threads may share it.

    Parameters
    ----------
    issuer : str
        Address of the provider, as its tokens name it.
    audience : str
        Whom the tokens must be for.
    now : callable
        Seconds since the epoch.
    """

    def __init__(self, issuer: str, audience: str, *, now: Callable[[], float] = time.time) -> None:
        import importlib.util

        if importlib.util.find_spec("joserfc") is None:
            msg = "Checking tokens needs joserfc, which is not installed. Run: pip install 'stamp-index[serve]'"
            raise ServeError(msg)
        self._issuer, self._audience, self._now = issuer, audience, now
        self._keys: KeySet | None = None
        self._fetched_at = self._asked_at = -float("inf")
        self._lock = threading.Lock()

    def user_of(self, token: str) -> str:
        """Name of the user that a token is of: its e-mail, if the provider vouches for it, or its subject.

        Raises
        ------
        RefusedError
            401 if the token is not of this provider, for this server and valid now; 503 if the provider's keys cannot
            be read.
        """
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(token) > _MOST_CHARS:
            why = "it is too long"
            raise _refused(why)
        try:
            decoded = jwt.decode(token, self._keys_for(_key_id(token)), algorithms=list(ALGORITHMS))
            jwt.JWTClaimsRegistry(
                now=lambda: int(self._now()),
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._audience},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(decoded.claims)
        except JoseError as error:
            raise _refused(type(error).__name__) from error
        except _OF_NO_TOKEN as error:
            why = "it cannot be read"
            raise _refused(why) from error
        claims = decoded.claims
        vouched = claims.get("email_verified") is True and claims.get("email")
        return str(vouched or claims["sub"])

    def _keys_for(self, key_id: str | None) -> KeySet:
        """Keys of the provider, read anew where they are old or lack one."""
        with self._lock:
            now = self._now()
            if now - self._fetched_at >= LONGEST_S:
                self._keys = None
            known = self._keys is not None and (
                key_id is None or key_id in {key.kid for key in self._keys.keys}
            )
            asked_s = now - self._asked_at
            if (not known and asked_s >= REFETCH_S) or (
                now - self._fetched_at >= KEEP_S and asked_s >= RETRY_S
            ):
                self._asked_at = now  # also where it fails: a provider that is down is not hammered
                try:
                    self._keys, self._fetched_at = self._fetch(), now
                except RefusedError:
                    if not known:
                        raise
                    _log.warning("The log-in's provider cannot be asked; its old keys count on.")
            if self._keys is None:
                msg = "The keys of the log-in's provider cannot be read. Ask again in a minute."
                raise RefusedError(503, "NotReadyError", msg, retry_after_s=60)
            return self._keys

    def _fetch(self) -> KeySet:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        try:
            said = _read(self._issuer.rstrip("/") + CONFIGURATION)
            if said.get("issuer") != self._issuer:
                msg = f"it names itself {str(said.get('issuer'))[:200]!r}"
                raise ValueError(msg)
            return KeySet.import_key_set(_read(str(said["jwks_uri"])))  # type: ignore[arg-type]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            JoseError,
            RecursionError,
            urllib.error.URLError,
        ) as error:
            msg = f"The keys of the log-in's provider cannot be read ({type(error).__name__})."
            raise RefusedError(503, "NotReadyError", msg, retry_after_s=60) from error


def _key_id(token: str) -> str | None:
    """Which key a token says it is signed with; not yet to be believed."""
    from joserfc.util import urlsafe_b64decode

    header = json.loads(urlsafe_b64decode(token.partition(".")[0].encode()))
    found = header.get("kid") if isinstance(header, dict) else None
    return found if isinstance(found, str) else None


def _read(address: str) -> dict[str, Any]:
    if not is_safe(address):
        msg = "its address is not https"
        raise ValueError(msg)
    try:
        with _opener().open(address, timeout=_WITHIN_S) as answer:
            body = answer.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            msg = f"it answers with status {error.code}"
            raise ValueError(msg) from error
    if len(body) > _MOST_BYTES:
        msg = "its answer is too long"
        raise ValueError(msg)
    found: dict[str, Any] = json.loads(body)
    return found


def _opener() -> urllib.request.OpenerDirector:
    """Make what opens addresses, but not those that another one leads on to."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - as the base class
            return None

    return urllib.request.build_opener(Stay)


def _refused(why: str) -> RefusedError:
    msg = f"This token is not accepted ({why}). Log in again."
    return RefusedError(401, "AuthenticationError", msg)
