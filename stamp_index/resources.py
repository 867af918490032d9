"""Where the app, the trainer and the recipes lie: beside the package, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path


def bundle_root() -> Path:
    """Folder that holds ``app/``, ``trainer/`` and ``indexes/``.

    In a checkout that is its root; a wheel carries them as ``stamp_index/_bundle``, so that its only
    top-level name stays stamp_index.
    """
    package = Path(__file__).resolve().parent
    bundled = package / "_bundle"
    return bundled if bundled.is_dir() else package.parent
