"""From a query region to regions on other slides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.keys import Keys
from stamp_index.search.regions.candidates import rank_slides
from stamp_index.search.regions.grid import lattice_of
from stamp_index.search.regions.hits import COLUMNS, RegionHits
from stamp_index.search.regions.matching import Matching
from stamp_index.search.regions.outline import outline_of, scaled
from stamp_index.search.regions.prototypes import make_prototypes
from stamp_index.search.regions.slide_scan import Wanted, scan_slide
from stamp_index.store.schema import vector_column

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.search.regions.prototypes import Prototypes
    from stamp_index.search.regions.query import AskedRegion
    from stamp_index.search.regions.settings import RegionSettings
    from stamp_index.search.regions.slide_scan import Found
    from stamp_index.store import Modality, Store

    # Told how many slides were looked at so far, and how many there are to look at.
    Progress = Callable[[int, int], object]
    # Nearest allowed rows: unit vectors (q, d) and k to scores and rows, (q, k') each.
    Nearest = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]

DEFAULT_REGIONS: Final = 6
_RANDOM: Final = 1024  # spots that say how near to a prototype any spot is
_ANSWERS: Final = (4, 32)  # rows that say how near an answer comes to a prototype, from and to
_BATCH: Final = 16_384  # vectors read at once
_DIVIDED: Final = 8_192  # spots of a query that make its prototypes; of more, so many at random
_WIDEST: Final = 3.0  # reach of a window, in radii of a disc of the query's area


@dataclass(frozen=True)
class Task:
    """A region search: what is asked, and where to look.

    Attributes
    ----------
    store : Store
        What is searched.
    asked : AskedRegion
        The query's spots.
    against : {"image", "gene"}
        Embeddings that are searched.
    nearest : callable
        Finds the nearest rows among those that may be found.
    allowed : ndarray of shape (n_rows,), bool
        Rows that may be found.
    settings : RegionSettings
        How hard to look.
    """

    store: Store
    asked: AskedRegion
    against: Modality
    nearest: Nearest
    allowed: NDArray[np.bool_]
    settings: RegionSettings

    @cached_property
    def slides(self) -> pd.DataFrame:
        """Slides table of the store."""
        return self.store.slides()


def find_regions(task: Task, k: int, *, progress: Progress | None = None) -> RegionHits:
    """Find the `k` regions most like a query.

    Parameters
    ----------
    task : Task
        What is asked, and where to look.
    k : int
        Regions wanted.
    progress : callable, optional
        As `VectorSearcher.search_region` says.

    Raises
    ------
    QueryError
        If the query's slide is too small to have a size.
    """
    plan = plan_of(task)
    chosen = plan.order[: task.settings.n_slides]
    regions = regions_on(task, plan, chosen, progress=progress)
    slide_ids = tuple(task.slides["slide_id"].iloc[chosen])
    notes: tuple[str, ...] = ()
    if len(regions) < k:
        notes = (
            f"{len(regions)} regions instead of {k} were found on the {len(chosen)} slides with the nearest spots, at most "
            f"{task.settings.per_slide} on each.",
        )
    return _make_hits(task, plan, regions[:k], slides=slide_ids, notes=notes)


# ---- what is asked -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What to look for, and on which slides.

    Attributes
    ----------
    prototypes : Prototypes
        Kinds of spots in the query.
    of_spot : ndarray of shape (m,), int64
        Kind of each of the query's spots.
    matching : Matching
        Measures spots against them.
    wanted : Wanted
        What a region shall be like.
    order : ndarray of shape (s,), int64
        Slides by their number in the store, most promising first.
    """

    prototypes: Prototypes
    of_spot: NDArray[np.int64]
    matching: Matching
    wanted: Wanted
    order: NDArray[np.int64]


