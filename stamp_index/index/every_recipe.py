"""Every recipe built and measured on a store's own vectors, to choose one by; nothing is put in place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.making import make
from stamp_index.index.folder import check_modality
from stamp_index.index.held_out import held_out
from stamp_index.index.recipes import AutoRecipe, load_recipe, names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stamp_index.index.engine.measured import Calibration
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView


@dataclass(frozen=True)
class MeasuredRecipe:
    """What a recipe came to on a store's vectors.

    Attributes
    ----------
    recipe, kind : str
        What was asked for, and what was built: ``flat`` where there are too few rows to train.
    n : int
        Rows.
    bytes_per_row : float
        Of the index, beside the vectors.
    build_cpu_s : float
        CPU time of training, filling and measuring.
    calibration : Calibration
        Recall and CPU time of every setting, and the cheapest for each target.
    """

    recipe: str
    kind: str
    n: int
    bytes_per_row: float
    build_cpu_s: float
    calibration: Calibration


def measure_recipes(
    store: StoreView,
    modality: Modality,
    recipes: Sequence[str] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> list[MeasuredRecipe]:
    """Build each recipe over a store's vectors in a temporary folder, and measure it with the store's own queries.

    Takes the time of all these builds together, and the disk of a copy of the vectors and of one index.

    Parameters
    ----------
    store : StoreView
    modality : {"image", "gene"}
        Which embedding is searched; queries are rows of both.
    recipes : sequence of str, optional
        Names; all that come with the package but ``auto`` by default.
    seed : int
        Of training samples and of the queries, which are the same for all.
    progress : callable, optional
        Called with the recipes that are done, and those that there are.

    Returns
    -------
    list of MeasuredRecipe

    Raises
    ------
    AnnIndexError
        If there is no such recipe, or the store has no such embeddings.
    """
    check_modality(modality)
    asked = [load_recipe(name) for name in names() if name != "auto"]
    if recipes is not None:
        asked = [load_recipe(name) for name in recipes]
    if any(isinstance(recipe, AutoRecipe) for recipe in asked):
        msg = "Recipe auto chooses among the others; name what is to be compared."
        raise AnnIndexError(msg)
    rows = np.flatnonzero(store.has_vector(modality)).astype(np.int64)
    if not len(rows):
        msg = f"The store at {store.place} has no {modality} embeddings of encoder '{store.encoder}' to index."
        raise AnnIndexError(msg)
    out = []
    with TemporaryDirectory(prefix="stamp-index-recipes-") as folder:
        vectors = _copied(store, modality, rows, Path(folder) / "vectors.npy")
        for number, recipe in enumerate(asked):
            if progress is not None:
                progress(number, len(asked))
            queries = held_out(store, modality, rows, vectors, n=recipe.n_queries, seed=seed)
            began = time.process_time()
            with TemporaryDirectory(dir=folder) as work:
                made = make(vectors, recipe, Path(work), held_out=queries, seed=seed)
                size = 0 if made.path is None else made.path.stat().st_size
                found = MeasuredRecipe(
                    recipe.name,
                    made.recipe.kind,
                    len(rows),
                    size / len(rows),
                    time.process_time() - began,
                    made.calibration,
                )
                del made  # its file is mapped
            out.append(found)
    if progress is not None:
        progress(len(asked), len(asked))
    return out


def _copied(
    store: StoreView, modality: Modality, rows: NDArray[np.int64], path: Path
) -> NDArray[np.float16]:
    """Vectors (n, d) in the order of the rows, mapped."""
    out = np.lib.format.open_memmap(path, "w+", np.float16, (len(rows), store.card.dim))
    for ids, part in store.vector_batches(modality):
        out[np.searchsorted(rows, ids)] = part
    return out
