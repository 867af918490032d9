"""IVF-PQ on GPUs, where FAISS sees any; everything works without, and goes on without when one fails.

Checked against the headers of FAISS 1.15: `GpuClonerOptions` (useFloat16: lookup tables of float16,
which 64 sub-quantisers of 8 bits need half as much shared memory for; INDICES_64_BIT: ids stay with
the lists), `GpuMultipleClonerOptions.shard`, `IndexShards` (hands parameters on; `IndexReplicas`
refuses them, so copies are searched from here).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.sources import Lists, Look
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from collections.abc import Iterator

    import faiss
    from numpy.typing import NDArray

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_log = logging.getLogger(__name__)
# What FAISS raises where a GPU has no room, or is broken
FAILURES: Final = (RuntimeError, MemoryError)
MOST: Final = 2_048  # candidates and lists that FAISS selects on a GPU
# Lengths of codes that it has there (IVFPQ::isSupportedPQCodeLength), the longest with float16 tables
_CODE_BYTES: Final = frozenset({1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96})


def n_gpus() -> int:
    """GPUs that FAISS can use; 0 where it was built without."""
    faiss = load_faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def warn(what: str, exc: Exception) -> None:
    """Log what is gone on without."""
    _log.warning("%s failed on the GPU (%s); going on without.", what, exc)


@contextmanager
def clustering(index: faiss.Index) -> Iterator[None]:
    """Let the centres of inverted lists be trained on all GPUs, if there are any."""
    lists = inner_lists(index)
    if lists is None or n_gpus() == 0:
        yield
        return
    faiss = load_faiss()
    on_gpus = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(lists.d))
    lists.clustering_index = on_gpus  # a bare pointer: the variable keeps it alive
    try:
        yield
    finally:
        lists.clustering_index = None


def filler(trained: faiss.Index) -> Filler | None:
    """Return what fills an index on a GPU; None where none can."""
    if not supports(trained):
        return None
    try:
        return Filler(trained)
    except FAILURES as exc:
        warn("Filling an index", exc)
        return None


class Filler:
    """Adds rows to copies of a trained index on one GPU.

    Parameters
    ----------
    trained : faiss.Index
        IVF-PQ without rows.
    device : int
        Number of the GPU.
    """

    def __init__(self, trained: faiss.Index, device: int = 0) -> None:
        faiss = load_faiss()
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, device, trained, _options(faiss))

    def add_with_ids(self, rows: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        """Add rows under these ids."""
        self._index.add_with_ids(rows, ids)

    def take(self) -> faiss.Index:
        """Return what was added as an index of the CPU, and start empty again."""
        taken: faiss.Index = load_faiss().index_gpu_to_cpu(self._index)
        self._index.reset()
        return taken


def supports(index: faiss.Index) -> bool:
    """Whether there is a GPU and FAISS has this index there."""
    lists = inner_lists(index)
    if n_gpus() == 0 or type(lists).__name__ != "IndexIVFPQ":
        return False
    return int(lists.pq.nbits) == 8 and int(lists.pq.M) in _CODE_BYTES


class GpuLists(Lists):
    """A filled IVF-PQ index on the GPUs; filters and very deep searches stay on the CPU.

    FAISS's GPU indexes are not safe to be searched by several threads, so each is locked.

    Parameters
    ----------
    index : faiss.Index
        Of the CPU; stays as it is.
    vectors : ndarray of shape (n, d), float16
        By position.
    shard : bool
        Divide the rows over the GPUs, for an index larger than the memory of one, instead of
        giving each a copy and a part of the queries.

    Raises
    ------
    AnnIndexError
        If there is no GPU, or FAISS does not have the index there.
    """

    def __init__(
        self, index: faiss.Index, vectors: NDArray[np.float16], *, shard: bool = False
    ) -> None:
        super().__init__(index, vectors)
        if not supports(index):
            msg = (
                f"{type(index).__name__} cannot go to a GPU: FAISS sees {n_gpus()} of them, and takes "
                f"product-quantised lists of 8 bits and up to 96 bytes. Search on the CPU, or build "
                f"with 'ivf_pq'."
            )
            raise AnnIndexError(msg)
        try:
            self._on_gpu = [
                (load_faiss().IndexRefine(copy, self._rows), Lock())
                for copy in _copies(index, shard=shard)
            ]
        except FAILURES as exc:
            msg = f"The index does not go to the GPU ({exc}). Search on the CPU, or divide it over more GPUs."
            raise AnnIndexError(msg) from exc

    def best(self, queries: NDArray[np.float32], width: int, look: Look) -> Hits:
        """See `Source`."""
        on_gpu = self._on_gpu
        deep = max(look.depth, look.breadth) > MOST
        if not on_gpu or look.allowed is not None or deep or not len(queries):
            return super().best(queries, width, look)
        faiss = load_faiss()
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=(look.depth + 0.5) / width,
            base_index_params=faiss.SearchParametersIVF(nprobe=look.breadth),
        )

        def search(number: int, part: NDArray[np.float32]) -> Hits:
            index, lock = on_gpu[number]
            with lock:
                scores, rows = index.search(np.ascontiguousarray(part), width, params=parameters)
            return scores, rows

        parts = np.array_split(queries, min(len(on_gpu), len(queries)))
        try:
            if len(parts) == 1:
                return search(0, queries)
            with ThreadPoolExecutor(len(parts)) as pool:
                hits = list(pool.map(search, range(len(parts)), parts))
        except FAILURES as exc:
            warn("Searching", exc)
            self._on_gpu = []  # a GPU that failed once is not asked again
            return super().best(queries, width, look)
        return np.concatenate([hit[0] for hit in hits]), np.concatenate([hit[1] for hit in hits])


def _copies(index: faiss.Index, *, shard: bool) -> list[Any]:
    """Copy an index to every GPU, or divide it over all."""
    faiss = load_faiss()
    if shard:
        options = _options(faiss, faiss.GpuMultipleClonerOptions())
        options.shard = True
        return [faiss.index_cpu_to_all_gpus(index, co=options)]
    copies = []
    for device in range(n_gpus()):
        resources = faiss.StandardGpuResources()
        copy = faiss.index_cpu_to_gpu(resources, device, index, _options(faiss))
        copy.kept_resources = resources  # must outlive the copy
        copies.append(copy)
    return copies


def _options(faiss: Any, options: Any = None) -> Any:  # noqa: ANN401 - FAISS's module and options
    options = options or faiss.GpuClonerOptions()
    options.useFloat16 = True
    options.indicesOptions = faiss.INDICES_64_BIT
    return options
