"""What of a machine this process may use, and by which names it is called there."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
_TOKEN: Final = re.compile(r"[!-~]+")


def usable_cores() -> int:
    """Count the cores that this process may run on; a cluster's job or a container has some of the machine's."""
    bound = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(bound(0)) if bound else os.cpu_count() or 1


def bearer(token: str) -> str:
    """Make the header ``Authorization`` of a token.

    Raises
    ------
    ValueError
        If it is no text, or has a character that no header may have. The message does not repeat it.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        msg = (
            "The token has a character that no token has (such as a line end), or is no text. Of what a file holds, take "
            "read_text().strip()."
        )
        raise ValueError(msg)
    return f"Bearer {token}"


def goes_in_clear(url: str) -> bool:
    """Whether others could read what is sent to an address: it goes to another machine, and without TLS."""
    parts = urlsplit(url)
    return parts.scheme != "https" and parts.hostname not in LOCAL_HOSTS
