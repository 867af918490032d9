"""The public surface: what importing costs, what is exported, which layer imports which."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import stamp_index
from stamp_index.cli import main

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "errors": 0, "keys": 0, "resources": 0, "machine": 0, "process_memory": 0, "remote": 1, "crew": 1, "training": 1, "genes": 1, "slides": 1, "readers": 2, "phantom": 2,
    "encoders": 3, "store": 4, "index": 5, "shards": 5, "search": 6, "embed": 6, "evaluate": 7, "demo": 8,
    "app_launcher": 8, "export": 4, "view": 7, "addresses": 1, "cli_export": 8, "cli_import": 8, "cli_add": 8, "cli_inspect": 8, "cli_store": 8, "cli_build": 8, "cli_search": 8, "cli_shard": 8, "serve": 8, "client": 7, "cli_serve": 8, "cli_evaluate": 8, "cli_benchmark": 8, "cli": 9,
}  # fmt: skip


def _isolated(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_the_package_loads_no_heavy_library(tmp_path):
    heavy = [
        "torch",
        "timm",
        "lance",
        "lancedb",
        "faiss",
        "scanpy",
        "anndata",
        "openslide",
        "streamlit",
        "trainer",
        "app",
    ]
    code = f"import sys, stamp_index; print([m for m in {heavy!r} if m in sys.modules])"
    assert _isolated(code, tmp_path) == "[]"


def test_the_apps_server_loads_torch_only_with_an_encoder_that_needs_it():
    """It takes 180 MB and a second and a half."""
    code = "import sys, app.server, stamp_index.evaluate, stamp_index.search; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_sibling_folders_cannot_be_imported_from_elsewhere(tmp_path):
    code = (
        "import importlib.util as u; print([n for n in ('trainer', 'app', 'indexes', 'notebooks', 'tests') "
        "if (s := u.find_spec(n)) and 'stamp' in str(s.submodule_search_locations or s.origin)])"
    )
    assert _isolated(code, tmp_path) == "[]"


def test_every_public_name_is_there_and_all_is_sorted():
    assert sorted(stamp_index.__all__) == stamp_index.__all__
    assert set(stamp_index.__all__) == set(stamp_index._WHERE)
    for name in stamp_index.__all__:
        assert getattr(stamp_index, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = stamp_index.serch


def test_imports_go_downward_only():
    wrong = []
    for path in (ROOT / "stamp_index").rglob("*.py"):
        own = path.relative_to(ROOT / "stamp_index").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stamp_index."):
                other = node.module.split(".")[1]
                if LAYERS[other] > LAYERS[own]:
                    wrong.append(f"{path.name}: {own} imports {other}")
    # A panel is fitted on slides and a card is made of an encoder, but only for the type checker.
    typing_only = {"genes imports slides"}
    assert [w for w in wrong if w.split(": ")[1] not in typing_only] == []


def test_readme_names_every_file_of_the_package_root_and_every_folder():
    readme = (ROOT / "README.md").read_text()
    parts = [p for p in (ROOT / "stamp_index").iterdir() if not p.name.startswith(("_", "."))]
    missing = [p.name for p in parts if p.name != "py.typed" and p.name not in readme]
    assert missing == []


def test_readme_shows_every_verb_of_the_command_line():
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in main.commands if f"stamp-index {name}" not in readme]
    assert missing == []


def test_every_verb_has_help():
    for name in main.commands:
        if name in ("train", "pretrain", "report"):
            continue  # runs the trainer's own help in another process
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, name
        assert re.search(r"Usage: main " + name, result.output)


def test_a_library_error_is_one_sentence_on_the_command_line(tmp_path):
    result = CliRunner().invoke(main, ["info", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "none" in result.output


def test_search_wants_exactly_one_kind_of_query(tmp_path):
    result = CliRunner().invoke(main, ["search", str(tmp_path)])
    assert result.exit_code != 0
