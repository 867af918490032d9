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
            shutil.copytree(root / name, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithBundle})
