"""SECURITY.md names files and tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") == 5 and "`" in line]  # fmt: skip


def test_every_row_names_a_test_that_is_there() -> None:
    missing = []
    for place, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT):
        tree = ast.parse((ROOT / place).read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        missing += [f"{place}::{name}"] * (name not in names)
    assert missing == []
    threats = [row for row in ROWS if "tests/" in row]
    assert len(threats) > 35


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:stamp_index|app|trainer|benchmarks|tests|\.ci)/[\w./-]+)", TEXT)
    missing = {one for one in named if not (ROOT / one.split("::")[0]).exists()}
    assert missing == set()


def test_the_number_of_targets_is_said() -> None:
    from tests.fuzz_targets import TARGETS

    assert f"{len(TARGETS)} targets" in TEXT
