"""Ten thousand malformed inputs over every parser, reader and opener: each is read or refused with a typed error.

    python benchmarks/fuzz.py --n 10000

Every target runs in a process of its own that may reserve 2 GB more than it has. A crash, a hang of over ten seconds, another
error than the target may raise, a file that was written, or memory that stays taken is a violation; each is printed
with the number that repeats it: `--target NAME --first NUMBER --n 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz_targets import TARGETS

LIMIT_S = 10.0
START_S = 180.0  # until the files of a target are written
SPARE_BYTES = 2 * 2**30
MOST_GROWTH = 200 * 2**20
WORKER = ["-m", "benchmarks.fuzz_parts.worker"]
MOST_OF_ONE = 4_000  # inputs in one process: what a crash loses, and over what growth is measured


@dataclass
class Tally:
    """What became of the inputs of a target."""

    n: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    grew: int = 0

    def note(self, said: dict[str, object]) -> None:
        """Count one input."""
        self.n += 1
        self.slowest_ms = max(self.slowest_ms, float(said["ms"]))  # type: ignore[arg-type]
        if said["kind"] == "accepted":
            self.accepted += 1
        elif said["kind"] == "refused":
            self.refused[str(said["what"])] += 1
        else:
            self.violations.append(f"input {said['done']}: {said['what']}")


def fuzz(name: str, first: int, n: int, folder: Path) -> Tally:
    """Run inputs `first` to `first + n` of a target, in as many processes as it takes."""
    tally, at, stop = Tally(), first, first + n
    while at < stop:
        at = _run(name, at, min(stop, at + MOST_OF_ONE), (folder, tally))
        if tally.grew > MOST_GROWTH:
            tally.violations.append(f"memory grew by {tally.grew / 2**20:.0f} MB")
            break
    return tally


def _run(name: str, start: int, stop: int, into: tuple[Path, Tally]) -> int:
    """Run one process; returns the input to go on from."""
    folder, tally = into
    asked = [name, str(folder), str(start), str(stop), str(SPARE_BYTES)]
    command = [sys.executable, *WORKER, *asked]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RUST_BACKTRACE": "0",
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            at = _listen(process, tally, start)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if at < stop:  # it ended, or was ended, in the middle of an input
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            why = (
                "no answer in time"
                if at in _HUNG
                else f"process ended ({process.returncode}) {last}"
            )
            tally.n += 1
            tally.violations.append(f"input {at}: {why}")
            _restore(folder)
            return at + 1
    return stop


_HUNG: set[int] = set()


def _listen(process: subprocess.Popen[bytes], tally: Tally, start: int) -> int:
    """Read what a process says to its end; returns the first input of which it did not say how it ended."""
    at, limit_s, rest = start, START_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(limit_s):
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                process.wait()
                return at
            *lines, rest = (rest + part).split(b"\n")
            for said in map(json.loads, lines):
                if "done" in said:
                    tally.note(said)
                    at = said["done"] + 1
                elif "grew" in said:
                    tally.grew = max(tally.grew, said["grew"])
                else:
                    limit_s = LIMIT_S
    _HUNG.add(at)
    return at


def _restore(folder: Path) -> None:
    """Have a target's files written anew after a process ended with one of them spoiled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def main() -> None:
    """Parse the command line, run, print the table; exits with 1 where there is a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="inputs over all targets")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input of each target"
    )
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="one of them; all by default"
    )
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    shares = [asked.n // len(names) + (place < asked.n % len(names)) for place in range(len(names))]
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for number, (name, n) in enumerate(zip(names, shares, strict=True)):
            if n == 0:
                continue
            began = time.perf_counter()
            tallies[name] = fuzz(name, asked.first, n, Path(scratch) / str(number))
            print(_row(name, tallies[name], time.perf_counter() - began), flush=True)
            for one in tallies[name].violations[:8]:
                print("    ", one, flush=True)
    total = sum(tally.n for tally in tallies.values())
    wrong = sum(len(tally.violations) for tally in tallies.values())
    print(f"{total} inputs, {wrong} violations")
    sys.exit(1 if wrong else 0)


def _row(name: str, tally: Tally, seconds: float) -> str:
    refused = ", ".join(f"{kind} {n}" for kind, n in tally.refused.most_common())
    return (
        f"| {name} | {tally.n} | {tally.accepted} | {refused or '-'} | {len(tally.violations)} | "
        f"{tally.slowest_ms:.0f} | {max(tally.grew, 0) / 2**20:.0f} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
