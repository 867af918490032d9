"""Bearer tokens: the server keeps their hashes, so that its file is no key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from pathlib import Path
from typing import Final

from stamp_index.serve.settings import ServeError

PREFIX: Final = "sti_"  # lets scanners of secrets find a token that was published by mistake
_LINE: Final = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,100})\s+(?P<hash>[0-9a-f]{64})")


def new_token(name: str) -> tuple[str, str]:
    """Make a token, and the line of the file that lets it in.

    The token holds 256 random bits, so a plain SHA-256 of it tells nothing that could be guessed.

    Raises
    ------
    ServeError
        If the name is not one of letters, digits and ``._@-``.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {_hash(token)}"
    if not _LINE.fullmatch(line):
        msg = f"The token's name is {name!r}; expected letters, digits and ._@-, at most 100."
        raise ServeError(msg)
    return token, line


class TokenFile:
    """The tokens that are let in. A change of the file counts from the next request on.

    Parameters
    ----------
    path : path
        File of lines ``NAME SHA256``; empty lines and those that begin with # are skipped.

    Raises
    ------
    ServeError
        If it cannot be read, a line is no such thing, or there is none.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._stamp = self._stamp_now()
        self._hashes = _read(self._path)

    def name_of(self, token: str) -> str | None:
        """Name of a token; None if it is not let in. Takes as long whichever it is."""
        given, found = _hash(token), None
        for name, held in self._current().items():
            if hmac.compare_digest(held, given):
                found = name
        return found

    def _current(self) -> dict[str, str]:
        with self._lock:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._hashes, self._stamp = _read(self._path), stamp
            return self._hashes

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            msg = f"The file of tokens {self._path} cannot be read ({error.strerror})."
            raise ServeError(msg) from error
        return found.st_mtime_ns, found.st_size, found.st_ino


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The file of tokens {path} cannot be read ({error})."
        raise ServeError(msg) from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if (
            found is None
        ):  # the line is not repeated here: it may be a token that was pasted by mistake
            msg = f"Line {number} of {path} is no name and SHA-256. Make one with: stamp-index serve --new-token NAME"
            raise ServeError(msg)
        if found["name"] in hashes:
            msg = f"Line {number} of {path} names {found['name']} again. Give each token a name of its own."
            raise ServeError(msg)
        hashes[found["name"]] = found["hash"]
    if not hashes:
        msg = f"There is no token in {path}. Make one with: stamp-index serve --new-token NAME"
        raise ServeError(msg)
    return hashes
