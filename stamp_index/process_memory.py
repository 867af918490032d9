"""Memory of this process: how much it holds, and handing back what is free. A server lives for weeks."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

# Of glibc's malloc.h. Every thread has an arena of its own, which glibc rarely hands back. With six browsers on the app over
# 50,000 spots of 36,601 genes, thresholds of 2 MiB take 49 MiB less than those of 8 MiB (633); those of 128 KiB take as
# much again from the time that a lasso's genes need.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LIMITS: Final = {_M_ARENA_MAX: 2, _M_MMAP_THRESHOLD: 2 * 1024**2, _M_TRIM_THRESHOLD: 2 * 1024**2}
_STATM: Final = Path("/proc/self/statm")


def be_frugal() -> None:
    """Have freed memory handed back soon. Does nothing but with glibc."""
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        for name, value in _LIMITS.items():
            mallopt(name, value)


def give_back() -> None:
    """Hand free memory back to the system. Does nothing but with glibc."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def resident_mb() -> float:
    """Megabytes of this process in memory; elsewhere than on Linux the most that it ever had."""
    if _STATM.exists():
        import os

        pages = int(_STATM.read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def _of_libc(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
