"""From the outputs of all folds to a result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.probe.result import (
    ClassScore,
    Level,
    ProbeCounts,
    ProbeFold,
    ProbePredictions,
    ProbeResult,
    ProbeSource,
)
from stamp_index.evaluate.probe.scores import confusion, mean_and_sd, recalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.folds import FoldOutcome
    from stamp_index.evaluate.probe.settings import ProbeSettings
    from stamp_index.evaluate.probe.splits import PlannedFold
    from stamp_index.evaluate.probe.spots import ProbeSpots
    from stamp_index.evaluate.probe.tasks import Task
    from stamp_index.store.view import StoreView

_LEAK: Final = (
    "Single spots were held out at random: their neighbours, which look alike and share pixels with them, were "
    "trained on. These numbers do not say what the embeddings tell of new tissue; split by patient, slide or block."
)


@dataclass(frozen=True, eq=False)
class ProbeRun:
    """What a probe was run on, and what came of it, in the order of `spots`."""

    store: StoreView
    settings: ProbeSettings
    spots: ProbeSpots
    plan: Sequence[PlannedFold]
    task: Task
    output: NDArray[np.float64]
    outcomes: Sequence[FoldOutcome]
    drawn: Mapping[int, str] | None


def summarise(run: ProbeRun) -> ProbeResult:
    """Numbers per fold, over folds, per class and per spot, with what a reader must know of them."""
    fold = fold_of(run.plan, len(run.spots.rows))
    mean, sd = mean_and_sd([outcome.scores for outcome in run.outcomes])
    per_class, table = _per_class(run)
    return ProbeResult(
        settings=run.settings,
        source=source_of(run.store, run.spots, fold),
        counts=_counts(run),
        classes=run.spots.classes,
        folds=tuple(_folds(run)),
        level=Level(mean, sd),
        pooled=run.task.scores(run.spots.truth, run.output),
        levels=_levels(run.outcomes),
        per_class=per_class,
        confusion=table,
        predictions=_predictions(run, fold),
        notes=(*run.spots.notes, *_notes(run)),
        warnings=tuple(_warnings(run)),
        drawn=None if run.drawn is None else {int(row): str(run.drawn[row]) for row in run.drawn},
    )


def fold_of(plan: Sequence[PlannedFold], n: int) -> NDArray[np.int64]:
    """Give each spot the number of the fold, from 1, that held it out."""
    fold = np.zeros(n, np.int64)
    for number, part in enumerate(plan, 1):
        fold[part.test] = number
    return fold


def source_of(store: StoreView, spots: ProbeSpots, fold: NDArray[np.int64]) -> ProbeSource:
    """Name what a probe of these spots was run on; `fold` held each out."""
    split = np.ascontiguousarray(np.column_stack([spots.rows, fold]), "<i8")
    return ProbeSource(
        store_path=store.place.full_name,
        store_id=store.store_id,
        store_version=store.version,
        encoder=store.encoder,
        fingerprint=store.card.fingerprint,
        split_hash=hashlib.sha256(store.store_id.encode() + split.tobytes()).hexdigest()[:16],
    )


def _counts(run: ProbeRun) -> ProbeCounts:
    spots = run.spots
    patients = spots.table["patient_id"].fillna("")
    return ProbeCounts(
        spots=len(spots.rows),
        groups=int(spots.places.groups(run.settings.split).max()) + 1,
        slides=spots.table["slide_id"].nunique(),
        patients=patients[patients != ""].nunique(),
    )


def _folds(run: ProbeRun) -> Iterator[ProbeFold]:
    column = {"slide": "slide_id", "patient": "patient_id"}.get(run.settings.split)
    for number, (part, outcome) in enumerate(zip(run.plan, run.outcomes, strict=True), 1):
        names = () if column is None else sorted(set(run.spots.table[column].iloc[part.test]))
        yield ProbeFold(
            number=number,
            n_train=len(part.train),
            n_test=len(part.test),
            n_near=part.n_near,
            held_out=tuple(names),
            C=outcome.C,
            converged=outcome.converged,
            scores=outcome.scores,
        )


def _levels(outcomes: Sequence[FoldOutcome]) -> dict[str, Level]:
    return {
        name: Level(*mean_and_sd([outcome.levels[name] for outcome in outcomes]))
        for name in outcomes[0].levels
    }


def _per_class(run: ProbeRun) -> tuple[tuple[ClassScore, ...], NDArray[np.int64]]:
    """Numbers of each class, and the confusion matrix."""
    classes, truth = run.spots.classes, run.spots.truth
    if not classes:
        return (), np.zeros((0, 0), np.int64)
    predicted = run.output.argmax(axis=1)
    table = confusion(truth, predicted, len(classes))
    found = recalls(truth, predicted, len(classes))
    rows = zip(classes, found, table.sum(axis=1), table.sum(axis=0), strict=True)
    return tuple(ClassScore(n, float(r), int(s), int(p)) for n, r, s, p in rows), table


def _predictions(run: ProbeRun, fold: NDArray[np.int64]) -> ProbePredictions:
    spots, truth, predicted = run.spots, run.spots.truth, run.output[:, 0]
    if spots.classes:
        names = np.array(spots.classes, object)
        truth, predicted = names[truth], names[run.output.argmax(axis=1)]
    ids = run.store.spots(("spot_id",), spots.rows)["spot_id"]
    return ProbePredictions(
        rows=spots.rows,
        fold=fold,
        spot_ids=ids.to_numpy(object),
        slide_ids=spots.table["slide_id"].to_numpy(object),
        truth=truth,
        predicted=predicted,
        output=run.output,
    )


def _notes(run: ProbeRun) -> Iterator[str]:
    """How the folds came out."""
    settings, plan = run.settings, run.plan
    if len(plan) < settings.n_folds:
        yield f"{len(plan)} folds instead of {settings.n_folds}: there are no more {settings.split}s."
    near = sum(part.n_near for part in plan)
    if near:
        yield f"{near / len(plan):,.0f} training spots a fold were left out, being too near to spots held out."
    if settings.C is None:
        yield from _notes_of_inner(run)
    for number, part in enumerate(plan, 1):
        yield from _notes_of_fold(run, number, run.spots.truth[part.test])
    slow = [number for number, outcome in enumerate(run.outcomes, 1) if not outcome.converged]
    if slow:
        yield f"The fit of folds {', '.join(map(str, slow))} was stopped before its optimum; a smaller C converges."


def _notes_of_inner(run: ProbeRun) -> Iterator[str]:
    """Where C was not chosen in the way of the split."""
    used = {part.inner_split for part in run.plan} - {run.settings.split}
    for finer in sorted(used - {""}):
        yield (
            f"C was chosen between {finer}s where a training part was of one {run.settings.split} only."
        )
    if "" in used:
        yield f"C is {run.task.default_C:g} where a training part could not be divided to choose it."


def _notes_of_fold(run: ProbeRun, number: int, truth: NDArray[Any]) -> Iterator[str]:
    """Say what a test part lacks."""
    if run.spots.classes:
        lost = np.setdiff1d(np.arange(len(run.spots.classes)), truth)
        if len(lost):
            names = ", ".join(repr(run.spots.classes[one]) for one in lost)
            yield f"Fold {number} holds out no spot of {names}; its numbers are over the other classes."
    elif np.ptp(truth) == 0:
        yield f"Fold {number} holds out spots of equal expression; it has no numbers and is not in the mean."


def _warnings(run: ProbeRun) -> Iterator[str]:
    """Why the numbers may be too good."""
    settings = run.settings
    if settings.split == "spot":
        yield _LEAK
    if settings.gene and settings.features != "image":
        yield f"The gene embedding was made from counts that hold {settings.gene} itself. Probe image embeddings instead."
    if settings.split not in ("slide", "block"):
        return
    slides = run.spots.table[["slide_id", "patient_id"]].drop_duplicates()
    known = slides["patient_id"][slides["patient_id"].fillna("") != ""]
    shared = sorted(known[known.duplicated()].unique())
    if shared:
        names = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        yield (
            f"Patient {names} has several slides, which can be on both sides of a fold"
            f"{' at the same place of serial sections' if settings.split == 'block' else ''}. Split by patient to learn "
            f"what holds for new patients."
        )
