"""Prepared images of a slide's spots, cached on disk: the frozen part of a tower runs once."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stamp_index.errors import EncoderError
from stamp_index.slides import iter_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.slides import PatchSpec, Slide

CENTRE_CELL = 4  # of the nine cells of a region, in reading order
_BATCH = 64


class Preparer(Protocol):
    """What the cache asks of an encoder or a model. A side is ``patch`` or ``region``."""

    def prepared_id(self, side: str) -> str:
        """Name of what `prepare` gives."""
        ...

    def prepare(
        self, images: NDArray[np.uint8], side: str
    ) -> NDArray[np.float16] | NDArray[np.uint8]:
        """Map (n, s, s, 3) images to fixed inputs (n, ...)."""
        ...


class FeatureCache:
    """Prepared patches and regions, one ``.npy`` file per slide, size and placement.

    Parameters
    ----------
    folder : path
        Where the files lie; they can be deleted at any time.
    preparer : Preparer
        Makes what is missing.
    progress : callable, optional
        Called with the number of images made, or found, since the last call.
    """

    def __init__(
        self,
        folder: Path | str,
        preparer: Preparer,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.preparer = preparer
        self.progress = progress

    def patches(self, slide: Slide, spec: PatchSpec) -> NDArray[np.float16]:
        """Return prepared patches (n, h, w, c) of all spots, memory-mapped."""
        return self._cached(slide, spec, None)

    def regions(
        self, slide: Slide, spec: PatchSpec, cells: NDArray[np.int64]
    ) -> NDArray[np.float16]:
        """Return prepared regions (n, h, w, c), placed so that each spot's patch is cell `cells` (n,)."""
        return self._cached(slide, spec, np.asarray(cells, dtype=np.int64))

    def _cached(
        self, slide: Slide, spec: PatchSpec, cells: NDArray[np.int64] | None
    ) -> NDArray[np.float16]:
        side = "patch" if cells is None else "region"
        path = self.folder / f"{self._key(slide, spec, cells)}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            offsets = None if cells is None else region_offsets_um(cells, spec.width_um)
            parts = []
            for images in iter_patches(slide, spec, batch_size=_BATCH, offsets_um=offsets):
                parts.append(self.preparer.prepare(images, side))
                if self.progress is not None:
                    self.progress(len(images))
            _save(path, np.concatenate(parts))
        elif self.progress is not None:
            self.progress(slide.n_spots)
        return _load(path, slide.n_spots)

    def _key(self, slide: Slide, spec: PatchSpec, cells: NDArray[np.int64] | None) -> str:
        side = "patch" if cells is None else "region"
        digest = hashlib.sha256()
        digest.update(slide.image.content_hash().encode() if slide.image else b"")
        digest.update(f"{slide.mpp!r} {spec!r} {self.preparer.prepared_id(side)}".encode())
        digest.update(np.ascontiguousarray(slide.xy_px, dtype="<f8").tobytes())
        digest.update(b"patch" if cells is None else cells.astype("<i8").tobytes())
        return f"{slide.slide_id}-{digest.hexdigest()[:16]}".replace("/", "_")


def _load(path: Path, n: int) -> NDArray[np.float16]:
    """Map a file of prepared images of n spots.

    Raises
    ------
    EncoderError
        If it is damaged, or holds those of another number of spots.
    """
    try:
        held: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        wrong = (
            "" if held.ndim > 1 and len(held) == n else f"it has shape {held.shape}, for {n} spots"
        )
    except (ValueError, EOFError) as exc:
        wrong = str(exc) or "it is empty"
    if wrong:
        msg = f"The prepared images {path} are damaged ({wrong}). Delete the file; it is made anew."
        raise EncoderError(msg)
    return held


def _save(path: Path, array: NDArray[np.generic]) -> None:
    """Write in one step; a draft of its own, since another process may be preparing the same slide.

    Raises
    ------
    OSError
        If there is no space; the features of other slides stay.
    """
    # Not by tempfile, whose files their owner alone can read: a cache can be shared.
    draft = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.tmp.npy")
    try:
        np.save(draft, array)
        draft.replace(path)
    except OSError as exc:  # of a full disk numpy says how many numbers it wrote, but not where
        msg = (
            f"The prepared images {path} were not written ({exc}): is the disk full? Make space there, or give another "
            "folder of features, and give the same command again; what other slides have there is kept."
        )
        raise OSError(msg) from exc
    finally:
        draft.unlink(missing_ok=True)


def region_offsets_um(cells: NDArray[np.int64], region_um: float) -> NDArray[np.float64]:
    """Offset (n, 2), in microns, of a region's centre from its patch's centre.

    A patch in column c and row r of the region's 3 x 3 cells has the region's centre
    ``(1 - c, 1 - r)`` patch widths away (STAMP: x1 = x - (2c + 1) h with h half a patch).
    """
    column, row = cells % 3, cells // 3
    offsets: NDArray[np.float64] = np.stack([1.0 - column, 1.0 - row], axis=1) * (region_um / 3)
    return offsets
