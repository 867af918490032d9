"""Building an index in a work folder, so that a build that was killed goes on where it was.

The folder holds ``plan.json`` (what is built from what), ``trained.faiss`` (no rows yet), filled
shards as they are finished, and in the end ``index.faiss`` alone. A shard is a stretch of rows of
fixed size, so the lists come out in the same order however often the build was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import crewed, gpu
from stamp_index.index.engine.adding import add_block
from stamp_index.index.engine.files import write_index
from stamp_index.index.engine.memory import share_out
from stamp_index.index.engine.partial import Part, add_rows, cut, merge_files
from stamp_index.index.engine.reading import read_index
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.engine.training import train
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import as_float32
from stamp_index.index.recipes import ID_BYTES, FlatRecipe, HnswSq8Recipe, IvfRabitqRecipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faiss import Index
    from numpy.typing import NDArray

    from stamp_index.index.engine.crewed import Fillers
    from stamp_index.index.halves import Vectors
    from stamp_index.index.recipes import IndexRecipe

PLAN: Final = "plan.json"
TRAINED: Final = "trained.faiss"
INDEX: Final = "index.faiss"
_SHARD_ROWS: Final = 131_072
_MOST_SHARDS: Final = 16
_GRAPH_ROWS: Final = (
    16_384  # added to a graph at once, and drawn levels for; the same in every build
)
_PROBES: Final = 64  # rows whose bytes tell one table from another


class Progress(Protocol):
    """Is told of what was done."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Hear that `done` of `total` rows of "read", "train", "fill", "write" or "measure" are finished."""
        ...


def build(  # noqa: PLR0913 - what is built, and what the build may take
    vectors: Vectors,
    recipe: IndexRecipe,
    work: Path,
    *,
    seed: int = 0,
    leave_out: NDArray[np.int64] | None = None,
    max_memory_bytes: int | None = None,
    fillers: Fillers | None = None,
    progress: Progress | None = None,
) -> Index | None:
    """Train and fill an index, or go on with what an earlier build left.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float16
        Unit vectors, usually a memory map; read in ascending order.
    recipe : IndexRecipe
        What to build; not ``auto``.
    work : Path
        Folder for what is finished so far; made if it is not there. What it holds of another build
        is thrown away.
    seed : int
        Of all that is drawn.
    leave_out : ndarray of int64, optional
        Positions of rows that must not train the index.
    max_memory_bytes : int, optional
        What the build may take besides pages of the mapped vectors.
    fillers : Fillers, optional
        Who fills inverted lists instead of this process, with the same bytes in the end. Graphs are always built
        here: they cannot be joined.
    progress : Progress, optional
        Is told of every block.

    Returns
    -------
    faiss.Index or None
        Filled; its file is ``work/index.faiss``. None for ``flat``, which needs none.

    Raises
    ------
    AnnIndexError
        If it does not fit into `max_memory_bytes`, or the folder cannot be written or read.
    CrewError
        If the fillers cannot be had, or are lost again and again.
    """
    if isinstance(recipe, FlatRecipe):
        return None
    n, dim = vectors.shape
    budget = share_out(recipe, n, dim, max_memory_bytes)
    tell = progress or _silent
    _start_over_unless(work, _plan(vectors, recipe, seed, leave_out))
    finished = _part(work / INDEX)
    if finished is not None:
        return finished
    if _part(work / TRAINED) is None:
        tell("train", 0, budget.sample_rows)
        fresh = train(vectors, recipe, n_sample=budget.sample_rows, seed=seed, leave_out=leave_out)
        write_index(fresh, work / TRAINED)
        tell("train", budget.sample_rows, budget.sample_rows)
    job = _Job(vectors, work, budget.block_rows, tell, seed)
    if isinstance(recipe, HnswSq8Recipe):
        index = _fill_graph(job)
    elif fillers is None:
        index = _fill_lists(job)
    else:
        index = _filled_by(fillers, job, max_memory_bytes)
    if isinstance(recipe, IvfRabitqRecipe):
        index = _packed(index)
    tell("write", 0, n)
    write_index(index, work / INDEX)
    _remove_parts(work)
    tell("write", n, n)
    return index


@dataclass(frozen=True)
class _Job:
    """What filling needs."""

    vectors: Vectors
    work: Path
    block_rows: int
    tell: Progress
    seed: int


