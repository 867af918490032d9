"""Finding what a crash or a bad disk left in the indexes of a store, and mending what can be mended."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from stamp_index.errors import AnnIndexError, EncoderMismatchError
from stamp_index.index.difference import require_same_history
from stamp_index.index.folder import (
    BUILDING,
    builder,
    current,
    has_index,
    index_folder,
    leftovers,
    sweep,
)
from stamp_index.index.generation import (
    check_files,
    open_generation,
    read_card,
    require_same_encoder,
    write_stamps,
)
from stamp_index.store import Store
from stamp_index.store.doctor import Finding
from stamp_index.store.schema import MODALITIES, vector_column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stamp_index.store import Modality


def examine(store_path: Path) -> list[Finding]:
    """Examine the indexes of a store: every checksum is taken, whatever was noted before.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be opened.
    StoreBusyError
        If an index is being built.
    """
    findings: list[Finding] = []
    for store, modality in _indexes(store_path):
        folder = index_folder(store, modality)
        with builder(folder):
            findings += _damage(store, modality)
            findings += [_leftover(path) for path in _not_needed(folder)]
    findings += [_leftover(path) for path in _strangers(store_path)]
    return findings


def mend(store_path: Path) -> list[str]:
    """Remove leftovers, and note which files were found whole; returns what was done.

    A damaged index stays as it is: search refuses it, and `stamp-index build` replaces it.

    Raises
    ------
    StoreError, StoreBusyError
        As `examine`.
    """
    done = []
    for store, modality in _indexes(store_path):
        folder = index_folder(store, modality)
        with builder(folder):
            if has_index(store, modality) and not _damage(store, modality):
                generation = current(folder)
                write_stamps(folder, generation, read_card(folder, generation))
            gone = sweep(folder)
            if (folder / BUILDING).exists():
                shutil.rmtree(folder / BUILDING)
                gone.append(folder / BUILDING)
            done += [f"Removed {path}." for path in gone]
    for path in _strangers(store_path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        done.append(f"Removed {path}.")
    return done


def _indexes(store_path: Path) -> Iterator[tuple[Store, Modality]]:
    for encoder in Store.open(store_path).encoders:
        store = Store.open(store_path, encoder=encoder)
        for modality in MODALITIES:
            if index_folder(store, modality).is_dir():
                yield store, modality


def _damage(store: Store, modality: Modality) -> list[Finding]:
    folder = index_folder(store, modality)
    if not has_index(store, modality):
        return []
    try:
        generation = current(folder)
        card = read_card(folder, generation)
        check_files(folder, generation, card, known={})
        require_same_encoder(store, modality, card)
        opened = open_generation(folder)
        require_same_history(store, opened.slides, opened.rows, card.n_rows)
    except (AnnIndexError, EncoderMismatchError) as exc:
        return [Finding("damage", str(exc))]
    return []


def _not_needed(folder: Path) -> list[Path]:
    try:
        gone = leftovers(folder)
    except AnnIndexError:
        gone = []  # the damage is told already
    unfinished = folder / BUILDING
    return [*gone, unfinished] if unfinished.exists() else gone


def _leftover(path: Path) -> Finding:
    text = f"{path} is not in use and can go."
    if path.name == BUILDING:
        text = f"{path} is a build that was not finished: build again to go on, or let it go."
    return Finding("leftover", text)


def _strangers(store_path: Path) -> list[Path]:
    """Index folders of encoders that the store does not have."""
    folder = store_path / "indexes"
    known = {
        vector_column(name, modality)
        for name in Store.open(store_path).encoders
        for modality in MODALITIES
    }
    return [path for path in folder.iterdir() if path.name not in known] if folder.is_dir() else []
