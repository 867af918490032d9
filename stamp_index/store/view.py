"""Reading a store at one version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError, StoreError
from stamp_index.keys import Nums
from stamp_index.readers.common.text_numbers import to_numeric
from stamp_index.store.encoders import ENCODERS, require_names
from stamp_index.store.labels import read_labels
from stamp_index.store.manifest import lease_manifest, stored_versions
from stamp_index.store.places import place_of
from stamp_index.store.reading import Tables
from stamp_index.store.schema import SPOT_QUALITY, Modality, vector_column
from stamp_index.store.slide_columns import SlideColumns
from stamp_index.store.spot_columns import read_spots
from stamp_index.store.spot_counts import sparse_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.genes import GeneResolver
    from stamp_index.store.card import EncoderCard
    from stamp_index.store.places import Where

# Columns of `spots` that are plain values, in the order in which they are shown.
SPOT_COLUMNS = (
    "spot_id", "slide_id", "barcode", "patient_id", "organ", "disease", "species", "platform",
    "x_px", "y_px", "x_um", "y_um", "n_counts", "n_genes", *SPOT_QUALITY,
)  # fmt: skip


class StoreView:
    """Slides with their spots, embeddings and expression, at one version.

    A row id is a spot's number for life: ids are given in the order in which slides are added, a slide's ids
    follow each other, and an id is never given again. While this object lives, clean-up leaves its version.
    """

    def __init__(self, where: Where, version: int | None, encoder: str | None) -> None:
        self.place = place_of(where)
        self.path = self.place.folder
        self._pinned = version is not None
        self._show(version)
        self.encoder = self._choose_encoder(encoder)

    def _show(self, version: int | None) -> None:
        manifest, lease = lease_manifest(self.place, version)
        require_names(self.place, manifest.encoders)
        self._tables = Tables(self.place, manifest)
        self._lease = lease  # in the place of the old one only now that the tables are open

    def _choose_encoder(self, asked: str | None) -> str:
        held = self._tables.manifest.encoders
        if asked is None:
            return next(iter(held))
        if asked not in held:
            msg = (
                f"The store at {self.place} has no embeddings of encoder '{asked}'; it has those of "
                f"{', '.join(held)}. Ask for one of these, or embed the slides with another encoder first."
            )
            raise StoreError(msg)
        return asked

    def refresh(self) -> int:
        """Show the newest version, if another process has written one. Returns the version."""
        if not self._pinned and stored_versions(self.place)[-1] != self.version:
            self._show(None)
        return self.version

    # ---- what it is --------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Version that this object shows; 1 is the empty store."""
        return self._tables.manifest.version

    @property
    def versions(self) -> list[int]:
        """Versions that can be opened."""
        return stored_versions(self.place)

    @property
    def store_id(self) -> str:
        """Random name that this store was given when it was made."""
        return self._tables.manifest.store_id

    @property
    def encoders(self) -> dict[str, EncoderCard]:
        """Every encoder whose embeddings the store has, by its name in the store."""
        manifest = self._tables.manifest
        return {name: manifest.card(name) for name in manifest.encoders}

    @property
    def card(self) -> EncoderCard:
        """The encoder whose embeddings this object reads."""
        return self._tables.manifest.card(self.encoder)

    @property
    def encoder_path(self) -> Path:
        """Copy of that encoder's checkpoint; fetched where the store lies in object storage.

        Raises
        ------
        StoreError
            If it was given to the store without one.
        """
        path = self.place.fetch(f"{ENCODERS}/{self.encoder}")
        if not path.is_dir():
            msg = f"The store at {self.place} was made without its encoder. Pass the encoder yourself."
            raise StoreError(msg)
        return path

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return self._tables.manifest.n_spots

    @property
    def n_rows(self) -> int:
        """Row ids given so far, those of deleted slides included; masks have this length."""
        return self._tables.manifest.n_rows

    def rows(self) -> NDArray[np.int64]:
        """Row id of every spot, (n_spots,), ascending."""
        return self._tables.spots.rows.copy()

    def mask_of(self, slides: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Spots of some slides, chosen in the order of `slides`: bool (n_rows,) by row id."""
        return self._tables.spots.mask(slides, self.n_rows)

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
        content_hash, mpp, width_px, height_px, spot_diameter_um, n_spots, n_genes, first_spot (row id of its
        first spot), first_gene, provenance (JSON text), embedded (tuple of str: embedding columns that its spots have), notes (tuple
        of str), added_at (UTC).
        """
        return self._tables.slides.drop(columns="place")

    def genes_of(self, slide_id: str) -> tuple[str, ...]:
        """Genes measured on one slide, in its own order; none where it has no counts.

        Raises
        ------
        QueryError
            If there is no such slide.
        """
        return tuple(self._tables.gene_lists[self._slide_number(slide_id)])

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
            Some of spot_id, slide_id, barcode, patient_id, organ, disease, species, platform, x_px, y_px,
            x_um, y_um, n_counts, n_genes (NaN where nothing was measured), and what is known of the spots'
            quality: mito_fraction, tissue_fraction, pen_fraction, fold_fraction, blur_fraction,
            outside_fraction. All by default.
        rows : array of int, optional
            Row ids, in any order; all by default.
        """
        names = SPOT_COLUMNS if columns is None else tuple(columns)
        unknown = [name for name in names if name not in SPOT_COLUMNS]
        if unknown:
            msg = f"Spots have no columns {unknown}; they have {list(SPOT_COLUMNS)}."
            raise ValueError(msg)
        if rows is not None:
            return read_spots(self._tables, names, self._rows(rows))
        frame: pd.DataFrame = self._tables.scan(names).to_pandas()[list(names)]
        return frame

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of any slide."""
        return self._tables.label_names

    def labels(self, rows: ArrayLike | None = None) -> pd.DataFrame:
        """Labels of spots, one column each; missing (None or NaN) where a spot has none.

        A label that was given twice has its newest value; what came with the slide counts as the oldest.
        """
        at = self._rows(rows)
        return pd.DataFrame(
            {name: self.label(name, at) for name in self.label_names}, range(len(at))
        )

    def label(self, name: str, rows: ArrayLike | None = None) -> pd.Series[Any]:
        """One label of spots: float with NaN where all its values are numbers, else text with None.

        Raises
        ------
        QueryError
            If no slide has such a label.
        """
        if name not in self.label_names:
            held = ", ".join(self.label_names) or "none"
            msg = f"There is no label '{name}' in the store at {self.place}; its labels are {held}."
            raise QueryError(msg)
        at, layout = self._rows(rows), self._tables.spots
        if len(at) == 0:
            return pd.Series(np.empty(0))
        slide_of_row, slide_ids = layout.stretch_of(at), self._tables.slides["slide_id"]
        asked = slide_ids[np.unique(slide_of_row)].tolist()
        out = pd.Series(np.full(len(at), None, object), dtype=object)
        for slide_id, values in read_labels(self._tables, name, asked).items():
            slide = int(np.flatnonzero(slide_ids == slide_id)[0])
            here = np.flatnonzero(slide_of_row == slide)
            out.iloc[here] = values.to_numpy()[at[here] - layout.first[slide]]
        numbers = to_numeric(out)
        return out if (numbers.isna() & out.notna()).any() else numbers

    def row_of(self, spot_id: str) -> int:
        """Row id of a spot.

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
        msg = f"There is no spot '{spot_id}' in the store at {self.place}.{self._near(spot_id)}"
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
        column = self._tables.scan_slide(["spot_id"], ids.index(asked)).column("spot_id")
        candidates = column.to_pylist()
        near = close_names(spot_id, candidates) or candidates[:3]
        return f" Close ids: {', '.join(near)}."

    def vectors(self, modality: Modality, rows: ArrayLike | None = None) -> NDArray[np.float16]:
        """Embeddings of some spots.

        Parameters
        ----------
        modality : {"image", "gene"}
            Which embedding.
        rows : array of int, optional
            Row ids, in any order; those of `rows` by default.

        Returns
        -------
        ndarray of shape (m, d), float16
            Unit vectors; zeros where a spot has none (see `has_vector`).
        """
        name, dim = vector_column(self.encoder, modality), self.card.dim
        if rows is not None:
            return self._tables.vectors(name, dim, self._rows(rows))
        vectors = np.zeros((self.n_spots, dim), np.float16)
        for ids, part in self.vector_batches(modality):
            vectors[np.searchsorted(self._tables.spots.rows, ids)] = part
        return vectors

    def vector_batches(
        self, modality: Modality, *, batch_rows: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Every embedding of one modality, in parts and in any order: row ids (m,) and unit vectors (m, d)."""
        name = vector_column(self.encoder, modality)
        return self._tables.vector_batches(name, self.card.dim, batch_rows)

    def has_vector(self, modality: Modality) -> NDArray[np.bool_]:
        """Which spots have an embedding of this modality: bool (n_rows,) by row id, False for deleted ones."""
        name = vector_column(self.encoder, modality)
        has = [name in columns for columns in self._tables.slides["embedded"]]
        return self.mask_of(np.array(has, np.bool_))

    def columns(self, resolver: GeneResolver) -> SlideColumns:
        """Columns by slide, for filters; `resolver` knows the store's genes."""
        return SlideColumns(self._tables, resolver)

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
        return self._tables.overview(self._slide_number(slide_id))

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
        total = self._tables.n_counts[np.searchsorted(self._tables.spots.rows, at)][:, None]
        total = np.where(total > 0, total, 1.0)  # an empty spot stays 0
        scaled: NDArray[np.float32] = np.log1p(counts * (Nums.COUNTS_PER_SPOT / total))
        return scaled.astype(np.float32)

    def sparse_counts(self, rows: ArrayLike | None = None) -> csr_matrix:
        """Raw counts of all genes, read spot by spot: (m, len(genes)), columns as `genes`.

        A gene that a spot's slide did not measure is 0 here; `counts` tells the two apart.
        """
        return sparse_counts(self._tables, self._rows(rows))

    # ---- helpers -----------------------------------------------------------------------------

    def _slide_number(self, slide_id: str) -> int:
        ids = list(self._tables.slides["slide_id"])
        if slide_id not in ids:
            msg = f"There is no slide '{slide_id}' in the store; it has {', '.join(ids) or 'none'}."
            raise QueryError(msg)
        return ids.index(slide_id)

    def _rows(self, rows: ArrayLike | None) -> NDArray[np.int64]:
        """Row ids as an array, checked."""
        if rows is None:
            return self._tables.spots.rows
        at = np.asarray(rows)
        if at.ndim != 1 or (at.size and at.dtype.kind not in "iu"):
            msg = f"Rows must be a list of row ids; got {at.dtype} of shape {at.shape}."
            raise ValueError(msg)
        at = at.astype(np.int64)
        gone = at[self._tables.spots.stretch_of(at) < 0]
        if gone.size:
            held = f"rows 0 to {self.n_rows - 1}" if self.n_rows else "no rows yet"
            gaps = " with gaps (see `rows`)" if self.n_rows > self.n_spots else ""
            msg = f"Row {gone[0]} is not in the store, which has {held}{gaps}."
            raise ValueError(msg)
        return at
