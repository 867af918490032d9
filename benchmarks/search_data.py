"""Data of the vector search benchmarks: image vectors, held-out queries, attributes to filter by, exact answers.

    python benchmarks/search_data.py FOLDER [--rows 1000000] [--dim 512] [--seed 0] [--noise]

A latent z has 40 dimensions with standard deviations i^-1/2. 2,000 centres are drawn from it; how much of the data a
centre gets falls with its rank as rank^-0.9; around its centre a point spreads by 0.45. An image vector is
tanh(z W1) W2 scaled to unit length, plus 0.6 of a fixed unit vector (the image side of the modality gap), plus noise
of norm 0.15, scaled again. A gene query disturbs the latent by 0.3 of its spread, uses W2 plus 0.35 of a rotation of
it, another fixed vector and noise of norm 0.25: it lies off the image manifold. `--noise` makes isotropic vectors
instead, the worst case of every code.

Rows are written block by block, each from its own random stream: 5M rows need little memory, and the first blocks
are the same whatever the number of rows.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stamp_index.index.exact import exact_search

N_LATENT, N_HIDDEN, N_CENTRES = 40, 256, 2_000
BLOCK = 50_000  # rows made at once: 100 MB at d = 512
TRUTH_DEPTH = 100  # exact hits kept of every query
N_QUERIES = 1_000  # of each modality


@dataclass(frozen=True)
class SearchData:
    """One data set on disk.

    Attributes
    ----------
    vectors : memory map of shape (n, d), float16
        Image vectors of unit length: what is indexed.
    queries : dict of str to ndarray of shape (q, d), float32
        Held-out queries, "gene" and "image"; for isotropic noise both are noise.
    independent, follows : ndarray of shape (n,), float32
        Attributes in [0, 1): a filter ``attribute < share`` leaves that share of the rows.
        `independent` knows nothing of the centres; `follows` takes them one after another, in
        random order, as organ and slide do.
    folder : Path
        Where it lies; exact answers are kept beside it.
    """

    vectors: np.ndarray
    queries: dict[str, np.ndarray]
    independent: np.ndarray
    follows: np.ndarray
    folder: Path

    def truth(
        self, modality: str, share: float = 1.0, attribute: str = "independent"
    ) -> np.ndarray:
        """Exact top hits of each query, (q, at most 100), computed once and kept in the folder."""
        name = f"truth-{modality}" + ("" if share >= 1 else f"-{attribute}-{share:g}")
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            allowed = None if share >= 1 else getattr(self, attribute) < share
            _, rows = exact_search(
                self.vectors, self.queries[modality], TRUTH_DEPTH, allowed=allowed
            )
            _save(path, rows)
        return np.load(path)


class World:
    """The maps and centres, all drawn from one seed."""

    def __init__(self, dim: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        hidden = min(N_HIDDEN, dim)
        self.dim, self.seed = dim, seed
        self.spread = np.arange(1, N_LATENT + 1, dtype=np.float32) ** -0.5
        self.centres = self.spread * rng.standard_normal((N_CENTRES, N_LATENT), dtype=np.float32)
        weights = np.arange(1, N_CENTRES + 1) ** -0.9
        rng.shuffle(weights)
        self.edges = np.cumsum(weights / weights.sum())
        self.first = rng.standard_normal((N_LATENT, hidden), dtype=np.float32) * (
            1.5 / N_LATENT**0.5
        )
        rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        turned, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        self.image_map = rotation[:hidden].astype(np.float32)
        self.gene_map = self.image_map + 0.35 * (self.image_map @ turned).astype(np.float32)
        self.offsets = {name: unit(rng.standard_normal((1, dim)))[0] for name in ("image", "gene")}

    def draw(
        self, rng: np.random.Generator, n: int, modality: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw unit vectors (n, d), float32, and for each its place among the centres, in [0, 1)."""
        follows = rng.random(n)
        centre = np.minimum(np.searchsorted(self.edges, follows, side="right"), N_CENTRES - 1)
        z = self.centres[centre] + 0.45 * self.spread * rng.standard_normal(
            (n, N_LATENT), dtype=np.float32
        )
        if modality == "gene":
            z += 0.3 * self.spread * rng.standard_normal((n, N_LATENT), dtype=np.float32)
        second = self.image_map if modality == "image" else self.gene_map
        x = unit(np.tanh(z @ self.first) @ second) + 0.6 * self.offsets[modality]
        noise = {"image": 0.15, "gene": 0.25}[modality] / self.dim**0.5
        x += noise * rng.standard_normal((n, self.dim), dtype=np.float32)
        return unit(x), follows.astype(np.float32)


class Noise:
    """Isotropic vectors in place of a world."""

    def __init__(self, dim: int, seed: int) -> None:
        self.dim, self.seed = dim, seed

    def draw(
        self, rng: np.random.Generator, n: int, modality: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw unit vectors (n, d), float32, and uniform numbers."""
        del modality
        return unit(rng.standard_normal((n, self.dim), dtype=np.float32)), rng.random(
            n, dtype=np.float32
        )


def unit(x: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length, float32."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def load(
    folder: Path | str, n: int, dim: int = 512, *, seed: int = 0, noise: bool = False
) -> SearchData:
    """Open a data set, after making it where it is not there."""
    folder = Path(folder) / f"{'noise' if noise else 'world'}-{n}x{dim}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "done").is_file():
        _make(folder, n, (Noise if noise else World)(dim, seed))
        (folder / "done").touch()
    parts = {
        name: np.load(folder / f"{name}.npy")
        for name in ("gene", "image", "independent", "follows")
    }
    queries = {name: parts.pop(name) for name in ("gene", "image")}
    return SearchData(
        np.load(folder / "vectors.npy", mmap_mode="r"), queries, **parts, folder=folder
    )


def _make(folder: Path, n: int, world: World | Noise) -> None:
    dim, seed = world.dim, world.seed
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (n, dim))
    follows = np.empty(n, np.float32)
    for number, start in enumerate(range(0, n, BLOCK)):
        stop = min(start + BLOCK, n)
        block, where = world.draw(np.random.default_rng([seed, 1, number]), BLOCK, "image")
        vectors[start:stop], follows[start:stop] = block[: stop - start], where[: stop - start]
    vectors.flush()
    _save(folder / "follows.npy", follows)
    _save(folder / "independent.npy", np.random.default_rng([seed, 2]).random(n, dtype=np.float32))
    for stream, modality in enumerate(("gene", "image"), 3):
        queries, _ = world.draw(np.random.default_rng([seed, stream]), N_QUERIES, modality)
        _save(folder / f"{modality}.npy", queries)


def _save(path: Path, array: np.ndarray) -> None:
    scratch = path.with_name(f".{path.name}.new.npy")
    np.save(scratch, array)
    scratch.replace(path)


def main() -> None:
    """Make one data set with its exact answers, and say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", action="store_true")
    asked = parser.parse_args()
    data = load(asked.folder, asked.rows, asked.dim, seed=asked.seed, noise=asked.noise)
    for modality in data.queries:
        data.truth(modality)
    print(f"{data.vectors.shape[0]} x {data.vectors.shape[1]} vectors in {data.folder}")


if __name__ == "__main__":
    main()
