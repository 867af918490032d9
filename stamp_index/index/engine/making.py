"""From vectors and a recipe to an engine that was measured: the whole way of a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.index.engine.building import INDEX, build
from stamp_index.index.engine.calibrate import TARGETS, calibrate
from stamp_index.index.engine.search import Engine
from stamp_index.index.recipes import AutoRecipe, FlatRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.engine.building import Progress
    from stamp_index.index.engine.measured import Calibration, HeldOut
    from stamp_index.index.recipes import IndexRecipe

_TINY = 4 * 39  # fewer rows than this cannot train codes


@dataclass(frozen=True)
class Made:
    """A built index and what is known of it.

    Attributes
    ----------
    engine : Engine
        With the settings for the recipe's target.
    recipe : IndexRecipe
        What was built in the end: never ``auto``; ``flat`` where there were too few rows to train.
    calibration : Calibration
        Of `recipe`.
    path : Path or None
        FAISS file; None for ``flat``.
    tried : dict of str to Calibration
        Kinds that ``auto`` gave up: they missed the target, or were no quicker than exact search.
    """

    engine: Engine
    recipe: IndexRecipe
    calibration: Calibration
    path: Path | None
    tried: dict[str, Calibration]


def make(
    vectors: NDArray[np.float16],
    recipe: IndexRecipe,
    work: Path,
    *,
    held_out: Mapping[str, HeldOut],
    seed: int = 0,
    max_memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> Made:
    """Build, measure, and fall back where ``auto`` may.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float16
        Unit vectors, C-contiguous; usually a memory map.
    recipe : IndexRecipe
        What to build.
    work : Path
        Folder for what is finished so far, as in `build`; one folder in it for each kind.
    held_out : mapping of modality to HeldOut
        Queries; those that are rows of the index are kept out of training.
    seed, max_memory_bytes, progress
        As in `build`.

    Raises
    ------
    AnnIndexError
        As in `build`.
    """
    chain = recipe.chain_for(len(vectors)) if isinstance(recipe, AutoRecipe) else (recipe,)
    if len(vectors) < _TINY:
        chain = (FlatRecipe(target_recall=recipe.target_recall, n_queries=recipe.n_queries),)
    tried: dict[str, Calibration] = {}
    targets = sorted({*TARGETS, recipe.target_recall})
    for step in chain:
        index = build(
            vectors,
            step,
            work / step.kind,
            seed=seed,
            leave_out=_own(held_out),
            max_memory_bytes=max_memory_bytes,
            progress=progress,
        )
        engine = Engine(index, vectors)
        ladder = getattr(step, "rerank_ladder", ())
        if progress is not None:
            progress("measure", 0, 1)
        calibration = calibrate(engine, held_out, ladder=ladder, targets=targets, seed=seed)
        if progress is not None:
            progress("measure", 1, 1)
        choice = calibration.choice(recipe.target_recall)
        pays = choice.reached and choice.cpu_ms < calibration.exact_cpu_ms
        if pays or step is chain[-1]:
            break
        tried[step.kind] = calibration
    engine = Engine(index, vectors, settings=choice.settings)
    path = None if index is None else work / step.kind / INDEX
    return Made(engine, step, calibration, path, tried)


def _own(held_out: Mapping[str, HeldOut]) -> NDArray[np.int64]:
    known = [queries.own for queries in held_out.values() if queries.own is not None]
    return np.concatenate([np.empty(0, np.int64), *known])
