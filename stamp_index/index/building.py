"""Building the index of a store, or going on with what an earlier build left."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from os.path import lexists
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.card import FORMAT, IndexCard
from stamp_index.index.difference import count, require_same_history, slide_facts
from stamp_index.index.engine import make, n_gpus
from stamp_index.index.engine.files import cannot_write, flush
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.files import check_file, segment, write_json
from stamp_index.index.folder import (
    BUILDING,
    CARD,
    FAISS,
    ROWS,
    SLIDES,
    builder,
    check_modality,
    fetch_index,
    index_folder,
    new_name,
    publish,
    push_index,
    remove,
    sweep,
)
from stamp_index.index.generation import map_vectors, write_stamps
from stamp_index.index.held_out import held_out, write_backgrounds
from stamp_index.index.plots import draw_card
from stamp_index.index.recipes import AutoRecipe, IndexRecipe, IvfRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.difference import SlideFacts
    from stamp_index.index.engine import Fillers, Made, Progress
    from stamp_index.index.files import Segment
    from stamp_index.store import Modality, Store

_PLAN: Final = "plan.json"
_VECTORS: Final = "vectors.f16"
_VECTORS_DONE: Final = "vectors.json"  # its length and checksum, once it is whole
_SPENT: Final = "seconds"  # that it took so far
_MOST_SEED: Final = 2**31 - 2  # FAISS is given the next
_NOTE_S: Final = 1.0  # between two notes of that
_MOST_CHANGED: Final = 0.2  # of the rows of a plan; beyond that a new one is made
_ENGINE: Final = "engine"
_COUNTS: Final = ("version", "n_rows")  # of the store that a plan was made for
# What reading a folder of unfinished work raises that a stranger filled.
_UNREADABLE: Final = (
    *(OSError, ValueError, TypeError, LookupError, EOFError, MemoryError, RecursionError),
    *(SyntaxError, TokenError, AnnIndexError),
)


def build_index(
    store: Store,
    modality: Modality,
    recipe: IndexRecipe | None = None,
    *,
    seed: int = 0,
    max_memory_bytes: int | None = None,
    fillers: Fillers | None = None,
    progress: Progress | None = None,
) -> IndexCard:
    """Build an index over all rows that have the embedding, measure it and put it in place.

    Searches go on with the index that was there until this one is finished. A build that was killed
    goes on where it was when it is started again with the same arguments.

    Parameters
    ----------
    store : Store
        Its rows are indexed as they are now; later ones are searched exactly.
    modality : {"image", "gene"}
        Which embedding to search.
    recipe : IndexRecipe, optional
        What to build; ``auto`` by default.
    seed : int
        Of the training sample and of the held-out queries.
    max_memory_bytes : int, optional
        What the build may take besides pages of mapped files; each of its processes, where there are several.
    fillers : Fillers, optional
        Who fills inverted lists instead of this process, such as workers on Ray. The index has the same bytes then.
        Training and measuring are done here all the same, and so are graphs, which cannot be joined.
    progress : Progress, optional
        Is told of every block of rows in the stages "read", "train", "fill", "write" and "measure".

    Raises
    ------
    ValueError, TypeError
        If an argument is no such thing.
    AnnIndexError
        If the store has no such embeddings, it does not fit into `max_memory_bytes` (``auto`` takes the next kind
        then), or the disk refuses.
    StoreBusyError
        If the index is being built already.
    CrewError
        If the fillers cannot be had, or are lost again and again.
    """
    check_modality(modality)
    _check(recipe, seed, max_memory_bytes)
    folder = fetch_index(store, modality)
    if not store.has_vector(modality).any():
        msg = (
            f"The store at {store.place} has no {modality} embeddings of encoder '{store.encoder}', so there "
            f"is nothing to index. Embed slides first."
        )
        raise AnnIndexError(msg)
    began = time.perf_counter()
    with builder(folder):
        try:
            sweep(folder)
            job = _begin(store, modality, recipe or AutoRecipe(), seed)
            job = replace(job, max_memory_bytes=max_memory_bytes, fillers=fillers)
            clock = _Clock(job.work / _SPENT, began, progress)
            vectors = _read_vectors(store, job, clock)
            queries = held_out(
                store, modality, job.rows, vectors, n=job.recipe.n_queries, seed=seed
            )
            made = make(
                vectors,
                job.recipe,
                job.work / _ENGINE,
                held_out=queries,
                seed=seed,
                max_memory_bytes=max_memory_bytes,
                fillers=fillers,
                progress=clock,
            )
            card = _finish(store, job, made, clock)
        except OSError as exc:
            raise AnnIndexError(cannot_write(f"The index at {folder}", exc)) from exc
        push_index(store, modality)
        return card


def _check(recipe: IndexRecipe | None, seed: int, max_memory_bytes: int | None) -> None:
    if recipe is not None and not isinstance(recipe, IndexRecipe):
        msg = f"The recipe is {recipe!r}; expected what `load_recipe` returns, such as load_recipe('ivf_pq')."
        raise TypeError(msg)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
        msg = f"seed is {seed!r}; expected a whole number from 0 to {_MOST_SEED:,}."
        raise ValueError(msg)
    if max_memory_bytes is not None and not 0 < max_memory_bytes < math.inf:
        msg = f"max_memory_bytes is {max_memory_bytes!r}; expected a number of bytes above 0, or None."
        raise ValueError(msg)


class _Clock:
    """Seconds of a build, those of earlier runs that were killed included; hears of progress and passes it on."""

    def __init__(self, path: Path, began: float, progress: Progress | None) -> None:
        self._path, self._progress = path, progress
        try:
            self._zero = began - float(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # nothing is known of earlier runs
            self._zero = began
        self._next = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._zero

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.seconds >= self._next:
            self._path.write_text(f"{self.seconds:.3f}\n", encoding="utf-8")
            self._next = self.seconds + _NOTE_S
        if self._progress is not None:
            self._progress(stage, done, total)


@dataclass(frozen=True)
class _Job:
    """What is built from what.

    Attributes
    ----------
    work : Path
        Folder for what is finished so far.
    plan : dict
        What must be the same for a build to go on, and the store's version and row ids given then.
    rows : ndarray of shape (n,), int64
        Row ids to index, ascending.
    slides : list of SlideFacts
        Slides of that version.
    max_memory_bytes : int or None
        What this run may take.
    fillers : Fillers or None
        Who fills lists in this run.
    """

    work: Path
    modality: Modality
    recipe: IndexRecipe
    plan: dict[str, Any]
    rows: NDArray[np.int64]
    slides: list[SlideFacts]
    max_memory_bytes: int | None = None
    fillers: Fillers | None = None


def _begin(store: Store, modality: Modality, recipe: IndexRecipe, seed: int) -> _Job:
    """Go on with the build that the folder holds, if it is this one and can be finished; else begin."""
    work = index_folder(store, modality) / BUILDING
    asked = {
        "store_id": store.store_id,
        "fingerprint": store.card.fingerprint,
        "dim": store.card.dim,
        "modality": modality,
        "recipe": recipe.to_dict(),
        "seed": seed,
    }
    old = _left(work, asked)
    if old is not None and _can_go_on(store, modality, work, old):
        rows = np.load(work / ROWS, allow_pickle=False)
        return _Job(work, modality, recipe, old, rows, _slides(work))
    if lexists(work):
        remove(work)
    work.mkdir()
    rows = np.flatnonzero(store.has_vector(modality))
    np.save(work / ROWS, rows)
    write_json(work / SLIDES, slide_facts(store))
    plan = asked | {"version": store.version, "n_rows": store.n_rows}
    flush(work / ROWS)
    write_json(work / _PLAN, plan)  # last: the rest is whole where there is a plan
    return _Job(work, modality, recipe, plan, rows, slide_facts(store))


def _left(work: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Plan that an earlier build left, if it was asked for the same."""
    try:
        plan = json.loads((work / _PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    same = isinstance(plan, dict) and {name: plan.get(name) for name in asked} == asked
    return plan if same and all(type(plan.get(name)) is int for name in _COUNTS) else None


def _can_go_on(store: Store, modality: Modality, work: Path, plan: dict[str, Any]) -> bool:
    """Whether the rows of a plan mean the same spots still, are about those of the store, and can be read."""
    try:
        if any(path.is_symlink() for path in work.rglob("*")):
            return False  # it would be written through
        rows = np.load(work / ROWS, allow_pickle=False)
        if rows.dtype != np.int64 or rows.ndim != 1 or (rows < 0).any():
            return False
        require_same_history(store, _slides(work), rows, plan["n_rows"])
        written = _written(work)
        if written is not None:
            check_file(work / _VECTORS, [written], None)
    except _UNREADABLE:
        return False
    n_newer, n_gone = count(store, modality, rows)
    if plan["version"] > store.version or n_newer + n_gone > _MOST_CHANGED * len(rows):
        return False
    return written is not None or n_gone == 0


def _written(work: Path) -> Segment | None:
    """Length and checksum of the vectors, if an earlier build has copied all of them."""
    path = work / _VECTORS_DONE
    if not path.is_file():
        return None
    n_bytes, sha256 = json.loads(path.read_text(encoding="utf-8"))
    return n_bytes, sha256


def _slides(work: Path) -> list[SlideFacts]:
    return [tuple(one) for one in json.loads((work / SLIDES).read_text(encoding="utf-8"))]


def _read_vectors(store: Store, job: _Job, progress: Progress) -> NDArray[np.float16]:
    """Copy the vectors out of the store in index order; (n, d) float16, mapped."""
    path, shape = job.work / _VECTORS, (len(job.rows), store.card.dim)
    if _written(job.work) is None:
        with path.open("wb") as file:
            # Taken at once, so that a full disk is known before the work begins. Written, not mapped:
            # a process that writes to a map on a full disk is killed.
            os.posix_fallocate(file.fileno(), 0, 2 * shape[0] * shape[1])
            n_read = 0
            for ids, part in store.vector_batches(job.modality):
                at = np.minimum(np.searchsorted(job.rows, ids), len(job.rows) - 1)
                planned = job.rows[at] == ids  # the store may have grown since the plan
                _write_rows(file.fileno(), part[planned], at[planned])
                n_read += int(planned.sum())
                progress("read", n_read, len(job.rows))
            os.fsync(file.fileno())
        if n_read != len(job.rows):
            msg = (
                f"{len(job.rows) - n_read} of {len(job.rows)} vectors were not found in the store at {store.place}. "
                f"Run `stamp-index doctor`, then build again."
            )
            raise AnnIndexError(msg)
        write_json(job.work / _VECTORS_DONE, segment(path))
    return map_vectors(path, *shape)


def _write_rows(descriptor: int, vectors: NDArray[np.float16], at: NDArray[np.int64]) -> None:
    """Write vectors (m, d) to their places in a file, runs of places at once."""
    cuts = np.flatnonzero(np.diff(at) != 1) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(at)]):
        if stop > start:
            left = np.ascontiguousarray(vectors[start:stop]).view(np.uint8).reshape(-1).data
            place = int(at[start]) * vectors.shape[1] * vectors.itemsize
            while left:
                written = os.pwrite(descriptor, left, place)
                left, place = left[written:], place + written


