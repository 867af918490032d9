"""The store: slides, spots, expression and labels in Lance tables, with versions that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd

from stamp_index.errors import StoreError
from stamp_index.store.adding import (
    append_draft,
    append_slide,
    check_new,
    delete_slides,
    draft_slide,
    fill_slide,
)
from stamp_index.store.arrow import label_table
from stamp_index.store.creating import create_store
from stamp_index.store.encoders import add_encoder
from stamp_index.store.housekeeping import clean_up, compact
from stamp_index.store.labels import annotate_slide
from stamp_index.store.lock import WAIT_S
from stamp_index.store.rows import content_hash
from stamp_index.store.schema import MODALITIES, vector_column
from stamp_index.store.view import StoreView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from anndata import AnnData
    from spatialdata import SpatialData

    from stamp_index.slides import Slide
    from stamp_index.store.card import EncoderCard
    from stamp_index.store.drafting import Draft
    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Where
    from stamp_index.store.rows import SlideRows


class Store(StoreView):
    """Slides with their spots, embeddings, expression and labels: to read, and to change.

    Made by `Store.create` or `Store.open`. It shows one version and does not change under its reader; after a
    change through this object, or `refresh`, it shows the newest. Each change is one step: all of it becomes
    visible at once, or, when it fails or the process ends, nothing does. Writers on any number of machines wait
    for each other.

    Attributes
    ----------
    place : Place
        Where the store lies; its text is the folder or the address.
    path : Path
        Folder of the store; for one in object storage, of the local copies of its checkpoints and indexes.
    encoder : str
        Name in the store of the encoder whose embeddings are read.
    """

    # ---- making, opening -----------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: Where, card: EncoderCard, *, checkpoint: Path | str | None = None
    ) -> Self:
        """Make an empty store in a folder or in object storage.

        Parameters
        ----------
        path : path or str
            A folder that does not exist yet, or is empty; or an address such as ``s3://bucket/prefix`` (see
            `place_of`).
        card : EncoderCard
            The encoder whose embeddings the store will hold; more can be added.
        checkpoint : path, optional
            Folder of that encoder's checkpoint; copied into the store, which then needs nothing
            else to be searched.

        Raises
        ------
        StoreError
            If there is something at `path`, or `checkpoint` is not a folder.
        """
        create_store(path, card, None if checkpoint is None else Path(checkpoint))
        return cls.open(path)

    @classmethod
    def open(cls, path: Where, *, version: int | None = None, encoder: str | None = None) -> Self:
        """Open a store at its newest version, or at an older one for reading.

        Parameters
        ----------
        path : Place, path or str
            Folder of the store, or its address.
        version : int, optional
            The newest by default.
        encoder : str, optional
            Whose embeddings to read, by its name in the store; those of its first encoder by default.

        Raises
        ------
        StoreVersionError
            If a newer release wrote it, or one too old.
        StoreError
            If there is no store, no such version or encoder, or it is damaged.
        """
        return cls(path, version, encoder)

    # ---- changing ------------------------------------------------------------------------------

    def add(self, rows: SlideRows, *, replace: bool = False, lock_timeout_s: float = WAIT_S) -> int:
        """Add one slide.

        Parameters
        ----------
        rows : SlideRows
            The slide and what was computed from it.
        replace : bool
            Put it in the place of a slide of its id, if there is one. What people said of that one's spots
            is kept for the barcodes that both have.
        lock_timeout_s : float
            Seconds to wait for another writer.

        Returns
        -------
        int
            The new version.

        Raises
        ------
        EncoderMismatchError
            If the embeddings were made by an encoder that is not the store's.
        DuplicateSlideError
            If a slide with this id (unless `replace`), or with the same image and counts, is in the store.
        StoreError
            If another process keeps writing, the disk refuses, or this object was opened at an older version.
        DuplicateGenesError, ValueError
            If the slide contradicts itself, shapes do not fit, or vectors are not finite unit
            vectors. After any of these errors the store is as it was.
        """
        self._refuse_pinned()
        return self._shown(append_slide(self.place, rows, lock_timeout_s, instead=replace))

    def draft(self, rows: SlideRows, *, replace: bool = False) -> Draft:
        """Write what is large of a slide, which `add_draft` adds: on another machine, or later.

        Nobody sees a draft. To be called, with the `add_draft` that follows, inside of ``with store.drafting()``.

        Raises
        ------
        EncoderMismatchError, DuplicateSlideError, StoreError, DuplicateGenesError, ValueError
            As `add`.
        """
        self._refuse_pinned()
        return draft_slide(self.place, rows, instead=replace)

    def add_draft(
        self, draft: Draft, *, replace: bool = False, lock_timeout_s: float = WAIT_S
    ) -> int:
        """Add a slide that was drafted, in one short step. Returns the new version.

        Raises
        ------
        EncoderMismatchError, DuplicateSlideError, StoreError
            As `add`.
        """
        self._refuse_pinned()
        return self._shown(append_draft(self.place, draft, lock_timeout_s, instead=replace))

    def drafting(self) -> AbstractContextManager[None]:
        """Keep `clean_up` from drafts that are being made, or wait to be added."""
        return self.place.drafting()

    def delete(self, *slide_ids: str, lock_timeout_s: float = WAIT_S) -> int:
        """Delete slides with their spots, expression and labels. Returns the new version.

        Older versions keep them until `clean_up`.

        Raises
        ------
        QueryError
            If one of them is not there; then none is deleted.
        ValueError
            If none is named.
        StoreError
            As `add`.
        """
        self._refuse_pinned()
        if not slide_ids:
            msg = "No slide was named to delete. Give at least one slide_id."
            raise ValueError(msg)
        return self._shown(delete_slides(self.place, slide_ids, lock_timeout_s))

    def add_encoder(
        self,
        card: EncoderCard,
        *,
        checkpoint: Path | str | None = None,
        lock_timeout_s: float = WAIT_S,
    ) -> str:
        """Make room for the embeddings of another encoder beside those that are there.

        `fill` then gives slides of the store their vectors.

        Returns
        -------
        str
            The encoder's name in the store: its own, or with part of its fingerprint if that is taken. Where
            the store has this encoder already, nothing changes.

        Raises
        ------
        StoreError
            As `add`, and if `checkpoint` is not a folder.
        """
        self._refuse_pinned()
        folder = None if checkpoint is None else Path(checkpoint)
        name, manifest = add_encoder(self.place, card, folder, lock_timeout_s)
        self._shown(manifest)
        return name

    def fill(self, rows: SlideRows, *, lock_timeout_s: float = WAIT_S) -> int:
        """Give a slide of the store the vectors of another of its encoders. Returns the new version.

        Raises
        ------
        QueryError
            If the store has no slide of this id, image and counts.
        DuplicateSlideError
            If it has these vectors.
        EncoderMismatchError, StoreError, ValueError
            As `add`.
        """
        self._refuse_pinned()
        return self._shown(fill_slide(self.place, rows, lock_timeout_s))

    def annotate(
        self,
        slide_id: str,
        name: str,
        values: Sequence[str | float | None],
        *,
        author: str,
        source: str = "",
        lock_timeout_s: float = WAIT_S,
    ) -> int:
        """Label the spots of a slide. Returns the new version.

        Nothing is overwritten: older labels of this name stay in the table. The newest is read, and one that came
        with the slide only where nobody said anything else.

        Parameters
        ----------
        slide_id : str
            Slide.
        name : str
            What the label says, such as ``"region"``.
        values : sequence of n_spots str, float or None
            In the order of the slide's rows; None where not known.
        author : str
            Who says so.
        source : str
            Tool or file.

        Raises
        ------
        QueryError
            If there is no such slide.
        ValueError
            If there is not one value per spot, or no name or author.
        StoreError
            As `add`.
        """
        self._refuse_pinned()
        if not name or not author:
            msg = f"A label needs a name and an author; got {name!r} and {author!r}."
            raise ValueError(msg)
        label = label_table(slide_id, name, pd.Series(list(values)), author=author, source=source)
        done = annotate_slide(
            self.place, slide_id, label, n_spots=len(values), lock_timeout_s=lock_timeout_s
        )
        return self._shown(done)

    # ---- exporting -----------------------------------------------------------------------------

    def to_anndata(
        self, slides: Sequence[str] | str | None = None, *, images: bool = False
    ) -> AnnData:
        """Put slides together in one AnnData for scanpy and squidpy: see `stamp_index.export.to_anndata`."""
        from stamp_index.export import to_anndata

        return to_anndata(self, slides, images=images)

    def to_spatialdata(self, slides: Sequence[str] | str | None = None) -> SpatialData:
        """Put slides together in one SpatialData: see `stamp_index.export.to_spatialdata`."""
        from stamp_index.export import to_spatialdata

        return to_spatialdata(self, slides)

    # ---- keeping house -------------------------------------------------------------------------

    def compact(self, *, lock_timeout_s: float = WAIT_S) -> int:
        """Join small files, drop deleted rows, and bring the tables' own indexes up to date.

        Row ids stay. Older versions keep their files until `clean_up`. Returns the new version.

        Raises
        ------
        StoreError
            As `add`.
        """
        self._refuse_pinned()
        return self._shown(compact(self.place, lock_timeout_s))

    def clean_up(self, *, keep: int = 1, lock_timeout_s: float = WAIT_S) -> int:
        """Remove old versions with the files that only they need. Returns how many were removed.

        Parameters
        ----------
        keep : int
            How many of the newest versions to keep. A version that a process has open is kept too.

        Raises
        ------
        ValueError
            If `keep` is below 1.
        StoreError
            As `add`.
        """
        return clean_up(self.place, keep, lock_timeout_s)

    def lacks_vectors(self, slide: Slide) -> bool:
        """Whether `slide` is in the store, by id, image and counts, without vectors of `encoder`."""
        slides = self._tables.slides
        here = slides[slides["slide_id"] == slide.slide_id]
        names = {vector_column(self.encoder, modality) for modality in MODALITIES}
        if here.empty or here["content_hash"].iloc[0] != content_hash(slide):
            return False
        return names.isdisjoint(here["embedded"].iloc[0])

    def same_content(self, slide: Slide) -> str:
        """Name of the slide that has the image and counts of `slide`; "" where none has."""
        slides = self._tables.slides
        same: list[str] = slides.loc[
            slides["content_hash"] == content_hash(slide), "slide_id"
        ].tolist()
        return same[0] if same else ""

    def refuse_duplicate(self, slide: Slide, *, replace: bool = False) -> None:
        """Raise DuplicateSlideError if `slide` is in the store, by id (unless `replace`) or by image and counts."""
        besides = slide.slide_id if replace else ""
        check_new(self.place, self._tables, slide.slide_id, content_hash(slide), besides=besides)

    # ---- helpers -------------------------------------------------------------------------------

    def _refuse_pinned(self) -> None:
        if self._pinned:
            msg = (
                f"The store at {self.place} was opened at version {self.version}, for reading. "
                f"Open it without `version` to change it."
            )
            raise StoreError(msg)

    def _shown(self, manifest: Manifest) -> int:
        """Show what was written, or what another process has written since."""
        self._show(None)
        return manifest.version
