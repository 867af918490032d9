"""Linear probes of a label with each patient held out in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.domains.labels import read_labelled
from stamp_index.evaluate.domains.spaces import slides_with
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.probe import ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.suite.asked import Found, section, table
from stamp_index.evaluate.suite.probe_part import confusion_plot, probe_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.evaluate.domains.labels import LabelledSpots
    from stamp_index.evaluate.probe import ProbeResult
    from stamp_index.evaluate.probe.settings import Features
    from stamp_index.store.view import StoreView

FEATURES: Final[tuple[Features, ...]] = ("image", "gene", "both")
_SCORES: Final = ("balanced_accuracy", "macro_f1", "auroc")


def leave_one_patient_out(
    store: StoreView,
    label: str,
    slides: Sequence[str],
    *,
    exclude: Sequence[str] = (),
    unit: str = "patient",
) -> Found:
    """Probe image, gene and both embeddings, each patient held out in turn.

    Parameters
    ----------
    store : StoreView
    label : str
    slides : sequence of str
        Those that have the label are probed.
    exclude : sequence of str
        Classes that are left out.
    unit : str
        What the data set calls a patient.

    Returns
    -------
    Found
        A section with the means over folds, one with each fold, and notes.

    Raises
    ------
    EvaluationError
        If there are not two patients with the label, or no probe can be run.
    """
    held = read_labelled(store, label, slides, exclude)
    patients = np.unique(held.spots.patient)
    if len(patients) < 2:
        msg = f"All slides with '{label}' are of one {unit}, so none can be held out. Add slides of another."
        raise EvaluationError(msg)
    found = Found(notes=list(held.notes))
    rows: list[dict[str, Any]] = []
    folds: list[dict[str, Any]] = []
    plots = []
    for features in FEATURES:
        try:
            result = run_probe(store, _settings(store, held, features, found.notes))
        except ProbeError as error:
            found.notes.append(f"No probe on {features} embeddings: {error}")
            continue
        rows.append(probe_row(result, features))
        folds += _fold_rows(result, features, unit)
        plots.append(confusion_plot(result.confusion, result.classes, features))
        found.notes += [n for n in (*result.notes, *result.warnings) if n not in found.notes]
    if not rows:
        raise EvaluationError(" ".join(found.notes))
    text = (
        f"Logistic regression on the frozen embeddings tells the classes of '{label}' apart, each {unit} held out in turn. "
        f"The penalty is chosen inside the training part. Means and sample standard deviations over {unit}s; chance and a probe on noise "
        "stand beside."
    )
    tables = [table(rows), table(folds, f"Each {unit} held out.")]
    found.sections.append(section(f"Linear probe, leave one {unit} out", text, tables, plots))
    return found


def _settings(
    store: StoreView, held: LabelledSpots, features: Features, notes: list[str]
) -> ProbeSettings:
    """Ask for the slides that have the embeddings, and for the classes that several of their patients have."""
    spots = held.spots
    names = [spots.slide_ids[at] for at in np.unique(spots.slide)]
    slides = slides_with(store, features, names)
    if not slides:
        msg = f"None of the slides with '{held.label}' has them."
        raise ProbeError(msg)
    here = np.isin(np.array(spots.slide_ids)[spots.slide], slides)
    n_patients = {
        held.classes[code]: len(np.unique(spots.patient[here & (held.code == code)]))
        for code in np.unique(held.code[here])
    }
    alone = [name for name, n in n_patients.items() if n < 2]
    classes = tuple(name for name, n in n_patients.items() if n > 1)
    if alone:
        notes.append(
            f"Left out of the probe on {features} embeddings, as one patient alone has them: {', '.join(alone)}."
        )
    if len(classes) < 2:
        msg = f"Fewer than two classes of '{held.label}' are in several patients that have them."
        raise ProbeError(msg)
    return ProbeSettings(
        label=held.label,
        features=features,
        split="patient",
        n_folds=len(np.unique(spots.patient[here])),
        slides=slides,
        classes=classes,
        max_spots=None,
    )


def _fold_rows(result: ProbeResult, features: str, unit: str) -> list[dict[str, Any]]:
    return [
        {"features": features, unit: ", ".join(fold.held_out), "N train": fold.n_train, "N test": fold.n_test}
        | {name: fold.scores[name] for name in _SCORES}
        for fold in result.folds
    ]  # fmt: skip
