"""Training data: prepared images and gene inputs of the training slides' spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stamp_index.encoders.features import CENTRE_CELL
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel, close_names
from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders.features import FeatureCache
    from stamp_index.encoders.gene_input import GeneBatch
    from stamp_index.slides import Slide
    from trainer.recipe import Genes, Recipe

_SPARE = 3  # rank tokens kept per context position, so that gene dropout can refill the context


@dataclass(frozen=True)
class TrainingSet:
    """All pairs of the training slides; images stay memory-mapped per slide.

    Attributes
    ----------
    patches : list of ndarray (n_s, h, w, c)
        Prepared patches per slide.
    regions : list of list of ndarray (n_s, h, w, c)
        Prepared regions per slide and placement.
    cells : ndarray of shape (n, p), int64
        Cell of the patch in each placement.
    genes : GeneBatch of n spots
        With `_SPARE` times the context's tokens.
    slide_of : ndarray of shape (n,), int64
    xy_um : ndarray of shape (n, 2), float64
    """

    patches: list[NDArray[np.generic]]
    regions: list[list[NDArray[np.generic]]]
    cells: NDArray[np.int64]
    genes: GeneBatch
    slide_of: NDArray[np.int64]
    xy_um: NDArray[np.float64]

    @property
    def first_row(self) -> NDArray[np.int64]:
        """Number of each slide's first spot."""
        return np.concatenate([[0], np.cumsum([len(part) for part in self.patches])[:-1]])


def fit_gene_input(
    recipe: Recipe, slides: Sequence[Slide], always: Sequence[str] = ()
) -> GeneInput:
    """Fit panel and profile statistics on the training slides."""
    panel = GenePanel.fit(slides, recipe.genes.n_genes, always=always)
    missing = [gene for gene in always if gene not in panel.column_of]
    if missing:
        names = sorted({gene for slide in slides for gene in slide.genes})
        near = {gene: ", ".join(close_names(gene, names)) or "none" for gene in missing}
        msg = (
            f"The panel cannot hold {', '.join(missing)}: not measured by half of the training slides, or expressed "
            f"in too few spots. Close names: {near}. Correct or leave them out."
        )
        raise RecipeError(msg)
    aligned = [panel.align(slide.counts, slide.genes) for slide in slides]
    return GeneInput.fit(panel, aligned, int(recipe.model.gene_tower.get("context", 64)))


def assemble(
    recipe: Recipe,
    slides: Sequence[Slide],
    gene_input: GeneInput,
    cache: FeatureCache,
    *,
    seed: int,
) -> TrainingSet:
    """Prepare the images and gene inputs of all spots; what the cache holds is not read again."""
    config = recipe.model
    placements = [_placements(slide.n_spots, recipe.n_placements, seed) for slide in slides]
    wide = GeneInput(gene_input.panel, gene_input.mean, gene_input.std, gene_input.context * _SPARE)
    batches = [wide.batch(slide.counts, slide.genes, own_slide=True) for slide in slides]
    genes = type(batches[0])(
        np.concatenate([batch.tokens for batch in batches]),
        np.concatenate([batch.profile for batch in batches]),
    )
    return TrainingSet(
        [cache.patches(slide, config.patch) for slide in slides],
        [
            [cache.regions(slide, config.region, cells) for cells in placed.T]
            for slide, placed in zip(slides, placements, strict=True)
        ],
        np.concatenate(placements),
        genes,
        np.repeat(np.arange(len(slides)), [slide.n_spots for slide in slides]),
        np.concatenate([slide.xy_um for slide in slides]),
    )


