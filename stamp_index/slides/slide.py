"""One section: its image, its spots and their counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.slides.images import SlideImage


@dataclass(frozen=True)
class GivenEmbeddings:
    """Embeddings that came with a slide, made by an encoder elsewhere.

    Attributes
    ----------
    encoder : str
        What the source calls the encoder that made them: its name or its fingerprint.
    image : ndarray of shape (n, d), float32
        One row per spot, in the order of the slide's spots; of any length.
    """

    encoder: str
    image: NDArray[np.float32]


@dataclass(frozen=True)
class Slide:
    """A section with its spots, or a plain H&E slide with a grid of places and no genes.

    Attributes
    ----------
    slide_id : str
        Unique name; becomes the first half of every spot_id.
    spots : DataFrame of n rows, indexed by barcode
        Columns ``x_px`` and ``y_px`` (float64): patch centres in level-0 pixels of `image`.
        Further columns are labels that travel with the spot.
    counts : csr_matrix of shape (n, g), float32
        Raw UMI counts; rows in the order of `spots`, columns in the order of `genes`. g is 0 where
        nothing was measured: see `has_counts`.
    genes : tuple of str, length g
        Gene symbols, unique; empty where nothing was measured.
    gene_ids : tuple of str, length g, or empty
        Ensembl ids without version, where the source has them.
    image : SlideImage or None
        The H&E image; None where the source has counts only.
    mpp : float or None
        Microns per level-0 pixel; None only where `image` is None.
    spot_diameter_um : float
        Diameter of a capture location; of a square bin or a place on a grid, its width.
    patient_id, organ, disease, species, platform : str
        Empty where unknown.
    source, reader : str
        Where it was read from, and by which reader.
    reader_version : int
        Of that reader; another number means that it may read the same files differently.
    files : tuple of Path
        Every file that the slide was read from, apart from the image.
    parameters : mapping of str to str, int, float or bool
        Choices that shaped the slide, such as the width of bins or the thresholds of a tissue mask.
    embeddings : GivenEmbeddings or None
        Embeddings that came with the slide.
    quality : mapping of str to ndarray of shape (n,), float32
        What the reader has already measured of its spots' quality, by the names of the store's columns
        (``tissue_fraction`` and others).
    notes : tuple of str
        What the reader dropped, fell back to or derived, one sentence each.
    """

    slide_id: str
    spots: pd.DataFrame
    counts: csr_matrix
    genes: tuple[str, ...]
    image: SlideImage | None
    mpp: float | None
    spot_diameter_um: float
    gene_ids: tuple[str, ...] = ()
    patient_id: str = ""
    organ: str = ""
    disease: str = ""
    species: str = ""
    platform: str = ""
    source: str = ""
    reader: str = ""
    reader_version: int = 0
    files: tuple[Path, ...] = ()
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    embeddings: GivenEmbeddings | None = None
    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.spots)

    @property
    def has_counts(self) -> bool:
        """Whether expression was measured; False for plain H&E."""
        return len(self.genes) > 0

    @property
    def spot_ids(self) -> list[str]:
        """``"<slide_id>:<barcode>"`` of each spot."""
        return [f"{self.slide_id}:{barcode}" for barcode in self.spots.index]

    @property
    def xy_px(self) -> NDArray[np.float64]:
        """Patch centres of shape (n, 2), (x, y) in level-0 pixels."""
        return self.spots[[Keys.X_PX, Keys.Y_PX]].to_numpy(dtype=np.float64)

    @property
    def xy_um(self) -> NDArray[np.float64]:
        """Patch centres of shape (n, 2), (x, y) in microns from the image's top-left corner.

        Raises
        ------
        MissingPixelSizeError
            If the slide has no pixel size.
        """
        return self.xy_px * self._known_mpp()

    @property
    def width_px(self) -> int | None:
        """Width of the image in level-0 pixels; None without an image."""
        return None if self.image is None else self.image.size_px[0]

    @property
    def height_px(self) -> int | None:
        """Height of the image in level-0 pixels; None without an image."""
        return None if self.image is None else self.image.size_px[1]

    @property
    def width_um(self) -> float | None:
        """Width of the image in microns; None without an image."""
        return None if self.image is None else self.image.size_px[0] * self._known_mpp()

    @property
    def height_um(self) -> float | None:
        """Height of the image in microns; None without an image."""
        return None if self.image is None else self.image.size_px[1] * self._known_mpp()

    def counts_hash(self) -> str:
        """SHA-256 over barcodes, genes and counts, as hex.

        The same numbers give the same hash whatever the order in which the matrix stores them.
        """
        counts = self.counts.tocsr(copy=True)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        digest = hashlib.sha256()
        for names in (self.spots.index, self.genes):
            digest.update("\n".join(map(str, names)).encode() + b"\0")
        digest.update(np.asarray(counts.indptr, dtype="<i8").tobytes())
        digest.update(np.asarray(counts.indices, dtype="<i8").tobytes())
        digest.update(np.asarray(counts.data, dtype="<f4").tobytes())
        return digest.hexdigest()

    def _known_mpp(self) -> float:
        if self.mpp is None:
            msg = (
                f"Slide {self.slide_id} has no microns per pixel. "
                "Give mpp (SlideOptions(mpp=...) or `mpp` in slide.toml)."
            )
            raise MissingPixelSizeError(msg)
        return self.mpp
