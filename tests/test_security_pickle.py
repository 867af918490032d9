"""Nothing that is shipped unpickles data, runs text as code, or starts a shell."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz_files import build_index, build_ridge
from tests.support import toy_store

ROOT = Path(__file__).resolve().parent.parent
# Where one of these stands and why; any other place fails.
EXCEPTIONS = {
    ("trainer/shared_arrays.py", "pickle.loads"): "what this process pickled itself, in memory that it shares with its workers",
}  # fmt: skip
LOADERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
ALWAYS = {"joblib.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}  # fmt: skip
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
}


def shipped() -> list[Path]:
    """Python files of the wheel: the package, and the folders that `setup.py` puts into it."""
    tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    bundled = next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and name_of(node.targets[0]) == "BUNDLED"
    )
    folders = ["stamp_index", *bundled]
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "node_modules" not in path.parts
    )


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{name_of(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def flaw(call: ast.Call) -> str:
    """What a call does that no shipped file may do; empty where nothing."""
    name = name_of(call.func)
    module, _, function = name.rpartition(".")
    said = {one.arg: one.value for one in call.keywords}
    if (module in LOADERS and function in {"load", "loads", "Unpickler", "open"}) or name in ALWAYS:
        return name
    if name in {"eval", "exec", "compile", "__import__"}:
        return name
    if name in NEEDS:
        key, value = NEEDS[name]
        given = said.get(key)
        if not (isinstance(given, ast.Constant) and given.value is value):
            return f"{name} without {key}={value}"
    shell = said.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        return f"{name} with a shell"
    return ""


def flaws(text: str, name: str) -> list[tuple[str, str]]:
    tree = ast.parse(text)
    found = [(name, flaw(node)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in LOADERS | {"joblib"}:
            found += [(name, f"from {node.module} import {one.name}") for one in node.names if one.name.startswith(("load", "Unpickler"))]  # fmt: skip
    return [one for one in found if one[1]]


def test_no_shipped_file_unpickles_evaluates_or_starts_a_shell() -> None:
    files = shipped()
    assert len(files) > 400
    found = [one for path in files for one in flaws(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())]  # fmt: skip
    assert set(found) == set(EXCEPTIONS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import pickle\npickle.load(f)", "pickle.load"),
        ("from pickle import loads", "from pickle import loads"),
        ("torch.load(p)", "torch.load without weights_only=True"),
        ("torch.load(p, weights_only=False)", "torch.load without weights_only=True"),
        ("np.load(p)", "np.load without allow_pickle=False"),
        ("eval(x)", "eval"),
        ("subprocess.run(x, shell=True)", "subprocess.run with a shell"),
        ("subprocess.run(x, shell=y)", "subprocess.run with a shell"),
        ("joblib.load(p)", "joblib.load"),
        ("yaml.load(p, Loader=L)", "yaml.load"),
    ],
)
def test_what_is_looked_for_is_found(text: str, said: str) -> None:
    assert [what for _, what in flaws(text, "a.py")] == [said]


def test_what_is_allowed_is_not_found() -> None:
    text = "np.load(p, allow_pickle=False); model.eval(); re.compile(x); torch.load(p, weights_only=True)"
    assert flaws(text, "a.py") == []


# The whole chain in a process in which nothing can be unpickled.
CHAIN = """
import sys, pickle, _pickle, pickletools, marshal, json
from pathlib import Path

import numpy as np
import faiss, lance, pandas, pyarrow, torch, tifffile, sklearn, streamlit  # libraries may do as they like while they load
import stamp_index.encoders, stamp_index.search, stamp_index.store, stamp_index.view
import app.server

def refused(*_, **__):
    raise AssertionError("something was unpickled")

class Unpickler:
    def __init__(self, *_, **__):
        refused()

for module in (pickle, _pickle):
    module.load = module.loads = refused
    module.Unpickler = Unpickler
pickle._load = pickle._loads = refused
pickle._Unpickler = Unpickler
for module in list(sys.modules.values()):  # those that have taken a name for themselves
    for name in ("load", "loads"):
        if getattr(getattr(module, name, None), "__module__", "") in ("pickle", "_pickle"):
            setattr(module, name, refused)

folder = Path(sys.argv[1])
from stamp_index.encoders import load_encoder
from stamp_index.evaluate.suite.report import read_report
from stamp_index.index import Index
from stamp_index.readers import read
from stamp_index.search import Searcher
from stamp_index.store import Store
from stamp_index.view.pictures import slide_picture
from tests.support import ToyEncoder

slide = read(folder / "run" / "P1_A")
assert slide.n_spots > 0
encoder = load_encoder(folder / "encoder")
encoder.encode_signature({encoder.panel.genes[0]: 1.0})
searcher = Searcher.open(folder / "toy" / "store", encoder=ToyEncoder())
hits = searcher.search_genes("CD8A high, EPCAM low", k=5)
assert len(hits) == 5
store = searcher.store
store.thumbnails(store.rows()[:3])
slides = store.slides().set_index("slide_id", drop=False)
slide_picture(store, slides.iloc[0]).overview(32)
index = Index.open(Store.open(folder / "indexed" / "store"), "image")
assert index.search(np.eye(2, 16, dtype=np.float32), 3)[1].shape == (2, 3)
read_report(folder / "report" / "report.json")
try:
    pickle.loads(pickle.dumps(1))
except AssertionError:
    print("whole")
"""


def test_the_whole_chain_runs_where_nothing_can_be_unpickled(tmp_path: Path) -> None:
    from tests.space_ranger_run import Run
    from tests.test_suite_compare import report

    Run(tmp_path / "run")
    for name in ("encoder", "toy", "indexed", "report"):
        (tmp_path / name).mkdir()
    build_ridge(tmp_path)
    toy_store(tmp_path / "toy", n_slides=2)
    build_index(tmp_path / "indexed")
    report().save(tmp_path / "report")
    done = subprocess.run(
        [sys.executable, "-c", CHAIN, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip().endswith("whole"), done.stderr[-2000:]


def test_an_array_that_is_a_pickle_is_refused_where_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"), path.open("rb") as file:
        np.lib.format.read_array(file, allow_pickle=False)
