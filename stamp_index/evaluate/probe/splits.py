"""Folds that keep slides, patients or blocks of tissue whole."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.settings import Split

_INNER_FOLDS: Final = 3
# Where the training part is a single patient, C is chosen between its slides, and so on.
_FINER: Final[dict[Split, tuple[Split, ...]]] = {
    "patient": ("patient", "slide", "block"),
    "slide": ("slide", "block"),
    "block": ("block",),
    "spot": ("spot",),
}


@dataclass(frozen=True)
class PlannedFold:
    """One fold: places in the arrays of spots.

    Attributes
    ----------
    train, test : ndarray of int64
        No group is in both.
    inner : tuple of (train, test)
        Parts of `train` on which C is chosen; empty where it cannot be divided.
    inner_split : str
        By what the training part was divided.
    n_near : int
        Spots that are in neither, because they are too near to a test spot.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    inner: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...] = ()
    inner_split: str = ""
    n_near: int = 0


@dataclass(frozen=True)
class Places:
    """Where spots come from.

    Attributes
    ----------
    slide, patient : ndarray of shape (n,), int64
        Number of each spot's slide and patient.
    xy_um : ndarray of shape (n, 2), float64
        Centres of the spots on their slides.
    block_um : float
        Side of a block.
    """

    slide: NDArray[np.int64]
    patient: NDArray[np.int64]
    xy_um: NDArray[np.float64]
    block_um: float

    def groups(self, split: Split) -> NDArray[np.int64]:
        """Give each spot the number of its group, (n,), from 0 without gaps."""
        if split == "spot":
            return np.arange(len(self.slide))
        if split != "block":
            return numbered((self.slide if split == "slide" else self.patient)[:, None])
        cell = np.floor(np.nan_to_num(self.xy_um) / self.block_um).astype(np.int64)
        return numbered(np.column_stack([self.slide, cell]))

    def at(self, chosen: NDArray[np.int64]) -> Places:
        """Choose some of the spots."""
        return Places(self.slide[chosen], self.patient[chosen], self.xy_um[chosen], self.block_um)


def numbered(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each row (n, c) its place among the distinct ones in ascending order, (n,)."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def plan_folds(
    places: Places,
    classes: NDArray[np.int64] | None,
    split: Split,
    *,
    n_folds: int,
    buffer_um: float = 0.0,
    seed: int = 0,
) -> list[PlannedFold]:
    """Divide spots into folds, and the training part of each once more.

    Parameters
    ----------
    places : Places
    classes : ndarray of shape (n,), int64, optional
        Folds get the classes in like shares, as far as whole groups allow.
    split : {"patient", "slide", "block", "spot"}
        What is kept whole.
    n_folds : int
        Folds; one per group where there are fewer groups.
    buffer_um : float
        With blocks, training spots nearer to a test spot than this along x and along y are in neither part.
    seed : int
        Of ties between equally good divisions, and of the deal of single spots.

    Returns
    -------
    list of PlannedFold
        Each spot is in the test part of exactly one.
    """
    plan = []
    for train, test, n_near in _divide(
        places, classes, split, n_folds=n_folds, buffer_um=buffer_um, seed=seed
    ):
        inner_classes = None if classes is None else classes[train]
        inner, by = _inner(places.at(train), inner_classes, split, buffer_um=buffer_um, seed=seed)
        parts = tuple((train[fit], train[check]) for fit, check in inner)
        plan.append(PlannedFold(train, test, parts, by, n_near))
    return plan


def plan_transfer(
    places: Places, classes: NDArray[np.int64] | None, is_train: NDArray[np.bool_], *, seed: int = 0
) -> PlannedFold:
    """One fold whose training part is given; it is divided once more by patient, or by what it has several of.

    Parameters
    ----------
    places : Places
    classes : ndarray of shape (n,), int64, optional
    is_train : ndarray of shape (n,), bool
    seed : int
    """
    train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    inner_classes = None if classes is None else classes[train]
    inner, by = _inner(places.at(train), inner_classes, "patient", buffer_um=0.0, seed=seed)
    return PlannedFold(train, test, tuple((train[fit], train[check]) for fit, check in inner), by)


