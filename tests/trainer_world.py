"""A toy cohort in the trainer's own terms: slides, recipe, model and training set, small enough for a test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stamp_index.encoders.gene_input import GeneBatch, GeneInput
from stamp_index.encoders.model import AlignModel
from tests.support import toy_slide
from trainer.data import Batch, TrainingSet, fit_gene_input
from trainer.prepare import Cohort, Job, Preparation
from trainer.recipe_file import load_recipe, make_recipe
from trainer.runtime import Runtime
from trainer.split import Wish, make_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import Slide
    from trainer.recipe import Recipe

# STAMP in its smallest size. The trunk's features come from the cache.
TINY = (
    "model.patch_px=96",
    "model.region_px=96",
    "model.dim=16",
    "model.image_tower.width=32",
    "model.gene_tower.width=32",
    "model.gene_tower.context=8",
    "genes.n_genes=40",
    "images.placements=2",
    "sampler.batch_size=16",
    "optimiser.epochs=3",
)
# A recipe that reads pixels and needs no trunk: steps of a few milliseconds.
PIXELS = (
    "start=random",
    "model.direct={}",
    'model.image_tower={kind="resnet_cifar", depth=18, base=8, width=16}',
    "model.patch_px=8",
    "model.region_px=8",
    "model.dim=8",
    'model.gene_tower={kind="profile", width=16, hidden=[16]}',
    "genes.n_genes=30",
    "sampler.batch_size=8",
    "optimiser.epochs=3",
)
# Other recipes in their smallest sizes, with dropout. Patches of ST-Align are pixels, its regions features.
SEAL = (
    "genes.n_genes=40",
    "model.patch_px=64",
    "model.region_px=64",
    "model.gene_tower.hidden=[64, 32]",
    "model.gene_tower.dropout=0.1",
    "sampler.batch_size=8",
)
ST_ALIGN = (
    "genes.n_genes=40",
    "model.patch_px=16",
    "model.region_px=96",
    "model.dim=32",
    "model.head.hidden=64",
    'model.image_tower={kind="resnet_cifar", depth=18, base=8, width=32}',
    'model.gene_tower={kind="profile", width=32, hidden=[32], dropout=0.1}',
    'model.niche_tower={kind="niche_transformer", width=32, depth=1, heads=4, hidden=[32]}',
    "model.fusion={n_tokens=2, token_width=32, heads=2, dim_head=16}",
    "sampler.batch_size=4",
)
ST_ALIGN_SMALL = (
    "genes.n_genes=40",
    "model.patch_px=96",
    "model.region_px=96",
    "model.dim=32",
    "model.image_tower.width=32",
    "model.region_tower.width=32",
    "model.niche_tower.dropout=0.1",
    "sampler.batch_size=4",
)
NO_DROPOUT = (
    "model.direct.dropout=0.0",
    "model.image_tower.dropout=0.0",
    "model.image_tower.token_dropout=0.0",
    "model.image_tower.feature_dropout=0.0",
    "model.gene_tower.dropout=0.0",
)


@dataclass
class World:
    """What `trainer.train` has in its hands before the first step."""

    recipe: Recipe
    slides: list[Slide]
    gene_input: GeneInput
    model: AlignModel
    data: TrainingSet
    cache: FeatureCache


def small_slides(n: int = 2, n_spots: int = 40) -> list[Slide]:
    """Slides A, B, ... of patients P1, P2, ..."""
    return [
        toy_slide(name, n_spots, seed, patient_id=f"P{seed + 1}")
        for seed, name in enumerate("ABCDE"[:n])
    ]


def fresh_model(recipe: Recipe, gene_input: GeneInput, seed: int = 0) -> AlignModel:
    """A model whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    return AlignModel(recipe.model, len(gene_input.panel), len(gene_input.around.scales))


def make_world(recipe: Recipe, slides: Sequence[Slide], folder: Path) -> World:
    """Everything that the command makes of slides that all train, with features cached in `folder`."""
    slides = list(slides)
    gene_input = fit_gene_input(recipe, slides)
    model = fresh_model(recipe, gene_input)
    cohort = Cohort(make_split(slides, Wish()), slides, [])
    job = Job(recipe, Path(folder), quiet=True)
    data, cache = Preparation(cohort, gene_input, job).assemble(model, Runtime("fp32"))
    return World(recipe, slides, gene_input, model, data, cache)


def tiny_world(folder: Path, *overrides: str, name: str = "stamp", slides=None) -> World:
    """STAMP, or another recipe, in its smallest size on two slides."""
    recipe = load_recipe(name, (*TINY, *overrides))
    return make_world(recipe, slides or small_slides(), folder)


class NumberedImages:
    """An image source that says who was asked for: pixels are slide, row and cell."""

    def patches(self, slide, row, stain):
        return self._images(slide, row, np.full(len(row), -1))

    def regions(self, slide, row, cell, stain):
        return self._images(slide, row, cell)

    def _images(self, slide, row, cell):
        named = np.stack([slide, row, cell], axis=1).astype(np.float32)
        grid = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
        return np.concatenate(
            [np.broadcast_to(named[:, None, None], (len(row), 3, 3, 3)),
             np.broadcast_to(grid, (len(row), 3, 3, 1))], axis=3,
        )  # fmt: skip


def recipe_of(*losses: dict[str, object], model: dict | None = None, **sections: object) -> Recipe:
    """A recipe of these losses on the smallest model."""
    small = {"patch_um": 112.0, "patch_px": 96, "region_px": 96, "dim": 8, **(model or {})}
    return make_recipe({"name": "mine", "model": small, "losses": list(losses), **sections})


def numbered_set(
    sizes: Sequence[int] = (7, 5), n_genes: int = 6, *, context: int = 4, n_cells: int = 9
) -> TrainingSet:
    """A training set without slides: profiles hold the spot's number, images say who was asked for."""
    n = sum(sizes)
    slide_of = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(5)
    profile = np.tile(np.arange(1, n + 1, dtype=np.float32)[:, None], n_genes)
    tokens = np.stack([rng.permutation(n_genes)[: 2 * context] for _ in range(n)]) + 30
    return TrainingSet(
        slide_ids=tuple("ABCDE"[: len(sizes)]),
        spot_ids=np.array([f"{'ABCDE'[s]}:{i}" for i, s in enumerate(slide_of)]),
        images=NumberedImages(),
        cells=np.tile(np.r_[4, 0, 1, 2, 3, 5, 6, 7, 8][:n_cells], (n, 1)),
        genes=GeneBatch(tokens.astype(np.int32), profile, profile.copy()),
        slide_of=slide_of,
        levels=(),
        cluster_of=np.concatenate([np.arange(size) % 3 for size in sizes]),
        xy_um=rng.uniform(0, 5_000, size=(n, 2)),
        n_genes=n_genes,
    )


def with_images(data: TrainingSet, images: object) -> TrainingSet:
    """The same training set with images from elsewhere."""
    return replace(data, images=images)


def numbered_recipe(*overrides):
    """STAMP on a training set that numbers its images."""
    small = ("model.gene_tower.context=4", "sampler.batch_size=4", "optimiser.epochs=3")
    return load_recipe("stamp", (*small, *overrides))


def same_batches(one: Batch, other: Batch) -> None:
    """Refuse two batches that differ anywhere."""
    for name in ("patch", "region", "tokens", "profile"):
        torch.testing.assert_close(
            getattr(one.inputs, name), getattr(other.inputs, name), rtol=0, atol=0
        )
    for name in ("label", "target", "place", "row"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)
