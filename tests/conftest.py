"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # each with its share of the cores, not with all
    _share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _share)))

# No time limit per example, as machines differ, and no files left in the checkout.
settings.register_profile("stamp-index", deadline=None, database=None)
settings.load_profile("stamp-index")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets, which are not part of the project; skips where it is not there."""
    named = os.environ.get("STAMP_INDEX_SHARED")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    data = root / "data" if (root / "data").is_dir() else root
    if not (data / "her2st").is_dir():
        pytest.skip(f"no real data at {data}; set STAMP_INDEX_SHARED to the folder that holds it")
    return data


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Add a tiny backbone to the registry: ``tiny_backbone(loader, **settings)``; 28 px, patches of 14 px."""

    from stamp_index.encoders import backbones

    def add(loader, architecture="vit_tiny_patch16_224", **settings):
        spec = replace(
            backbones.registry()["uni"],
            name="tiny",
            loader=loader,
            architecture=architecture,
            image_px=28,
            patch_px=14,
            width=32,
            hub="stamp/tiny",
            settings={"embed_dim": 32, "depth": 2, "num_heads": 2, **settings},
        )
        monkeypatch.setattr(backbones, "registry", lambda: {"tiny": spec})
        return spec

    return add
