"""The folder of an index: card, vectors in index order, row numbers, FAISS file; all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.card import IndexCard
from stamp_index.index.cores import FlatCore, IvfCore, load_faiss
from stamp_index.index.recipe import IndexRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.index.cores import Core

CARD: Final = "card.json"
VECTORS: Final = "vectors.npy"  # float16 (n, d) in index order, read as a memory map
ROWS: Final = "rows.npy"  # int64 (n,): row of the store of each vector, ascending
FAISS: Final = "index.faiss"


def write_folder(folder: Path, card: IndexCard, core: Core, rows: NDArray[np.int64]) -> None:
    """Write beside `folder`, then put it in place by renaming."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        np.save(new / VECTORS, np.asarray(core.vectors, np.float16))
        np.save(new / ROWS, rows)
        if isinstance(core, IvfCore):
            load_faiss().write_index(core.index, str(new / FAISS))
        files = {path.name: _facts(path) for path in sorted(new.iterdir())}
        text = json.dumps({**card.to_dict(), "files": files}, indent=2)
        (new / CARD).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)  # noqa: PTH105 - same call as below, to be read as a pair
        os.replace(new, folder)  # noqa: PTH105


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def read_card(folder: Path) -> tuple[IndexCard, dict[str, dict[str, Any]]]:
    """Card and the sizes and checksums of the other files.

    Raises
    ------
    AnnIndexError
        If there is no index, its card is damaged, or a newer release wrote it.
    """
    path = folder / CARD
    if not path.is_file():
        msg = f"There is no index at {folder} (no {CARD}). Build one and save it there."
        raise AnnIndexError(msg)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:  # not UTF-8 or not JSON
        msg = f"The card of the index at {folder} is damaged ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc
    files = values.get("files") if isinstance(values, dict) else None
    if not isinstance(values, dict):
        msg = f"The card of the index at {folder} is not a JSON object. Build the index again."
        raise AnnIndexError(msg)
    card = IndexCard.from_dict(values)
    needed = {VECTORS, ROWS} | ({FAISS} if card.recipe.get("kind") == "ivf_pq" else set())
    if not isinstance(files, dict) or not needed <= set(files):
        msg = f"The card of the index at {folder} does not list its files. Build the index again."
        raise AnnIndexError(msg)
    return card, {name: files[name] for name in sorted(needed)}


def read_core(
    folder: Path, card: IndexCard, files: dict[str, dict[str, Any]]
) -> tuple[Core, NDArray[np.int64]]:
    """Open the searching part and row numbers, after comparing every file with its checksum.

    Raises
    ------
    AnnIndexError
        If a file is missing or is not what was written.
    """
    for name, facts in files.items():
        _check_file(folder / name, facts)
    rows = np.load(folder / ROWS, allow_pickle=False)
    # an empty file cannot be mapped
    vectors = np.load(folder / VECTORS, mmap_mode="r" if card.n else None, allow_pickle=False)
    if vectors.shape != (card.n, card.dim) or rows.shape != (card.n,):
        msg = (
            f"The index at {folder} holds vectors of shape {vectors.shape} and {len(rows)} rows; "
            f"its card says ({card.n}, {card.dim}). Build the index again."
        )
        raise AnnIndexError(msg)
    recipe = IndexRecipe.from_dict(card.recipe)
    if recipe.kind == "flat":
        return FlatCore(vectors), rows
    index = load_faiss().read_index(str(folder / FAISS))
    return IvfCore(index, vectors, recipe.exact_below), rows


def _check_file(path: Path, facts: dict[str, Any]) -> None:
    if not path.is_file():
        msg = f"The index at {path.parent} lacks {path.name}. Build the index again."
        raise AnnIndexError(msg)
    size = path.stat().st_size
    if size != facts["bytes"]:
        msg = (
            f"{path} has {size} bytes; the index's card says {facts['bytes']}. "
            f"It is damaged: build the index again."
        )
        raise AnnIndexError(msg)
    if _facts(path)["sha256"] != facts["sha256"]:
        msg = f"{path} is damaged: its checksum is not the card's. Build the index again."
        raise AnnIndexError(msg)
