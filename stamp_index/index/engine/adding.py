"""Rows added to inverted lists with the same result on any number of cores.

BLAS rounds a product of matrices differently when it divides it among threads: with FAISS's own `add`, one row in
some 200,000 gets into another list on two cores than on one. So pieces of fixed size are rotated and compared with
the centres here, each by one thread of its own. That takes less CPU as well: 1.4 s for 2.1 s (IVF-PQ, 200,000 x 128,
1,024 lists, two cores).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from faiss import Index
    from numpy.typing import NDArray

_PIECE_ROWS: Final = 4_096  # queries that FAISS hands to BLAS at once
_BLAS_DIMS: Final = 16  # of a sub-vector: from here FAISS encodes with BLAS


def add_block(index: Index, rows: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """Add rows (n, d) under their ids (n,) to an index of inverted lists, which may stand after a rotation."""
    faiss = load_faiss()
    whole: Any = faiss.downcast_index(index)
    lists = inner_lists(whole)
    rotation = None
    if isinstance(whole, faiss.IndexPreTransform):
        rotation = faiss.downcast_VectorTransform(whole.chain.at(0))
    rotated = rows if rotation is None else np.empty_like(rows)
    nearest = np.empty(len(rows), np.int64)

    def assign(edges: tuple[int, int]) -> None:
        piece = slice(*edges)
        if rotation is not None:
            rotated[piece] = rotation.apply(rows[piece])
        nearest[piece] = lists.quantizer.search(rotated[piece], 1)[1][:, 0]

    def encode() -> None:
        pointers = [faiss.swig_ptr(array) for array in (rotated, ids, nearest)]
        lists.add_core(len(rows), *pointers)

    edges = [*range(0, len(rows), _PIECE_ROWS), len(rows)]
    # FAISS and its BLAS take as many threads as the thread that calls them was told.
    with ThreadPoolExecutor(faiss.omp_get_max_threads(), "add", _one_thread) as pool:
        list(pool.map(assign, pairwise(edges)))
        if _encodes_with_blas(lists):
            pool.submit(encode).result()
    if not _encodes_with_blas(lists):
        encode()
    whole.ntotal = lists.ntotal


def _one_thread() -> None:
    load_faiss().omp_set_num_threads(1)


def _encodes_with_blas(lists: Any) -> bool:  # noqa: ANN401 - one of FAISS's many IVF types
    codebook = getattr(lists, "pq", None)
    return codebook is not None and int(codebook.dsub) >= _BLAS_DIMS
