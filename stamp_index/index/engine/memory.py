"""How much of the machine's memory a build may take, shared out before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.structure import TRAIN_COPIES, estimate
from stamp_index.index.recipes import PER_CENTRE, IvfRecipe

if TYPE_CHECKING:
    from stamp_index.index.recipes import IndexRecipe

_BLOCK_BYTES: Final = 32 * 2**20  # of float32 rows added at once, where memory allows
_LEAST_ROWS: Final = 1_024  # added at once and trained on at the very least
_HNSW_SAMPLE: Final = 65_536  # rows that ranges of one byte per dimension are measured on


@dataclass(frozen=True)
class Budget:
    """Rows that a build holds as float32.

    Attributes
    ----------
    sample_rows : int
        In training.
    block_rows : int
        Added at once.
    """

    sample_rows: int
    block_rows: int


def share_out(recipe: IndexRecipe, n: int, dim: int, max_memory_bytes: int | None) -> Budget:
    """Rows to train on and to add at once.

    Parameters
    ----------
    recipe : IndexRecipe
        Of a kind that has a FAISS index.
    n, dim : int
        Vectors and their length.
    max_memory_bytes : int or None
        What the build may take besides pages of the mapped vectors; None for what is quickest.

    Raises
    ------
    AnnIndexError
        If it cannot be done in so little memory.
    """
    is_ivf = isinstance(recipe, IvfRecipe)
    wanted = recipe.sample_for(n) if isinstance(recipe, IvfRecipe) else min(n, _HNSW_SAMPLE)
    block = max(_LEAST_ROWS, _BLOCK_BYTES // (4 * dim))
    if max_memory_bytes is None:
        return Budget(wanted, block)
    per_row = 4 * dim
    # The whole index and one shard of it are in memory while they are joined; a list grows by doubling.
    filled = 2 * estimate(recipe, n, dim).file_bytes
    for_rows = max_memory_bytes - filled
    sample = min(wanted, max_memory_bytes // (TRAIN_COPIES * per_row))
    least = PER_CENTRE * recipe.lists_for(n) if isinstance(recipe, IvfRecipe) else _LEAST_ROWS
    needed = max(filled + 2 * _LEAST_ROWS * per_row, TRAIN_COPIES * per_row * min(least, n))
    if max_memory_bytes < needed:
        lists = f" in {recipe.lists_for(n):,} lists" if isinstance(recipe, IvfRecipe) else ""
        msg = (
            f"An index of kind {recipe.kind} over {n:,} vectors of {dim} dimensions{lists} needs at "
            f"least {_mb(needed)} to build; {_mb(max_memory_bytes)} are allowed. Allow more, or take "
            f"a recipe with {'fewer lists or ' if is_ivf else ''}shorter codes."
        )
        raise AnnIndexError(msg)
    return Budget(sample, max(_LEAST_ROWS, min(block, for_rows // (2 * per_row))))


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"
