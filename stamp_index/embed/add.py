"""Adding many slides: each on its own, so that a bad one keeps none of the others out."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol

import pandas as pd

from stamp_index.embed.folder import open_or_make
from stamp_index.embed.gene_side import NOT_EMBEDDED, GeneSettings, with_current_names
from stamp_index.embed.ingest import ingest, n_steps
from stamp_index.embed.progress import Counter
from stamp_index.embed.provenance import KnownSources, refuse_changed, request_of
from stamp_index.errors import DuplicateSlideError, StampIndexError, StoreBusyError, StoreError
from stamp_index.index import Keeper
from stamp_index.keys import Keys
from stamp_index.readers import read
from stamp_index.store.schema import MODALITIES, vector_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stamp_index.embed.manifest import Entry
    from stamp_index.encoders.checkpoint import Trained
    from stamp_index.encoders.features import FeatureCache
    from stamp_index.slides import Slide
    from stamp_index.store import Store

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
    """

    replace: bool = False
    beside: bool = False
    genes: GeneSettings = GeneSettings()
    features: Path | str | None = None


class Watcher(Protocol):
    """Is told how adding goes."""

    def begin(self, entry: Entry, at: int, n: int) -> None:
        """Hear that slide number `at` (from 0) of `n` begins."""

    def step(self, done: int, total: int) -> None:
        """Hear how many of this slide's steps are done."""

    def end(self, outcome: Outcome) -> None:
        """Hear that the slide is done, whatever became of it."""


_WRONG_WITH_A_SLIDE: Final = (
    OSError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    MemoryError,
)


class _Nobody:
    """Listens to nothing."""

    def begin(self, entry: Entry, at: int, n: int) -> None: ...

    def step(self, done: int, total: int) -> None: ...

    def end(self, outcome: Outcome) -> None: ...


def add_slides(
    store_path: Path | str,
    entries: Sequence[Entry],
    *,
    encoder_path: Path | str | None = None,
    settings: AddSettings | None = None,
    watcher: Watcher | None = None,
) -> tuple[Store, list[Outcome]]:
    """Add slides to a store, which is made with the given encoder if it is missing.

    Each slide is a transaction of its own. One that cannot be read or embedded is left out, with the reason in its
    outcome, and the others go on. Slides that are in the store already stay as they are, so the same call again goes
    on where it was interrupted; whether their files have changed is seen by size and time, without reading them.

    Parameters
    ----------
    store_path : path
    entries : sequence of Entry
        See `entries_of`.
    encoder_path : path, optional
        Checkpoint folder, or ``published:NAME``; needed to make a store.
    settings : AddSettings, optional
    watcher : Watcher, optional

    Returns
    -------
    store : Store
        At its new version.
    outcomes : list of Outcome
        In the order of `entries`.

    Raises
    ------
    StoreError, EncoderError, EncoderMismatchError
        If the store or the encoder cannot be used at all, or the disk is full. Whatever is wrong with a slide
        is its outcome.
    StoreBusyError
        If another process keeps writing to the store.
    """
    said, told = settings or AddSettings(), watcher or _Nobody()
    store, encoder = open_or_make(store_path, encoder_path, beside=said.beside)
    adder = _Adder(store, encoder, said, told)
    outcomes = []
    with Keeper(store.place, store.encoder) as keeper:
        for at, entry in enumerate(entries):
            told.begin(entry, at, len(entries))
            outcomes.append(adder.add(entry))
            told.end(outcomes[-1])
            keeper.nudge()
    store.refresh()
    return store, outcomes


def summary(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Table of what became of slides: one row each, without the notes."""
    columns = [name for name in Outcome.__dataclass_fields__ if name != "notes"]
    return pd.DataFrame([asdict(one) for one in outcomes], columns=columns)


class _Adder:
    """Adds one slide after the other to one store."""

    def __init__(
        self, store: Store, encoder: Trained, settings: AddSettings, watcher: Watcher
    ) -> None:
        self.store, self.encoder, self.settings = store, encoder, settings
        self.watcher = watcher
        self.known = KnownSources.of(store)
        self.done: dict[str, Path] = {}

    def add(self, entry: Entry) -> Outcome:
        """Read, embed and add; whatever is wrong with the slide is in the outcome."""
        began, began_ns, slide = time.perf_counter(), time.time_ns(), None
        self.store.refresh()
        there = "" if self.settings.replace else self.known.unchanged(entry, self.settings.genes)
        if there:
            reason = "its files have not changed"
            return self._as_stored(Outcome(str(entry.path), there, "there", reason=reason))
        try:
            slide = read(entry.path, entry.options, grid_um=self.encoder.patch.width_um)
            slide = with_current_names(slide)
            state, reason = self._ingest(slide, entry, began_ns)
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
        done = Outcome(str(entry.path), "", state, seconds=seconds, reason=reason)
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

    def _ingest(self, slide: Slide, entry: Entry, began_ns: int) -> tuple[State, str]:
        if slide.slide_id in self.done:
            msg = (
                f"Slide '{slide.slide_id}' was added from {self.done[slide.slide_id]} just now. Give one of the two "
                f"another slide_id."
            )
            raise DuplicateSlideError(msg)
        filling = not self.settings.replace and self.store.lacks_vectors(slide)
        same = self.store.same_content(slide)
        if same and not filling and not self.settings.replace:
            return (
                "there",
                f"with the same image and counts, as slide '{same}' (--replace reads it anew)",
            )
        replacing = slide.slide_id in set(self.store.slides()[Keys.SLIDE_ID])
        n_thumbnails = slide.n_spots * (slide.image is not None)
        count = Counter(n_thumbnails + n_steps(self.encoder, slide), self.watcher.step)
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
        )
        self.done[slide.slide_id] = entry.path
        return ("filled" if filling else "replaced" if replacing else "added"), ""

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
