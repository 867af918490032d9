"""What goes wrong, as a status and one plain sentence: never a traceback, never a folder of this machine."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import (
    EncoderError,
    PanelError,
    QueryError,
    SlideError,
    StampIndexError,
    StoreError,
)
from stamp_index.store.places import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)
_STATUS: Final = (
    (QueryError, 400),
    (PanelError, 400),
    (SlideError, 400),  # of a query's picture
    (StoreError, 503),
    (EncoderError, 503),
)
_FOLDERS: Final = re.compile(r"(?<![\w./~-])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/'\",;:()\[\]]+[\\/])+")
_MOST_CHARS: Final = 2_000  # of a message; some repeat what was asked


class RefusedError(StampIndexError):
    """The server does not answer a request.

    Parameters
    ----------
    status : int
        Of the answer.
    kind : str
        Name of the error in the answer, such as ``"BusyError"``.
    message : str
        For people.
    retry_after_s : int
        When to ask again; 0 for no such advice.
    """

    def __init__(self, status: int, kind: str, message: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.kind, self.retry_after_s = status, kind, retry_after_s


class NotThereError(QueryError):
    """What the address names is not in the store."""


@dataclass(frozen=True)
class Problem:
    """An error as it is answered."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """JSON ``{"error": {"type": ..., "message": ...}}``."""
        said = {"error": {"type": self.kind, "message": self.message}}
        return json.dumps(said).encode()


class Shown:
    """Texts as they are shown to callers, who need not know where the store lies."""

    def __init__(self, store_path: Path | str) -> None:
        place = place_of(store_path)
        folders = (place.folder, place.folder.absolute(), place.folder.resolve())
        self._folders = dict.fromkeys((place.name, *map(str, folders)), place.label)

    def text(self, text: str) -> str:
        """Put names in the place of paths."""
        for folder, name in self._folders.items():
            if len(folder) > 1:
                text = text.replace(folder, name)
        return _FOLDERS.sub("", text)[:_MOST_CHARS]

    def problem(self, error: BaseException) -> Problem:
        """Say what went wrong."""
        if isinstance(error, RefusedError):
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
            if error.status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return Problem(error.status, error.kind, self.text(str(error)), headers)
        if isinstance(error, NotThereError):
            return Problem(404, "QueryError", self.text(str(error)))
        if isinstance(error, StampIndexError):
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 503)
            return Problem(status, type(error).__name__, self._said(error))
        if isinstance(error, (ValueError, TypeError)) and _is_of_the_library(error):
            kind = "TypeError" if isinstance(error, TypeError) else "ValueError"
            return Problem(400, kind, self._said(error))
        _log.error("A request was not answered.", exc_info=error)
        return Problem(500, "InternalError", "The server could not answer this. Its log says why.")

    def _said(self, error: BaseException) -> str:
        return self.text("\n".join([str(error), *getattr(error, "__notes__", ())]))


def _is_of_the_library(error: BaseException) -> bool:
    """Whether our own code refused a value; others raise the same errors where files are gone."""
    at = error.__traceback__
    name: Any = ""
    while at is not None:
        name, at = at.tb_frame.f_globals.get("__name__", ""), at.tb_next
    return str(name).startswith("stamp_index.")