def _inner(
    places: Places,
    classes: NDArray[np.int64] | None,
    split: Split,
    *,
    buffer_um: float,
    seed: int,
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], str]:
    """Divide a training part by the coarsest groups of which it has several."""
    for finer in _FINER[split]:
        if places.groups(finer).max(initial=0) > 0:
            parts = _divide(
                places, classes, finer, n_folds=_INNER_FOLDS, buffer_um=buffer_um, seed=seed
            )
            usable = [(fit, check) for fit, check, _ in parts if _teaches(fit, classes)]
            if usable:
                return usable, finer
    return [], ""


def _teaches(fit: NDArray[np.int64], classes: NDArray[np.int64] | None) -> bool:
    """Whether something can be fitted to these spots."""
    return len(fit) > 1 and (classes is None or len(np.unique(classes[fit])) > 1)


def _divide(
    places: Places,
    classes: NDArray[np.int64] | None,
    split: Split,
    *,
    n_folds: int,
    buffer_um: float,
    seed: int,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Train part, test part and number of spots left out, for each fold."""
    groups = places.groups(split)
    if split == "spot":
        fold = _dealt(classes, len(groups), n_folds, seed)
    else:
        fold = _fold_of(groups, classes, n_folds, seed)
    parts = []
    for number in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        far = np.ones(len(train), np.bool_)
        if split == "block" and buffer_um > 0:
            far = _away_from(places.at(test), places.at(train), buffer_um)
        parts.append((train[far], test, int((~far).sum())))
    return parts


def _dealt(classes: NDArray[np.int64] | None, n: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each spot, dealt like shuffled cards, class after class."""
    shuffled = np.random.default_rng(seed).permutation(n)
    order = shuffled if classes is None else shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % min(n_folds, n)
    return fold


def _fold_of(
    groups: NDArray[np.int64], classes: NDArray[np.int64] | None, n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Fold of each spot, all spots of a group in the same."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    n_groups = int(groups.max()) + 1
    if n_groups <= n_folds:
        return groups
    sizes = GroupKFold(n_folds)
    splitters: list[Any] = [sizes]
    if classes is not None and np.bincount(classes).max() >= n_folds:
        splitters.insert(0, StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed))
    blank = np.zeros((len(groups), 1))
    for splitter in splitters:
        fold = np.full(len(groups), -1, np.int64)
        with warnings.catch_warnings():  # of classes with few spots, which are checked elsewhere
            warnings.simplefilter("ignore", UserWarning)
            for number, (_, test) in enumerate(splitter.split(blank, classes, groups)):
                fold[test] = number
        if np.bincount(fold, minlength=n_folds).min() > 0:  # stratifying may leave one empty
            break
    return fold


def _away_from(test: Places, train: Places, buffer_um: float) -> NDArray[np.bool_]:
    """Which training spots are no nearer to a test spot of their slide than the buffer."""
    from scipy.spatial import cKDTree

    far = np.ones(len(train.slide), np.bool_)
    for slide in np.unique(test.slide):
        here = np.flatnonzero(train.slide == slide)
        if len(here):
            tree = cKDTree(test.xy_um[test.slide == slide])
            # Views of width w around two centres overlap where both |dx| and |dy| are below w.
            distance, _ = tree.query(train.xy_um[here], p=np.inf, distance_upper_bound=buffer_um)
            far[here] = np.isinf(distance)
    return far


def sample_evenly(strata: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Draw a random sample in proportion to the strata.

    Parameters
    ----------
    strata : ndarray of shape (n, c), int64
        Rows that are alike are of one stratum.
    size : int
        Spots wanted.
    seed : int

    Returns
    -------
    ndarray of int64, ascending
        Exactly `size` places (all, where there are no more), at least one of each stratum if `size` allows it.
    """
    n = len(strata)
    if n <= size:
        return np.arange(n)
    code = numbered(strata)
    order = np.lexsort((np.random.default_rng(seed).permutation(n), code))  # random in each stratum
    count = np.bincount(code)
    rank = np.arange(n) - np.repeat(np.cumsum(count) - count, count)
    share = (rank + 0.5) / count[
        code[order]
    ]  # taken in this order, every stratum fills at one pace
    share[rank == 0] = -1.0
    tie = np.random.default_rng(seed + 1).permutation(n)
    chosen = order[np.lexsort((tie, share))[:size]]
    return np.sort(chosen)
