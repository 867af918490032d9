"""What the jobs of the tests do; other processes import it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stamp_index.errors import QueryError


def add(a, b, *, tell):
    tell("adding", 0.5)
    sys.stdout.write("a library that chatters\n")
    os.write(1, b'["done", 7]\n')
    return a + b


def wait(path, *, tell):
    """Write this process's number to a file, and wait for ever."""
    tell("waiting", 0.25)
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def wait_for(path, *, tell):
    """Wait until there is a file."""
    tell("waiting", 0.0)
    while not Path(path).exists():
        time.sleep(0.02)
    return os.getpid()


def wait_with_child(path, *, tell):
    """Start another process, and wait for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    part = Path(path + ".part")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(path)
    tell("waiting", 0.0)
    time.sleep(600)


def refuse(*, tell):
    msg = "There is no slide 'S9'; choose another."
    raise QueryError(msg)


def stumble(*, tell):
    return {}["what was never there"]


def run_out_of_memory(*, tell):
    raise MemoryError


def die(*, tell):
    os.kill(os.getpid(), signal.SIGKILL)


def unsendable(*, tell):
    return lambda: None


def big(n, *, tell):
    return list(range(n))


def count(n, *, tell):
    for i in range(n):
        tell(f"step {i}", i / n)
    return n


def probe(path, settings, *, tell):
    from stamp_index import Store
    from stamp_index.evaluate import ProbeSettings, run_probe

    store = Store.open(path)
    found = run_probe(store, ProbeSettings(**settings), progress=lambda at: tell(at.step, at.share))
    return found.to_json(predictions=True)
