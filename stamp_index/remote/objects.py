"""Clients of object storage, by an address and the environment."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError
from stamp_index.remote.redacted import redacted
from stamp_index.remote.refusals import plain_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

_ADDRESS: Final = re.compile(r"(s3|gs|az)://[A-Za-z0-9][\w.\-]*(/[^?#\s]+)?")


def open_objects(address: str) -> ObjectStore:
    """Open an address of object storage, as the environment says.

    Raises
    ------
    StoreError
        If the address is no such thing, or the package obstore is not there.
    """
    if not _ADDRESS.fullmatch(address):
        msg = (
            f"{redacted(address)!r} is no address of a store; expected s3://BUCKET/PREFIX (or gs://, az://), without "
            f"credentials or options: these come from the environment (AWS_ACCESS_KEY_ID and so on)."
        )
        raise StoreError(msg)
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
        In the place of whatever obstore raises.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, PermissionError) as exc:
        why, remedy = plain_refusal(exc, name)
        remedy = remedy or (
            "Check the address, the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on) and "
            "the network."
        )
        msg = f"The object storage of {name} could not be used: {why}. {remedy}"
        raise StoreError(msg) from None  # the original may hold what is secret
