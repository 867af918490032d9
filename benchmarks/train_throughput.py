"""Time of a training step against the bare towers, and memory of a large logical batch.

    python benchmarks/train_throughput.py [--recipe stamp] [--batch 128] [--rounds 15]

Prints, from one run and interleaved: seconds of a whole step (drawing the batch, both towers, all losses, clipping,
AdamW) and of one forward and backward pass of the towers on the same tensors, and their ratio. Then the peak memory of
one step of 4,096 pairs cut into micro-batches, in a process of its own. On a GPU also samples per second and the
share of the measured matrix peak in bfloat16.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stamp_index.encoders.gene_input import GeneBatch
from stamp_index.encoders.model import AlignModel
from stamp_index.genes import TOKEN_OFFSET
from trainer.data import SPARE, Steps, TrainingSet
from trainer.objective import Objective
from trainer.recipe_file import load_recipe
from trainer.runtime import Runtime
from trainer.schedule import make_optimiser, set_step
from trainer.step import gradients

N_SLIDES = 4


@dataclass
class MemoryImages:
    """Random prepared images of every spot."""

    patch: np.ndarray
    region: np.ndarray
    per_slide: int

    def patches(self, slide, row, stain):  # noqa: ANN001, ANN201
        """Patches of rows."""
        return self.patch[slide * self.per_slide + row]

    def regions(self, slide, row, cell, stain):  # noqa: ANN001, ANN201
        """Regions of rows."""
        return self.region[slide * self.per_slide + row]


def make_data(recipe, model, n: int) -> TrainingSet:  # noqa: ANN001
    """Spots on a 100-um grid with random images and genes."""
    rng = np.random.default_rng(0)
    sizes = [(side, getattr(recipe.model, side).size_px) for side in ("patch", "region")]
    one = [
        model.prepare(rng.integers(0, 255, (1, px, px, 3), dtype=np.uint8), side)
        for side, px in sizes
    ]
    images = [np.repeat(x, n, axis=0) for x in one]
    g, context = recipe.genes.n_genes, int(recipe.model.gene_tower.get("context", 64)) * SPARE
    tokens = rng.integers(0, g, (n, context), dtype=np.int32) + TOKEN_OFFSET
    profile = rng.normal(size=(n, g * len(recipe.around.scales))).astype(np.float32)
    grid = np.stack(np.divmod(np.arange(n), 100), axis=1) * 100.0
    slide_of = np.repeat(np.arange(N_SLIDES), n // N_SLIDES)
    return TrainingSet(
        tuple(f"S{i}" for i in range(N_SLIDES)), np.arange(n).astype(str), MemoryImages(*images, n // N_SLIDES),
        rng.integers(0, 9, (n, 9)), GeneBatch(tokens, profile, profile[:, :g]), slide_of,
        (), rng.integers(0, 6, n), grid, g,
    )  # fmt: skip


def build(name: str, batch: int, micro: int = 0, n: int = 8_000):  # noqa: ANN201
    """Recipe, model, objective, optimiser, steps and runtime."""
    sets = (f"sampler.batch_size={batch}", f"optimiser.micro_batch={micro}", "optimiser.epochs=100")
    recipe = load_recipe(name, sets)
    runtime = Runtime(recipe.optimiser.precision)
    model = AlignModel(recipe.model, recipe.genes.n_genes, len(recipe.around.scales)).to(
        runtime.device
    )
    objective = Objective(recipe).to(runtime.device)
    optimiser = make_optimiser((model, objective), recipe.optimiser)
    steps = Steps(make_data(recipe, model, n), recipe, seed=0)
    return recipe, model.train(), objective, optimiser, steps, runtime


def whole_step(parts, number: int):  # noqa: ANN001, ANN201
    """Do what the loop does for one step."""
    recipe, model, objective, optimiser, steps, runtime = parts
    batch = steps[number].to(runtime.device)
    set_step(optimiser, recipe.optimiser, number, len(steps))
    optimiser.zero_grad(set_to_none=True)
    gradients(
        model,
        objective,
        batch,
        wanted=recipe.wanted,
        runtime=runtime,
        micro_batch=recipe.optimiser.micro_batch,
    )
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimiser.max_norm)
    optimiser.step()
    return batch


def bare(parts, batch) -> None:  # noqa: ANN001
    """One forward and backward pass of the towers."""
    recipe, model, _, optimiser, _, runtime = parts
    optimiser.zero_grad(set_to_none=True)
    with runtime.autocast():
        out = model(batch.inputs, recipe.wanted)
        total = sum(view.float().sum() for view in out.values())
    total.backward()


def timed(function, *arguments):  # noqa: ANN001, ANN002, ANN201
    """Seconds of a call, its GPU work included, and what it returned."""
    sync = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    sync()
    started = time.perf_counter()
    result = function(*arguments)
    sync()
    return time.perf_counter() - started, result


def ratio(name: str, batch: int, rounds: int) -> None:
    """Interleaved times of both."""
    parts = build(name, batch)
    steps, towers = [], []
    for number in range(rounds + 2):
        seconds, drawn = timed(whole_step, parts, number)
        alone, _ = timed(bare, parts, drawn)
        if number >= 2:
            steps.append(seconds)
            towers.append(alone)
    pairs = [a / b for a, b in zip(steps, towers, strict=True)]
    print(
        f"{name}, {len(drawn)} pairs, {torch.get_num_threads()} threads, {parts[-1].device}: step / bare towers = "
        f"{median(pairs):.3f} (median of {rounds}; {min(pairs):.3f} to {max(pairs):.3f})"
    )
    if torch.cuda.is_available():
        print(f"  step {median(steps) * 1e3:.1f} ms, {len(drawn) / median(steps):.0f} samples/s, "
              f"{achieved(parts, drawn, median(steps)):.1%} of the measured bfloat16 matrix peak")  # fmt: skip


def achieved(parts, batch, seconds: float) -> float:  # noqa: ANN001
    """Share of this GPU's own matrix peak that a step's operations reach."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        bare(parts, batch)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    best = min(timed(torch.matmul, a, a)[0] for _ in range(20))
    return counter.get_total_flops() / seconds / (2 * 8192**3 / best)


