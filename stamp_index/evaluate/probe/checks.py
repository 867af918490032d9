"""What a probe refuses, each with what would work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.probe.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.settings import ProbeSettings, Split
    from stamp_index.evaluate.probe.splits import PlannedFold
    from stamp_index.evaluate.probe.spots import ProbeSpots

_PLURAL: Final[dict[Split, str]] = {
    "patient": "patients",
    "slide": "slides",
    "block": "blocks",
    "spot": "spots",
}


def check_spots(spots: ProbeSpots, settings: ProbeSettings) -> None:
    """Refuse spots of which the split cannot make folds.

    Raises
    ------
    ProbeError
        If there is one class only, one group only, a class in one group only, a slide without a patient, or a
        slide without positions.
    """
    if settings.label and len(spots.classes) < 2:
        msg = (
            f"Every spot with label '{settings.label}' is {spots.classes[0]!r}; a probe needs at least two classes. "
            f"Choose another label or more slides."
        )
        raise ProbeError(msg)
    if settings.gene and np.ptp(spots.truth) == 0:
        msg = (
            f"{settings.gene} has the same expression ({spots.truth[0]:.3g}) at all {len(spots.truth):,} spots, so "
            f"there is nothing to predict. Choose another gene or more slides."
        )
        raise ProbeError(msg)
    check_groups(spots, settings)
    if spots.classes:
        _check_classes(spots, spots.places.groups(settings.split), settings)


def check_groups(spots: ProbeSpots, settings: ProbeSettings) -> None:
    """Refuse spots of which the split cannot make folds, whatever they are to tell.

    Raises
    ------
    ProbeError
        If there is one group only, a slide without a patient, or a slide without positions.
    """
    _check_places(spots, settings)
    if spots.places.groups(settings.split).max() < 1:
        raise ProbeError(_too_few_groups(spots, settings))


def _check_places(spots: ProbeSpots, settings: ProbeSettings) -> None:
    """Refuse slides without the patient or the positions that the split needs."""
    lost: NDArray[np.bool_]
    if settings.split == "patient":
        lost = spots.table["patient_id"].fillna("").eq("").to_numpy()
        what, way = "no patient", "Split by slide, or choose slides whose patient is known"
    elif settings.split == "block":
        lost = ~np.isfinite(spots.table[["x_um", "y_um"]].to_numpy()).all(axis=1)
        what, way = "no positions in microns", "Split by slide, or choose other slides"
    else:
        return
    if lost.any():
        names = list(dict.fromkeys(spots.table["slide_id"][lost]))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        msg = f"Slides {', '.join(names[:5])}{more} have {what}, so they cannot be split by {settings.split}. {way}."
        raise ProbeError(msg)


def _too_few_groups(spots: ProbeSpots, settings: ProbeSettings) -> str:
    """Sentence that names a split which would work."""
    split = settings.split
    if split == "block":
        way = f"Choose a smaller block_um than {settings.block_um:g}, or more slides"
    elif split == "patient" and spots.places.groups("slide").max() > 0:
        way = 'Use split="slide" or split="block", or add slides of other patients'
    else:
        way = f'Use split="block", which holds out parts of the slide, or add {_PLURAL[split]}'
    return f"All {len(spots.rows):,} spots are of one {split}; a split by {split} needs at least two. {way}."


def _check_classes(spots: ProbeSpots, groups: NDArray[np.int64], settings: ProbeSettings) -> None:
    """Refuse a class that cannot be both trained on and tested."""
    pairs = np.unique(np.column_stack([spots.truth, groups]), axis=0)
    n_groups = np.bincount(pairs[:, 0], minlength=len(spots.classes))
    lonely = np.flatnonzero(n_groups < 2)
    if len(lonely) == 0:
        return
    names = ", ".join(repr(spots.classes[one]) for one in lonely)
    kept = tuple(name for place, name in enumerate(spots.classes) if place not in lonely)
    ways = [f"leave it out with classes={kept!r}"] if len(kept) > 1 else []
    if settings.split == "block":
        ways.append(f"choose a smaller block_um than {settings.block_um:g}")
    elif settings.split != "spot":
        ways.append('use split="block"')
    ways.append("label more spots")
    msg = (
        f"Class {names} of label '{settings.label}' is in one {settings.split} only, so it cannot be trained on and "
        f"tested. To go on, {', or '.join(ways)}."
    )
    raise ProbeError(msg)


def check_plan(plan: Sequence[PlannedFold], spots: ProbeSpots, settings: ProbeSettings) -> None:
    """Refuse folds whose training part lacks a class.

    Raises
    ------
    ProbeError
        If a training part has fewer than two spots, or fewer than two of a class.
    """
    for number, fold in enumerate(plan, 1):
        train = spots.truth[fold.train]
        counts = np.bincount(train, minlength=len(spots.classes)) if spots.classes else [len(train)]
        few = np.flatnonzero(np.asarray(counts) < 2)
        if len(few):
            of = f" of class {spots.classes[few[0]]!r}" if spots.classes else ""
            msg = (
                f"The training part of fold {number} of {len(plan)} has {counts[few[0]]} spots{of}; it needs at "
                f"least two. {_way_to_more(fold, plan, spots, settings)}."
            )
            raise ProbeError(msg)


def _way_to_more(
    fold: PlannedFold, plan: Sequence[PlannedFold], spots: ProbeSpots, settings: ProbeSettings
) -> str:
    ways = []
    if fold.n_near:
        ways.append(f"lower buffer_um, which left out {fold.n_near:,} spots")
    n_groups = int(spots.places.groups(settings.split).max()) + 1
    if len(plan) < n_groups and settings.split != "spot":
        ways.append(f"raise n_folds, up to the {n_groups} {_PLURAL[settings.split]}")
    ways.append("label more spots" if spots.classes else "choose more slides")
    text = ", or ".join(ways)
    return text[0].upper() + text[1:]
