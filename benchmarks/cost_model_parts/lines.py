"""Measurements as lines of JSON: one for each finished run, so that what was cut off goes on where it was."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.vector_search_parts.report import _commit, _libraries, _machine

BENCHMARKS: Final = Path(__file__).resolve().parent.parent
MEASURED: Final = BENCHMARKS / "cost_measurements.jsonl"


@dataclass(frozen=True)
class Line:
    """One finished run.

    Attributes
    ----------
    kind : str
        What was run: a name of `measure.RUNS`.
    key : dict of str to int
        Its arguments.
    values : dict
        What was counted. Units are in the names.
    load : list of float
        Load average (1 min) before and after.
    commit, machine, command, at : str
        Where it comes from.
    """

    kind: str
    key: dict[str, int]
    values: dict[str, Any]
    load: list[float]
    commit: str
    machine: str
    command: str
    at: str


def read_lines(path: Path = MEASURED) -> list[Line]:
    """Read all lines; none where there is no file."""
    if not path.is_file():
        return []
    return [Line(**json.loads(text)) for text in path.read_text("utf-8").splitlines() if text]


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    """Lines of one kind, by their arguments."""
    return sorted((one for one in lines if one.kind == kind), key=lambda one: list(one.key.items()))


def append_line(path: Path, line: Line) -> None:
    """Add a line at the end."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")


def measured_now(folder: Path, kind: str, key: dict[str, int]) -> Line:
    """Run one measurement in a process of its own.

    Raises
    ------
    SystemExit
        If it fails; what it said is on the screen.
    """
    before = os.getloadavg()[0]
    options = [text for name, value in key.items() for text in (f"--{name}", str(value))]
    asked = [sys.executable, str(BENCHMARKS / "cost_model.py"), "one", str(folder), kind, *options]
    done = subprocess.run(
        asked, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(asked)} ended with {done.returncode}")
    return Line(
        kind=kind,
        key=key,
        values=json.loads(done.stdout.splitlines()[-1]),
        load=[round(before, 1), round(os.getloadavg()[0], 1)],
        commit=_commit(),
        machine=f"{_machine()}; {', '.join(_libraries()[:3])}",
        command=" ".join(["python benchmarks/cost_model.py one FOLDER", kind, *options]),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def cpu_s() -> float:
    """CPU seconds of this process, all its threads, and the children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usages)


def peak_resident_mib() -> float:
    """Most memory that this process ever had, pages of mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