def plan_of(task: Task) -> Plan:
    """Read the query's spots, and ask the index where spots like them lie."""
    settings, asked, sides = task.settings, task.asked.modality, (task.asked.modality, task.against)
    rows = task.asked.rows
    some = rows
    if len(rows) > _DIVIDED:
        some = np.sort(np.random.default_rng(settings.seed).choice(rows, _DIVIDED, replace=False))
    vectors = task.store.vectors(asked, some).astype(np.float32)
    prototypes = make_prototypes(vectors, settings.n_prototypes, seed=settings.seed)
    cosines = prototypes.cosines(vectors)
    lows = {side: low_of(task, prototypes, side) for side in dict.fromkeys(sides)}
    within = _matching(task, prototypes, lows[asked], high_of_query(prototypes, cosines))
    scores, near = task.nearest(prototypes.vectors, settings.n_near)
    matching = _matching(task, prototypes, lows[task.against], high_of_answers(prototypes, scores))
    levels = matching.levels(scores.T).T  # (p, n)
    of_spot = prototypes.of_spot
    if len(some) < len(rows):
        cosines = _cosines(task, asked, rows, prototypes)
        of_spot = cosines.argmax(axis=1)
    firsts = task.slides["first_spot"].to_numpy()
    slide_of = np.searchsorted(firsts, near, side="right") - 1
    return Plan(
        prototypes=prototypes,
        of_spot=of_spot,
        matching=matching,
        wanted=wanted_of(task, within.shares(cosines)),
        order=rank_slides(slide_of, levels > settings.floor, prototypes, len(firsts)),
    )


def _cosines(
    task: Task, modality: Modality, rows: NDArray[np.int64], prototypes: Prototypes
) -> NDArray[np.float32]:
    """Cosine of spots with each prototype, (n, p); vectors are read a part at a time."""
    out = np.empty((len(rows), len(prototypes)), np.float32)
    for at in range(0, len(rows), _BATCH):
        part = slice(at, at + _BATCH)
        out[part] = prototypes.cosines(task.store.vectors(modality, rows[part]))
    return out


def low_of(task: Task, prototypes: Prototypes, modality: Modality) -> NDArray[np.float32]:
    """Mean cosine of random spots of the store with each prototype, (p,)."""
    rows = random_rows(task, modality)
    return np.asarray(_cosines(task, modality, rows, prototypes).mean(axis=0), np.float32)


def random_rows(task: Task, modality: Modality) -> NDArray[np.int64]:
    """Rows of random spots that have an embedding, ascending; drawn slide by slide, not from a list of all rows."""
    column = vector_column(task.store.encoder, modality)
    has = np.array([column in columns for columns in task.slides["embedded"]])
    first, n = task.slides.loc[has, ["first_spot", "n_spots"]].to_numpy(np.int64).T
    before = np.cumsum(n) - n
    rng = np.random.default_rng(task.settings.seed)
    some = np.sort(rng.choice(n.sum(), min(_RANDOM, n.sum()), replace=False))
    slide = np.searchsorted(before, some, side="right") - 1
    rows: NDArray[np.int64] = first[slide] + some - before[slide]
    return rows


