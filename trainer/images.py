"""Where a step's images come from: features cached once, or pixels read from the slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.encoders.features import region_offsets_um
from stamp_index.encoders.ridge_encoder import mean_token
from stamp_index.errors import SlideError
from stamp_index.keys import Keys
from stamp_index.slides import read_patches
from trainer.augment import vary_stain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import PatchSpec, Slide


_BLOCK: Final = 1024
_MOST_SPOTS: Final = 5000  # enough for statistics of channels, each spot having a grid of them


class UnreadableSlideError(SlideError):
    """Pixels of a slide could not be read in the middle of training.

    Attributes
    ----------
    slide_number : int
        Of the training set; -1 where the error has crossed a process.
    """

    slide_number = -1


class ImageSource(Protocol):
    """Gives the images of spots; `stain` (b, 2, 3) in [-1, 1] says how `vary_stain` changes each of them."""

    def patches(
        self, slide: NDArray[np.int64], row: NDArray[np.int64], stain: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        """Patches (b, ...) of row `row` (b,) of slide number `slide` (b,)."""
        ...

    def regions(
        self,
        slide: NDArray[np.int64],
        row: NDArray[np.int64],
        cell: NDArray[np.int64],
        stain: NDArray[np.float64],
    ) -> NDArray[np.generic]:
        """Regions (b, ...), placed so that the spot's patch is cell `cell` (b,)."""
        ...


