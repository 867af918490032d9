"""From a query region to regions on other slides."""

from __future__ import annotations

from dataclasses import dataclass
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.search.regions.prototypes import Prototypes
    from stamp_index.search.regions.query import AskedRegion
    from stamp_index.search.regions.settings import RegionSettings
    from stamp_index.search.regions.slide_scan import Found
    from stamp_index.store import Modality, Store

    # Nearest allowed rows: unit vectors (q, d) and k to scores and rows, (q, k') each.
    Nearest = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]

DEFAULT_REGIONS: Final = 6
_RANDOM: Final = 1024  # spots that say how near to a prototype any spot is
_NEAREST: Final = (
    4,
    32,
)  # rows that say how near an answer comes to a prototype: at least, at most
_BATCH: Final = 16_384  # vectors read at once
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
    allowed : ndarray of shape (n_rows,), bool, or None
        Rows that may be found; None for all.
    settings : RegionSettings
        How hard to look.
    """

    store: Store
    asked: AskedRegion
    against: Modality
    nearest: Nearest
    allowed: NDArray[np.bool_] | None
    settings: RegionSettings


def find_regions(task: Task, k: int) -> RegionHits:
    """Find the `k` regions most like a query.

    Parameters
    ----------
    task : Task
        What is asked, and where to look.
    k : int
        Regions wanted.

    Raises
    ------
    ValueError
        If `k` is not a whole number of 1 or more.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        msg = f"k is {k!r}; expected a whole number of regions, 1 or more."
        raise ValueError(msg)
    plan = plan_of(task)
    chosen = plan.order[: task.settings.n_slides]
    regions = regions_on(task, plan, chosen)
    slide_ids = tuple(task.store.slides()["slide_id"].iloc[chosen])
    notes: tuple[str, ...] = ()
    if len(regions) < k:
        notes = (
            f"{len(regions)} regions instead of {k} were found on the {len(chosen)} slides with the nearest spots.",
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
    matching : Matching
        Measures spots against them.
    wanted : Wanted
        What a region shall be like.
    order : ndarray of shape (s,), int64
        Slides by their number in the store, most promising first.
    """

    prototypes: Prototypes
    matching: Matching
    wanted: Wanted
    order: NDArray[np.int64]


def plan_of(task: Task) -> Plan:
    """Read the query's spots, and ask the index where spots like them lie."""
    store, settings = task.store, task.settings
    vectors = store.vectors(task.asked.query, task.asked.rows).astype(np.float32)
    prototypes = make_prototypes(vectors, settings.n_prototypes, seed=settings.seed)
    scores, rows = task.nearest(prototypes.vectors, settings.n_near)
    firsts = store.slides()["first_spot"].to_numpy()
    slide_of = np.searchsorted(firsts, rows, side="right") - 1
    lows = {side: low_of(task, prototypes, side) for side in (task.asked.query, task.against)}
    own = _matching(task, prototypes, lows[task.asked.query], high_of_query(prototypes, vectors))
    matching = _matching(task, prototypes, lows[task.against], high_of_answers(prototypes, scores))
    levels = matching.levels(scores.T).T  # (p, n)
    return Plan(
        prototypes=prototypes,
        matching=matching,
        wanted=wanted_of(task, own.shares(own.cosines(vectors))),
        order=rank_slides(slide_of, levels > settings.floor, prototypes, len(firsts)),
    )


def low_of(task: Task, prototypes: Prototypes, modality: Modality) -> NDArray[np.float32]:
    """Mean cosine of random spots of the store with each prototype, (p,)."""
    present = np.flatnonzero(task.store.has_vector(modality))
    rng = np.random.default_rng(task.settings.seed)
    some = np.sort(rng.choice(present, min(_RANDOM, len(present)), replace=False))
    cosines = task.store.vectors(modality, some).astype(np.float32) @ prototypes.vectors.T
    return np.asarray(cosines.mean(axis=0), np.float32)


def high_of_query(prototypes: Prototypes, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of the query's own spots with the prototype that they stand for, (p,)."""
    own = np.arange(len(prototypes)) == prototypes.of_spot[:, None]
    return np.average(vectors @ prototypes.vectors.T, axis=0, weights=own).astype(np.float32)


def high_of_answers(prototypes: Prototypes, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of the nearest rows that may be found with each prototype, (p,).

    They lie farther away than the query's own spots do, as stain and patient differ and images and genes are not the
    same. As many count as the query has of that kind, within limits.
    """
    sizes = np.clip(prototypes.weights * len(prototypes.of_spot), *_NEAREST).astype(np.int64)
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
    slide = int(np.flatnonzero(task.store.slides()["slide_id"] == task.asked.slide_id)[0])
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
    about = task.store.slides().iloc[slide]
    rows = int(about["first_spot"]) + np.arange(int(about["n_spots"]))
    return rows, task.store.spots([Keys.X_UM, Keys.Y_UM], rows).to_numpy(np.float64)


# ---- looking at slides ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Region:
    slide: int
    rows: NDArray[np.int64]
    matches: NDArray[np.int64]
    xy_um: NDArray[np.float64]
    found: Found


def regions_on(task: Task, plan: Plan, slides: NDArray[np.int64]) -> list[_Region]:
    """Regions of some slides, best first."""
    found = [region for slide in slides for region in _look(task, plan, int(slide))]
    return sorted(found, key=lambda region: (-region.found.score, int(region.rows[0])))


def _look(task: Task, plan: Plan, slide: int) -> list[_Region]:
    """Regions of one slide."""
    rows, xy_um = _places(task, slide)
    lattice = lattice_of(xy_um)
    if lattice is None:
        return []
    if task.allowed is not None:
        xy_um, rows = xy_um[task.allowed[rows]], rows[task.allowed[rows]]
    order = np.lexsort(xy_um.T)  # equal worth is decided by place, not by the order of the file
    xy_um, rows = xy_um[order], rows[order]
    matching = plan.matching
    parts = [
        matching.cosines(task.store.vectors(task.against, rows[at : at + _BATCH]))
        for at in range(0, len(rows), _BATCH)
    ]
    cosines = np.concatenate(parts)
    found = scan_slide(
        xy_um, lattice, cosines, matching=matching, wanted=plan.wanted, settings=task.settings
    )
    answers = matching.answers(cosines)
    regions = []
    for at in found:
        spots = at.spots[np.argsort(rows[at.spots])]
        regions.append(_Region(slide, rows[spots], answers[spots], xy_um[spots], at))
    return regions


def _make_hits(
    task: Task,
    plan: Plan,
    regions: list[_Region],
    *,
    slides: tuple[str, ...],
    notes: tuple[str, ...],
) -> RegionHits:
    about = task.store.slides()
    outlines, table = [], []
    for rank, region in enumerate(regions, start=1):
        found, slide = region.found, about.iloc[region.slide]
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
        query_matches=plan.prototypes.of_spot,
        query=f"{task.asked.query} of {task.asked.words}",
        notes=notes,
        slides=slides,
        store_version=task.store.version,
        fingerprint=task.store.card.fingerprint,
        store=task.store,
    )
