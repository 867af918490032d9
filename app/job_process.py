"""The process of one job: takes a function from its standard input, and says how it goes on its standard output.

Run by `jobs`, never by hand. What is read here was written by the server that started this process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time

_EVERY_S = 0.1  # between two reports; more are not seen


def main() -> None:
    """Run the job, and say how it ended."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with the reports
    if hasattr(os, "nice"):
        os.nice(10)  # pages come first
    work = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = work["path"]
    function = getattr(importlib.import_module(work["module"]), work["function"])
    threading.Thread(target=_end_with_server, daemon=True).start()
    from stamp_index.errors import StampIndexError

    try:
        report = ["done", json.dumps(function(*work["args"], tell=_Teller(out)))]
    except StampIndexError as exc:
        report = ["failed", str(exc)]
    except MemoryError:
        report = [
            "failed",
            "There was not enough memory. Choose fewer slides or spots and start again.",
        ]
    _say(out, report)
    os._exit(0)  # not held up by threads of libraries


class _Teller:
    """Sends how far the work is, not oftener than it is looked at."""

    def __init__(self, out) -> None:  # noqa: ANN001 - a binary file
        self._out = out
        self._last = -_EVERY_S

    def __call__(self, step: str, share: float) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            _say(self._out, ["step", str(step), float(share)])


def _say(out, report: list) -> None:  # noqa: ANN001 - a binary file
    """Write one report as a line of JSON."""
    out.write(json.dumps(report).encode() + b"\n")
    out.flush()


def _end_with_server() -> None:
    """End this process when the server's end of the standard input closes."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
