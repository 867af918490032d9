"""What of a machine this process may use, and by which names it is called there."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")


def usable_cores() -> int:
    """Count the cores that this process may run on; a cluster's job or a container has some of the machine's."""
    bound = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(bound(0)) if bound else os.cpu_count() or 1


def goes_in_clear(url: str) -> bool:
    """Whether others could read what is sent to an address: it goes to another machine, and without TLS."""
    parts = urlsplit(url)
    return parts.scheme != "https" and parts.hostname not in LOCAL_HOSTS
