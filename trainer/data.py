"""Training data: what a step needs of the training slides' spots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from stamp_index.encoders.features import CENTRE_CELL
from stamp_index.encoders.gene_input import GeneBatch, GeneInput
from stamp_index.encoders.model import Inputs
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel, close_names
from trainer.augment import turn, turned_cells
from trainer.images import UnreadableSlideError
from trainer.recipe import RecipeError
from trainer.sampler import epoch_batches, with_company

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from stamp_index.slides import Slide
    from trainer.images import ImageSource
    from trainer.recipe import Genes, Recipe

SPARE = 3  # rank tokens kept per context position, so that gene dropout can refill the context


@dataclass(frozen=True)
class TrainingSet:
    """All pairs of the training slides; images are fetched when a batch is drawn.

    Attributes
    ----------
    slide_ids : tuple of str
    spot_ids : ndarray of shape (n,), str
    images : ImageSource
    cells : ndarray of shape (n, p), int64
        Cells of the patch in the region placements that may be drawn.
    genes : GeneBatch of n spots
        With `SPARE` times the context's tokens; `profile` and `niche` have no columns where nothing reads them.
    slide_of : ndarray of shape (n,), int64
        Never decreases.
    levels : tuple of ndarray of shape (n,), int64
        What the sampler balances; see `epoch_batches`.
    cluster_of : ndarray of shape (n,), int64, or None
        Expression cluster of each spot within its slide, where the sampler asks for it.
    xy_um : ndarray of shape (n, 2), float64
    n_genes : int
        Length of the panel.
    centre : ndarray of shape (n, c), float32, or None
        Mean features of the regions centred on their spots, where the model has a direct path from them.
    """

    slide_ids: tuple[str, ...]
    spot_ids: NDArray[np.str_]
    images: ImageSource
    cells: NDArray[np.int64]
    genes: GeneBatch
    slide_of: NDArray[np.int64]
    levels: tuple[NDArray[np.int64], ...]
    cluster_of: NDArray[np.int64] | None
    xy_um: NDArray[np.float64]
    n_genes: int
    centre: NDArray[np.float32] | None = None

    @property
    def first_row(self) -> NDArray[np.int64]:
        """Number of each slide's first spot."""
        return np.searchsorted(self.slide_of, np.arange(len(self.slide_ids)))


def fit_gene_input(
    recipe: Recipe,
    slides: Sequence[Slide],
    *,
    always: Sequence[str] = (),
    panel: GenePanel | None = None,
) -> GeneInput:
    """Fit panel (unless one is given) and profile statistics on the training slides."""
    settings = recipe.genes
    panel = panel or GenePanel.fit(
        slides, settings.n_genes, always=always, ranking=settings.ranking
    )
    missing = [gene for gene in always if gene not in panel.column_of]
    if missing:
        names = sorted({gene for slide in slides for gene in slide.genes})
        near = {gene: ", ".join(close_names(gene, names)) or "none" for gene in missing}
        msg = (
            f"The panel cannot hold {', '.join(missing)}: not measured by half of the training slides, or expressed "
            f"in too few spots. Close names: {near}. Correct or leave them out."
        )
        raise RecipeError(msg)
    context = int(recipe.model.gene_tower.get("context", 64))
    return GeneInput.fit(panel, slides, context, recipe.around)


def wide_batches(
    gene_input: GeneInput, slides: Sequence[Slide], blocks: Collection[str] = ("profile", "niche")
) -> GeneBatch:
    """Gene inputs of all spots, one slide after the other, with spare tokens; blocks not named get no columns."""
    wide = replace(gene_input, context=gene_input.context * SPARE)
    n, g = sum(slide.n_spots for slide in slides), len(gene_input.panel)
    # Filled slide by slide: those of a cohort are there once, and never a second time to be joined.
    made = GeneBatch(
        np.empty((n, wide.context), dtype=np.int32),
        np.empty((n, gene_input.width if "profile" in blocks else 0), dtype=np.float32),
        np.empty((n, g if "niche" in blocks else 0), dtype=np.float32),
    )
    start = 0
    for slide in slides:
        batch, stop = wide.slide_batch(slide), start + slide.n_spots
        for name in ("tokens", *blocks):
            getattr(made, name)[start:stop] = getattr(batch, name)
        start = stop
    return made


def decodes(recipe: Recipe) -> bool:
    """Say whether a loss holds a decoded expression against the measured one."""
    return any(term.kind == "reconstruct" for term in recipe.losses)


