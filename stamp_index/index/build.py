"""Training an index over a table of vectors, and measuring how well it finds.

Nothing here knows of stores: see `stamp_index.index.index` for that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.index.cores import FlatCore, IvfCore, load_faiss
from stamp_index.index.exact import ann_recall_at_k, exact_search, rank_exactly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    import faiss
    from numpy.typing import NDArray

    from stamp_index.index.exact import Vectors
    from stamp_index.index.recipe import IndexRecipe

_K: Final = 10  # depth at which recall is measured
_PER_CENTRE: Final = 39  # training rows per centre below which FAISS calls a clustering poor
_TINY: Final = 4 * _PER_CENTRE  # fewer rows than this cannot train codes
# Cost of one exact re-ranking against one code looked up, measured on one core at d = 512; decides
# only between settings that all reach the target.
_RERANK_COST: Final = 12.0


@dataclass(frozen=True)
class HeldOut:
    """Queries to measure with.

    Attributes
    ----------
    vectors : ndarray of shape (q, d), float32
        Unit vectors.
    own : ndarray of shape (q,), int64
        Position of the query itself in the index, which does not count as a hit; -1 if it is not in.
    """

    vectors: NDArray[np.float32]
    own: NDArray[np.int64]

    def half(self, which: int) -> HeldOut:
        """Every second query, from the first (0) or the second (1)."""
        return HeldOut(self.vectors[which::2], self.own[which::2])


@dataclass(frozen=True)
class Built:
    """A trained core and what was measured.

    Attributes
    ----------
    core : FlatCore or IvfCore
        Ready to search.
    recipe : IndexRecipe
        As built: flat where there were too few rows to train.
    nprobe, n_rerank : int
        Chosen settings; 0 for flat.
    ann_recall_at_10 : dict of str to float
        By modality, from the reporting half of the queries.
    seconds : float
        Wall time.
    gpu : bool
        Whether a GPU trained it.
    """

    core: FlatCore | IvfCore
    recipe: IndexRecipe
    nprobe: int
    n_rerank: int
    ann_recall_at_10: dict[str, float]
    seconds: float
    gpu: bool = False

    @property
    def reached(self) -> bool:
        """Whether every measured recall is at least the target."""
        recalls = self.ann_recall_at_10.values()
        return bool(recalls) and min(recalls) >= self.recipe.target_recall


def build_from_vectors(
    vectors: Vectors,
    held_out: Mapping[str, HeldOut],
    recipe: IndexRecipe,
    *,
    seed: int = 0,
) -> Built:
    """Train, fill and measure.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float16
        Unit vectors.
    held_out : mapping of modality to HeldOut
        Queries of each modality. Those that are rows of the index are kept out of training.
    recipe : IndexRecipe
        What to build.
    seed : int
        Seed of the training sample.

    Returns
    -------
    Built
    """
    began = time.perf_counter()
    if recipe.kind == "flat" or len(vectors) < _TINY:
        exact = dict.fromkeys(held_out, 1.0)  # nothing to measure against but itself
        recipe = recipe if recipe.kind == "flat" else replace(recipe, kind="flat")
        return Built(FlatCore(vectors), recipe, 0, 0, exact, time.perf_counter() - began)
    own = [queries.own for queries in held_out.values()]
    index, gpu = _train(_training_rows(vectors, own, recipe, seed=seed), len(vectors), recipe, seed)
    step = 65_536
    for start in range(0, len(vectors), step):
        index.add(np.asarray(vectors[start : start + step], np.float32))
    core = IvfCore(index, vectors, recipe.exact_below)
    asked = {name: queries for name, queries in held_out.items() if len(queries.own) >= 2}
    nprobe, n_rerank = _choose(core, [queries.half(0) for queries in asked.values()], recipe)
    recalls = {
        name: _recalls(core, queries.half(1), nprobe, [n_rerank])[0].mean().item()
        for name, queries in asked.items()
    }
    return Built(core, recipe, nprobe, n_rerank, recalls, time.perf_counter() - began, gpu)


def code_bytes(dim: int, dims_per_byte: int) -> int:
    """Bytes of a code (FAISS's M): divides `dim`; about dim / 8, up to dim / 4 while <= 64."""
    most = max(dim // dims_per_byte, min(dim // 4, 64), 1)
    return max(m for m in range(1, most + 1) if dim % m == 0)


def _training_rows(
    vectors: Vectors, own: Sequence[NDArray[np.int64]], recipe: IndexRecipe, *, seed: int
) -> NDArray[np.float32]:
    """Sample of rows without the queries, (m, d)."""
    free = np.ones(len(vectors), np.bool_)
    for positions in own:
        free[positions[positions >= 0]] = False
    rows = np.flatnonzero(free)
    if len(rows) > recipe.train_rows:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, recipe.train_rows, replace=False))
    return vectors[rows].astype(np.float32)


