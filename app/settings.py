"""What this process serves, and how: set once when the server starts, read by pages and routes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stamp_index.remote.addresses import is_address
from stamp_index.store.places import place_of

AuthKind = Literal["none", "proxy", "oidc"]
SECRET_VARIABLE = "STAMP_INDEX_SECRET"  # the same in every process that serves one address


def _secret() -> bytes:
    given = os.environ.get(SECRET_VARIABLE, "")
    return given.encode() if given else secrets.token_bytes(32)


@dataclass(frozen=True)
class Settings:
    """How the app is served.

    Attributes
    ----------
    store_path : str or None
        Folder or address of the store.
    base_path : str
        What the addresses of all pages and routes start with, such as "/stamp"; "" for none.
    auth : {"none", "proxy", "oidc"}
        Who may look: everybody who reaches the port, those whom a proxy in front names in a header, or those
        who log in.
    user_header : str
        That header.
    allowed : tuple of str
        Patterns such as "*@hospital.example" of which a user's name or e-mail must fit one; none for everybody.
    shards : str
        Where the shards of the store's indexes are served; "" to open the indexes here.
    secret : bytes
        Signs the tokens of routes.
    """

    store_path: str | None = None
    base_path: str = ""
    auth: AuthKind = "none"
    user_header: str = "X-Forwarded-User"
    allowed: tuple[str, ...] = ()
    shards: str = ""
    secret: bytes = field(default_factory=_secret, repr=False)


_current = [Settings()]


def configure(chosen: Settings) -> None:
    """Serve by these settings from now on."""
    _current[0] = chosen


def settings() -> Settings:
    """The settings of this process."""
    return _current[0]


def as_shown(text: str) -> str:
    """A text as it is shown: where people log in, the store's folder or address goes by its last name alone.

    Paths of the machine that serves are not theirs to know; whoever runs the app for himself needs them.
    """
    served = settings()
    if served.auth == "none" or not served.store_path:
        return text
    label, names = _names(served.store_path)
    for name in names:
        text = text.replace(name, label)
    return text


def _names(where: str) -> tuple[str, list[str]]:
    """Last part of a store's name, and what it goes by in messages."""
    if is_address(where):
        place = place_of(where)
        return place.label, [place.name, str(place.folder)]  # and its local copy
    path = Path(where)
    return path.name, [str(folder) for folder in (path, path.absolute(), path.resolve())]