def placements(n: int, count: int, seed: int) -> NDArray[np.int64]:
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
    """One step's tensors of b spots, in groups of `group` (an anchor and its company).

    Attributes
    ----------
    inputs : Inputs
    label : Tensor of shape (b,), int64
        Cell of the patch in its region.
    target : Tensor of shape (b, g), float32
        Profile with all its genes, which decoders are held against; g is 0 where no loss decodes.
    place : Tensor of shape (b, 3), float32
        Slide number and position in um.
    row : Tensor of shape (b,), int64
        Numbers of the spots, to name them.
    group : int
    unreadable : tuple of str
        What could not be read and was left out.
    """

    inputs: Inputs
    label: torch.Tensor
    target: torch.Tensor
    place: torch.Tensor
    row: torch.Tensor
    group: int = 1
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Page-locked copy, for the loader."""
        return self._map(torch.Tensor.pin_memory)

    def rows(self, part: slice) -> Batch:
        """Take some of the spots."""
        return self._map(lambda tensor: tensor[part])

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        def moved(values: object) -> dict[str, Any]:
            return {
                name: change(value)
                for name, value in vars(values).items()
                if isinstance(value, torch.Tensor)
            }

        return replace(self, inputs=replace(self.inputs, **moved(self.inputs)), **moved(self))


class Steps(Dataset[Batch]):
    """Batches by the number of their step, each from a seed of its own.

    A step is the same whatever was drawn before it, in whatever process and in however many: a run that was
    interrupted goes on exactly, and n ranks together draw what one would.

    Parameters
    ----------
    data : TrainingSet
    recipe : Recipe
    seed : int
    rank, world : int
        Which share of every batch to draw.
    skip_unreadable : bool
        True: spots whose images cannot be read are left out and named in the batch. False: an error.
    """

    def __init__(
        self,
        data: TrainingSet,
        recipe: Recipe,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        skip_unreadable: bool = False,
    ) -> None:
        self.data, self.recipe, self.seed = data, recipe, seed
        self.rank, self.world = rank, world
        self.skip_unreadable = skip_unreadable
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])
        self.per_epoch = len(self._anchors(0))

    def __len__(self) -> int:
        return self.per_epoch * self.recipe.optimiser.epochs

    def __getitem__(self, step: int) -> Batch:
        epoch, at = divmod(step, self.per_epoch)
        rng = np.random.default_rng([self.seed, 1, step])
        data = self.data
        groups = with_company(
            self.recipe.sampler, self._anchors(epoch)[at], data.slide_of, data.cluster_of, rng
        )
        mine = np.array_split(np.arange(len(groups)), self.world)[self.rank]
        return draw(data, groups, self.recipe, rng, part=mine, skip_unreadable=self.skip_unreadable)

    def _anchors(self, epoch: int) -> list[NDArray[np.int64]]:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            data = self.data
            batches = epoch_batches(self.recipe.sampler, data.levels, data.slide_of, rng)
            self._epoch = (epoch, batches)
        return self._epoch[1]


def draw(
    data: TrainingSet,
    groups: NDArray[np.int64],
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    part: NDArray[np.int64] | None = None,
    skip_unreadable: bool = False,
) -> Batch:
    """Gather one augmented batch: every spot has its own cell, stain and genes, and all have one symmetry.

    Parameters
    ----------
    data : TrainingSet
    groups : ndarray of shape (b, m), int64
        Spot numbers: anchors and their company.
    recipe : Recipe
    rng : Generator
        Decides for the whole batch, also for what `part` leaves out.
    part : ndarray of int64, optional
        Which groups to fetch.
    skip_unreadable : bool
        See `Steps`.
    """
    n = groups.size
    chance = _Chance(
        column=rng.integers(0, data.cells.shape[1], size=n),
        # One for all: with one a spot, typed queries found less (trainer/docs/experiments.md).
        turn=int(rng.integers(0, 8)),
        kept=kept_genes(n, data.n_genes, recipe.genes, rng),
        stain=rng.uniform(-1, 1, size=(n, 2, 2, 3)),
    )
    part = np.arange(len(groups)) if part is None else part
    unreadable: list[str] = []
    while True:
        try:
            return _fetch(data, groups, recipe, (chance, part, tuple(unreadable)))
        except UnreadableSlideError as exc:
            if not skip_unreadable:
                raise
            unreadable.append(data.slide_ids[exc.slide_number])
            touched = (data.slide_of[groups[part]] == exc.slide_number).any(axis=1)
            part = part[~touched]


@dataclass(frozen=True)
class _Chance:
    """What was drawn for the n spots of a whole batch."""

    column: NDArray[np.int64]  # (n,)
    turn: int
    kept: NDArray[np.bool_]  # (n, g)
    stain: NDArray[np.float64]  # (n, 2, 2, 3): patch and region, factor and shift, stain


def _fetch(
    data: TrainingSet,
    groups: NDArray[np.int64],
    recipe: Recipe,
    drawn: tuple[_Chance, NDArray[np.int64], tuple[str, ...]],
) -> Batch:
    chance, part, unreadable = drawn
    size = groups.shape[1]
    rows = (part[:, None] * size + np.arange(size)).ravel()
    spots = groups.ravel()[rows]
    cells = data.cells[spots, chance.column[rows]]
    patch, region = _images(data, spots, (cells, chance.stain[rows]), recipe)
    context = int(recipe.model.gene_tower.get("context", 64))
    tokens, profile, niche = drop_genes(data.genes, spots, chance.kept[rows], context)
    follows = region is not None and region.ndim == 4
    place = np.concatenate([data.slide_of[spots, None], data.xy_um[spots]], axis=1)
    return Batch(
        Inputs(
            _tensor(patch, chance.turn), _tensor(region, chance.turn),
            torch.from_numpy(tokens),
            torch.from_numpy(profile) if profile.shape[1] else None,
            torch.from_numpy(niche) if "niche" in recipe.model.sides else None,
            None if data.centre is None else torch.from_numpy(data.centre[spots]),
        ),
        torch.from_numpy(turned_cells(chance.turn)[cells] if follows else cells),
        torch.from_numpy(data.genes.profile[spots, : data.n_genes if decodes(recipe) else 0]),
        torch.from_numpy(place.astype(np.float32)),
        torch.from_numpy(spots),
        size,
        unreadable,
    )  # fmt: skip


def _images(
    data: TrainingSet,
    spots: NDArray[np.int64],
    how: tuple[NDArray[np.int64], NDArray[np.float64]],
    recipe: Recipe,
) -> tuple[NDArray[np.generic] | None, NDArray[np.generic] | None]:
    """Patches and regions of spots (b,); what no loss looks at is not fetched."""
    cells, stain = how
    slide = data.slide_of[spots]
    row = spots - data.first_row[slide]
    sides = recipe.image_sides
    patch = data.images.patches(slide, row, stain[:, 0]) if "patch" in sides else None
    region = data.images.regions(slide, row, cells, stain[:, 1]) if "region" in sides else None
    return patch, region


def _tensor(image: NDArray[np.generic] | None, which: int) -> torch.Tensor | None:
    """Turn images into a tensor; tokens without a grid (b, t, c) cannot be turned."""
    if image is None:
        return None
    return torch.from_numpy(turn(image, which) if image.ndim == 4 else np.ascontiguousarray(image))


def kept_genes(n: int, n_genes: int, genes: Genes, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which genes (n, g) each spot keeps in this step: all, most, or a short panel."""
    kind = rng.random(n)
    share = rng.uniform(0.3, 1.0, size=n)
    short = kind < genes.short_share
    share[short] = np.exp(
        rng.uniform(np.log(min(4 / n_genes, 0.3)), np.log(0.3), size=int(short.sum()))
    )
    kept: NDArray[np.bool_] = rng.random((n, n_genes), dtype=np.float32) < share[:, None]
    kept[kind >= 1 - genes.full_share] = True
    return kept


def drop_genes(
    genes: GeneBatch, spots: NDArray[np.int64], kept: NDArray[np.bool_], context: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Tokens (b, context), profile (b, s * g) and niche (b, g) of spots (b,), less the genes not kept (b, g).

    The ranks below a lost gene move up. A profile or niche without columns stays without.
    """
    tokens = genes.tokens[spots]
    column = np.maximum(tokens - TOKEN_OFFSET, 0)
    stays = (tokens != PAD) & np.take_along_axis(kept, column, axis=1)  # (b, t)
    order = np.argsort(~stays, axis=1, kind="stable")[:, :context]
    moved = np.take_along_axis(np.where(stays, tokens, PAD), order, axis=1)
    n_scales = genes.profile.shape[1] // kept.shape[1]
    profile = genes.profile[spots] * np.tile(kept, n_scales)
    niche = genes.niche[spots] * kept[:, : genes.niche.shape[1]]
    return moved.astype(np.int32), profile, niche
