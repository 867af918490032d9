"""Users of the server: each asks, and checks what it is told against the shadow."""

from __future__ import annotations

import faulthandler
import signal
import time
from collections import Counter, defaultdict

import numpy as np

import stamp_index as si
from load_parts.wrong import WrongAnswerError, require
from load_parts import world
from load_parts.checks import Checks, Query
from load_parts.shadow import Shadow
from stamp_index.errors import QueryError, RemoteError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILTERS = (
    ("", lambda view: np.ones(len(view.rows), bool)),
    ('organ == "breast"', lambda view: view.number % 5 == 0),
    ('organ in ("skin", "lung") and x_um < 700', lambda view: np.isin(view.number % 5, (2, 3)) & (view.spot % world.SIDE < 7)),
    ('patient == "P3"', lambda view: view.number % world.N_PATIENTS == 3),
    ('patient not in ("P1", "P2") and y_um >= 1000', lambda view: ~np.isin(view.number % world.N_PATIENTS, (1, 2)) & (view.spot // world.SIDE >= 10)),
)  # fmt: skip
KINDS = ("vector", "exact", "filtered", "genes", "spots", "region", "spread")
APP_KINDS = ("slides", "thumbnails", "overview", "expression", "store")


class User:
    """One user: asks at random, measures, and checks.

    Attributes
    ----------
    seconds : dict of str to list of float
        Latency by kind.
    wrong : list of str
        What was not as it should be.
    errors : Counter
        Refusals, by status and type.
    recall : list of float
        Share of the exact ten best that approximate searches found.
    """

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self._searcher = si.connect(url, timeout_s=120)
        self.shadow = Shadow(folder / "journal")
        self._signatures = np.load(folder / "signatures.npy")
        self._rng = np.random.default_rng([23, seed])
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self.checks = Checks()
        self._newest = self._searcher.store.version

    def one(self, kinds: tuple[str, ...]) -> None:
        """Ask once."""
        kind = kinds[int(self._rng.integers(len(kinds)))]
        try:
            getattr(self, f"_{kind}")()
        except RemoteError as error:
            self.errors[f"{error.status} {error.kind}"] += 1
        except WrongAnswerError as error:
            self.wrong.append(f"{kind}: {error}"[:300])

    def _timed(self, kind: str, ask, *given, **how):  # noqa: ANN001, ANN002, ANN003, ANN202
        began = time.perf_counter()
        found = ask(*given, **how)
        self.seconds[kind].append(time.perf_counter() - began)
        return found

    def _check(self, hits, query: Query) -> None:  # noqa: ANN001
        require(hits.store_version >= self._newest, "an older version was served after a newer one")
        self._newest = hits.store_version
        self.checks.hits(hits, self.shadow.view(hits.store_version), query)

    def _some_vector(self) -> np.ndarray:
        """Near a spot of the store, or anywhere."""
        vector = self._rng.normal(size=world.DIM)
        if self._rng.random() < 0.8:
            held = world.content(int(self._rng.choice(self.shadow.alive(self._newest)))).image
            vector = held[int(self._rng.integers(len(held)))] + 0.03 * vector
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def _search_vector(self, kind: str, recall: float, chosen: int, **how) -> None:  # noqa: ANN003
        vector, (text, passes) = self._some_vector(), FILTERS[chosen]
        against = ("image", "gene")[int(self._rng.integers(2))]
        k = int(self._rng.choice([1, 10, 48]))
        hits = self._timed(
            kind, self._searcher.search_vector, vector, against=against, k=k, filters=text or None, recall=recall,
            genes=["GENE3"], **how,
        )  # fmt: skip
        self._check(hits, Query(vector, against, k, recall, passes, one_per=how.get("one_per")))

    def _vector(self) -> None:
        self._search_vector("vector", float(self._rng.choice([0.95, 0.99])), 0)

    def _exact(self) -> None:
        self._search_vector("exact", 1.0, 0)

    def _filtered(self) -> None:
        recall = float(self._rng.choice([0.99, 1.0]))
        self._search_vector("filtered", recall, int(self._rng.integers(1, len(FILTERS))))

    def _spread(self) -> None:
        self._search_vector("spread", 1.0, 0, one_per="slide")

    def _genes(self) -> None:
        which = int(self._rng.integers(len(world.SIGNATURES)))
        recall = float(self._rng.choice([0.99, 1.0]))
        hits = self._timed(
            "genes", self._searcher.search_genes, world.SIGNATURES[which], k=10, recall=recall
        )
        self._check(hits, Query(self._signatures[which], "image", 10, recall, FILTERS[0][1]))

    def _spots(self) -> None:
        number, spot = (
            int(self._rng.choice(self.shadow.alive(self._newest))),
            int(self._rng.integers(world.PER_SLIDE)),
        )
        try:
            hits = self._timed(
                "spots", self._searcher.search_spot, f"{world.slide_id(number)}:B{spot}", k=10, recall=1.0, exclude_own="slide"
            )  # fmt: skip
        except QueryError:
            require(self.shadow.died(number), f"slide {number} was not found")
            return
        vector = world.content(number).image[spot].astype(np.float64)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        self._check(hits, Query(vector, "image", 10, 1.0, lambda view: view.number != number))

    def _region(self) -> None:
        number = int(self._rng.choice(self.shadow.alive(self._newest)))
        left, top = self._rng.uniform(-50, 1400, size=2)
        outline = [(left, top), (left + 700, top), (left + 700, top + 500), (left, top + 500)]
        region = si.Region(world.slide_id(number), outline)
        try:
            found = self._timed("region", self._searcher.search_region, region, k=3)
        except QueryError:
            require(self.shadow.died(number), f"slide {number} was not found")
            return
        self.checks.regions(found, self.shadow.view(found.store_version), number)

    # ---- what the app's pages read -------------------------------------------------------------

    def _slides(self) -> None:
        store = self._searcher.store
        slides = self._timed("slides", lambda: (store.refresh(), store.slides())[1])
        said = set(slides["slide_id"])
        changed = said ^ set(map(world.slide_id, self.shadow.alive(store.version)))
        self._newest = store.version
        for name in changed:  # between the two requests, or since
            number = int(name[1:])
            known = self.shadow.is_alive(number) or self.shadow.died(number)
            require(known, f"{name} is not where it must be")

    def _store(self) -> None:
        self._newest = self._timed("store", self._searcher.store.refresh)

    def _some_rows(self, n: int) -> tuple[int, np.ndarray, np.ndarray]:
        view = self.shadow.view(self._newest)  # the server shows this one or a later one
        at = self._rng.choice(np.flatnonzero(view.alive), n)
        return view, at, view.rows[at]

    def _read(self, kind: str, ask, view, at):  # noqa: ANN001, ANN202
        """Read something of rows, one of which may have gone."""
        try:
            return self._timed(kind, ask)
        except (ValueError, QueryError):
            gone = any(self.shadow.died(int(number)) for number in set(view.number[at].tolist()))
            require(gone, "rows that are there were refused")
            return None

    def _thumbnails(self) -> None:
        view, at, rows = self._some_rows(24)
        found = self._read("thumbnails", lambda: self._searcher.store.thumbnails(rows), view, at)
        if found is not None:
            wanted = [world.thumbnail(int(view.number[i]), int(view.spot[i])) for i in at]
            require(found == wanted, "a thumbnail of another spot")

    def _overview(self) -> None:
        number = int(self._rng.choice(self.shadow.alive(self._newest)))
        try:
            found = self._timed("overview", self._searcher.store.overview, world.slide_id(number))
        except QueryError:
            require(self.shadow.died(number), "a slide that is there was refused")
            return
        require(found == world.overview(number), "an overview of another slide")

    def _expression(self) -> None:
        view, at, rows = self._some_rows(200)
        found = self._read(
            "expression",
            lambda: self._searcher.store.expression(["GENE1", "GENE7"], rows),
            view,
            at,
        )
        if found is not None:
            wanted = [
                world.content(int(view.number[i])).expression[int(view.spot[i]), [1, 7]] for i in at
            ]
            np.testing.assert_allclose(found, np.array(wanted), rtol=1e-5)


def use(url: str, folder: Path, signals, given: tuple[int, bool, float], report) -> None:  # noqa: ANN001
    """Be a user until told to stop; `given` is seed, whether as the app, and seconds between two requests."""
    (start, stop), (seed, as_app, pause_s) = signals, given
    faulthandler.register(signal.SIGUSR1)
    user = User(url, folder, seed)
    start.wait()
    while not stop.is_set():
        user.one(APP_KINDS if as_app else KINDS)
        if pause_s:
            stop.wait(pause_s)
    user.shadow.close()
    report.put(("user", (dict(user.seconds), user.wrong, dict(user.errors), user.checks.recall)))
