"""Inverted lists filled by a crew, which may be many machines."""

from __future__ import annotations

import mmap
import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.crew import Needs
from stamp_index.errors import CrewError
from stamp_index.index.engine.partial import Part, cut, fill_part, find_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from stamp_index.crew import Crew
    from stamp_index.index.halves import Vectors

_PART_ROWS: Final = 131_072  # at most, where nobody asks for another number of parts
_PARTS: Final = (
    64  # at least, as far as there are blocks: so that workers end at about the same time
)
_WORKER_BYTES: Final = 256 * 2**20  # of Python, Ray, NumPy and FAISS: 192 MB with their files


@dataclass(frozen=True)
class Fillers:
    """Who fills inverted lists instead of this process.

    Attributes
    ----------
    crew : Crew
        Its workers must see the store's folder under the same path.
    n_parts : int, optional
        Into how many parts rows are divided, about; by default as many as there are workers for, each of at most
        131,072 rows. A build that goes on with another number fills everything again.
    """

    crew: Crew
    n_parts: int | None = None

    def __post_init__(self) -> None:
        n_parts = self.n_parts
        if n_parts is not None and (isinstance(n_parts, bool) or not isinstance(n_parts, int)):
            msg = f"n_parts is {n_parts!r}; expected a whole number from 1, or None."
            raise TypeError(msg)
        if n_parts is not None and n_parts < 1:
            msg = f"n_parts is {n_parts}; expected a whole number from 1, or None."
            raise ValueError(msg)


@dataclass(frozen=True)
class MappedRows:
    """A memory map by its file, for another process to open.

    Attributes
    ----------
    path : Path
        The file.
    dtype : str
        Of a value.
    offset : int
        Bytes before the first row.
    shape : tuple of int
        Rows, dimensions.
    """

    path: Path
    dtype: str
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, vectors: Vectors) -> MappedRows:
        """Say where a memory map lies.

        Raises
        ------
        TypeError
            If it is none, or only a part of one.
        """
        # A slice of a map says the file and the offset of the whole.
        if not isinstance(vectors, np.memmap) or not isinstance(vectors.base, mmap.mmap):
            msg = f"Vectors are {type(vectors).__name__}; expected a whole memory map, which others can open."
            raise TypeError(msg)
        path = Path(str(vectors.filename)).resolve()
        return cls(path, vectors.dtype.str, vectors.offset, vectors.shape)

    def open(self) -> Vectors:
        """Map the file.

        Raises
        ------
        CrewError
            If this machine does not see it, or another file in its place.
        """
        needed = self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        if not self.path.is_file() or self.path.stat().st_size < needed:
            msg = (
                f"The machine {platform.node()} does not see {self.path} as it was written. All machines need the "
                f"store's folder under the same path, as on a shared disk."
            )
            raise CrewError(msg)
        mapped: Vectors = np.memmap(
            self.path, np.dtype(self.dtype), "r", self.offset, shape=self.shape
        )
        return mapped


class PartFiller:
    """Worker that fills parts.

    Parameters
    ----------
    trained : Path
        File of the trained index.
    rows : MappedRows
        All vectors.
    """

    def __init__(self, trained: Path, rows: MappedRows) -> None:
        self._trained, self._vectors = trained, rows.open()

    def __call__(self, part: Part) -> Path:
        """Fill one part beside the trained index; its file."""
        return fill_part(self._trained, self._vectors, part, self._trained.parent)


@dataclass(frozen=True)
class Layout:
    """How one process would fill, and what a row takes.

    Attributes
    ----------
    shard_rows, block_rows : int
        As in `cut`.
    row_bytes : int
        Of a row in the lists: its code and its number.
    max_memory_bytes : int or None
        That a process may take.
    """

    shard_rows: int
    block_rows: int
    row_bytes: int
    max_memory_bytes: int | None


def parts_for(n: int, layout: Layout, n_parts: int | None) -> list[Part]:
    """Divide n rows; no part takes more memory than is allowed, where that is more than a block does."""
    rows = -(-n // n_parts) if n_parts else min(_PART_ROWS, -(-n // _PARTS))
    if n_parts:
        rows = -(-rows // layout.block_rows) * layout.block_rows  # so that there are no more parts
    if layout.max_memory_bytes is not None:
        rows = min(rows, layout.max_memory_bytes // (2 * layout.row_bytes))
    return cut(
        n, shard_rows=layout.shard_rows, block_rows=layout.block_rows, part_rows=max(1, rows)
    )


def fill(
    fillers: Fillers,
    trained: Path,
    vectors: Vectors,
    *,
    layout: Layout,
    heard: Callable[[int], object],
) -> list[Path]:
    """Have all parts filled that are not whole yet.

    Parameters
    ----------
    fillers : Fillers
        Who does it.
    trained : Path
        File of the trained index; parts lie beside it.
    vectors : ndarray of shape (n, d), float16
        A memory map.
    layout : Layout
        How rows are divided.
    heard : callable
        Is told how many rows are filled.

    Returns
    -------
    list of Path
        Files of the parts, in the order of rows.

    Raises
    ------
    CrewError, AnnIndexError
        As in `Crew.run` and `fill_part`.
    """
    work, rows = trained.parent.resolve(), MappedRows.of(vectors)
    parts = parts_for(len(vectors), layout, fillers.n_parts)
    found = find_parts(parts, work)
    n_filled = sum(part.stop - part.start for part in found)
    heard(n_filled)
    run = fillers.crew.run(
        partial(PartFiller, work / trained.name, rows),
        [part for part in parts if part not in found],
        needs=_needs(parts, trained, vectors, layout),
        name=lambda part: f"rows {part.start:,} to {part.stop:,}",
    )
    for done in run:
        found[done.job] = done.result
        n_filled += done.job.stop - done.job.start
        heard(n_filled)
    return [found[part] for part in parts]


def _needs(parts: list[Part], trained: Path, vectors: Vectors, layout: Layout) -> Needs:
    """Memory of a worker: libraries, the trained index, lists that double as they grow, and a block twice."""
    most = max(part.stop - part.start for part in parts)
    block_bytes = 4 * vectors.shape[1] * min(layout.block_rows, most)
    lists = 2 * most * layout.row_bytes
    return Needs(memory_bytes=_WORKER_BYTES + trained.stat().st_size + lists + 2 * block_bytes)
