"""Notebooks are executed by nbmake: one that needs what is not installed is skipped, and says so."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDS = {"06_scanpy_and_back.ipynb": "scanpy"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every notebook as slow, and skip what cannot run here."""
    for item in items:
        if item.path.suffix != ".ipynb":
            continue
        item.add_marker("slow")
        needed = NEEDS.get(item.path.name)
        if needed is not None and find_spec(needed) is None:
            reason = f"{needed} is not installed: pip install 'stamp-index[notebooks]'"
            item.add_marker(pytest.mark.skip(reason=reason))
