"""Whether an index that was read from a file is one that this library builds, part by part.

FAISS compares much of a file with itself when it reads it. What it takes on trust decides where a search reads: the
length of a code, the size of a block of codes. So every such number must be the one that FAISS gives an index made
afresh with the same dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pair = tuple[object, object]  # what was read, what is expected

_MOST_BITS: Final = 8  # of a number of a product quantiser
_LIST_FIELDS: Final = ("d", "nlist", "metric_type", "code_size", "by_residual")
_QUANTISERS: Final = {
    "pq": ("d", "M", "nbits", "dsub", "ksub", "code_size"),
    "sq": ("d", "qtype", "bits", "code_size"),
    "rabitq": ("d", "metric_type", "nb_bits", "code_size"),
}
_FAST_SCAN_FIELDS: Final = ("bbs", "M", "M2", "nbits", "ksub", "qbs2", "implem", "centered")
_BLOCK_FIELDS: Final = ("nlist", "code_size", "n_per_block", "block_size")


def require_built_here(index: Any) -> None:  # noqa: ANN401 - a faiss.Index
    """Refuse an index that is none of the kinds that are built, or whose parts do not fit each other.

    Raises
    ------
    ValueError
        Saying which part.
    """
    faiss = load_faiss()
    if not index.is_trained:
        msg = "it was not trained"
        raise ValueError(msg)
    inside = index
    if isinstance(index, faiss.IndexPreTransform):
        inside = _after_rotation(index)
    if isinstance(inside, faiss.IndexHNSWSQ):
        _compare(_graph_parts(inside))
    elif inner_lists(inside) is not None:
        _compare(_list_parts(inside))
    else:
        msg = f"it is a {type(inside).__name__}, which is never built"
        raise ValueError(msg)


def require_places(index: Any, n: int) -> None:  # noqa: ANN401 - a faiss.Index
    """Refuse an index whose ids are not the places of n vectors, each once: rows are read there without a check.

    Raises
    ------
    AnnIndexError
        If they are not.
    """
    lists = inner_lists(index)
    if lists is None or _holds_places(lists, n):
        return  # a graph's ids are its own places, and FAISS compares its links with them
    msg = f"The lists of the index do not hold the places of its {n} vectors, each once. Build the index again."
    raise AnnIndexError(msg)


def _holds_places(lists: Any, n: int) -> bool:  # noqa: ANN401 - one of FAISS's many IVF types
    faiss = load_faiss()
    sizes = [int(lists.invlists.list_size(number)) for number in range(int(lists.nlist))]
    if sum(sizes) != n or int(lists.ntotal) != n:
        return False
    met: NDArray[np.bool_] = np.zeros(n, np.bool_)
    for number, size in enumerate(sizes):
        if size:
            ids = faiss.rev_swig_ptr(lists.invlists.get_ids(number), size)
            if ids.min() < 0 or ids.max() >= n:
                return False
            met[ids] = True
    return bool(met.all())


# ---- parts ---------------------------------------------------------------------------------------


def _compare(parts: Iterator[tuple[str, Pair]]) -> None:
    for name, (found, expected) in parts:
        if found != expected:
            msg = f"its {name} is {found}, expected {expected}"
            raise ValueError(msg)


def _fields(found: Any, fresh: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Pair]]:  # noqa: ANN401
    for name in names:
        yield (
            f"{type(fresh).__name__}.{name}",
            (getattr(found, name), getattr(fresh, name)),
        )


def _after_rotation(index: Any) -> Any:  # noqa: ANN401
    """Return what stands behind the one rotation that an index may begin with."""
    faiss = load_faiss()
    dim, n_steps = int(index.d), int(index.chain.size())
    inside = faiss.downcast_index(index.index)
    rotation = faiss.downcast_VectorTransform(index.chain.at(0)) if n_steps == 1 else None
    if not isinstance(rotation, faiss.LinearTransform):
        msg = f"it begins with {n_steps} steps, expected one rotation"
        raise ValueError(msg)
    turned = (int(rotation.d_in), int(rotation.d_out), int(rotation.A.size()))
    heads = {(int(one.d), int(one.ntotal), one.metric_type) for one in (index, inside)}
    if turned != (dim, dim, dim * dim) or len(heads) != 1 or not rotation.is_trained:
        msg = f"its rotation {turned} does not fit {dim} dimensions, or was not trained"
        raise ValueError(msg)
    return inside


def _graph_parts(index: Any) -> Iterator[tuple[str, Pair]]:  # noqa: ANN401
    faiss = load_faiss()
    storage = faiss.downcast_index(index.storage)
    yield "storage", (type(storage), faiss.IndexScalarQuantizer)
    yield "training", (storage.is_trained, True)
    yield "metric", (index.metric_type, faiss.METRIC_INNER_PRODUCT)
    fresh = faiss.IndexScalarQuantizer(
        int(index.d), faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    yield from _fields(storage, fresh, ("d", "metric_type", "code_size"))
    yield from _fields(storage.sq, fresh.sq, _QUANTISERS["sq"])
    yield "codes", (storage.codes.size(), int(index.ntotal) * int(index.d))
    yield "ranges", (storage.sq.trained.size(), 2 * int(index.d))


def _list_parts(index: Any) -> Iterator[tuple[str, Pair]]:  # noqa: ANN401
    faiss = load_faiss()
    dim, nlist = int(index.d), int(index.nlist)
    centres = faiss.downcast_index(index.quantizer)
    yield "centres", (type(centres), faiss.IndexFlatIP)
    yield "training", ((index.is_trained, centres.is_trained), (True, True))
    yield "centres' size", ((int(centres.d), int(centres.ntotal)), (dim, nlist))
    yield "centres' numbers", (centres.codes.size(), 4 * dim * nlist)
    yield "map of ids", (index.direct_map.type, faiss.DirectMap.NoMap)
    fresh = _fresh(index)
    yield from _fields(index, fresh, _LIST_FIELDS)
    for name, fields in _QUANTISERS.items():
        if hasattr(fresh, name):
            yield from _fields(getattr(index, name), getattr(fresh, name), fields)
    if hasattr(fresh, "pq"):
        yield "codebooks", (index.pq.centroids.size(), dim * int(fresh.pq.ksub))
    if hasattr(fresh, "sq"):
        yield "ranges", (index.sq.trained.size(), 2 * dim)
    yield from _stored_parts(index, fresh)


def _stored_parts(index: Any, fresh: Any) -> Iterator[tuple[str, Pair]]:  # noqa: ANN401
    """How the codes lie: in one piece for each list, or in blocks."""
    faiss = load_faiss()
    found, expected = (faiss.downcast_InvertedLists(one.invlists) for one in (index, fresh))
    yield "lists", (type(found), type(expected))
    if isinstance(fresh, faiss.IndexIVFRaBitQFastScan):
        yield from _fields(index, fresh, _FAST_SCAN_FIELDS)
        yield from _fields(found, expected, _BLOCK_FIELDS)
    else:
        yield from _fields(found, expected, ("nlist", "code_size"))


def _fresh(index: Any) -> Any:  # noqa: ANN401
    """Make an empty index of the same kind and dimensions."""
    faiss = load_faiss()
    dim, nlist, metric = int(index.d), int(index.nlist), faiss.METRIC_INNER_PRODUCT
    centres = faiss.IndexFlatIP(dim)
    if isinstance(index, faiss.IndexIVFPQ):
        m, bits = int(index.pq.M), int(index.pq.nbits)
        if not (1 <= bits <= _MOST_BITS and 1 <= m <= dim and dim % m == 0):
            msg = f"its codes have {m} numbers of {bits} bits for {dim} dimensions"
            raise ValueError(msg)
        made: Any = faiss.IndexIVFPQ(centres, dim, nlist, m, bits, metric)
    elif isinstance(index, faiss.IndexIVFScalarQuantizer):
        made = faiss.IndexIVFScalarQuantizer(
            centres, dim, nlist, faiss.ScalarQuantizer.QT_8bit, metric
        )
    elif isinstance(index, faiss.IndexIVFRaBitQ):
        made = faiss.IndexIVFRaBitQ(centres, dim, nlist, metric)
    elif isinstance(index, faiss.IndexIVFRaBitQFastScan):
        made = faiss.IndexIVFRaBitQFastScan(faiss.IndexIVFRaBitQ(centres, dim, nlist, metric))
    else:
        msg = f"it is a {type(index).__name__}, which is never built"
        raise ValueError(msg)
    return made