def memory(name: str, pairs: int, micro: int) -> None:
    """Peak memory of one step, in this process."""
    recipe = load_recipe(name)
    company = 2 if recipe.sampler.kind == "same_slide_partner" else 1
    parts = build(name, pairs // company, micro)
    before = peak_gib()
    timed(whole_step, parts, 0)
    print(
        f"{name}, {pairs} pairs in micro-batches of {micro or pairs}: peak {peak_gib():.2f} GiB ({before:.2f} before the step)"
    )


def peak_gib() -> float:
    """Peak memory so far: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cost(name: str, batch: int, rounds: int) -> None:
    """Core-hours for a million spots: one epoch, and preparing their images once."""
    parts = build(name, batch, n=2_000)
    recipe, model = parts[:2]
    whole_step(parts, 0)
    started = time.process_time()
    spots = sum(len(whole_step(parts, number)) for number in range(1, rounds + 1))
    # An epoch takes every spot as an anchor once; its partner and its negatives come on top.
    anchors = spots / parts[4][0].group
    hours = (time.process_time() - started) / anchors / 3600 * 1e6
    n_placements = recipe.images.placements if "region" in recipe.image_sides else 0
    prepared = 0.0
    for side, times in (("patch", 1), ("region", n_placements)):
        px = getattr(recipe.model, side).size_px
        images = np.random.default_rng(0).integers(0, 255, (32, px, px, 3), dtype=np.uint8)
        model.prepare(images[:8], side)
        started = time.process_time()
        model.prepare(images, side)
        prepared += times * (time.process_time() - started) / len(images) / 3600 * 1e6
    print(
        f"{name}: {hours:.1f} core-hours per million spots and epoch, {prepared:.1f} to prepare their images once"
    )


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="stamp")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", type=int, nargs=2, metavar=("PAIRS", "MICRO"))
    parser.add_argument("--cost", action="store_true", help="Core-hours for a million spots.")
    given = parser.parse_args()
    if given.cost:
        cost(given.recipe, given.batch, given.rounds)
        return
    if given.memory:
        memory(given.recipe, *given.memory)
        return
    ratio(given.recipe, given.batch, given.rounds)
    for micro in (256, 0):
        own = [sys.executable, __file__, "--recipe", given.recipe, "--memory", "4096", str(micro)]
        subprocess.run(own, check=True)


if __name__ == "__main__":
    main()
