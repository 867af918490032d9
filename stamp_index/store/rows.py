"""What goes into a store for one slide: checked and hashed. `stamp_index.store.arrow` lays it out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import DuplicateGenesError
from stamp_index.store.schema import SPOT_QUALITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.slides.slide import Slide

_MOST_COUNT: Final = 10**9  # molecules in a spot: float32 and sums over genes hold far more
_LEAST_MPP, _MOST_MPP = 1e-3, 1e3  # from electron microscopes to thumbnails of whole slides
_MOST_PX: Final = 10**8
_UNIT_TOLERANCE: Final = 1e-3  # float16 keeps 11 bits, so a stored unit vector is off by < 5e-4


@dataclass(frozen=True)
class SlideRows:
    """One slide with everything that was computed from it.

    Attributes
    ----------
    slide : Slide
        Its spots, counts and metadata.
    image, gene : ndarray of shape (n, d), float32, or None
        Unit vectors in the order of the slide's spots. `image` is None for a slide without image, `gene`
        for one without counts.
    thumbnails : list of n JPEG files as bytes, or None
        One picture per spot.
    overview : bytes or None
        JPEG of the whole slide, at most 1024 px on its longer side.
    fingerprint : str
        Of the encoder that made the vectors.
    quality : mapping of str to ndarray of shape (n,), float32
        Some of the columns `SPOT_QUALITY`.
    provenance : mapping
        What JSON holds of the files, the reader and the choices that the slide came from.
    """

    slide: Slide
    image: NDArray[np.float32] | None
    gene: NDArray[np.float32] | None
    thumbnails: Sequence[bytes] | None
    overview: bytes | None
    fingerprint: str
    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)


def check_slide(slide: Slide) -> None:
    """Refuse a slide that contradicts itself.

    Raises
    ------
    DuplicateGenesError
        If a gene stands twice in the slide's gene list.
    ValueError
        If a shape is wrong, a barcode stands twice, or a count, position or pixel size is not a valid number.
    """
    _check_genes(slide)
    problem = _problem(slide)
    if problem:
        msg = f"Slide '{slide.slide_id}' {problem}. Correct the slide, or leave it out."
        raise ValueError(msg)


def check_rows(rows: SlideRows, dim: int) -> None:
    """Refuse vectors or thumbnails that do not fit their slide.

    Raises
    ------
    ValueError
        If a shape is wrong, or a vector is not finite and of unit length.
    """
    slide = rows.slide
    given = {"gene": rows.gene, "image": rows.image}
    if all(vectors is None for vectors in given.values()):
        msg = (
            f"Slide '{slide.slide_id}' has neither image nor gene embeddings, so nothing could find it. Give it an "
            f"image or counts."
        )
        raise ValueError(msg)
    for modality, vectors in given.items():
        if vectors is not None:
            _check_vectors(modality, vectors, (slide.n_spots, dim), slide.slide_id)
    _check_quality(rows)
    if rows.thumbnails is not None and len(rows.thumbnails) != slide.n_spots:
        msg = (
            f"Slide '{slide.slide_id}' has {slide.n_spots} spots but {len(rows.thumbnails)} "
            f"thumbnails were given. Give one per spot, or None."
        )
        raise ValueError(msg)


def _check_quality(rows: SlideRows) -> None:
    for name, values in {**rows.slide.quality, **rows.quality}.items():
        if name not in SPOT_QUALITY or values.shape != (rows.slide.n_spots,):
            msg = (
                f"Quality '{name}' of slide '{rows.slide.slide_id}' has shape {values.shape}; expected one of "
                f"{', '.join(SPOT_QUALITY)}, with one value for each of {rows.slide.n_spots} spots."
            )
            raise ValueError(msg)


def _check_genes(slide: Slide) -> None:
    # A gene is found by its place in the gene list, so a list with repeats would break every read.
    repeated = sorted(gene for gene, times in Counter(slide.genes).items() if times > 1)
    if repeated:
        msg = (
            f"Slide '{slide.slide_id}' names {len(repeated)} genes more than once "
            f"({', '.join(repeated[:5])}). Sum their counts, or keep one of each."
        )
        raise DuplicateGenesError(msg)


def _problem(slide: Slide) -> str:
    """Say what in the slide contradicts itself; "" where nothing does."""
    n, g = slide.n_spots, len(slide.genes)
    if not slide.slide_id or ":" in slide.slide_id:
        return "needs a slide_id that is not empty and has no ':', where it ends in a spot_id"
    if n == 0:
        return "has no spots"
    if slide.counts.shape != (n, g):
        return f"has counts of shape {slide.counts.shape}; expected {(n, g)}: spots by genes"
    if len(slide.gene_ids) not in (0, g):
        return f"has {len(slide.gene_ids)} gene_ids for {g} genes"
    repeated = slide.spots.index[slide.spots.index.duplicated()]
    if len(repeated):
        return f"has barcode '{repeated[0]}' more than once"
    unnamed = [gene for gene in slide.genes if not isinstance(gene, str) or not gene]
    if unnamed:
        return f"has {len(unnamed)} genes without a name, such as {unnamed[0]!r}"
    return _wrong_number(slide)


def _wrong_number(slide: Slide) -> str:
    values = slide.counts.data
    if values.dtype.kind not in "biuf":
        return f"has counts of dtype {values.dtype}; expected whole numbers"
    bad = values[~(np.isfinite(values) & (values >= 0) & (values <= _MOST_COUNT))]
    if len(bad):
        return f"has {len(bad)} counts that are not numbers from 0 to {_MOST_COUNT:,}, such as {bad[0]}"
    if slide.mpp is not None and not _LEAST_MPP <= slide.mpp <= _MOST_MPP:
        return f"has mpp {slide.mpp!r}; expected {_LEAST_MPP:g} to {_MOST_MPP:g} microns per pixel, or None"
    outside = np.flatnonzero(~(np.abs(slide.xy_px) <= _MOST_PX).all(axis=1))  # NaN is outside too
    if len(outside):
        return f"has {len(outside)} spots without a position within {_MOST_PX:,} px, such as {outside[0]}"
    return ""


def _check_vectors(
    modality: str, vectors: NDArray[np.float32], shape: tuple[int, int], slide_id: str
) -> None:
    if vectors.shape != shape or vectors.dtype.kind != "f":
        msg = (
            f"The {modality} embeddings of slide '{slide_id}' are {vectors.dtype} of shape {vectors.shape}; expected "
            f"float32 of shape {shape}: one row per spot, one column per dimension of the store's encoder."
        )
        raise ValueError(msg)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_TOLERANCE))  # a NaN length is bad too
    if len(bad):
        msg = (
            f"{len(bad)} of {shape[0]} {modality} embeddings of slide '{slide_id}' are not unit "
            f"vectors (spot {bad[0]} has length {lengths[bad[0]]:.4g}). Embed the slide again."
        )
        raise ValueError(msg)


def content_hash(slide: Slide) -> str:
    """Hash of the slide's image and counts, whatever the slide is called (sha256, hex).

    Where nothing was measured, of its image, its places and embeddings that came with it.
    """
    image = "no image" if slide.image is None else slide.image.content_hash()
    digest = hashlib.sha256(f"{image} {slide.counts_hash()}".encode())
    if not slide.has_counts:
        digest.update(np.ascontiguousarray(slide.xy_px, dtype="<f8").tobytes())
        if slide.embeddings is not None:
            digest.update(np.ascontiguousarray(slide.embeddings.image, dtype="<f4").tobytes())
    return digest.hexdigest()


def canonical_counts(counts: csr_matrix) -> csr_matrix:
    """Copy as float32 without stored zeros or duplicates, columns ascending in every row."""
    from scipy.sparse import csr_matrix

    copy = csr_matrix(counts, dtype=np.float32, copy=True)
    copy.sum_duplicates()
    copy.eliminate_zeros()
    return copy
