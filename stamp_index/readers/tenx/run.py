"""What the output folders of 10x Genomics' pipelines have in common: their name and matrix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError
from stamp_index.readers.common.confined import confined

if TYPE_CHECKING:
    from pathlib import Path

MATRIX: Final = "filtered_feature_bc_matrix"
_PIPELINES_OWN: Final = re.compile(r"outs|binned_outputs|square_\d{3}um")


def run_name(path: Path) -> str:
    """Return the name of a run: of the nearest folder that is not one of the pipeline's own, such as ``outs``."""
    here = path.resolve()
    while _PIPELINES_OWN.fullmatch(here.name) and here.parent.name:
        here = here.parent
    return here.name


def find_matrices(path: Path, name: str = MATRIX) -> list[Path]:
    """Return every matrix in a folder, h5 files first; a prefix before the name is allowed."""
    folders = [p for p in path.glob(f"*{name}") if p.is_dir()]
    return sorted(path.glob(f"*{name}.h5")) + sorted(folders)


def one_matrix(path: Path, name: str = MATRIX) -> Path:
    """Return a folder's matrix; the h5 file wins over the folder, which holds the same numbers.

    Raises
    ------
    SlideError
        If there is none, or more than one.
    """
    matrices = find_matrices(path, name)
    files = [p for p in matrices if p.suffix == ".h5"] or matrices
    if len(files) > 1:
        msg = f"{path} has {len(files)} matrices ({', '.join(p.name for p in files)}). Keep one."
        raise SlideError(msg)
    if not files:
        msg = f"{path} has neither {name}.h5 nor a folder {name}. Copy the whole folder."
        raise SlideError(msg)
    return files[0]


def matrix_files(matrix: Path, root: Path) -> tuple[Path, ...]:
    """Return the files that make up a matrix: itself, or those of its folder.

    Raises
    ------
    SlideError
        If one is a link that leads out of `root`.
    """
    inside = sorted(p for p in matrix.iterdir() if not p.is_dir()) if matrix.is_dir() else []
    parts = inside or [matrix]
    return tuple(confined(part, root) for part in parts)
