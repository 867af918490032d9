"""Adding many slides: each on its own, so that a bad one keeps none of the others out.

The same code adds them one after the other in this process, and side by side on Ray: there each worker has its own
encoder and its own hold of the store, embeds whole slides, and commits each in a step of its own. A worker that is lost
has committed its slide or not; its slide goes to another, which adds it, or finds it there.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from stamp_index.crew.local import LocalCrew
from stamp_index.embed.folder import open_or_make
from stamp_index.embed.slide_adder import AddSettings, OpenedFrom, Outcome, SlideAdder
from stamp_index.index import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from stamp_index.crew import Crew, News
    from stamp_index.embed.manifest import Entry
    from stamp_index.store import Store
    from stamp_index.store.places import Where

__all__ = ["AddSettings", "Outcome", "Watcher", "add_slides", "summary"]


class Watcher(Protocol):
    """Is told how adding goes."""

    def begin(self, entry: Entry, at: int, n: int) -> None:
        """Hear that slide number `at` (from 0) of `n` begins."""

    def step(self, done: int, total: int) -> None:
        """Hear how many of this slide's steps are done."""

    def end(self, outcome: Outcome) -> None:
        """Hear that the slide is done, whatever became of it."""

    def hear(self, news: News, n: int) -> None:
        """Hear where the run of `n` slides stands: how many are worked at, by how many workers, and how many died.

        The slide of a worker that died goes to another. Called whenever something has changed, and also between.
        """


class _Nobody:
    """Listens to nothing."""

    def begin(self, entry: Entry, at: int, n: int) -> None: ...

    def step(self, done: int, total: int) -> None: ...

    def end(self, outcome: Outcome) -> None: ...

    def hear(self, news: News, n: int) -> None: ...


def add_slides(
    store_path: Where,
    entries: Sequence[Entry],
    *,
    encoder_path: Path | str | None = None,
    settings: AddSettings | None = None,
    watcher: Watcher | None = None,
    crew: Crew | None = None,
) -> tuple[Store, list[Outcome]]:
    """Add slides to a store, which is made with the given encoder if it is missing.

    Each slide is a transaction of its own. One that cannot be read or embedded is left out, with the reason in its
    outcome, and the others go on. Slides that are in the store already stay as they are, so the same call again goes
    on where it was interrupted; whether their files have changed is seen by size and time, without reading them.

    Parameters
    ----------
    store_path : path or str
        Folder or address.
    entries : sequence of Entry
        See `entries_of`.
    encoder_path : path, optional
        Checkpoint folder, or ``published:NAME``; needed to make a store.
    settings : AddSettings, optional
    watcher : Watcher, optional
    crew : Crew, optional
        Who does the work (see `stamp_index.crew.open_crew`); this process by default. All machines of a Ray cluster
        need to see store, slides and checkpoint under the same names.

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
    CrewError
        If workers cannot be had, or a slide loses them again and again.
    """
    said, told = settings or AddSettings(), watcher or _Nobody()
    store, encoder = open_or_make(store_path, encoder_path, beside=said.beside)
    work = crew or LocalCrew()
    make_worker: Callable[[], Callable[[tuple[int, Entry]], Outcome]]
    if work.engine == "local":
        adder = SlideAdder(store, encoder, said, first_row=store.n_rows, tell=told.step)
        make_worker = partial(_Here, adder, told, len(entries))
    else:
        make_worker = partial(_elsewhere, _opened_from(store, encoder_path), said)
    outcomes: list[Outcome | None] = [None] * len(entries)
    jobs = enumerate(entries)
    run = work.run(
        make_worker,
        jobs,
        needs=said.needs,
        name=lambda job: str(job[1].path),
        progress=lambda news: told.hear(news, len(entries)),
    )
    with Keeper(store.place, store.encoder) as keeper:
        for n, done in enumerate(run):
            at, entry = done.job
            if work.engine != "local":
                told.begin(entry, n, len(entries))
            outcomes[at] = done.result
            told.end(done.result)
            keeper.nudge()
    store.refresh()
    return store, [one for one in outcomes if one is not None]


class _Here:
    """Adds slides in this process, and lets a watcher see each step."""

    def __init__(self, adder: SlideAdder, watcher: Watcher, n: int) -> None:
        self.adder, self.watcher, self.n = adder, watcher, n

    def __call__(self, job: tuple[int, Entry]) -> Outcome:
        at, entry = job
        self.watcher.begin(entry, at, self.n)
        return self.adder(entry)


class _Elsewhere:
    """Adds slides in a worker."""

    def __init__(self, adder: SlideAdder) -> None:
        self.adder = adder

    def __call__(self, job: tuple[int, Entry]) -> Outcome:
        return self.adder(job[1])


def _elsewhere(where: OpenedFrom, settings: AddSettings) -> _Elsewhere:
    return _Elsewhere(SlideAdder.open(where, settings))


def _opened_from(store: Store, encoder_path: Path | str | None) -> OpenedFrom:
    """Say how another machine opens this store and loads its encoder."""
    from stamp_index.encoders.published.locate import resolve_encoder

    checkpoint = None if encoder_path is None else resolve_encoder(encoder_path).absolute()
    return OpenedFrom(store.place.full_name, store.encoder, checkpoint, store.n_rows)


def summary(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Table of what became of slides: one row each, without the notes."""
    columns = [name for name in Outcome.__dataclass_fields__ if name != "notes"]
    return pd.DataFrame([asdict(one) for one in outcomes], columns=columns)