def shard_rows(n: int) -> int:
    """Rows of a shard: 131,072, more where that would make more than 16 shards."""
    return max(_SHARD_ROWS, -(-n // _MOST_SHARDS))


def _silent(stage: str, done: int, total: int) -> None:
    pass


# ---- inverted lists ------------------------------------------------------------------------------


def _fill_lists(job: _Job) -> Index:
    n, trained = len(job.vectors), job.work / TRAINED
    filler = gpu.filler(read_index(trained))
    paths = []
    for part in _shards(job):
        path = job.work / f"shard-{part.start:012d}.faiss"
        if _part(path) is None:
            shard = None if filler is None else _filled_on_gpu(job, filler, part)
            if shard is None:
                filler, shard = None, read_index(trained)
                _add(job, partial(add_block, shard), part)
            write_index(shard, path)
            del shard  # or it would lie in memory beside the next, or the whole
        else:
            job.tell("fill", part.stop, n)
        paths.append(path)
    return merge_files(trained, paths)


def _shards(job: _Job) -> list[Part]:
    """Parts that one process fills."""
    n = len(job.vectors)
    step = shard_rows(n)
    return cut(n, shard_rows=step, block_rows=job.block_rows, part_rows=step)


def _filled_on_gpu(job: _Job, filler: gpu.Filler, part: Part) -> Index | None:
    """Return a shard; None where the GPU fails."""
    try:
        _add(job, filler.add_with_ids, part)
        return filler.take()
    except gpu.FAILURES as exc:
        gpu.warn("Filling an index", exc)
        return None


def _add(
    job: _Job, add: Callable[[NDArray[np.float32], NDArray[np.int64]], object], part: Part
) -> None:
    n = len(job.vectors)
    add_rows(add, job.vectors, part, lambda end: job.tell("fill", end, n))


def _filled_by(fillers: Fillers, job: _Job, max_memory_bytes: int | None) -> Index:
    n, trained = len(job.vectors), job.work / TRAINED
    empty = read_index(trained)  # its lists are gone with it
    row_bytes = int(inner_lists(empty).code_size) + ID_BYTES
    layout = crewed.Layout(shard_rows(n), job.block_rows, row_bytes, max_memory_bytes)
    paths = crewed.fill(
        fillers,
        trained,
        job.vectors,
        layout=layout,
        heard=lambda done: job.tell("fill", done, n),
    )
    return merge_files(trained, paths)


def _packed(index: Any) -> Index:  # noqa: ANN401 - an IndexPreTransform, whose stub lacks its fields
    """Pack the codes of RaBitQ for the scan of 32 at a time; done once, as it cannot be joined."""
    faiss = load_faiss()
    plain = inner_lists(index)
    fast = faiss.IndexIVFRaBitQFastScan(plain)
    whole: Any = faiss.IndexPreTransform(faiss.downcast_VectorTransform(index.chain.at(0)), fast)
    # The rotation and the centres pass over; of the old index only its lists are left to free.
    index.own_fields = plain.own_fields = False
    plain.this.acquire()
    fast.own_fields = whole.own_fields = True
    fast.this.disown()
    packed: Index = whole
    return packed


# ---- a graph -------------------------------------------------------------------------------------


def _fill_graph(job: _Job) -> Index:
    """Add in stretches of fixed size; every fourth is a point to go on from.

    With one thread the graph is the same however often the build was interrupted. Several threads
    add at once, and the graph depends on who was first, as always with FAISS.
    """
    faiss, n = load_faiss(), len(job.vectors)
    points = sorted(job.work.glob("graph-*.faiss"))
    point = _part(points[-1]) if points else None
    index: Any = read_index(job.work / TRAINED) if point is None else point
    for start in range(int(index.ntotal), n, _GRAPH_ROWS):
        stop = min(start + _GRAPH_ROWS, n)
        index.hnsw.rng = faiss.RandomGenerator(job.seed + start + 1)
        index.add(as_float32(job.vectors[start:stop]))  # 32 MB at d = 512
        job.tell("fill", stop, n)
        if stop < n and stop % (4 * _GRAPH_ROWS) == 0:
            write_index(index, job.work / f"graph-{stop:012d}.faiss")
            for old in points:
                old.unlink(missing_ok=True)
            points = [job.work / f"graph-{stop:012d}.faiss"]
    whole: Index = index
    return whole


# ---- the work folder -----------------------------------------------------------------------------


def _plan(
    vectors: Vectors, recipe: IndexRecipe, seed: int, leave_out: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Describe what must be the same for a build to go on."""
    n, dim = vectors.shape
    probes = np.unique(np.linspace(0, max(n - 1, 0), _PROBES).astype(np.int64))[:n]
    digest = hashlib.sha256(np.ascontiguousarray(vectors[probes]).tobytes())
    digest.update(b"" if leave_out is None else np.ascontiguousarray(leave_out).tobytes())
    return {
        "recipe": recipe.to_dict(),
        "n": n,
        "dim": dim,
        "seed": seed,
        "rows_sha256": digest.hexdigest(),
        "faiss_version": load_faiss().__version__,
    }


def _start_over_unless(work: Path, plan: dict[str, Any]) -> None:
    """Empty the folder if it holds another build, or one that cannot be told."""
    path = work / PLAN
    if path.is_file():
        try:
            if json.loads(path.read_text(encoding="utf-8")) == plan:
                return
        except ValueError:
            pass  # half a plan: start over
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    path.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def _part(path: Path) -> Index | None:
    """Read what an earlier build has finished; None where there is nothing that can be read, so that it is made again."""
    if not path.is_file():
        return None
    try:
        return read_index(path)
    except AnnIndexError:
        path.unlink()
        return None


def _remove_parts(work: Path) -> None:
    for pattern in ("shard-*.faiss", "part-*.faiss", "graph-*.faiss", TRAINED, ".*.new"):
        for path in work.glob(pattern):
            path.unlink()