def _finish(store: Store, job: _Job, made: Made, clock: _Clock) -> IndexCard:
    """Make a generation of what was built, and let it count."""
    folder, (name, sidecar) = job.work.parent, new_name()
    draft = job.work / "generation" / name
    shutil.rmtree(draft.parent, ignore_errors=True)  # of a build that was killed here
    draft.mkdir(parents=True)
    shutil.copyfile(job.work / ROWS, draft / ROWS)
    shutil.copyfile(job.work / SLIDES, draft / SLIDES)
    written = _written(job.work)
    files = {sidecar: [segment(job.work / _VECTORS) if written is None else written]}
    if made.path is not None:
        os.link(made.path, draft / FAISS)
    write_backgrounds(
        store, job.modality, job.rows, made.engine, folder=draft, seed=job.plan["seed"]
    )
    files |= {path.name: [segment(path)] for path in draft.iterdir()}
    card = _card(job, made, sidecar, files, seconds=clock.seconds)
    write_json(draft / CARD, card.to_dict())
    draw_card(card, draft)
    # From here on this build cannot be gone on with: its vectors become those of the index, to which folding adds.
    (job.work / _PLAN).unlink()
    flush(job.work)
    (job.work / _VECTORS).rename(folder / sidecar)
    publish(folder, draft)
    sweep(folder)
    shutil.rmtree(job.work)
    write_stamps(folder, folder / name, card)
    return card


