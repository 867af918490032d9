"""Tables in Markdown, and what every table must say of where its figures come from."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("faiss-cpu", "numpy", "pylance", "lancedb", "hnswlib", "usearch")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin() -> str:
    """Command, commit and machine, as a sentence."""
    command = " ".join(["python", "benchmarks/vector_search.py", *sys.argv[1:]])
    return f"Commit {_commit()}, `{command}`. Machine: {_machine()}; {', '.join(_libraries())}."


def _commit() -> str:
    root = Path(__file__).resolve().parent
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=7"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text("ascii").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    wide = " with AVX-512" if "avx512f" in flags else ""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(names)} cores of an {names[0] if names else 'unknown CPU'}{wide}, {gib:.0f} GiB"


def _libraries() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found
