"""The trainer runs in a process of its own: the library never imports it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StampIndexError
from stamp_index.resources import bundle_root

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED: Final = ("accelerate", "matplotlib", "pydantic")


def run_trainer(arguments: Sequence[str]) -> int:
    """Run ``python -m trainer`` and return its exit status.

    Parameters
    ----------
    arguments : sequence of str
        A verb of the trainer (``pretrain``, ``train``, ``report``) and what follows it.

    Raises
    ------
    StampIndexError
        If the extra ``train`` is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        msg = (
            f"Training needs the extra `train` ({', '.join(missing)} missing). "
            "Run: pip install 'stamp-index[train]'"
        )
        raise StampIndexError(msg)
    # glibc returns large blocks to the system at once and pays page faults for the next: on two cores the image
    # trunk ran at 140 patches/s without these two settings and at 220 with them.
    # Waiting OpenMP threads that spin slow training tenfold as soon as anything else wants a core.
    keep = {
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
        "OMP_WAIT_POLICY": "passive",
    }
    path = os.pathsep.join(filter(None, [str(bundle_root()), os.environ.get("PYTHONPATH")]))
    environment = {**keep, **os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-P", "-m", "trainer", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode
