"""A finished state of an index, opened."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stamp_index.errors import AnnIndexError, EncoderMismatchError
from stamp_index.index.background import DAMAGED_ARRAY, Background
from stamp_index.index.difference import places
from stamp_index.index.engine import Engine, on_gpus_if_any, read_index
from stamp_index.index.files import STAMPS, check_file, read_stamps, stamp, write_json
from stamp_index.index.folder import (
    BACKGROUND,
    FAISS,
    ROWS,
    SLIDES,
    card_of,
    check_modality,
    current,
    index_folder,
    read_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.card import IndexCard
    from stamp_index.index.difference import SlideFacts
    from stamp_index.index.engine import Settings
    from stamp_index.index.engine.search import PositionSearch
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView


Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class Contents:
    """What an index holds, without the vectors and the FAISS file.

    Attributes
    ----------
    folder : Path
        Where the generation lies.
    card : IndexCard
        What it is.
    rows : ndarray of shape (n,), int64
        Row id of each position.
    slides : list of SlideFacts
        Slides of the store when it was built.
    """

    folder: Path
    card: IndexCard
    rows: NDArray[np.int64]
    slides: list[SlideFacts]

    @cached_property
    def order(self) -> NDArray[np.int64] | None:
        """Positions by ascending row id, (n,), int64; None where positions ascend with row ids.

        They do until rows are folded in that are older than some that were there: a slide that got its
        vectors of this encoder after a younger one (`Store.fill`).
        """
        return None if (np.diff(self.rows) > 0).all() else np.argsort(self.rows)

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of some row ids, (m,) to (m,), int64; -1 for those that are not in the index."""
        at = places(self._ascending, rows)
        return at if self.order is None else np.where(at < 0, -1, self.order[at])

    @cached_property
    def _ascending(self) -> NDArray[np.int64]:
        return self.rows if self.order is None else self.rows[self.order]


@dataclass(frozen=True, eq=False)
class Generation(Contents):
    """What is needed to search.

    Attributes
    ----------
    engine : PositionSearch
        Finds positions.
    backgrounds : dict of str to Background
        Scores of random queries, by their modality.
    """

    engine: PositionSearch
    backgrounds: dict[str, Background]


def read_card(store: StoreView, modality: Modality) -> IndexCard:
    """Read the card of a store's index, and nothing else of it.

    Parameters
    ----------
    store : Store
        The store.
    modality : {"image", "gene"}
        Which embedding is indexed.

    Raises
    ------
    AnnIndexError
        If there is no index, or its card is missing, damaged, or of another store or release.
    EncoderMismatchError
        If its embeddings are not of the encoder that the store was opened with.
    ValueError
        If the modality is unknown.
    """
    check_modality(modality)
    card = _current_of(index_folder(store, modality), card_of)
    require_same_encoder(store, modality, card)
    return card


def read_contents(folder: Path) -> Contents:
    """Read what the generation that counts holds, without opening its vectors and its FAISS file.

    Raises
    ------
    AnnIndexError
        If there is none, or one of these files is missing or damaged.
    """

    def read(folder: Path, generation: Path) -> Contents:
        card, known = card_of(folder, generation), read_stamps(generation)
        check_files(folder, generation, card, known=known, only={ROWS, SLIDES})
        return Contents(generation, card, *_rows_and_slides(generation, card))

    return _current_of(folder, read)


def open_generation(folder: Path, *, trust_stamps: bool = True) -> Generation:
    """Open the generation that counts, after comparing its files with what was written.

    Parameters
    ----------
    folder : Path
        Of the index.
    trust_stamps : bool
        Whether a file need not be read whose checksum was right before and that nobody has touched since.

    Raises
    ------
    AnnIndexError
        If there is none, or something in it is missing or damaged.
    """
    return _current_of(folder, partial(_open, trust_stamps=trust_stamps))


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


