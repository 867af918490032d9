"""From slides and a recipe to a model and its training set."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from stamp_index.encoders.backbone_tower import PIXELS
from stamp_index.encoders.features import FeatureCache
from stamp_index.encoders.model import AlignModel
from stamp_index.encoders.stage1_weights import (
    load_stage1,
    read_stage1_manifest,
    start_from_stage1,
)
from stamp_index.machine import usable_cores
from stamp_index.readers import SlideOptions, find_slides, read
from trainer.clusters import spot_clusters
from trainer.data import TrainingSet, decodes, placements, wide_batches
from trainer.images import CachedImages, SlideImages
from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.encoders.gene_input import GeneInput
    from stamp_index.genes import GenePanel
    from stamp_index.slides import Slide
    from trainer.images import ImageSource
    from trainer.recipe import Recipe
    from trainer.runtime import Runtime
    from trainer.split import Split


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes
    ----------
    recipe : Recipe
    out : Path
        Folder of the run.
    always : sequence of str
        Genes that the panel must hold.
    features : Path, optional
        Folder of the feature cache; by default in `out`.
    workers : int, optional
        Processes that read patches; by default as needed.
    skip_unreadable : bool
        Go on without a slide that fails.
    seed : int
    quiet : bool
        No progress bars, and nothing said.
    """

    recipe: Recipe
    out: Path
    always: Sequence[str] = ()
    features: Path | None = None
    workers: int | None = None
    skip_unreadable: bool = False
    seed: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class Cohort:
    """The slides of a run by role."""

    split: Split
    train: list[Slide]
    validate: list[Slide]


def read_slides(paths: Sequence[Path], mpp: float | None = None) -> list[Slide]:
    """Read every slide at or below `paths`, in the order of their ids.

    Parameters
    ----------
    paths : sequence of Path
        Folders or counts files; a folder of slides is searched.
    mpp : float, optional
        Microns per pixel, where the slides do not say.

    Raises
    ------
    RecipeError
        If there is no slide with counts.
    """
    found = [read(path, SlideOptions(mpp=mpp)) for given in paths for path in find_slides(given)]
    slides = [slide for slide in found if slide.has_counts]
    if len(slides) < len(found):
        names = ", ".join(slide.slide_id for slide in found if not slide.has_counts)
        print(f"Left out, as nothing was measured on them: {names}", file=sys.stderr)
    if not slides:
        msg = (
            f"There is no slide with counts at or below {', '.join(map(str, paths))}. Give Space Ranger folders or counts "
            "files of legacy ST sections."
        )
        raise RecipeError(msg)
    # Several slides in one order, whatever the order they were named in.
    return sorted(slides, key=lambda slide: slide.slide_id)


def refuse_input_folder(out: Path, paths: Sequence[Path]) -> None:
    """Refuse to write a run among the slides that it reads.

    Raises
    ------
    RecipeError
        If `out` is one of `paths`.
    """
    if out.resolve() in {path.resolve() for path in paths}:
        msg = f"--out {out} is the folder of the slides. Give the run a folder of its own."
        raise RecipeError(msg)


def stage1_panel(recipe: Recipe) -> GenePanel | None:
    """Panel of the stage-1 gene encoder, if the recipe names one."""
    return load_stage1(recipe.genes.stage1)[0] if recipe.genes.stage1 else None


def stage1_origin(recipe: Recipe) -> dict[str, Any] | None:
    """Fingerprint, training slides and their patients of the stage-1 gene encoder, if the recipe names one."""
    if not recipe.genes.stage1:
        return None
    manifest = read_stage1_manifest(recipe.genes.stage1)
    split = manifest.get("training", {}).get("split", {})
    trained_on = list(split.get("train", ()))
    patients = {split.get("patients", {}).get(name, "") for name in trained_on} - {""}
    return {
        "fingerprint": manifest.get("fingerprint"),
        "train": trained_on,
        "patients": sorted(patients),
    }


def stage1_overlap(recipe: Recipe, split: Split) -> list[str]:
    """One sentence if stage 1 has seen counts of slides, or of patients, that are kept out of stage 2."""
    origin = stage1_origin(recipe)
    if origin is None:
        return []
    away = {*split.held_out, *split.validate}
    slides = sorted({*origin["train"]} & away)
    patients = sorted({*origin["patients"]} & {split.patients[name] for name in away})
    if slides:
        seen = f"the counts of {', '.join(slides)}, which are"
    elif patients:
        seen = f"other sections of {', '.join(patients)}, whose slides are"
    else:
        return []
    return [
        f"The gene encoder was pre-trained on {seen} kept out here: figures on them are transductive."
    ]


def build_model(recipe: Recipe, gene_input: GeneInput) -> AlignModel:
    """Build the model; the checkpoint's config names no pretrained file, since it holds every weight."""
    panel, n_scales = gene_input.panel, len(gene_input.around.scales)
    try:
        model = AlignModel(recipe.model, len(panel), n_scales)
    except (TypeError, ValueError) as exc:
        msg = f"The towers of recipe {recipe.name!r} cannot be built: {exc}"
        raise RecipeError(msg) from exc
    if recipe.genes.stage1:
        tower = model.tower_of("gene")
        given = start_from_stage1(
            tower, recipe.genes.stage1, panel=panel, gene_tower=recipe.model.gene_tower
        )
        for name in given if recipe.genes.freeze_stage1 else ():
            tower.get_parameter(name).requires_grad = False
    towers: dict[str, Any] = {
        name: {key: value for key, value in getattr(recipe.model, name).items() if key != "weights"}
        for name in ("image_tower", "region_tower")
    }
    model.config = replace(recipe.model, **towers)
    return model


