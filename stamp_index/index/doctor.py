"""Finding what a crash or a bad disk left in the indexes of a store, and mending what can be mended."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from os.path import lexists
from typing import TYPE_CHECKING

from stamp_index.errors import AnnIndexError, EncoderMismatchError, StoreBusyError
from stamp_index.index.difference import require_same_history
from stamp_index.index.folder import (
    BUILDING,
    builder,
    card_of,
    current,
    has_index,
    index_folder,
    leftovers,
    remove,
    sweep,
)
from stamp_index.index.generation import open_generation, require_same_encoder, write_stamps
from stamp_index.store import Store
from stamp_index.store.doctor import Finding
from stamp_index.store.places import place_of
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
        If an index is being built; one of an encoder that the store does not know is only reported.
    """
    findings: list[Finding] = []
    for store, modality in _indexes(store_path):
        folder = index_folder(store, modality)
        with builder(folder):
            findings += _damage(store, modality)
            findings += [_leftover(path) for path in _not_needed(folder)]
    for path in _strangers(store_path):
        with _unless_busy(path) as busy:
            findings.append(_leftover(path) if not busy else Finding("leftover", busy))
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
                write_stamps(folder, generation, card_of(folder, generation))
            gone = sweep(folder)
            if lexists(folder / BUILDING):
                remove(folder / BUILDING)
                gone.append(folder / BUILDING)
            done += [f"Removed {path}." for path in gone]
    for path in _strangers(store_path):
        with _unless_busy(path) as busy:
            if busy:
                done.append(busy)
            elif path in _strangers(store_path):  # else somebody has made it an index meanwhile
                remove(path)
                done.append(f"Removed {path}.")
    return done


@contextmanager
def _unless_busy(path: Path) -> Iterator[str]:
    """Be the only one who changes something beside the indexes; gives words where somebody else does."""
    if path.is_symlink() or not path.is_dir():
        yield ""
        return
    with ExitStack() as stack:
        busy = ""
        try:
            stack.enter_context(builder(path))
        except StoreBusyError as exc:
            busy = f"{path} stays, though the store has no such index: busy. {exc}"
        yield busy


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
        opened = open_generation(folder, trust_stamps=False)
        require_same_encoder(store, modality, opened.card)
        require_same_history(store, opened.slides, opened.rows, opened.card.n_rows)
    except (AnnIndexError, EncoderMismatchError) as exc:
        return [Finding("damage", str(exc))]
    return []


def _not_needed(folder: Path) -> list[Path]:
    try:
        gone = leftovers(folder)
    except AnnIndexError:
        gone = []  # the damage is told already
    unfinished = folder / BUILDING
    return [*gone, unfinished] if lexists(unfinished) else gone


def _leftover(path: Path) -> Finding:
    text = f"{path} is not in use and can go."
    if path.name == BUILDING:
        text = f"{path} is a build that was not finished: build again to go on, or let it go."
    return Finding("leftover", text)


def _strangers(store_path: Path) -> list[Path]:
    """Index folders of encoders that the store does not have."""
    folder = place_of(store_path).folder / "indexes"
    known = {
        vector_column(name, modality)
        for name in Store.open(store_path).encoders
        for modality in MODALITIES
    }
    return [path for path in folder.iterdir() if path.name not in known] if folder.is_dir() else []
