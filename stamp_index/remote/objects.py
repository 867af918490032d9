"""Clients of object storage, by an address and the environment."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError
from stamp_index.remote.redacted import redacted
from stamp_index.remote.refusals import environment_of, plain_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

_ADDRESS: Final = re.compile(r"(s3|gs|az)://[A-Za-z0-9][\w.\-]*(/[^?#\s]+)?")
_UP: Final = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)  # another place than it says
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
# Values that become parts of requests: Rust panics where they cannot.
_SENT: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    *_ENDPOINTS,
)  # fmt: skip
_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
_PANIC: Final = "PanicException"  # what Rust's panics become; no Exception, and in no module that can be imported


def open_objects(address: str) -> ObjectStore:
    """Open an address of object storage, as the environment says.

    Raises
    ------
    StoreError
        If the address is no such thing, the environment is wrong, or the package obstore is not there.
    """
    if not _ADDRESS.fullmatch(address) or _UP.search(address):
        msg = (
            f"{redacted(address)!r} is no address of a store; expected s3://BUCKET/PREFIX (or gs://, az://), without "
            f"credentials or options: these come from the environment (AWS_ACCESS_KEY_ID and so on)."
        )
        raise StoreError(msg)
    if address.startswith("s3:"):
        _require_environment()
    try:
        from obstore.store import from_url
    except ImportError as exc:
        msg = f"{address} is object storage, for which the package obstore is needed: pip install 'stamp-index[cloud]'."
        raise StoreError(msg) from exc
    with unreachable(address):
        return from_url(address)


@contextmanager
def unreachable(name: str) -> Iterator[None]:
    """Say of what went wrong with an object storage where it was, and nothing that is secret.

    Raises
    ------
    StoreError
        In the place of whatever obstore raises, Rust's panics included.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, PermissionError) as exc:
        why, remedy = plain_refusal(exc, name)
        raise _unused(name, why, remedy) from None  # the original may hold what is secret
    except BaseException as exc:
        if type(exc).__name__ != _PANIC:
            raise
        why = "its client cannot send what it was given"
        raise _unused(name, why, "") from None


def _unused(name: str, why: str, remedy: str) -> StoreError:
    remedy = remedy or (
        f"Check the address, the credentials in the environment ({environment_of(name)} and so on) and the network."
    )
    return StoreError(f"The object storage of {name} could not be used: {why}. {remedy}")


def _require_environment() -> None:
    """Refuse values of the environment that no request can be made of.

    Raises
    ------
    StoreError
        Names the variable, not its value.
    """
    for variable in _SENT:
        if _BLANK.search(os.environ.get(variable, "")):
            msg = f"The environment variable {variable} has a blank or a line end in it. Set it without."
            raise StoreError(msg)
    for variable in _ENDPOINTS:
        if not os.environ.get(variable, "https://").startswith(("http://", "https://")):
            msg = (
                f"The environment variable {variable} does not begin with https:// or http://. Set it to an address such "
                f"as https://s3.example:9000, or unset it."
            )
            raise StoreError(msg)
