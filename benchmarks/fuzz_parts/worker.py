"""One process that puts malformed inputs to one target, and says before each which one it is."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz_targets import TARGETS

_WARM = 8  # inputs after which what is imported and kept is in memory
_PAGE = resource.getpagesize()


def main(name: str, folder: str, start: str, stop: str, spare_bytes: str) -> None:
    """Run inputs `start` to `stop`; writes a line of JSON before and after each."""
    warnings.simplefilter("ignore")
    logging.disable()
    out = sys.stdout
    target, place = TARGETS[name], Path(folder)
    target.prepare(place)
    held = 0
    for number in range(int(start), int(stop)):
        if number == int(start) + _WARM:
            held = _resident()
            _limit(int(spare_bytes))
        _say(out, {"at": number})
        began = time.perf_counter()
        kind, what = _outcome(target, place, number)
        took_ms = 1e3 * (time.perf_counter() - began)
        _say(out, {"done": number, "kind": kind, "what": what, "ms": took_ms})
    _say(out, {"grew": _resident() - held if held else 0})


def _outcome(target: object, place: Path, number: int) -> tuple[str, str]:
    """Run one input; returns accepted, refused with the type's name, or a violation with where it was raised."""
    try:
        target.run(place, number)  # type: ignore[attr-defined]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - what is looked for; a panic of Rust is no Exception
        if isinstance(error, target.refusals):  # type: ignore[attr-defined]
            return "refused", type(error).__name__
        last = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "stamp_index" in frame.filename
        ]
        where = f"{Path(last[-1].filename).name}:{last[-1].lineno}" if last else "?"
        return "violation", f"{type(error).__name__} at {where}: {str(error)[:160]}"
    return "accepted", ""


def _say(out: object, what: dict[str, object]) -> None:
    out.write(json.dumps(what) + "\n")  # type: ignore[attr-defined]
    out.flush()  # type: ignore[attr-defined]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _limit(spare_bytes: int) -> None:
    """Let this process reserve so much more than it has: asking for more is a MemoryError, and a violation."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (now + spare_bytes,) * 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
