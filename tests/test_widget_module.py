"""The notebook viewer's one module of JavaScript, and what is said where a part of it is missing."""

from __future__ import annotations

import re

import pytest

from stamp_index.errors import StampIndexError
from stamp_index.view import notebook_module


def test_module_holds_every_file_and_no_import_by_path():
    files = notebook_module._in_order(notebook_module.frontend_folder())
    assert list(files)[-1] == "viewer/notebook.js"
    assert {"openseadragon.js", "viewer/index.js", "viewer/viewer.js"} <= set(files)
    seen = set()
    for name, text in files.items():
        for wanted in re.findall(r'"@([^"@]+)@"', text):
            assert wanted in seen, f"{name} needs {wanted}, which comes later"
        if name != "openseadragon.js":
            assert not re.search(r"from\s+[\"']\.", text), name
            original = (notebook_module.frontend_folder() / name).read_text("utf-8")
            assert len(re.findall(r"(?m)^import\b", original)) == text.count('"@')
        seen.add(name)


def test_missing_openseadragon_says_what_to_run(tmp_path):
    folder = tmp_path / "frontend"
    (folder / "viewer").mkdir(parents=True)
    for path in (notebook_module.frontend_folder() / "viewer").iterdir():
        (folder / "viewer" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(StampIndexError, match=r"make demo.*npm ci"):
        notebook_module.notebook_module(folder)


def test_files_that_import_in_a_circle_are_refused(tmp_path):
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "notebook.js").write_text('import { a } from "./a.js";\n')
    (tmp_path / "viewer" / "a.js").write_text('export { b } from "./notebook.js";\n')
    with pytest.raises(StampIndexError, match=r"circle: viewer/notebook.js > viewer/a.js"):
        notebook_module.notebook_module(tmp_path)


def test_without_anywidget_the_name_is_there_and_says_what_to_install():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import stamp_index as si\n"
        "for make in (si.SlideViewer, si.SlideViewer.from_slide):\n"
        "    try: make('store')\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'stamp-index[notebooks]'") == 2
