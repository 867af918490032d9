"""A linear probe on a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stamp_index.evaluate.probe.checks import check_plan, check_spots
from stamp_index.evaluate.probe.folds import ProbeProgress, cross_validate
from stamp_index.evaluate.probe.splits import plan_folds
from stamp_index.evaluate.probe.spots import find_spots, read_features
from stamp_index.evaluate.probe.summarise import ProbeRun, summarise
from stamp_index.evaluate.probe.tasks import ClassTask, GeneTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.result import ProbeResult
    from stamp_index.evaluate.probe.settings import ProbeSettings
    from stamp_index.evaluate.probe.splits import PlannedFold
    from stamp_index.evaluate.probe.spots import ProbeSpots
    from stamp_index.evaluate.probe.tasks import Task
    from stamp_index.store.view import StoreView


def run_probe(
    store: StoreView,
    settings: ProbeSettings,
    *,
    progress: Callable[[ProbeProgress], object] | None = None,
    labels: Mapping[int, str] | None = None,
) -> ProbeResult:
    """Ask what the stored embeddings tell of a label or a gene, with spots held out by group.

    Parameters
    ----------
    store : StoreView
        An open store; its encoder's embeddings are used.
    settings : ProbeSettings
        What is asked.
    progress : callable, optional
        Told how far it is before every fit, and about every second within one. Raise `ProbeCancelled` in it to stop.
    labels : mapping of int to str, optional
        Class of spots by row id, such as regions drawn by hand, instead of a stored label; ``settings.label`` is then
        only their name.

    Returns
    -------
    ProbeResult
        The same for the same store version, settings and labels.

    Raises
    ------
    QueryError
        If there is no such slide or label, or `labels` names rows that are not there.
    MissingGenesError
        If no slide measured the gene.
    ProbeError
        If these spots allow no honest answer; the message says what would.

    Notes
    -----
    Logistic regression on frozen features is the linear probe of Alain and Bengio (2016, arXiv:1610.01644). Features are
    centred and divided by one number for all (`stamp_index.evaluate.probe.folds.scaled`), not each by its deviation.
    Ridge on embeddings for a gene is HEST-Benchmark's (Jaume et al. 2024, arXiv:2406.16192) for one gene and with a chosen
    alpha, without its PCA.
    """
    if labels is not None and settings.gene:
        msg = f"Drawn labels were given, but the probe is for gene {settings.gene}. Name a label instead."
        raise ValueError(msg)
    ready = prepare(store, settings, labels=labels, progress=progress)
    spots, plan = ready.spots, ready.plan
    task: Task = ClassTask(len(spots.classes)) if spots.classes else GeneTask()
    output, outcomes = cross_validate(
        ready.features, spots.truth, plan, task, C=settings.C, seed=settings.seed, progress=progress
    )
    return summarise(ProbeRun(store, settings, spots, plan, task, output, outcomes, labels))


@dataclass(frozen=True)
class Prepared:
    """Spots of a probe that were checked, their folds, and their embeddings."""

    settings: ProbeSettings
    spots: ProbeSpots
    plan: list[PlannedFold]
    features: NDArray[np.float32]


def prepare(
    store: StoreView,
    settings: ProbeSettings,
    *,
    labels: Mapping[int, str] | None = None,
    progress: Callable[[ProbeProgress], object] | None = None,
    check: Callable[[ProbeSpots, ProbeSettings], None] = check_spots,
) -> Prepared:
    """Read what a probe is run on.

    Parameters
    ----------
    store, settings, labels, progress
        As in `run_probe`.
    check : callable
        Refuses spots.

    Returns
    -------
    Prepared

    Raises
    ------
    QueryError, MissingGenesError, ProbeError
        As `run_probe`.
    """
    _tell(progress, settings, "reading labels")
    spots = find_spots(store, settings, labels).sampled(settings)
    check(spots, settings)
    _tell(progress, settings, "dividing the spots")
    plan = plan_folds(
        spots.places,
        spots.class_of,
        settings.split,
        n_folds=settings.n_folds,
        buffer_um=_buffer(store, settings),
        seed=settings.seed,
    )
    check_plan(plan, spots, settings)
    _tell(progress, settings, "reading embeddings")
    return Prepared(settings, spots, plan, read_features(store, settings.features, spots.rows))


def _tell(
    progress: Callable[[ProbeProgress], object] | None, settings: ProbeSettings, step: str
) -> None:
    """Say what is done before the first fold."""
    if progress is not None:
        progress(ProbeProgress(step, 0, settings.n_folds, 0.0))


def _buffer(store: StoreView, settings: ProbeSettings) -> float:
    """How far training spots stay away from test blocks, in microns."""
    if settings.buffer_um is not None:
        return settings.buffer_um
    return max(store.card.patch_width_um, store.card.region_width_um)
