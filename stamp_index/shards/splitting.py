"""Dividing a store's built index into shards, each in a folder that its host alone needs to read."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import write_index
from stamp_index.index.engine.files import cannot_write, flush
from stamp_index.index.files import STAMPS, read_stamps, segment, stamp, write_json
from stamp_index.index.folder import (
    BACKGROUND,
    CARD,
    CURRENT,
    FAISS,
    ROWS,
    SLIDES,
    builder,
    check_modality,
    current,
    index_folder,
)
from stamp_index.index.generation import (
    check_files,
    map_vectors,
    read_contents,
    require_same_encoder,
)
from stamp_index.shards.faiss_parts import Divider
from stamp_index.shards.grouping import divide, slide_numbers
from stamp_index.shards.plan import (
    FORMAT,
    PLAN,
    VECTORS,
    PartPlan,
    ShardPlan,
    current_plan,
    part_folder,
    shards_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.generation import Contents
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView

_BLOCK_ROWS: Final = 16_384
_BUILDING: Final = ".building"


def shard_index(store: StoreView, modality: Modality, n_shards: int) -> ShardPlan:
    """Divide a store's index into shards by its slides.

    The shards of before go on being served meanwhile; what was begun and not finished is swept away by the next.

    Parameters
    ----------
    store : Store
        Whose index is built.
    modality : {"image", "gene"}
        Which index.
    n_shards : int
        Shards wanted, at most one for each slide.

    Returns
    -------
    ShardPlan
        What lies in ``STORE/shards/<modality>_<encoder>/`` now.

    Raises
    ------
    AnnIndexError
        If there is no index, it is damaged or of another store, is a graph, which cannot be divided, has fewer slides
        than shards, or the disk refuses.
    EncoderMismatchError
        If the index is of another encoder.
    StoreBusyError
        If somebody else divides it.
    ValueError
        If `n_shards` is below 1.
    """
    check_modality(modality)
    index, folder = index_folder(store, modality), shards_folder(store, modality)
    current(index)  # refused before a lock is made where there is no index
    with builder(index):  # so that nobody puts another in its place meanwhile
        contents = read_contents(index)
        require_same_encoder(store, modality, contents.card)
        groups = divide(slide_numbers(contents.rows, contents.slides), n_shards)
        known = read_stamps(contents.folder)
        check_files(index, contents.folder, contents.card, known=known, only=None)
        with builder(folder):
            return _divided(_Work(index, contents, folder / _BUILDING), groups)


@dataclass(frozen=True)
class _Work:
    """What is divided, and where its parts are written."""

    index: Path
    contents: Contents
    draft: Path

    @property
    def vectors(self) -> NDArray[np.float16]:
        card = self.contents.card
        return map_vectors(self.index / card.sidecar, card.n, card.dim)


def _divided(work: _Work, groups: list[tuple[int, int]]) -> ShardPlan:
    folder = work.draft.parent
    try:
        shutil.rmtree(work.draft, ignore_errors=True)
        work.draft.mkdir()
        plan = _write(work, groups)
        _publish(folder, work.draft, plan)
    except OSError as exc:
        raise AnnIndexError(cannot_write(f"The shards at {folder}", exc)) from exc
    finally:
        shutil.rmtree(work.draft, ignore_errors=True)
    return plan


def _write(work: _Work, groups: list[tuple[int, int]]) -> ShardPlan:
    contents, card = work.contents, work.contents.card
    divider = None
    if card.kind != "flat" and card.n:
        divider = Divider(contents.folder / FAISS, work.vectors)
    names = [CARD, SLIDES, *(name for name in card.files if name.endswith(BACKGROUND))]
    for name in names:
        shutil.copyfile(contents.folder / name, work.draft / name)
    slide_of = slide_numbers(contents.rows, contents.slides)
    parts = []
    for number, (start, stop) in enumerate(groups):
        files = _write_part(work, divider, part_folder(work.draft, number), (start, stop))
        met = dict.fromkeys(slide_of[start:stop].tolist())
        slides = tuple(contents.slides[at][0] for at in met if at >= 0)
        parts.append(PartPlan(start, stop, slides, files))
    return ShardPlan(
        format=FORMAT,
        name=f"p-{uuid.uuid4().hex[:12]}",
        store_id=card.store_id,
        store_version=card.store_version,
        fingerprint=card.fingerprint,
        modality=card.modality,
        generation=contents.folder.name,
        kind=card.kind,
        n=card.n,
        dim=card.dim,
        n_lists=0 if divider is None else divider.n_lists,
        code_bytes=0 if divider is None else divider.code_bytes,
        parts=tuple(parts),
        files={name: segment(work.draft / name) for name in names},
    )


def _write_part(
    work: _Work, divider: Divider | None, folder: Path, span: tuple[int, int]
) -> dict[str, tuple[int, str]]:
    """Write the files of a shard; returns bytes and SHA-256 of each."""
    (start, stop), vectors = span, work.vectors
    folder.mkdir()
    np.save(folder / ROWS, work.contents.rows[start:stop])
    with (folder / VECTORS).open("wb") as file:
        for at in range(start, stop, _BLOCK_ROWS):
            file.write(np.ascontiguousarray(vectors[at : min(at + _BLOCK_ROWS, stop)]).data)
    if divider is not None:
        part = divider.take(start, stop)
        if part.ntotal != stop - start:
            msg = (
                f"The index at {work.contents.folder} holds {part.ntotal} of the {stop - start} rows from {start}. It "
                f"is damaged: build it again."
            )
            raise AnnIndexError(msg)
        write_index(part, folder / FAISS)
    files = {path.name: segment(path) for path in sorted(folder.iterdir())}
    write_json(folder / STAMPS, {name: stamp(folder / name) for name in files})
    return files


def _publish(folder: Path, draft: Path, plan: ShardPlan) -> None:
    """Put a finished plan in place, let it count from now on, and remove what is older than the one before."""
    write_json(draft / PLAN, plan.to_dict())
    for path in sorted(draft.rglob("*")):
        flush(path)
    kept = {plan.name}
    with suppress(AnnIndexError):  # there is none, or nobody can read it
        kept.add(current_plan(folder)[0])
    draft.rename(folder / plan.name)
    flush(folder)
    sha256 = segment(folder / plan.name / PLAN)[1]
    scratch = folder / f".{CURRENT}.new"
    with scratch.open("w", encoding="utf-8") as file:
        file.write(f"{plan.name} {sha256}\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / CURRENT)
    flush(folder)
    for old in folder.glob("p-*"):
        if old.name not in kept:
            shutil.rmtree(old)
