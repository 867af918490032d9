"""The folder of an index: finished generations, of which one is current, and what is being built.

``STORE/indexes/<modality>_<encoder>/`` holds

- ``CURRENT``: name of the generation that counts and SHA-256 of its card; replaced in one step;
- ``g-<hex>/``: a generation: card, row ids, slides, FAISS file, plots; never changed once it is there;
- ``vectors-<hex>.f16``: float16 vectors in index order, without a header. Folding adds to the end, so
  generations share it: each reads as many vectors as its card says;
- ``building/``: what a build has finished so far.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, get_args

from stamp_index.errors import AnnIndexError, StoreError
from stamp_index.index.card import IndexCard
from stamp_index.index.engine.files import flush
from stamp_index.index.files import segment
from stamp_index.store import Modality
from stamp_index.store.lock import LOCK_FILE, write_lock
from stamp_index.store.remote_folders import FETCHED
from stamp_index.store.schema import vector_column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stamp_index.store.view import StoreView

_INDEXES: Final = "indexes"
CURRENT: Final = "CURRENT"
CARD: Final = "card.json"
ROWS: Final = "rows.npy"  # int64 (n,): row id of each vector
SLIDES: Final = "slides.json"
FAISS: Final = "index.faiss"
BACKGROUND: Final = "_background.npz"  # after the modality of the queries
BUILDING: Final = "building"
_LINE: Final = re.compile(r"(g-[0-9a-f]{12}) ([0-9a-f]{64})\n")  # what CURRENT holds
_GENERATION: Final = "g-"
_SIDECAR: Final = "vectors-"


def check_modality(modality: str) -> None:
    """Refuse what is no modality.

    Raises
    ------
    ValueError
        If it is neither "image" nor "gene".
    """
    if modality not in get_args(Modality):
        msg = f"There is no modality {modality!r}; expected {' or '.join(get_args(Modality))}."
        raise ValueError(msg)


def index_folder(store: StoreView, modality: Modality) -> Path:
    """Where a store's index of a modality lies: ``STORE/indexes/<modality>_<encoder>``."""
    return store.path / _INDEXES / vector_column(store.encoder, modality)


def fetch_index(store: StoreView, modality: Modality) -> Path:
    """Bring an index that lies in object storage here, by checksum, and return its folder; elsewhere it is there."""
    return store.place.fetch(f"{_INDEXES}/{vector_column(store.encoder, modality)}")


def push_index(store: StoreView, modality: Modality) -> None:
    """Write a changed index to where its store lies. To be called by a builder."""
    store.place.push(f"{_INDEXES}/{vector_column(store.encoder, modality)}")


def has_index(store: StoreView, modality: Modality) -> bool:
    """Whether a store has an index of a modality."""
    return (fetch_index(store, modality) / CURRENT).is_file()


def current(folder: Path) -> Path:
    """Folder of the generation that counts.

    Raises
    ------
    AnnIndexError
        If there is no index, or ``CURRENT`` names no generation.
    """
    return folder / _read_current(folder)[0]


def card_of(folder: Path, generation: Path) -> IndexCard:
    """Read the card of the current generation.

    Raises
    ------
    AnnIndexError
        If it is missing, damaged, or of another release.
    """
    path = generation / CARD
    values = read_json(path)
    if segment(path)[1] != _read_current(folder)[1]:
        msg = f"{path} is damaged: its checksum is not that in {CURRENT}. Build the index again."
        raise AnnIndexError(msg)
    if not isinstance(values, dict):
        msg = f"{path} is not a JSON object. Build the index again."
        raise AnnIndexError(msg)
    try:
        return IndexCard.from_dict(values)
    except AnnIndexError as exc:
        msg = f"The index at {folder} cannot be used. {exc}"
        raise AnnIndexError(msg) from exc


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Read a file of a generation.

    Raises
    ------
    AnnIndexError
        If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:  # not there, not UTF-8, not JSON
        msg = f"{path} is missing or damaged ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc


def _read_current(folder: Path) -> tuple[str, str]:
    path = folder / CURRENT
    if not path.is_file():
        msg = f"There is no index at {folder}. Build one with `stamp-index build`."
        raise AnnIndexError(msg)
    text = path.read_text(encoding="utf-8", errors="replace")
    match = _LINE.fullmatch(text)
    if match is None:
        msg = f"{path} holds {text[:80]!r}, which names no generation. Build the index again."
        raise AnnIndexError(msg)
    return match[1], match[2]


def new_name() -> tuple[str, str]:
    """Names that nothing has: of a generation, and of a file of vectors."""
    name = uuid.uuid4().hex[:12]
    return f"{_GENERATION}{name}", f"{_SIDECAR}{name}.f16"


def publish(folder: Path, generation: Path) -> None:
    """Put a finished generation into the folder and let it count from now on."""
    for path in generation.iterdir():
        flush(path)
    flush(generation)
    place = folder / generation.name
    generation.rename(place)
    flush(folder)
    scratch = folder / f".{CURRENT}.new"
    scratch.unlink(missing_ok=True)  # "x" writes through no link that lies there
    with scratch.open("x", encoding="utf-8") as file:
        file.write(f"{generation.name} {segment(place / CARD)[1]}\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / CURRENT)
    flush(folder)


@contextmanager
def builder(folder: Path) -> Iterator[None]:
    """Be the only one who changes an index.

    Raises
    ------
    StoreBusyError
        If somebody else does.
    StoreError
        If nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = (
            f"The index at {folder} cannot be written: {exc}. Check the folder and its permissions."
        )
        raise StoreError(msg) from exc
    with write_lock(folder, 0.0, what="index"):
        yield


def leftovers(folder: Path) -> list[Path]:
    """List what nobody needs: older generations and their vectors, files of a builder that was killed.

    What a build has finished so far is not among them. To be called by a builder.
    """
    kept = {CURRENT, BUILDING, LOCK_FILE, FETCHED}
    if (folder / CURRENT).is_file():
        generation = current(folder)
        kept |= {generation.name, card_of(folder, generation).sidecar}
    return sorted(path for path in folder.iterdir() if path.name not in kept)


def sweep(folder: Path) -> list[Path]:
    """Remove what nobody needs. Processes that have it open keep it until they close it.

    Returns
    -------
    list of Path
        What was removed; nothing where the card of the current generation cannot be read.
    """
    try:
        gone = leftovers(folder)
    except AnnIndexError:
        return []  # then nobody knows what is needed; the next build decides
    for path in gone:
        remove(path)
    return gone


def remove(path: Path) -> None:
    """Remove a file, a folder with all it holds, or a link, but not what that leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