def _placements(n: int, count: int, seed: int) -> NDArray[np.int64]:
    """Cells (n, count): the centre first, whose region also serves retrieval, then others at random."""
    others = [cell for cell in range(9) if cell != CENTRE_CELL]
    rng = np.random.default_rng(seed)
    if count == 9:
        shuffled = np.tile(others, (n, 1))  # one file per cell, whatever the seed
    else:
        shuffled = rng.permuted(np.tile(others, (n, 1)), axis=1)[:, : count - 1]
    return np.concatenate([np.full((n, 1), CENTRE_CELL), shuffled], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Batch:
    """One step's tensors: b spots with one region placement each."""

    patch: torch.Tensor  # (b, h, w, c)
    region: torch.Tensor  # (b, h, w, c)
    label: torch.Tensor  # (b,) cell of the patch in the region
    tokens: torch.Tensor  # (b, context)
    profile: torch.Tensor  # (b, g)
    same: torch.Tensor  # (b, b) True where j is no negative of i


def draw(
    data: TrainingSet, spots: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator
) -> Batch:
    """Gather one augmented batch of spots (b,)."""
    placement = rng.integers(0, data.cells.shape[1], size=len(spots))
    patch, region = _images(data, spots, placement)
    label = data.cells[spots, placement]
    turn = int(rng.integers(0, 8))
    kept = kept_genes(len(spots), data.genes.profile.shape[1], recipe.genes, rng)
    context = int(recipe.model.gene_tower.get("context", 64))
    tokens, profile = drop_genes(data.genes.tokens[spots], data.genes.profile[spots], kept, context)
    return Batch(
        torch.from_numpy(_turn(patch, turn)),
        torch.from_numpy(_turn(region, turn)),
        torch.from_numpy(_turned_cells(turn)[label]),
        torch.from_numpy(tokens),
        torch.from_numpy(profile),
        torch.from_numpy(overlapping(data, spots, recipe.model.patch.width_um)),
    )


def _images(
    data: TrainingSet, spots: NDArray[np.int64], placement: NDArray[np.int64]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    one_patch, one_region = data.patches[0][0], data.regions[0][0][0]
    patch = np.empty((len(spots), *one_patch.shape), dtype=one_patch.dtype)
    region = np.empty((len(spots), *one_region.shape), dtype=one_region.dtype)
    row = spots - data.first_row[data.slide_of[spots]]
    for at, (slide, i, j) in enumerate(zip(data.slide_of[spots], row, placement, strict=True)):
        patch[at] = data.patches[slide][i]
        region[at] = data.regions[slide][j][i]
    return patch, region


def overlapping(data: TrainingSet, spots: NDArray[np.int64], patch_um: float) -> NDArray[np.bool_]:
    """Mark (b, b) pairs off the diagonal that are one spot, or spots closer than a patch."""
    xy = data.xy_um[spots]
    near = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) < patch_um  # (b, b)
    one_slide = data.slide_of[spots][:, None] == data.slide_of[spots][None]
    found: NDArray[np.bool_] = near & one_slide
    np.fill_diagonal(found, val=False)
    return found


def kept_genes(n: int, n_genes: int, genes: Genes, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which genes (n, g) each spot keeps in this step: all, most, or a short panel."""
    kind = rng.random(n)
    share = rng.uniform(0.3, 1.0, size=n)
    short = kind < genes.short_share
    share[short] = np.exp(
        rng.uniform(np.log(min(4 / n_genes, 0.3)), np.log(0.3), size=int(short.sum()))
    )
    kept: NDArray[np.bool_] = rng.random((n, n_genes)) < share[:, None]
    kept[kind >= 1 - genes.full_share] = True
    return kept


def drop_genes(
    tokens: NDArray[np.int32], profile: NDArray[np.float32], kept: NDArray[np.bool_], context: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Remove genes from tokens (n, t) and profile (n, g); the ranks below a lost gene move up."""
    column = np.maximum(tokens - TOKEN_OFFSET, 0)
    stays = (tokens != PAD) & np.take_along_axis(kept, column, axis=1)  # (n, t)
    order = np.argsort(~stays, axis=1, kind="stable")[:, :context]
    moved = np.take_along_axis(np.where(stays, tokens, PAD), order, axis=1)
    return moved.astype(np.int32), np.where(kept, profile, 0).astype(np.float32)


def _turn(grid: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """One of the eight symmetries of a square, on (b, h, w, ...)."""
    turned = np.rot90(grid, turn % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if turn >= 4 else turned)


def _turned_cells(turn: int) -> NDArray[np.int64]:
    """Where each of the nine cells lies after `_turn`."""
    return np.argsort(_turn(np.arange(9).reshape(1, 3, 3), turn).ravel())