def high_of_query(prototypes: Prototypes, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of the spots that were divided, (m, p), with the prototype that they stand for, (p,)."""
    of_kind = np.arange(len(prototypes)) == prototypes.of_spot[:, None]
    return np.average(cosines, axis=0, weights=of_kind).astype(np.float32)


def high_of_answers(prototypes: Prototypes, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of the nearest rows that may be found with each prototype, (p,).

    They lie farther away than the query's own spots do, as stain and patient differ and images and genes are not the
    same. As many count as the query has of that kind, within limits.
    """
    sizes = np.clip(prototypes.weights * len(prototypes.of_spot), *_ANSWERS).astype(np.int64)
    pairs = zip(scores, sizes, strict=True)
    return np.array([nearest[:n].mean() for nearest, n in pairs], np.float32)


def _matching(
    task: Task, prototypes: Prototypes, low: NDArray[np.float32], high: NDArray[np.float32]
) -> Matching:
    settings = task.settings
    return Matching(prototypes, low, high, settings.floor, settings.softness)


def wanted_of(task: Task, shares: NDArray[np.float32]) -> Wanted:
    """Share of each prototype in the query, its area and its reach."""
    answering = shares[:, :-1].sum(axis=0, dtype=np.float64)
    slide = int(np.flatnonzero(task.slides["slide_id"] == task.asked.slide_id)[0])
    rows, xy_um = _places(task, slide)
    lattice = lattice_of(xy_um)
    if lattice is None:
        msg = f"All spots of slide '{task.asked.slide_id}' lie at one or two places, so its region has no size."
        raise QueryError(msg)
    xy_um = xy_um[np.searchsorted(rows, task.asked.rows)]
    area = len(xy_um) * lattice.spot_area_um2
    disc = np.sqrt(area / np.pi)
    # Mean squared distance from the middle of a disc is half its squared radius.
    spread = np.sqrt(2.0 * ((xy_um - xy_um.mean(axis=0)) ** 2).sum(axis=1).mean())
    return Wanted(answering / answering.sum(), area, float(np.clip(spread, disc, _WIDEST * disc)))


def _places(task: Task, slide: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of a slide, ascending, and their centres in microns."""
    about = task.slides.iloc[slide]
    rows = int(about["first_spot"]) + np.arange(int(about["n_spots"]))
    return rows, task.store.spots([Keys.X_UM, Keys.Y_UM], rows).to_numpy(np.float64)


# ---- looking at slides ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Located:
    """A region that was found, by the slide's number and the store's rows."""

    slide: int
    rows: NDArray[np.int64]
    matches: NDArray[np.int64]
    xy_um: NDArray[np.float64]
    found: Found


def regions_on(
    task: Task, plan: Plan, slides: NDArray[np.int64], *, progress: Progress | None = None
) -> list[_Located]:
    """Regions of some slides, best first."""
    found = []
    for done, slide in enumerate(slides):
        if progress is not None:
            progress(done, len(slides))
        found += _look(task, plan, int(slide))
    if progress is not None:
        progress(len(slides), len(slides))
    return sorted(found, key=lambda region: (-region.found.score, int(region.rows[0])))


def _look(task: Task, plan: Plan, slide: int) -> list[_Located]:
    """Regions of one slide."""
    rows, xy_um = _places(task, slide)
    lattice = lattice_of(xy_um)
    if lattice is None:
        return []
    xy_um, rows = xy_um[task.allowed[rows]], rows[task.allowed[rows]]
    order = np.lexsort(xy_um.T)  # equal worth is decided by place, not by the order of the file
    xy_um, rows = xy_um[order], rows[order]
    cosines = _cosines(task, task.against, rows, plan.prototypes)
    found = scan_slide(
        xy_um, lattice, cosines, matching=plan.matching, wanted=plan.wanted, settings=task.settings
    )
    answers = plan.matching.answers(cosines)
    regions = []
    for at in found:
        spots = at.spots[np.argsort(rows[at.spots])]
        regions.append(_Located(slide, rows[spots], answers[spots], xy_um[spots], at))
    return regions


def _make_hits(
    task: Task,
    plan: Plan,
    regions: list[_Located],
    *,
    slides: tuple[str, ...],
    notes: tuple[str, ...],
) -> RegionHits:
    outlines, table = [], []
    for rank, region in enumerate(regions, start=1):
        found, slide = region.found, task.slides.iloc[region.slide]
        shape = outline_of(found.units_um, found.pitch_um, squares=found.squares)
        mpp, (x_um, y_um) = float(slide["mpp"]), region.xy_um.mean(axis=0)
        outlines.append(scaled(shape, 1.0 / mpp))
        names = (slide[Keys.SLIDE_ID], slide[Keys.PATIENT_ID], slide[Keys.ORGAN])
        scores = (found.score, found.composition, found.content)
        size = (len(region.rows), shape.area)
        table.append((rank, *scores, *names, *size, x_um / mpp, y_um / mpp, x_um, y_um))
    return RegionHits(
        table=pd.DataFrame(table, columns=list(COLUMNS)),
        rows=tuple(region.rows for region in regions),
        matches=tuple(region.matches for region in regions),
        outlines=tuple(outlines),
        query_rows=task.asked.rows,
        query_matches=plan.of_spot,
        query=f"{task.asked.modality} of {task.asked.words}",
        notes=notes,
        slides=slides,
        store_version=task.store.version,
        fingerprint=task.store.card.fingerprint,
        store=task.store,
    )
