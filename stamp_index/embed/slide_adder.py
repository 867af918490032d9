"""Adding one slide: read, embedded, written; what is wrong with it keeps none of the others out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Self

from stamp_index.crew import Needs
from stamp_index.embed.gene_side import NOT_EMBEDDED, GeneSettings, with_current_names
from stamp_index.embed.ingest import ingest, n_steps
from stamp_index.embed.progress import Counter
from stamp_index.embed.provenance import KnownSources, refuse_changed, request_of
from stamp_index.errors import DuplicateSlideError, StampIndexError, StoreBusyError, StoreError
from stamp_index.keys import Keys
from stamp_index.readers import read
from stamp_index.remote.addresses import address_of, is_address, named
from stamp_index.remote.slide_copies import SlideCopy
from stamp_index.store import Store
from stamp_index.store.schema import MODALITIES, PROVENANCE, vector_column

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stamp_index.embed.manifest import Entry
    from stamp_index.encoders.checkpoint import Trained
    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import Slide

State = Literal["added", "replaced", "filled", "there", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one slide.

    Attributes
    ----------
    path : str
    slide_id : str
        Empty where it was not even read.
    state : {"added", "replaced", "filled", "there", "failed"}
        "filled" if a further encoder's embeddings were put beside those that were there; "there" if nothing was to
        be done.
    reader, platform : str
    n_spots, n_genes : int
        `n_genes` is 0 for plain H&E.
    embedded : str
        Which of the slide's sides the store has embeddings of, such as "image and gene".
    seconds : float
    reason : str
        Why it failed, or is left as it was.
    notes : tuple of str
        What its reader said.
    """

    path: str
    slide_id: str
    state: State
    reader: str = ""
    platform: str = ""
    n_spots: int = 0
    n_genes: int = 0
    embedded: str = ""
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AddSettings:
    """How slides are added.

    Attributes
    ----------
    replace : bool
        Put a slide in the place of one of its id.
    beside : bool
        Put a further encoder's embeddings beside those of the store's others.
    genes : GeneSettings
        How the slides' genes meet the encoder's.
    features : path or None
        The trainer's feature cache.
    needs : Needs
        Of each worker of a crew: cores, GPUs, memory.
    """

    replace: bool = False
    beside: bool = False
    genes: GeneSettings = GeneSettings()
    features: Path | str | None = None
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True)
class OpenedFrom:
    """What a worker needs to open a store as somebody else has it open.

    Attributes
    ----------
    store : str
        Folder or address.
    encoder : str
        Name in the store of the encoder that embeds.
    checkpoint : Path or None
        Its checkpoint, where it is not the copy in the store.
    first_row : int
        As `SlideAdder` has it.
    """

    store: str
    encoder: str
    checkpoint: Path | None
    first_row: int


# What was embedded in minutes waits longer for other writers than what was changed in seconds: of a hundred workers that
# commit to object storage in 2 to 6 s each, the last waits for ten minutes.
_BUSY_S: Final = 3600.0
_WRONG_WITH_A_SLIDE: Final = (
    OSError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    MemoryError,
)