@dataclass(frozen=True)
class Preparation:
    """What turns slides into a training set."""

    cohort: Cohort
    gene_input: GeneInput
    job: Job

    def assemble(self, model: AlignModel, runtime: Runtime) -> tuple[TrainingSet, FeatureCache]:
        """Prepare images and gene inputs; what the cache holds is not read again."""
        slides, recipe, seed = self.cohort.train, self.job.recipe, self.job.seed
        count = recipe.images.placements if "region" in recipe.model.sides else 1
        cells = [placements(slide.n_spots, count, seed) for slide in slides]
        genes = wide_batches(self.gene_input, slides, gene_blocks(recipe))
        sizes = [slide.n_spots for slide in slides]
        slide_of = np.repeat(np.arange(len(slides)), sizes)
        clusters = None
        if recipe.sampler.kind == "cluster_negatives":
            parts = np.split(genes.profile, np.cumsum(sizes)[:-1])
            clusters = np.concatenate(
                [spot_clusters(part, recipe.sampler.clusters, seed) for part in parts]
            )
        images, cache = self._images(model, cells, runtime)
        data = TrainingSet(
            slide_ids=tuple(slide.slide_id for slide in slides),
            spot_ids=np.array([name for slide in slides for name in slide.spot_ids]),
            images=images,
            cells=np.concatenate(cells),
            genes=genes,
            slide_of=slide_of,
            levels=self._levels(slide_of),
            cluster_of=clusters,
            xy_um=np.concatenate([slide.xy_um for slide in slides]),
            centre=self._centre(images),
            n_genes=len(self.gene_input.panel),
        )
        return data, cache

    def _centre(self, images: ImageSource) -> NDArray[np.float32] | None:
        """Mean features (n, c) of the regions centred on the spots, for direct paths."""
        model = self.job.recipe.model
        if not model.direct or "region" not in model.sides or not isinstance(images, CachedImages):
            return None
        return images.mean_regions()

    def _levels(self, slide_of: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        by = self.job.recipe.sampler.balance
        if by == "none":
            return ()
        if by == "slide":
            return (slide_of,)
        organs = [slide.organ for slide in self.cohort.train]
        unknown = [s.slide_id for s in self.cohort.train if not s.organ]
        if unknown:
            msg = f"sampler.balance = organ needs an organ of every slide; {', '.join(unknown)} have none."
            raise RecipeError(msg)
        return np.unique(organs, return_inverse=True)[1][slide_of], slide_of

    def _images(
        self, model: AlignModel, cells: list[NDArray[np.int64]], runtime: Runtime
    ) -> tuple[ImageSource, FeatureCache]:
        recipe, slides = self.job.recipe, self.cohort.train
        quiet = self.job.quiet or not runtime.is_main
        specs = (recipe.model.patch, recipe.model.region)
        sides = recipe.image_sides
        pixels = all(model.prepared_id(side) == PIXELS for side in sides)
        live = pixels and recipe.images.source in ("auto", "slides")
        if recipe.images.source == "slides" and not pixels:
            msg = (
                'images.source = "slides" needs towers that read pixels; this recipe has a frozen trunk, whose features '
                'are cached. Use images.source = "auto".'
            )
            raise RecipeError(msg)
        # Losses look at every placement; the closed-form start and ridge at the centred region alone.
        n_regions = cells[0].shape[1] if "region" in sides else int("region" in recipe.model.sides)
        per_spot = 1 + n_regions
        n_images = 0 if live else sum(slide.n_spots for slide in slides) * per_spot
        if not runtime.is_main:
            runtime.wait()  # rank 0 fills the cache, the others find it full
        hidden = quiet or not n_images
        with tqdm(total=n_images, unit="image", desc="preparing images", disable=hidden) as bar:
            folder = self.job.features or self.job.out / "features"
            cache = FeatureCache(folder, model, progress=bar.update)
            used = [placed[:, :n_regions] for placed in cells]
            images: ImageSource
            if live:
                images = SlideImages(slides, specs, recipe.images.stain)
            else:
                images = CachedImages(cache, slides, specs, cells=used, stain=recipe.images.stain)
        if runtime.is_main:
            runtime.wait()
        return images, cache


def gene_blocks(recipe: Recipe) -> list[str]:
    """Which blocks of the gene inputs are read, ``profile`` and ``niche``: of a cohort each takes tens of gigabytes."""
    model = recipe.model
    reads_profile = (
        model.gene_tower["kind"] != "rank"  # the only tower that reads tokens alone
        or model.direct  # also for its start in closed form
        or decodes(recipe)
        or recipe.sampler.kind == "cluster_negatives"
        or model.image_tower["kind"] == "hybrid"  # the ridge baseline is fitted beside it
    )
    reads = {"profile": reads_profile, "niche": "niche" in model.sides}
    return [name for name, is_read in reads.items() if is_read]


def worker_count(data: TrainingSet, runtime: Runtime) -> int:
    """Count processes that draw batches of pixels: the cores, shared among a machine's ranks; features need none."""
    if isinstance(data.images, CachedImages) and not data.images.takes_work:
        return 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", runtime.world))  # torchrun's, of several machines
    return max(1, usable_cores() // here)