def _train(
    sample: NDArray[np.float32], n: int, recipe: IndexRecipe, seed: int
) -> tuple[faiss.IndexPreTransform, bool]:
    """Trained, empty OPQ + IVF + PQ, and whether a GPU clustered."""
    faiss = load_faiss()
    dim = sample.shape[1]
    m = code_bytes(dim, recipe.dims_per_byte)
    bits = int(np.clip(np.log2(len(sample) / _PER_CENTRE), 1, 8))
    n_lists = max(1, min(round(recipe.lists_factor * n**0.5), len(sample) // _PER_CENTRE))
    rotation = faiss.OPQMatrix(dim, m)
    rotation.niter = recipe.opq_iterations
    codebook = faiss.ProductQuantizer(dim, m, bits)
    codebook.cp.seed = seed + 1
    rotation.pq = codebook  # so that it trains for the codes that follow, of `bits` bits
    quantizer = faiss.IndexFlatIP(dim)
    ivf = faiss.IndexIVFPQ(quantizer, dim, n_lists, m, bits, faiss.METRIC_INNER_PRODUCT)
    ivf.do_polysemous_training = False  # minutes, for something we never use
    ivf.cp.seed = ivf.pq.cp.seed = seed + 1
    gpu = _has_gpu(faiss)
    if gpu:
        ivf.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(dim))
    index = faiss.IndexPreTransform(rotation, ivf)
    index.train(sample)
    ivf.clustering_index = None
    return index, gpu


def _has_gpu(faiss: ModuleType) -> bool:
    return hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0


def _choose(core: IvfCore, queries: Sequence[HeldOut], recipe: IndexRecipe) -> tuple[int, int]:
    """Cheapest nprobe and n_rerank that reach the target on every modality.

    "Reach" leaves one standard error of room, as the best of many settings looks better on the
    queries that chose it than on others. If none does, the pair with the best recall.
    """
    per_list = len(core.vectors) / core.n_lists
    ladder = [depth for depth in recipe.rerank_ladder if depth < len(core.vectors)]
    ladder = ladder or [len(core.vectors)]
    best: tuple[float, int, int] | None = None  # cost, nprobe, n_rerank
    fallback: tuple[float, float, int, int] = (-1.0, 0.0, core.n_lists, ladder[-1])
    nprobe = 1
    while True:
        looked = nprobe * per_list
        if best is not None and looked + _RERANK_COST * ladder[0] >= best[0]:
            break
        tables = [_recalls(core, held, nprobe, ladder) for held in queries]
        for step, depth in enumerate(ladder):
            cost = looked + _RERANK_COST * depth
            safe = [_safe(table[step]) for table in tables]
            if min(safe, default=0.0) >= recipe.target_recall:
                best = min(best or (np.inf, 0, 0), (cost, nprobe, depth))
            mean = min((table[step].mean().item() for table in tables), default=0.0)
            fallback = max(fallback, (mean, -cost, nprobe, depth))
        if nprobe == core.n_lists:
            break
        nprobe = min(nprobe * 2, core.n_lists)
    return (best[1], best[2]) if best is not None else (fallback[2], fallback[3])


def _safe(recalls: NDArray[np.float64]) -> float:
    """Mean less one standard error."""
    return float(recalls.mean() - recalls.std() / len(recalls) ** 0.5)


def _recalls(
    core: IvfCore, held: HeldOut, nprobe: int, ladder: Sequence[int]
) -> list[NDArray[np.float64]]:
    """Recall at 10 of each query, (q,) for each depth of re-ranking, self-matches left out."""
    wanted = _K + 1  # one more for the query itself
    _, exact = exact_search(core.vectors, held.vectors, wanted)
    found = core.candidates(held.vectors, ladder[-1], nprobe=nprobe, full=wanted)
    out = []
    for depth in ladder:
        recalls = np.empty(len(found))
        for i, query in enumerate(held.vectors):
            positions = found[i, :depth]
            _, hits = rank_exactly(core.vectors, positions[positions >= 0], query, wanted)
            ours, truth = (rows[rows != held.own[i]][:_K] for rows in (hits, exact[i]))
            recalls[i] = ann_recall_at_k(ours[None], truth[None], _K)
        out.append(recalls)
    return out