class CachedImages:
    """Images that a `FeatureCache` holds, memory-mapped: features of a frozen trunk, or shards of pixels.

    Parameters
    ----------
    cache : FeatureCache
        Makes what is missing.
    slides : sequence of Slide
    specs : pair of PatchSpec
        Patch and region.
    cells : list of ndarray of shape (n_s, p), int64
        Region placements of each slide's spots; none where regions are not used.
    stain : float
        Of pixels only; see `trainer.recipe.Images`.
    """

    def __init__(
        self,
        cache: FeatureCache,
        slides: Sequence[Slide],
        specs: tuple[PatchSpec, PatchSpec],
        *,
        cells: list[NDArray[np.int64]],
        stain: float = 0.0,
    ) -> None:
        self._patches: list[NDArray[np.generic]] = [
            cache.patches(slide, specs[0]) for slide in slides
        ]
        self._regions: list[list[NDArray[np.generic]]] = [
            [cache.regions(slide, specs[1], column) for column in placed.T]
            for slide, placed in zip(slides, cells, strict=True)
        ]
        self._column = [
            np.argsort(_with_all(placed), axis=1) for placed in cells
        ]  # (n_s, 9): cell -> file
        self._stain = stain

    def __getstate__(self) -> dict[str, object]:
        """Give what a worker process is sent: files by name, not what is in them."""
        parts = (
            list(map(_by_name, self._patches)),
            [list(map(_by_name, p)) for p in self._regions],
        )
        return {**self.__dict__, "_patches": parts[0], "_regions": parts[1]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._patches = [_opened(part) for part in state["_patches"]]
        self._regions = [[_opened(part) for part in placed] for placed in state["_regions"]]

    @property
    def takes_work(self) -> bool:
        """True of pixels alone, which are turned, and wherever stain is varied: worth processes of their own."""
        kinds = {part.dtype == np.uint8 for part in (self._patches[0], *self._regions[0])}
        return kinds == {True} or (True in kinds and self._stain > 0)

    def mean_patches(self) -> NDArray[np.float32]:
        """Mean feature of every spot's patch (n, c)."""
        return _means(self._patches)

    def mean_regions(self) -> NDArray[np.float32]:
        """Mean feature of every spot's region in its first placement (n, c)."""
        return _means([placed[0] for placed in self._regions])

    def some_patches(self) -> NDArray[np.generic]:
        """Patches (m, ...) of some thousand spots, evenly drawn from all slides."""
        return _some(self._patches)

    def some_regions(self) -> NDArray[np.generic]:
        """Regions (m, ...) of some thousand spots, in their first placement."""
        return _some([placed[0] for placed in self._regions])

    def patches(
        self, slide: NDArray[np.int64], row: NDArray[np.int64], stain: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        """See `ImageSource`."""
        one = self._patches[0]
        out = np.empty((len(row), *one.shape[1:]), dtype=one.dtype)
        for number in np.unique(slide):
            mine = slide == number
            out[mine] = self._patches[number][row[mine]]
        return self._varied(out, stain)

    def regions(
        self,
        slide: NDArray[np.int64],
        row: NDArray[np.int64],
        cell: NDArray[np.int64],
        stain: NDArray[np.float64],
    ) -> NDArray[np.generic]:
        """See `ImageSource`."""
        one = self._regions[0][0]
        out = np.empty((len(row), *one.shape[1:]), dtype=one.dtype)
        for number in np.unique(slide):
            mine = np.flatnonzero(slide == number)
            files = self._column[number][row[mine], cell[mine]]
            for file in np.unique(files):
                these = mine[files == file]
                out[these] = self._regions[number][file][row[these]]
        return self._varied(out, stain)

    def _varied(
        self, images: NDArray[np.generic], stain: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        if images.dtype != np.uint8:
            return images
        return vary_stain(images.astype(np.uint8, copy=False), self._stain, stain)


def _by_name(part: NDArray[np.generic]) -> NDArray[np.generic] | Path:
    return Path(part.filename) if isinstance(part, np.memmap) and part.filename else part


def _opened(part: NDArray[np.generic] | Path) -> NDArray[np.generic]:
    return np.load(part, mmap_mode="r", allow_pickle=False) if isinstance(part, Path) else part


def _means(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
    """Mean over the grid of features (n_s, h, w, c) on disk, of which a few are in memory at a time."""
    blocks = (part[at : at + _BLOCK] for part in parts for at in range(0, len(part), _BLOCK))
    return np.concatenate([mean_token(block) for block in blocks])


def _some(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    step = -(-sum(map(len, parts)) // _MOST_SPOTS)
    return np.concatenate([np.asarray(part[::step]) for part in parts])


def _without_counts(slide: Slide) -> Slide:
    spots = slide.spots[[Keys.X_PX, Keys.Y_PX]].reset_index(drop=True)
    return replace(slide, spots=spots, counts=slide.counts[:, :0], genes=(), gene_ids=())


def _with_all(placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Placements (n, p), then the cells that are not among them: (n, 9)."""
    missing = np.argsort((placed[:, :, None] == np.arange(9)).any(axis=1), axis=1, kind="stable")
    return np.concatenate([placed, missing[:, : 9 - placed.shape[1]]], axis=1)


@dataclass
class SlideImages:
    """Pixels read from the slides at every step, with varied stain.

    Attributes
    ----------
    slides : sequence of Slide
    specs : pair of PatchSpec
        Patch and region.
    stain : float
        See `trainer.recipe.Images`.
    """

    slides: Sequence[Slide]
    specs: tuple[PatchSpec, PatchSpec]
    stain: float = 0.0

    def __getstate__(self) -> dict[str, object]:
        """Give what a worker process is sent: slides without their counts, which are most of them."""
        return {**self.__dict__, "slides": [_without_counts(slide) for slide in self.slides]}

    def patches(
        self, slide: NDArray[np.int64], row: NDArray[np.int64], stain: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        """See `ImageSource`."""
        return self._read(slide, row, self.specs[0], (None, stain))

    def regions(
        self,
        slide: NDArray[np.int64],
        row: NDArray[np.int64],
        cell: NDArray[np.int64],
        stain: NDArray[np.float64],
    ) -> NDArray[np.generic]:
        """See `ImageSource`."""
        offsets = region_offsets_um(cell, self.specs[1].width_um)
        return self._read(slide, row, self.specs[1], (offsets, stain))

    def _read(
        self,
        slide: NDArray[np.int64],
        row: NDArray[np.int64],
        spec: PatchSpec,
        how: tuple[NDArray[np.float64] | None, NDArray[np.float64]],
    ) -> NDArray[np.uint8]:
        offsets, stain = how
        out = np.empty((len(row), spec.size_px, spec.size_px, 3), dtype=np.uint8)
        for number in np.unique(slide):
            mine = slide == number
            source = self.slides[number]
            moved = None if offsets is None else offsets[mine]
            try:
                out[mine] = read_patches(source, spec, rows=row[mine], offsets_um=moved)
            except (SlideError, OSError) as exc:
                msg = (
                    f"Slide {source.slide_id} ({source.source}) cannot be read any more: {exc} Restore it and run the "
                    "same command again to go on, or pass --skip-unreadable to train without it."
                )
                error = UnreadableSlideError(msg)
                error.slide_number = int(number)
                raise error from exc
        return vary_stain(out, self.stain, stain)
