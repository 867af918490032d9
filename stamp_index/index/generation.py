"""A finished state of an index, opened."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stamp_index.errors import AnnIndexError, EncoderMismatchError
from stamp_index.index.background import Background
from stamp_index.index.card import IndexCard
from stamp_index.index.engine import Engine, on_gpus_if_any, read_index
from stamp_index.index.files import STAMPS, check_file, read_stamps, segment, stamp, write_json
from stamp_index.index.folder import (
    BACKGROUND,
    CARD,
    CURRENT,
    FAISS,
    ROWS,
    SLIDES,
    card_checksum,
    current,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.difference import SlideFacts
    from stamp_index.store import Modality, Store


Read = TypeVar("Read")


@dataclass(frozen=True)
class Generation:
    """What is needed to search.

    Attributes
    ----------
    folder : Path
        Where it lies.
    card : IndexCard
        What it is.
    engine : Engine
        Finds positions.
    rows : ndarray of shape (n,), int64
        Row id of each position.
    slides : list of (str, str, int, int)
        Slides of the store when it was built.
    backgrounds : dict of str to Background
        Scores of random queries, by their modality.
    """

    folder: Path
    card: IndexCard
    engine: Engine
    rows: NDArray[np.int64]
    slides: list[SlideFacts]
    backgrounds: dict[str, Background]


def read_card(folder: Path, generation: Path) -> IndexCard:
    """Read the card of the current generation.

    Raises
    ------
    AnnIndexError
        If it is missing, damaged, or of another release.
    """
    path = generation / CARD
    values = _read_json(path)
    if segment(path)[1] != card_checksum(folder):
        msg = f"{path} is damaged: its checksum is not that in {CURRENT}. Build the index again."
        raise AnnIndexError(msg)
    if not isinstance(values, dict):
        msg = f"{path} is not a JSON object. Build the index again."
        raise AnnIndexError(msg)
    return IndexCard.from_dict(values)


def open_generation(folder: Path) -> Generation:
    """Open the generation that counts, after comparing its files with what was written.

    Raises
    ------
    AnnIndexError
        If there is none, or something in it is missing or damaged.
    """
    return _current_of(folder, _open)


def read_rows(folder: Path) -> tuple[IndexCard, NDArray[np.int64]]:
    """Card and row ids (n,) of the generation that counts, without opening the rest.

    Raises
    ------
    AnnIndexError
        If there is none, or one of them is missing or damaged.
    """

    def read(folder: Path, generation: Path) -> tuple[IndexCard, NDArray[np.int64]]:
        card = read_card(folder, generation)
        check_file(generation / ROWS, card.files[ROWS], None)
        return card, np.load(generation / ROWS, allow_pickle=False)

    return _current_of(folder, read)


def _current_of(folder: Path, read: Callable[[Path, Path], Read]) -> Read:
    while True:
        generation = current(folder)
        try:
            return read(folder, generation)
        except (AnnIndexError, OSError) as exc:
            if current(folder) != generation:
                continue  # a builder put another in its place meanwhile and removed this one
            if isinstance(exc, AnnIndexError):
                raise
            msg = f"The index at {generation} cannot be read ({exc}). Build the index again."
            raise AnnIndexError(msg) from exc


def _open(folder: Path, generation: Path) -> Generation:
    card = read_card(folder, generation)
    check_files(folder, generation, card, read_stamps(generation))
    rows = np.load(generation / ROWS, allow_pickle=False)
    slides = [tuple(slide) for slide in _read_json(generation / SLIDES)]
    vectors = map_vectors(folder / card.sidecar, card.n, card.dim)
    index = None if card.kind == "flat" else read_index(generation / FAISS)
    settings = None if card.kind == "flat" else card.settings_for(card.target_recall)
    engine = on_gpus_if_any(Engine(index, vectors, settings=settings))
    held = [name for name in card.files if name.endswith(BACKGROUND)]
    backgrounds = {
        name.removesuffix(BACKGROUND): Background.load(generation / name) for name in held
    }
    return Generation(generation, card, engine, rows, slides, backgrounds)


def check_files(
    folder: Path, generation: Path, card: IndexCard, known: dict[str, list[int]]
) -> None:
    """Compare every file with its checksum, but for those whose stamp is known.

    Raises
    ------
    AnnIndexError
        If one is missing or damaged.
    """
    needed = {ROWS, SLIDES, card.sidecar} | (set() if card.kind == "flat" else {FAISS})
    if not needed <= set(card.files):
        msg = f"The card of the index at {generation} does not list its files. Build it again."
        raise AnnIndexError(msg)
    for name in sorted(card.files):
        path = (folder if name == card.sidecar else generation) / name
        check_file(path, card.files[name], known.get(name))


def write_stamps(folder: Path, generation: Path, card: IndexCard) -> None:
    """Note that the checksums of all files are right, so that opening need not take them again.

    Where there is no room for the note, there is none.
    """
    places = {name: folder if name == card.sidecar else generation for name in card.files}
    stamps = {name: stamp(place / name) for name, place in places.items()}
    with suppress(OSError):
        write_json(generation / STAMPS, stamps)


def map_vectors(path: Path, n: int, dim: int) -> NDArray[np.float16]:
    """First `n` vectors of a sidecar as a memory map, (n, dim) float16."""
    if n == 0:
        return np.empty((0, dim), np.float16)  # an empty file cannot be mapped
    return np.memmap(path, np.float16, "r", shape=(n, dim))


def require_same_encoder(store: Store, modality: Modality, card: IndexCard) -> None:
    """Refuse an index of another store, encoder or modality.

    Raises
    ------
    AnnIndexError
        If it is of another store or modality.
    EncoderMismatchError
        If its embeddings are not of the store's encoder.
    """
    if card.store_id != store.store_id or card.modality != modality:
        msg = (
            f"The {modality} index of the store at {store.path} was made from {card.modality} embeddings of "
            f"store {card.store_id}; this store is {store.store_id}. Build the index again."
        )
        raise AnnIndexError(msg)
    if card.fingerprint != store.card.fingerprint:
        msg = (
            f"The {modality} index of the store at {store.path} was made with encoder {card.fingerprint}; "
            f"the store's is {store.card.fingerprint}. Build the index again."
        )
        raise EncoderMismatchError(msg)


def _read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:  # not there, not UTF-8, not JSON
        msg = f"{path} is missing or damaged ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc
