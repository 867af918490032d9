"""What of a machine this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Count the cores that this process may run on; a cluster's job or a container has some of the machine's."""
    bound = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(bound(0)) if bound else os.cpu_count() or 1