def _open(folder: Path, generation: Path, *, trust_stamps: bool) -> Generation:
    card = card_of(folder, generation)
    check_files(
        folder, generation, card, known=read_stamps(generation) if trust_stamps else {}, only=None
    )
    rows, slides = _rows_and_slides(generation, card)
    try:
        vectors = map_vectors(folder / card.sidecar, card.n, card.dim)
    except (ValueError, OverflowError) as exc:  # too short, or too large for any file
        msg = f"The vectors of the index at {generation} cannot be read ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc
    index = None if card.kind == "flat" else read_index(generation / FAISS)
    settings = None if card.kind == "flat" else _settings(card, generation)
    engine = on_gpus_if_any(Engine(index, vectors, settings=settings))
    held = [name for name in card.files if name.endswith(BACKGROUND)]
    backgrounds = {
        name.removesuffix(BACKGROUND): Background.load(generation / name) for name in held
    }
    for name, background in backgrounds.items():
        if background.sample.shape[1] != card.dim:
            msg = (
                f"The {name} background of the index at {generation} has {background.sample.shape[1]} dimensions; "
                f"its card says {card.dim}. Build the index again."
            )
            raise AnnIndexError(msg)
    return Generation(generation, card, rows, slides, engine, backgrounds)


def _settings(card: IndexCard, generation: Path) -> Settings:
    try:
        return card.settings_for(card.target_recall)
    except ValueError as exc:
        msg = f"The card of the index at {generation} has no settings for its own target. Build it again."
        raise AnnIndexError(msg) from exc


def _rows_and_slides(
    generation: Path, card: IndexCard
) -> tuple[NDArray[np.int64], list[SlideFacts]]:
    path = generation / ROWS
    try:
        with path.open("rb") as file:  # not np.load, which opens archives and pickles too
            rows = np.lib.format.read_array(file, allow_pickle=False)
    except (*DAMAGED_ARRAY, OSError) as exc:
        msg = f"{path} is missing or damaged ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc
    whole = rows.dtype == np.int64 and rows.shape == (card.n,)
    if not whole or (card.n and not 0 <= rows.min() <= rows.max() < card.n_rows):
        msg = f"{path} does not hold {card.n} row ids below {card.n_rows}. Build the index again."
        raise AnnIndexError(msg)
    if not (np.diff(rows) > 0).all() and len(np.unique(rows)) < len(rows):
        msg = f"{path} holds a row id more than once. Build the index again."
        raise AnnIndexError(msg)
    slides = read_json(generation / SLIDES)
    if not isinstance(slides, list) or not all(map(_are_facts, slides)):
        msg = f"{generation / SLIDES} is no list of slides. Build the index again."
        raise AnnIndexError(msg)
    return rows, [tuple(slide) for slide in slides]


def _are_facts(slide: object) -> bool:
    kinds = (str, str, int, int, str)
    if not isinstance(slide, list) or len(slide) != len(kinds):
        return False
    return all(isinstance(value, kind) for value, kind in zip(slide, kinds, strict=True))


def check_files(
    folder: Path,
    generation: Path,
    card: IndexCard,
    *,
    known: dict[str, list[int]],
    only: set[str] | None,
) -> None:
    """Compare files with their checksums, but for those whose stamp is known.

    Parameters
    ----------
    folder, generation : Path
        Of the index, and of what counts in it.
    card : IndexCard
        Names the files.
    known : dict of str to list of int
        Stamps by name.
    only : set of str or None
        Names to compare; None for all.

    Raises
    ------
    AnnIndexError
        If one is missing or damaged.
    """
    needed = {ROWS, SLIDES, card.sidecar} | (set() if card.kind == "flat" else {FAISS})
    if not needed <= set(card.files):
        msg = f"The card of the index at {generation} does not list its files. Build it again."
        raise AnnIndexError(msg)
    for name in sorted(card.files if only is None else only):
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


def require_same_encoder(store: StoreView, modality: Modality, card: IndexCard) -> None:
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
            f"The {modality} index of the store at {store.place} was made from {card.modality} embeddings of "
            f"store {card.store_id}; this store is {store.store_id}. Build the index again."
        )
        raise AnnIndexError(msg)
    if card.fingerprint != store.card.fingerprint:
        msg = (
            f"The {modality} index of the store at {store.place} was made with encoder {card.fingerprint}; "
            f"the store's is {store.card.fingerprint}. Build the index again."
        )
        raise EncoderMismatchError(msg)
