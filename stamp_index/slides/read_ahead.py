"""Patches of a whole slide, read ahead of whoever uses them, in the order in which they lie in the file.

Decoding leaves the interpreter lock, what lies around it does not. On two cores threads and processes gain alike (1.3 to
1.7 times one reader, benchmarks/RESULTS.md); on more, the lock is what threads wait for. Where a slide is small, or its
image is held in memory, threads are used, as a process takes a second to start and would decode the image again.
"""

from __future__ import annotations

import uuid
from collections import deque
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from stamp_index.errors import SlideError
from stamp_index.machine import usable_cores
from stamp_index.slides.jpeg import jpeg_bytes
from stamp_index.slides.patches import squares_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor, Future

    from numpy.typing import NDArray

    from stamp_index.slides.images import SlideImage
    from stamp_index.slides.patches import PatchSpec
    from stamp_index.slides.slide import Slide

    _Read = tuple[tuple[NDArray[np.uint8], ...], list[bytes]]  # patches by spec, thumbnails

_AHEAD: Final = 2  # batches that wait for their user, besides those that are being read
_IDLE_S: Final = 60  # after which worker processes end
_PROCESSES_FROM: Final = 4_000  # patches; below, starting processes takes longer than they save


@dataclass(frozen=True)
class Batch:
    """Patches of some spots.

    Attributes
    ----------
    rows : ndarray of shape (b,), int64
        Which spots of the slide.
    patches : tuple of ndarray of shape (b, size_px, size_px, 3), uint8
        One array for each PatchSpec.
    thumbnails : list of b JPEG files as bytes
        Empty where none were asked for.
    """

    rows: NDArray[np.int64]
    patches: tuple[NDArray[np.uint8], ...]
    thumbnails: list[bytes]


def read_ahead(
    slide: Slide,
    specs: Sequence[PatchSpec],
    *,
    batch_size: int,
    thumbnail_px: int = 0,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Read patches around all spots of a slide, each spot once, in an order that suits the file.

    Parameters
    ----------
    slide : Slide
        With an image and a pixel size.
    specs : sequence of PatchSpec
        What to cut around every spot.
    batch_size : int
        Spots per batch, at least 1.
    thumbnail_px : int
        Width of a thumbnail of what the first spec cuts; 0 for none.
    workers : int, optional
        Readers beside the caller, at least 1; the cores of this machine by default.

    Yields
    ------
    Batch
        At most ``workers + 2`` of them are in memory at once.

    Raises
    ------
    SlideError, MissingPixelSizeError
        Before anything is read, if the slide has no image or no pixel size.
    ImageFormatError
        If pixels cannot be decoded.
    SlideError
        If a worker process ended.
    """
    n_workers = usable_cores() if workers is None else workers
    if batch_size < 1 or n_workers < 1:
        msg = f"batch_size is {batch_size} and workers {n_workers}; both must be at least 1."
        raise ValueError(msg)
    image, corners, widths = squares_of(slide, specs)
    work = _Work(image, widths, tuple(spec.size_px for spec in specs), thumbnail_px)
    order = reading_order(slide.xy_px, max(widths))
    rows = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    many = len(order) * len(specs) >= _PROCESSES_FROM
    in_processes = n_workers > 1 and image.reads_pieces and many
    return _in_order(work, rows, corners, (n_workers, in_processes))


def reading_order(xy_px: NDArray[np.float64], band_px: float) -> NDArray[np.int64]:
    """Order of places that goes over a slide band by band, left to right: neighbours share tiles.

    Parameters
    ----------
    xy_px : ndarray of shape (n, 2), float64
    band_px : float
        Height of a band in level-0 pixels, such as the width of what is read around a place.
    """
    bands = np.floor(xy_px[:, 1] / band_px)
    return np.lexsort((xy_px[:, 1], xy_px[:, 0], bands))


@dataclass(frozen=True)
class _Work:
    """What is read around every place: squares of `widths` level-0 pixels into `sizes` pixels, and thumbnails."""

    image: SlideImage
    widths: tuple[float, ...]
    sizes: tuple[int, ...]
    thumbnail_px: int

    def read(self, corners: Sequence[NDArray[np.float64]]) -> _Read:
        """Read around some places; `corners` (b, 2) are top left, for each width."""
        found = []
        for at, width, size in zip(corners, self.widths, self.sizes, strict=True):
            patches = np.empty((len(at), size, size, 3), dtype=np.uint8)
            for index, (x, y) in enumerate(at.tolist()):
                patches[index] = self.image.read(x, y, width, size)
            found.append(patches)
        return tuple(found), self._thumbnails(corners[0], found[0])

    def _thumbnails(self, corners: NDArray[np.float64], patches: NDArray[np.uint8]) -> list[bytes]:
        px = self.thumbnail_px
        if not px:
            return []
        if self.sizes[0] >= px:  # shrunk from what is there already
            small = [Image.fromarray(patch).resize((px, px)) for patch in patches]
        else:
            small = [
                Image.fromarray(self.image.read(x, y, self.widths[0], px))
                for x, y in corners.tolist()
            ]
        return [jpeg_bytes(picture) for picture in small]


def _in_order(
    work: _Work,
    rows: Sequence[NDArray[np.int64]],
    corners: Sequence[NDArray[np.float64]],
    workers: tuple[int, bool],
) -> Iterator[Batch]:
    """Read on a pool of so many threads (or processes) and give the batches in order, a few ahead."""
    n_workers, in_processes = workers
    pool = _processes(n_workers) if in_processes else ThreadPoolExecutor(n_workers)
    read = partial(_read_there, uuid.uuid4().hex) if in_processes else _Work.read
    tasks = iter(rows)
    waiting: deque[Future[_Read]] = deque()
    try:
        for part in rows:
            for ahead in islice(tasks, n_workers + _AHEAD - len(waiting)):
                waiting.append(pool.submit(read, work, [at[ahead] for at in corners]))
            patches, thumbnails = waiting.popleft().result()
            yield Batch(part, patches, thumbnails)
    except BrokenExecutor as exc:
        msg = (
            f"A process that was reading {work.image.uri} ended ({exc}). Was it killed, or is memory short? Try again, "
            "with fewer workers if it happens once more."
        )
        raise SlideError(msg) from exc
    finally:  # the user may stop early
        for one in waiting:
            one.cancel()
        if not in_processes:
            pool.shutdown()


def _processes(n: int) -> Executor:
    """Worker processes that are kept for the next slide; they need no guard in the user's script."""
    from joblib.externals.loky import get_reusable_executor

    pool: Executor = get_reusable_executor(max_workers=n, timeout=_IDLE_S)
    return pool


_there: dict[str, _Work] = {}  # in a worker process: what it reads from, opened once


def _read_there(token: str, work: _Work, corners: Sequence[NDArray[np.float64]]) -> _Read:
    """Read in a worker process, which keeps the image open as long as the same slide is read."""
    if token not in _there:
        for old in _there.values():
            old.image.close()
        _there.clear()
        _there[token] = work
    return _there[token].read(corners)
