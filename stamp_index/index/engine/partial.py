"""Inverted lists filled part by part, by whoever, and joined: nothing here knows who does the work.

A part is a stretch of rows. Its file is written under another name and then gets one that holds its checksum: what
has the right one is whole and is not filled again. Rows are added in the same blocks however they are
divided into parts, each with the same result on any number of cores (`adding.py`), and parts are joined in the order
of rows. So the index has the same bytes as one that a single process filled, on processors of the same kind.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.adding import add_block
from stamp_index.index.engine.files import cannot_write, flush, write_index
from stamp_index.index.engine.reading import read_index
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import as_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from faiss import Index
    from numpy.typing import NDArray

    from stamp_index.index.halves import Vectors


@dataclass(frozen=True)
class Part:
    """Rows that are filled together.

    Attributes
    ----------
    edges : tuple of int
        Where its blocks begin, and where the last one ends: rows are added block by block.
    """

    edges: tuple[int, ...]

    @property
    def start(self) -> int:
        """Its first row."""
        return self.edges[0]

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.edges[-1]

    def name(self, sha256: str) -> str:
        """Name of its file, which tells what the file must hold."""
        return f"part-{self.start:012d}-{self.stop:012d}-{sha256}.faiss"


def cut(n: int, *, shard_rows: int, block_rows: int, part_rows: int) -> list[Part]:
    """Divide rows into parts of about a size, at edges of the blocks in which one process adds them.

    Parameters
    ----------
    n : int
        Rows in all.
    shard_rows, block_rows : int
        A single process fills shards of so many rows; blocks are counted from where a shard begins.
    part_rows : int
        Rows of a part at most, but never less than a block.
    """
    blocks = [
        (at, min(at + block_rows, start + shard_rows, n))
        for start in range(0, n, shard_rows)
        for at in range(start, min(start + shard_rows, n), block_rows)
    ]
    parts: list[list[int]] = []
    for start, stop in blocks:
        if parts and stop - parts[-1][0] <= part_rows:
            parts[-1].append(stop)
        else:
            parts.append([start, stop])
    return [Part(tuple(edges)) for edges in parts]


def add_rows(
    add: Callable[[NDArray[np.float32], NDArray[np.int64]], object],
    vectors: Vectors,
    part: Part,
    heard: Callable[[int], object] | None = None,
) -> None:
    """Have the rows of a part added under their positions; `heard` is told where each block ends."""
    for at, end in pairwise(part.edges):
        add(as_float32(vectors[at:end]), np.arange(at, end, dtype=np.int64))
        if heard is not None:
            heard(end)


def fill_part(trained: Path, vectors: Vectors, part: Part, work: Path) -> Path:
    """Fill one part and put its file into a folder.

    Parameters
    ----------
    trained : Path
        File of the trained index without rows.
    vectors : ndarray of shape (n, d), float16
        All rows, usually a memory map.
    part : Part
        Which of them.
    work : Path
        Where the part's file is wanted. Two processes may write it at once.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    AnnIndexError
        If the trained index cannot be read or the part not be written.
    """
    index = read_index(trained)
    add_rows(partial(add_block, index), vectors, part)
    own = work / f".part-{part.start:012d}-{uuid.uuid4().hex[:12]}.new"
    try:
        write_index(index, own)
        path = work / part.name(_sha256(own))
        own.replace(path)
        flush(work)
    except OSError as exc:
        own.unlink(missing_ok=True)
        raise AnnIndexError(cannot_write(work, exc)) from exc
    return path


def find_parts(parts: Sequence[Part], work: Path) -> dict[Part, Path]:
    """Find the files of parts that are whole; those that are not, or of another division, are removed."""
    wanted = {part.name(""): part for part in parts}
    found = {}
    for path in work.glob("part-*.faiss"):
        start, _, sha256 = path.stem.rpartition("-")
        part = wanted.get(f"{start}-.faiss")
        if part is None or _sha256(path) != sha256:
            path.unlink()
        else:
            found[part] = path
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merge_files(trained: Path, filled: Sequence[Path]) -> Index:
    """Join filled parts: their lists in the order in which they are given.

    Parameters
    ----------
    trained : Path
        File of the trained index without rows.
    filled : sequence of Path
        Copies of it with rows.

    Returns
    -------
    faiss.Index
        In memory, with lists that are no larger than they must be.

    Raises
    ------
    AnnIndexError
        If a file is missing or damaged.

    Notes
    -----
    Parts are mapped, not read, and each list is made at its final size: it takes the memory of one index, as FAISS's
    `merge_from` takes besides that of a part. Its `merge_ondisk` takes none, but leaves the lists in a second file
    that is named in the first: other bytes than those of a build on one machine, and the index must be in memory to be
    measured all the same.
    """
    faiss = load_faiss()
    whole = read_index(trained)
    lists: Any = inner_lists(whole)
    mapped = [_mapped(path) for path in filled]  # they own the lists: must outlive them
    stack = faiss.InvertedListsPtrVector()
    for one in mapped:
        stack.push_back(inner_lists(one).invlists)
    joined = faiss.HStackInvertedLists(stack.size(), stack.data())
    everything = (joined.SUBSET_TYPE_INVLIST_FRACTION, 1, 0)  # the first of one part of each list
    lists.ntotal = whole.ntotal = joined.copy_subset_to(lists.invlists, *everything)
    return whole


def _mapped(path: Path) -> Index:
    faiss = load_faiss()
    try:
        index: Index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as exc:
        msg = f"{path} cannot be read. Build the index again: it goes on from what is whole."
        raise AnnIndexError(msg) from exc
    return index
