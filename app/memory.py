"""What this process keeps in memory beside what it is asked for."""

from __future__ import annotations

import ctypes
import gc
import sys

from app.api.images import MAX_DECODED_BYTES
from stamp_index.slides.tile_cache import keep_at_most

# Of glibc's malloc.h. Every page runs in a thread of its own, and glibc gives each thread an arena that it rarely hands back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LIMITS = {M_ARENA_MAX: 2, M_MMAP_THRESHOLD: 2 * 1024**2, M_TRIM_THRESHOLD: 2 * 1024**2}


def be_frugal() -> None:
    """Hand memory back as soon as it is free, and keep few decoded tiles: a server lives for weeks.

    With six browsers on 50,000 spots of 36,601 genes, thresholds of 2 MiB take 49 MiB less than those of 8 MiB (633); those
    of 128 KiB take as much again from the time that a lasso's genes need.
    """
    keep_at_most(MAX_DECODED_BYTES)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(
        ctypes.CDLL(None), "mallopt", None
    )  # other C libraries than glibc may lack it
    if mallopt is not None:
        for name, value in LIMITS.items():
            mallopt(name, value)


def settle() -> None:
    """Tell the garbage collector that what is there by now stays: modules, gene names, indexes.

    Streamlit collects all generations after every run of a page (`ScriptRunner._on_script_finished`), which looks at every
    object and lets no other thread run meanwhile. With torch loaded, a lasso's run takes 24 ms after this and 210 before.
    """
    gc.collect()
    gc.freeze()
