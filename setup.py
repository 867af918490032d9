"""Puts the app, the trainer and the recipes into a wheel as ``stamp_index/_bundle``; all else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = ("app", "trainer", "indexes/recipes")


class BuildWithBundle(build_py):
    """Copies the bundled folders beside the package's modules; an editable install reads the checkout."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).parent
        for name in BUNDLED:
            target = Path(self.build_lib) / "stamp_index" / "_bundle" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(root / name, target, ignore=_left_out)


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Leave out caches, and of OpenSeadragon all but the script that is served and its licence."""
    inside = Path(folder)
    if inside.name == "openseadragon" and inside.parent.name == "build":
        return [name for name in names if name != "openseadragon.min.js"]
    if inside.parent.name == "node_modules":
        return [name for name in names if name not in {"build", "LICENSE.txt", "package.json"}]
    return [name for name in names if name == "__pycache__" or name.startswith(".")]


setup(cmdclass={"build_py": BuildWithBundle})
