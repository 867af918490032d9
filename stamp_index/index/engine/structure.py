"""The FAISS index that belongs to a recipe: made empty, looked into, sized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.recipes import (
    ID_BYTES,
    PER_CENTRE,
    AutoRecipe,
    HnswSq8Recipe,
    IvfPqRecipe,
    IvfRabitqRecipe,
    IvfRecipe,
)

if TYPE_CHECKING:
    from faiss import Index

    from stamp_index.index.recipes import IndexRecipe

_BITS: Final = 8  # of a product quantiser's number, where there are rows enough to train it
_RABITQ_BLOCK: Final = 32  # codes that fast scan packs together
TRAIN_COPIES: Final = (
    4  # of the training rows in float32: as they are, rotated, sampled again, residuals
)
_FILL_BLOCK_BYTES: Final = 64 * 2**20  # float32 rows that are added at once
_HNSW_BASE: Final = 12  # bytes a vector of the graph besides codes and links: level and offset


@dataclass(frozen=True)
class SizeEstimate:
    """What an index will take.

    Attributes
    ----------
    file_bytes : int
        Of the FAISS file.
    bytes_per_vector : float
        The same, per vector.
    sidecar_bytes : int
        Of the float16 vectors, which every kind reads for exact scores: ``2 n d``.
    peak_memory_bytes : int
        Most memory a build takes besides pages of the mapped vectors.
    """

    file_bytes: int
    bytes_per_vector: float
    sidecar_bytes: int
    peak_memory_bytes: int


def estimate(recipe: IndexRecipe, n: int, dim: int) -> SizeEstimate:
    """Size of an index before it is built.

    Parameters
    ----------
    recipe : IndexRecipe
        Of ``auto`` the first that would be tried.
    n, dim : int
        Vectors and their length.
    """
    if isinstance(recipe, AutoRecipe):
        recipe = recipe.chain_for(n)[0]
    sidecar, training = 2 * n * dim, 0
    if isinstance(recipe, HnswSq8Recipe):
        # One in `links` vectors has a further level, of half as many links.
        links = 4 * recipe.links * (2 + 1 / (recipe.links - 1))
        file_bytes = round(n * (dim + links + _HNSW_BASE)) + 8 * dim
        training = 4 * dim * min(n, 65_536)
    elif isinstance(recipe, IvfRecipe):
        file_bytes = _ivf_bytes(recipe, n, dim)
        training = TRAIN_COPIES * 4 * dim * recipe.sample_for(n)
    else:
        return SizeEstimate(0, 0.0, sidecar, _FILL_BLOCK_BYTES)
    # Filled lists grow by doubling, and a shard lies beside the whole while they are joined.
    peak = max(training, 2 * file_bytes + 2 * _FILL_BLOCK_BYTES)
    return SizeEstimate(file_bytes, file_bytes / max(n, 1), sidecar, peak)


def _ivf_bytes(recipe: IvfRecipe, n: int, dim: int) -> int:
    nlist = recipe.lists_for(n)
    shared = 4 * nlist * dim + 8 * nlist  # centres, and the length of each list
    if isinstance(recipe, IvfPqRecipe):
        bits = _bits(recipe.sample_for(n))
        shared += 4 * dim * dim + 4 * dim * (1 << bits)  # rotation and codebooks
        return shared + n * (-(-recipe.code_bytes(dim) * bits // 8) + ID_BYTES)
    if isinstance(recipe, IvfRabitqRecipe):
        shared += 4 * dim * dim
        # The last block of each list is half full on average.
        n_stored = n + nlist * (_RABITQ_BLOCK - 1) / 2
        return round(shared + n_stored * recipe.code_bytes(dim) + n * ID_BYTES)
    return shared + n * (recipe.code_bytes(dim) + ID_BYTES)


def _bits(n_sample: int) -> int:
    """Bits of a number that a product quantiser trained on so many rows can have."""
    return max(1, min(_BITS, (n_sample // PER_CENTRE).bit_length() - 1))


def empty_index(recipe: IndexRecipe, n: int, dim: int, *, seed: int, n_sample: int) -> Index:
    """Untrained index for n vectors.

    Parameters
    ----------
    recipe : IndexRecipe
        Of a kind that has a FAISS index.
    n, dim : int
        Vectors it will hold and their length.
    seed : int
        Of every random choice in training.
    n_sample : int
        Rows it will be trained on; few of them make smaller codebooks.
    """
    faiss = load_faiss()
    if isinstance(recipe, HnswSq8Recipe):
        graph: Any = faiss.IndexHNSWSQ(
            dim, faiss.ScalarQuantizer.QT_8bit, recipe.links, faiss.METRIC_INNER_PRODUCT
        )
        graph.hnsw.efConstruction = recipe.ef_construction
        empty: Index = graph
        return empty
    if not isinstance(recipe, IvfRecipe):
        msg = f"IndexRecipe kind {recipe.kind} has no FAISS index."
        raise TypeError(msg)
    nlist = max(1, min(recipe.lists_for(n), n_sample // PER_CENTRE))
    centres = faiss.IndexFlatIP(dim)
    index, rotation = _lists(recipe, centres, nlist, n_sample=n_sample, seed=seed)
    centres.this.disown()  # the lists own them now
    index.own_fields = True
    index.cp.seed = seed + 1
    out = index
    if rotation is not None:
        out = faiss.IndexPreTransform(rotation, index)
        rotation.this.disown()
        index.this.disown()
        out.own_fields = True
    whole: Index = out
    return whole


def _lists(
    recipe: IvfRecipe, centres: Index, nlist: int, *, n_sample: int, seed: int
) -> tuple[Any, Any]:
    """Inverted lists, and the rotation that stands before them or None."""
    faiss = load_faiss()
    dim, metric = centres.d, faiss.METRIC_INNER_PRODUCT
    if isinstance(recipe, IvfPqRecipe):
        m = recipe.code_bytes(dim)
        bits = _bits(n_sample)
        rotation = faiss.OPQMatrix(dim, m)
        rotation.niter = recipe.opq_rounds
        codebook = faiss.ProductQuantizer(dim, m, bits)
        codebook.cp.seed = seed + 1
        rotation.pq = codebook  # so that it trains for the codes that follow
        lists = faiss.IndexIVFPQ(centres, dim, nlist, m, bits, metric)
        lists.do_polysemous_training = False  # minutes, for something we never use
        lists.pq.cp.seed = seed + 1
        return lists, rotation
    if isinstance(recipe, IvfRabitqRecipe):
        rotation = faiss.RandomRotationMatrix(dim, dim)
        rotation.init(seed + 1)
        return faiss.IndexIVFRaBitQ(centres, dim, nlist, metric), rotation
    eight = faiss.ScalarQuantizer.QT_8bit
    return faiss.IndexIVFScalarQuantizer(centres, dim, nlist, eight, metric), None


def inner_lists(index: Index) -> Any:  # noqa: ANN401 - one of FAISS's many IVF types
    """Inverted lists of an index, past a rotation; None for a graph."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index if isinstance(index, (faiss.IndexIVF, faiss.IndexIVFFastScan)) else None