class SlideAdder:
    """Adds slides to one store, one after the other; several may add to it at a time.

    Parameters
    ----------
    store : Store
    encoder : Encoder
        The store's.
    settings : AddSettings
    first_row : int
        Row ids that the store had given when this run began: a slide of a later one was added in this run.
    tell : callable, optional
        Called with the steps of the slide at hand that are done, and with those that there are.
    """

    def __init__(
        self,
        store: Store,
        encoder: Trained,
        settings: AddSettings,
        *,
        first_row: int,
        tell: Callable[[int, int], object] | None = None,
    ) -> None:
        self.store, self.encoder, self.settings = store, encoder, settings
        self.first_row, self.tell = first_row, tell
        self.known = KnownSources.of(store)

    @classmethod
    def open(cls, where: OpenedFrom, settings: AddSettings) -> Self:
        """Open a store and load its encoder, on whatever machine this is."""
        from stamp_index.encoders import load_encoder

        store = Store.open(where.store, encoder=where.encoder)
        path = store.encoder_path if where.checkpoint is None else where.checkpoint
        return cls(store, load_encoder(path), settings, first_row=where.first_row)

    def __call__(self, entry: Entry) -> Outcome:
        """Read, embed and add a slide; whatever is wrong with it is in the outcome."""
        began, began_ns, slide = time.perf_counter(), time.time_ns(), None
        self.store.refresh()
        shown = address_of(entry.path)
        there = "" if self.settings.replace else self.known.unchanged(entry, self.settings.genes)
        if there:
            reason = "its files have not changed"
            return self._as_stored(Outcome(shown, there, "there", reason=reason))
        try:
            copy = (
                SlideCopy.of(entry.path) if is_address(entry.path) else None
            )  # held until the end
            path = entry.path if copy is None else copy.path
            slide = read(path, entry.options, grid_um=self.encoder.patch.width_um)
            slide = with_current_names(slide)
            state, reason = self._ingest_or_find(slide, entry, began_ns)
        except StoreBusyError:
            raise  # nothing is wrong with the slide, and the next one would wait as long
        except StoreError as exc:
            if not isinstance(exc, DuplicateSlideError):
                raise  # a full disk, or a damaged store: the next slide would fare no better
            state, reason = "failed", str(exc)
        except StampIndexError as exc:
            state, reason = "failed", str(exc)
        except _WRONG_WITH_A_SLIDE as exc:  # not foreseen, but no reason to keep the others out
            state, reason = "failed", f"{type(exc).__name__}: {exc}"
        finally:
            if slide is not None and slide.image is not None:
                slide.image.close()
        seconds = time.perf_counter() - began
        done = Outcome(shown, "", state, seconds=seconds, reason=reason)
        if slide is None:
            return done
        done = replace(
            done,
            slide_id=slide.slide_id,
            reader=slide.reader,
            platform=slide.platform,
            n_spots=slide.n_spots,
            n_genes=len(slide.genes),
            notes=slide.notes,
        )
        return done if state == "failed" else self._as_stored(done)

    def _ingest_or_find(self, slide: Slide, entry: Entry, began_ns: int) -> tuple[State, str]:
        """Ingest a slide, or find that another worker did so meanwhile: one that was cut off and not dead."""
        before = self.store.version
        try:
            return self._ingest(slide, entry, began_ns)
        except DuplicateSlideError:
            if self.store.refresh() == before:
                raise
        return self._ingest(slide, entry, began_ns)  # refuses what is still double before it embeds

    def _ingest(self, slide: Slide, entry: Entry, began_ns: int) -> tuple[State, str]:
        if self._added_in_this_run(slide, entry):
            return "there", "a worker that was lost had added it"
        filling = not self.settings.replace and self.store.lacks_vectors(slide)
        same = self.store.same_content(slide)
        if same and not filling and not self.settings.replace:
            return (
                "there",
                f"with the same image and counts, as slide '{same}' (--replace reads it anew)",
            )
        replacing = slide.slide_id in set(self.store.slides()[Keys.SLIDE_ID])
        n_thumbnails = slide.n_spots * (slide.image is not None)
        count = Counter(n_thumbnails + n_steps(self.encoder, slide), self.tell)
        cache = self._cache(count)
        ingest(
            self.store,
            self.encoder,
            slide,
            features=cache,
            replace=self.settings.replace,
            progress=count.add,
            request=request_of(entry, self.settings.genes),
            genes=self.settings.genes,
            before=partial(refuse_changed, slide, began_ns),
            lock_timeout_s=_BUSY_S,
        )
        return ("filled" if filling else "replaced" if replacing else "added"), ""

    def _added_in_this_run(self, slide: Slide, entry: Entry) -> bool:
        """Whether this very entry was added by somebody who could not say so any more.

        Raises
        ------
        DuplicateSlideError
            If a slide of this id was added from another place in this run.
        """
        slides = self.store.slides()
        here = slides[slides[Keys.SLIDE_ID] == slide.slide_id]
        if here.empty or here["first_spot"].iloc[0] < self.first_row:
            return False
        path = (json.loads(here[PROVENANCE].iloc[0] or "{}").get("request") or {}).get("path", "")
        if path == named(entry.path):
            return True
        msg = f"Slide '{slide.slide_id}' was added from {path} just now. Give one of the two another slide_id."
        raise DuplicateSlideError(msg)

    def _as_stored(self, done: Outcome) -> Outcome:
        """Say of a slide what the store has of it."""
        slides = self.store.slides()
        here = slides[slides[Keys.SLIDE_ID] == done.slide_id]
        if here.empty:  # it is there under another name
            return done
        row = here.iloc[0]
        sides = [s for s in MODALITIES if vector_column(self.store.encoder, s) in row["embedded"]]
        left_out = [note for note in row["notes"] if note.startswith(NOT_EMBEDDED)]
        if "gene" in sides:
            left_out = []
        return replace(
            done,
            reader=row["reader"],
            platform=row["platform"],
            n_spots=int(row["n_spots"]),
            n_genes=int(row["n_genes"]),
            embedded=" and ".join(sides),
            reason=done.reason or "".join(left_out),
        )

    def _cache(self, count: Counter) -> FeatureCache | None:
        from stamp_index.encoders import FeatureCache

        if self.settings.features is None:
            return None
        return FeatureCache(self.settings.features, self.encoder, progress=count.add)
