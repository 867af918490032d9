"""From vectors and a recipe to an engine that was measured: the whole way of a build."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.building import INDEX, build
from stamp_index.index.engine.calibrate import TARGETS, calibrate
from stamp_index.index.engine.measured import GivenUp
from stamp_index.index.engine.memory import share_out
from stamp_index.index.engine.search import Engine
from stamp_index.index.recipes import PER_CENTRE, AutoRecipe, FlatRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.engine.building import Progress
    from stamp_index.index.engine.crewed import Fillers
    from stamp_index.index.engine.measured import Calibration, HeldOut
    from stamp_index.index.recipes import IndexRecipe

_TINY: Final = 4 * PER_CENTRE  # fewer rows than this cannot train codes


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
    tried : dict of str to GivenUp
        Kinds that ``auto`` gave up.
    """

    engine: Engine
    recipe: IndexRecipe
    calibration: Calibration
    path: Path | None
    tried: dict[str, GivenUp]


def make(  # noqa: PLR0913 - what is made, and what that may take
    vectors: NDArray[np.float16],
    recipe: IndexRecipe,
    work: Path,
    *,
    held_out: Mapping[str, HeldOut],
    seed: int = 0,
    max_memory_bytes: int | None = None,
    fillers: Fillers | None = None,
    progress: Progress | None = None,
) -> Made:
    """Build, measure, and fall back where ``auto`` may: also from what does not fit into the memory.

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
    seed, max_memory_bytes, fillers, progress
        As in `build`.

    Raises
    ------
    AnnIndexError, CrewError
        As in `build`.
    """
    chain = recipe.chain_for(len(vectors)) if isinstance(recipe, AutoRecipe) else (recipe,)
    if len(vectors) < _TINY:
        chain = (FlatRecipe(target_recall=recipe.target_recall, n_queries=recipe.n_queries),)
    attempt = partial(
        _attempt,
        vectors,
        work=work,
        held_out=held_out,
        seed=seed,
        max_memory_bytes=max_memory_bytes,
        fillers=fillers,
        progress=progress,
    )
    n, dim = vectors.shape
    tried: dict[str, GivenUp] = {}
    for step in chain[:-1]:
        try:
            share_out(step, n, dim, max_memory_bytes)
        except AnnIndexError as exc:
            tried[step.kind] = GivenUp(str(exc), None)
            continue
        made = attempt(step)
        why = _fault(made)
        if not why:
            return replace(made, tried=tried)
        tried[step.kind] = GivenUp(why, made.calibration)
        del made  # or it would lie in memory beside the next
    return replace(attempt(chain[-1]), tried=tried)


def _attempt(  # noqa: PLR0913 - as make
    vectors: NDArray[np.float16],
    recipe: IndexRecipe,
    *,
    work: Path,
    held_out: Mapping[str, HeldOut],
    seed: int,
    max_memory_bytes: int | None,
    fillers: Fillers | None,
    progress: Progress | None,
) -> Made:
    """Build and measure one kind."""
    work /= recipe.kind
    index = build(
        vectors,
        recipe,
        work,
        seed=seed,
        leave_out=_own(held_out),
        max_memory_bytes=max_memory_bytes,
        fillers=fillers,
        progress=progress,
    )
    engine = Engine(index, vectors)
    if progress is not None:
        progress("measure", 0, 1)
    calibration = calibrate(
        engine,
        held_out,
        ladder=getattr(recipe, "rerank_ladder", ()),
        targets=sorted({*TARGETS, recipe.target_recall}),
        seed=seed,
    )
    if progress is not None:
        progress("measure", 1, 1)
    engine.settings = calibration.choice(recipe.target_recall).settings
    return Made(engine, recipe, calibration, None if index is None else work / INDEX, {})


def _fault(made: Made) -> str:
    """Why ``auto`` does not take what was made; "" if it does."""
    choice, exact_ms = (
        made.calibration.choice(made.recipe.target_recall),
        made.calibration.exact_cpu_ms,
    )
    if not choice.reached:
        found = ", ".join(
            f"{recall:.3f} of {name} queries" for name, recall in choice.recall.items()
        )
        return f"recall at 10 is {found}; the target is {choice.target:g}"
    if choice.cpu_ms >= exact_ms:
        return f"a query costs {choice.cpu_ms:.2g} ms, and {exact_ms:.2g} ms by exact search"
    return ""


def _own(held_out: Mapping[str, HeldOut]) -> NDArray[np.int64]:
    known = [queries.own for queries in held_out.values() if queries.own is not None]
    return np.concatenate([np.empty(0, np.int64), *known])
