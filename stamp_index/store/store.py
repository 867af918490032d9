"""The store: slides, spots and expression in Lance tables, with versions that are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError, StoreError
from stamp_index.keys import Nums
from stamp_index.store.card import EncoderCard
from stamp_index.store.creating import ENCODER, create_store
from stamp_index.store.manifest import read_manifest, stored_versions
from stamp_index.store.reading import Tables
from stamp_index.store.rows import content_hash
from stamp_index.store.schema import Modality, vector_column
from stamp_index.store.writing import append_slide, check_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.slides import Slide
    from stamp_index.store.rows import SlideRows

# Columns of `spots` that are plain values, in the order in which they are shown.
SPOT_COLUMNS = (
    "spot_id", "slide_id", "barcode", "patient_id", "organ",
    "x_px", "y_px", "x_um", "y_um", "n_counts", "n_genes",
)  # fmt: skip


class Store:
    """Slides with their spots, embeddings and expression, at one version.

    Made by `Store.create` or `Store.open`. Row numbers are positions in the spots table; a slide's
    rows stand together and keep their numbers when slides are added.

    Attributes
    ----------
    path : Path
        Folder of the store.
    """

    def __init__(self, path: Path, version: int | None) -> None:
        self.path = path
        self._pinned = version is not None
        self._tables = Tables(path, read_manifest(path, version))

    # ---- making, opening, adding -------------------------------------------------------------

    @classmethod
    def create(
        cls, path: Path | str, card: EncoderCard, *, checkpoint: Path | str | None = None
    ) -> Store:
        """Make an empty store.

        Parameters
        ----------
        path : path
            A folder that does not exist yet, or is empty.
        card : EncoderCard
            The encoder whose embeddings the store will hold.
        checkpoint : path, optional
            Folder of that encoder's checkpoint; copied into the store, which then needs nothing
            else to be searched.

        Raises
        ------
        StoreError
            If there is something at `path`, or `checkpoint` is not a folder.
        """
        create_store(Path(path), card, None if checkpoint is None else Path(checkpoint))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str, *, version: int | None = None) -> Store:
        """Open a store at its newest version, or at an older one for reading.

        Raises
        ------
        StoreVersionError
            If a newer release wrote it.
        StoreError
            If there is no store, no such version, or it is damaged.
        """
        return cls(Path(path), version)

    def add(self, rows: SlideRows, *, lock_timeout_s: float = 60.0) -> int:
        """Add one slide: all of it becomes visible at once, or nothing does.

        This object then shows the new version. Another process that adds at the same time is
        waited for.

        Parameters
        ----------
        rows : SlideRows
            The slide and what was computed from it.
        lock_timeout_s : float
            Seconds to wait for another writer.

        Returns
        -------
        int
            The new version.

        Raises
        ------
        EncoderMismatchError
            If the embeddings were made by another encoder.
        DuplicateSlideError
            If a slide with this id, or with the same image and counts, is in the store.
        StoreError
            If another process keeps writing, or this object was opened at an older version.
        DuplicateGenesError, ValueError
            If the slide contradicts itself, shapes do not fit, or vectors are not finite unit
            vectors. After any of these errors the store is as it was.
        """
        if self._pinned:
            msg = (
                f"The store at {self.path} was opened at version {self.version}, for reading. "
                f"Open it without `version` to add slides."
            )
            raise StoreError(msg)
        manifest = append_slide(self.path, rows, lock_timeout_s)
        self._tables = Tables(self.path, manifest)
        return manifest.version

    def refuse_duplicate(self, slide: Slide) -> None:
        """Raise DuplicateSlideError if `slide` is in the store, by id or by image and counts."""
        check_new(self.path, self._tables, slide.slide_id, content_hash(slide))

    def refresh(self) -> int:
        """Show the newest version, if another process has added slides. Returns the version."""
        newest = read_manifest(self.path)
        if newest.version != self.version and not self._pinned:
            self._tables = Tables(self.path, newest)
        return self.version

    # ---- what it is --------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Version that this object shows; 1 is the empty store."""
        return self._tables.manifest.version

    @property
    def versions(self) -> list[int]:
        """Versions that can be opened."""
        return stored_versions(self.path)

    @property
    def store_id(self) -> str:
        """Random name that this store was given when it was made."""
        return self._tables.manifest.store_id

    @property
    def card(self) -> EncoderCard:
        """The encoder whose embeddings the store holds."""
        return EncoderCard.from_dict(self._tables.manifest.card)

    @property
    def encoder_path(self) -> Path:
        """Copy of the encoder's checkpoint.

        Raises
        ------
        StoreError
            If the store was made without one.
        """
        path = self.path / ENCODER
        if not path.is_dir():
            msg = (
                f"The store at {self.path} was made without its encoder. Pass the encoder yourself."
            )
            raise StoreError(msg)
        return path

    @property
    def n_spots(self) -> int:
        """Number of rows."""
        return self._tables.manifest.n_spots

    @property
    def genes(self) -> tuple[str, ...]:
        """Every gene measured on any slide, in order of first appearance."""
        return tuple(self._tables.gene_names)

    @property
    def gene_ids(self) -> tuple[str, ...]:
        """Ensembl ids of `genes`, "" where unknown."""
        return tuple(self._tables.gene_names.values())

    def slides(self) -> pd.DataFrame:
        """One row per slide, in the order in which they were added.

        Columns: slide_id, patient_id, organ, disease, species, platform, image_uri, source, reader,
        content_hash, mpp, width_px, height_px, spot_diameter_um, n_spots, first_spot (its first
        row), first_gene, image_embedded, notes (tuple of str), added_at (UTC).
        """
        return self._tables.slides.copy()

    def has_gene(self, gene: str) -> NDArray[np.bool_]:
        """Which slides measured a gene, in the order of `slides`."""
        return np.array([gene in genes for genes in self._tables.gene_lists], np.bool_)

    # ---- reading spots -----------------------------------------------------------------------

    def spots(
        self, columns: Sequence[str] | None = None, rows: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Spots with their slide, position and totals.

        Parameters
        ----------
        columns : sequence of str, optional
            Some of spot_id, slide_id, barcode, patient_id, organ, x_px, y_px, x_um, y_um,
            n_counts, n_genes; all by default.
        rows : array of int, optional
            Row numbers, in any order; all by default.
        """
        names = SPOT_COLUMNS if columns is None else tuple(columns)
        unknown = [name for name in names if name not in SPOT_COLUMNS]
        if unknown:
            msg = f"Spots have no columns {unknown}; they have {list(SPOT_COLUMNS)}."
            raise ValueError(msg)
        table = self._read(names, rows)
        frame: pd.DataFrame = table.to_pandas()[list(names)]
        return frame

    def labels(self, rows: ArrayLike | None = None) -> pd.DataFrame:
        """Labels of spots from the slides' sources, one column per label."""
        records = [json.loads(text.as_py()) for text in self._read(["labels"], rows).column(0)]
        return pd.DataFrame(records, index=range(len(records)))

    def row_of(self, spot_id: str) -> int:
        """Row number of a spot.

        Raises
        ------
        QueryError
            If there is no such spot; close ids are named.
        """
        slide_ids = self._tables.slides["slide_id"]
        for slide_row, slide_id in enumerate(slide_ids):
            if spot_id.startswith(f"{slide_id}:"):
                row = self._tables.find_spot(slide_row, spot_id[len(slide_id) + 1 :])
                if row is not None:
                    return row
        msg = f"There is no spot '{spot_id}' in the store at {self.path}.{self._near(spot_id)}"
        raise QueryError(msg)

    def _near(self, spot_id: str) -> str:
        """Sentence with the ids that a mistyped one could have meant."""
        from stamp_index.genes import close_names

        slides = self._tables.slides
        ids = list(slides["slide_id"])
        if not ids:
            return " The store has no slides yet; add some first."
        asked = spot_id.partition(":")[0]
        if asked not in ids:
            near = close_names(asked, ids) or ids[:5]
            return f" Ids are '<slide_id>:<barcode>'; slides: {', '.join(near)}."
        slide = slides.iloc[ids.index(asked)]
        stretch = slice(int(slide["first_spot"]), int(slide["first_spot"] + slide["n_spots"]))
        candidates = self._tables.column("spot_id", stretch).tolist()
        near = close_names(spot_id, candidates) or candidates[:3]
        return f" Close ids: {', '.join(near)}."

    def vectors(self, modality: Modality, rows: slice | None = None) -> NDArray[np.float16]:
        """Embeddings in row order.

        Parameters
        ----------
        modality : {"image", "gene"}
            Which embedding.
        rows : slice, optional
            A stretch of rows; all by default.

        Returns
        -------
        ndarray of shape (n, d), float16
            Unit vectors; zeros where a row has none (see `has_vector`).
        """
        name = vector_column(self.card, modality)
        return self._tables.vectors(name, self.card.dim, rows)

    def has_vector(self, modality: Modality) -> NDArray[np.bool_]:
        """Which rows have an embedding of this modality, (n,)."""
        vector_column(self.card, modality)  # refuses an unknown modality
        self._tables.require_slide_columns()
        slides = self._tables.slides
        embedded = slides["image_embedded"] if modality == "image" else slides["n_spots"] > 0
        return np.repeat(embedded.to_numpy(np.bool_), slides["n_spots"].to_numpy())

    def thumbnails(self, rows: ArrayLike) -> list[bytes | None]:
        """JPEG of each row's patch; None where the slide has no image."""
        return self._tables.blobs("thumbnail", self._rows(rows))

    def overview(self, slide_id: str) -> bytes | None:
        """JPEG of a whole slide; its scale is its own width over the slide's ``width_px``.

        Raises
        ------
        QueryError
            If there is no such slide.
        """
        ids = list(self._tables.slides["slide_id"])
        if slide_id not in ids:
            msg = f"There is no slide '{slide_id}' in the store; it has {', '.join(ids) or 'none'}."
            raise QueryError(msg)
        return self._tables.overview(ids.index(slide_id))

    # ---- reading expression ------------------------------------------------------------------

    def counts(self, genes: Sequence[str], rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """Raw counts of some genes, (m, g); NaN where the slide did not measure the gene.

        Raises
        ------
        MissingGenesError
            If no slide measured one of the genes.
        """
        self._tables.require_genes(genes)
        return self._tables.counts(genes, self._rows(rows))

    def expression(
        self, genes: Sequence[str], rows: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """log1p of counts per 10,000 of some genes, (m, g); NaN where not measured.

        Read from the gene-major table, so the cost grows with the genes asked for and not with
        what else was measured.

        Raises
        ------
        MissingGenesError
            If no slide measured one of the genes.
        """
        at = self._rows(rows)
        counts = self.counts(genes, at)  # (m, g)
        total = self._tables.n_counts[at][:, None]
        total = np.where(total > 0, total, 1.0)  # an empty spot stays 0
        scaled: NDArray[np.float32] = np.log1p(counts * (Nums.COUNTS_PER_SPOT / total))
        return scaled.astype(np.float32)

    def sparse_counts(self, rows: ArrayLike | None = None) -> csr_matrix:
        """Raw counts of all genes, read spot by spot: (m, len(genes)), columns as `genes`.

        A gene that a spot's slide did not measure is 0 here; `counts` tells the two apart.
        """
        return self._tables.sparse_counts(self._rows(rows))

    # ---- helpers -----------------------------------------------------------------------------

    def _rows(self, rows: ArrayLike | None) -> NDArray[np.int64]:
        """Row numbers as an array, checked."""
        if rows is None:
            return np.arange(self.n_spots, dtype=np.int64)
        at = np.asarray(rows)
        if at.ndim != 1 or (at.size and at.dtype.kind not in "iu"):
            msg = f"Rows must be a list of row numbers; got {at.dtype} of shape {at.shape}."
            raise ValueError(msg)
        outside = at[(at < 0) | (at >= self.n_spots)]
        if outside.size:
            held = f"rows 0 to {self.n_spots - 1}" if self.n_spots else "no rows yet"
            msg = f"Row {outside[0]} is not in the store, which has {held}."
            raise ValueError(msg)
        return at.astype(np.int64)

    def _read(self, columns: Sequence[str], rows: ArrayLike | None) -> pa.Table:
        if rows is None:
            return self._tables.scan(columns)
        return self._tables.take(columns, self._rows(rows))