def _card(
    job: _Job, made: Made, sidecar: str, files: dict[str, list[Segment]], *, seconds: float
) -> IndexCard:
    n, dim = made.engine.vectors.shape
    target = job.recipe.target_recall
    choice = made.calibration.choice(target)
    flat, has_lists = made.path is None, isinstance(made.recipe, IvfRecipe)
    return IndexCard(
        format=FORMAT,
        recipe=job.recipe.to_dict(),
        kind=made.recipe.kind,
        store_id=job.plan["store_id"],
        store_version=job.plan["version"],
        fingerprint=job.plan["fingerprint"],
        modality=job.modality,
        n_rows=job.plan["n_rows"],
        n=n,
        n_trained=n,
        dim=dim,
        bytes=0 if flat else files[FAISS][0][0],
        sidecar=sidecar,
        sidecar_bytes=2 * n * dim,
        calibration=made.calibration.to_dict(),
        tried={kind: asdict(one) for kind, one in made.tried.items()},
        ann_recall_at_10=choice.recall,
        target_recall=target,
        reached=choice.reached,
        build_seconds=seconds,
        seed=job.plan["seed"],
        max_memory_bytes=job.max_memory_bytes,
        faiss_version="" if flat else load_faiss().__version__,
        gpu=has_lists and n_gpus() > 0,
        files=files,
        engine=job.fillers.crew.engine if has_lists and job.fillers is not None else "local",
    )
