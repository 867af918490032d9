"""What the notebooks must be besides running: nbmake executes them from notebooks/, see conftest.py there."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def tree_of(path):
    return ast.parse("\n".join("".join(cell["source"]) for cell in code_cells(path)))


def imports_of(path):
    """Module and name of every import; the name is empty where a module is imported whole."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, one.name) for one in node.names)


def test_there_are_six_notebooks_in_order():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@each_notebook
def test_a_notebook_holds_no_outputs_and_no_execution_counts(path):
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert cell["metadata"] == {}


@each_notebook
def test_a_notebook_imports_neither_the_app_nor_the_tests_nor_the_trainer(path):
    roots = {module.split(".")[0] for module, _ in imports_of(path)}
    assert "stamp_index" in roots
    assert not roots & {"app", "tests", "trainer", "benchmarks"}


@each_notebook
def test_a_notebook_uses_public_names_only(path):
    for module, name in imports_of(path):
        if module.split(".")[0] != "stamp_index":
            continue
        assert not any(part.startswith("_") for part in (*module.split("."), name))
        if name:
            loaded = importlib.import_module(module)
            assert hasattr(loaded, name), f"{module} has no {name}"
            assert name in getattr(loaded, "__all__", [name]), f"{name} is not in {module}.__all__"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), f"{node.attr} is private"


@each_notebook
def test_a_notebook_says_that_its_tissue_is_synthetic(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert "synthetic" in "".join(cells[0]["source"])


@each_notebook
def test_a_notebook_names_no_place_of_one_machine(path):
    text = path.read_text("utf-8")
    for place in ("/home/", "/tmp/", "/Users/", "C:\\\\"):
        assert place not in text
