"""A stretch of a FAISS index as an index of its own, which ranks its rows by the same codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.sources import Lists
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import as_float32

if TYPE_CHECKING:
    from pathlib import Path

    from faiss import Index
    from numpy.typing import NDArray

_BLOCK_ROWS = 16_384  # encoded at once: 32 MB as float32 at d = 512


def read_mapped(path: Path) -> Index:
    """Open an index file without reading its lists into memory, where FAISS can.

    Raises
    ------
    AnnIndexError
        If it cannot be read, or is a graph, which cannot be divided.
    """
    faiss = load_faiss()
    try:
        index: Index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as exc:
        msg = f"{path} cannot be read ({exc}). Build the index again."
        raise AnnIndexError(msg) from exc
    if inner_lists(index) is None:
        msg = (
            f"The index at {path} is a graph, which cannot be divided. Build it again with a recipe of inverted lists, "
            f"such as `stamp-index build STORE --recipe ivf_sq8`."
        )
        raise AnnIndexError(msg)
    return index


class Divider:
    """Takes stretches out of an index of inverted lists.

    Parameters
    ----------
    path : Path
        Its file.
    vectors : ndarray of shape (n, d), float16
        By position.

    Raises
    ------
    AnnIndexError
        As `read_mapped`.
    """

    def __init__(self, path: Path, vectors: NDArray[np.float16]) -> None:
        self._path, self._vectors = path, vectors
        self._whole = read_mapped(path)
        self._lists = inner_lists(self._whole)
        self.n_lists = int(self._lists.nlist)
        self.code_bytes = int(self._lists.code_size)
        # Packed for the scan of 32 at a time, codes cannot be copied one by one.
        self._is_packed = isinstance(self._lists, load_faiss().IndexIVFRaBitQFastScan)
        self._list_of = Lists(self._whole, vectors).list_of if self._is_packed else None

    def take(self, start: int, stop: int) -> Index:
        """Index of the positions from `start` to `stop`, whose ids are counted from `start`."""
        return self._encoded(start, stop) if self._is_packed else self._copied(start, stop)

    def _copied(self, start: int, stop: int) -> Index:
        faiss = load_faiss()
        shell: Any = read_mapped(self._path)  # for the centres and the codebooks
        lists = inner_lists(shell)
        part = faiss.ArrayInvertedLists(self.n_lists, self.code_bytes)
        by_id = faiss.InvertedLists.SUBSET_TYPE_ID_RANGE
        n = self._lists.invlists.copy_subset_to(part, by_id, start, stop)
        for number in range(self.n_lists):
            size = part.list_size(number)
            if size:
                ids = faiss.rev_swig_ptr(part.get_ids(number), size)  # where they lie
                ids -= start
        lists.replace_invlists(part, True)  # noqa: FBT003 - FAISS's own order: owns them
        part.this.disown()
        lists.ntotal = shell.ntotal = n
        index: Index = shell
        return index

    def _encoded(self, start: int, stop: int) -> Index:
        """Encode the vectors again, in the lists where they lay: RaBitQ's codes follow from these two alone."""
        faiss = load_faiss()
        whole: Any = self._whole
        centres = faiss.clone_index(self._lists.quantizer)
        plain = faiss.IndexIVFRaBitQ(centres, whole.d, self.n_lists, self._lists.metric_type)
        plain.is_trained = True
        rotation = faiss.downcast_VectorTransform(whole.chain.at(0))
        for at in range(start, stop, _BLOCK_ROWS):
            end = min(at + _BLOCK_ROWS, stop)
            rotated = rotation.apply(as_float32(self._vectors[at:end]))
            ids = np.arange(at - start, end - start, dtype=np.int64)
            numbers = np.asarray(self._list_of)[at:end].astype(np.int64)
            pointers = [faiss.swig_ptr(values) for values in (rotated, ids, numbers)]
            plain.add_core(end - at, *pointers, None)
        packed = faiss.IndexIVFRaBitQFastScan(plain)
        index: Any = faiss.IndexPreTransform(rotation, packed)
        # FAISS's objects hold each other by address alone: what Python made must live as long.
        index.referenced_objects = [whole, centres, plain, packed, rotation]
        taken: Index = index
        return taken
