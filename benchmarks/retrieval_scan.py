"""Retrieval evaluation of n x n spots beside the bare blocked matrix product, interleaved, with the memory that it takes.

python benchmarks/retrieval_scan.py --n 100000
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from stamp_index.evaluate.retrieval.asked import Asked, Known
from stamp_index.evaluate.retrieval.runner import evaluate_retrieval
from stamp_index.evaluate.retrieval.scan import TILE
from stamp_index.evaluate.retrieval.zones import BLOCK
from stamp_index.evaluate.spots import EvaluatedSpots

SPOTS_PER_SLIDE, SLIDES_PER_PATIENT = 2500, 4


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Random directions (n, dim), float32."""
    made = rng.standard_normal((n, dim), np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def world(n: int, dim: int, genes: int) -> Asked:
    """Spots of slides of 2,500 and patients of four slides, with labels and the expression of some genes."""
    rng = np.random.default_rng(0)
    slide = np.arange(n) // SPOTS_PER_SLIDE
    patient = slide // SLIDES_PER_PATIENT
    at = np.arange(n) % SPOTS_PER_SLIDE
    xy = np.column_stack([at % 50, at // 50]) * 100.0
    image = unit(rng, n, dim)
    gene = image + unit(rng, n, dim) * 3
    gene /= np.linalg.norm(gene, axis=1, keepdims=True)
    spots = EvaluatedSpots(
        np.arange(n), slide, patient, tuple(map(str, range(slide[-1] + 1))),
        tuple(map(str, range(patient[-1] + 1))), xy, {"image": image, "gene": gene},
    )  # fmt: skip
    expression = rng.standard_normal((n, genes), np.float32)
    known = Known(rng.integers(0, 8, n), expression, tuple(f"G{at}" for at in range(genes)))
    return Asked(spots, known)


def bare(queries: np.ndarray, targets: np.ndarray) -> None:
    """Compute the matrix product of the same tiles, and nothing else."""
    tile = np.empty((BLOCK, TILE), np.float32)
    for start in range(0, len(queries), BLOCK):
        asked = queries[start : start + BLOCK]
        for at in range(0, len(targets), TILE):
            part = targets[at : at + TILE]
            np.matmul(asked, part.T, out=tile[: len(asked), : len(part)])


def main() -> None:
    """Time both, one after the other."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--n", type=int, default=100_000)
    asked.add_argument("--dim", type=int, default=512)
    asked.add_argument("--genes", type=int, default=50)
    asked.add_argument("--rounds", type=int, default=1)
    given = asked.parse_args()
    made = world(given.n, given.dim, given.genes)
    image, gene = made.spots.vectors["image"], made.spots.vectors["gene"]
    for _ in range(given.rounds):
        started = time.perf_counter()
        bare(image, gene)
        bare(gene, image)
        product_s = time.perf_counter() - started
        started = time.perf_counter()
        found = evaluate_retrieval({"random": (image, gene)}, made)
        ours_s = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"n {given.n:,}, d {given.dim}, both directions: product {product_s:.1f} s, evaluation {ours_s:.1f} s, "
            f"ratio {ours_s / product_s:.2f}; peak {peak:.2f} GiB; R@10 of all {found.identity[2]['R@10']:.4f}"
        )


if __name__ == "__main__":
    main()
