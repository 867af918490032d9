"""Linear probes of a suite: what image, gene and both embeddings tell of the label, with whole patients held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.domains.labels import read_labelled
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.probe import ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.spots import read_spots
from stamp_index.evaluate.suite.asked import Found, section, table
from stamp_index.store.label_classes import classes_of

if TYPE_CHECKING:
    from stamp_index.evaluate.probe import ProbeResult
    from stamp_index.evaluate.probe.settings import Features, Split
    from stamp_index.evaluate.suite.asked import Asked
    from stamp_index.store import Modality

FEATURES: Final[tuple[Features, ...]] = ("image", "gene", "both")
TEXT: Final = (
    "Logistic regression on the frozen embeddings tells the classes of '{label}' apart, whole patients held out in turn (or "
    "slides, or blocks of tissue, where there is one); the "
    "penalty is chosen inside the training part. Chance and a probe on noise stand beside."
)


def probe_part(asked: Asked) -> Found:
    """Probe the split's test slides.

    Raises
    ------
    EvaluationError
        If the store has no label with classes on the test slides, or no probe can be run.
    """
    if asked.label is None:
        msg = "No label of the test slides has two classes. Give one by --label, or annotate the slides."
        raise EvaluationError(msg)
    out = Found()
    rows: list[dict[str, Any]] = []
    plots = []
    for at, features in enumerate(FEATURES):
        asked.told("probe", at, len(FEATURES))
        try:
            result = run_probe(asked.store, _settings(asked, asked.label, features))
        except (ProbeError, EvaluationError) as error:
            out.notes.append(f"No probe on {features} embeddings: {error}")
            continue
        rows.append(_row(result, features))
        plots.append(_confusion(result, features))
        notes = [
            f"Probe on {features} embeddings: {one}" for one in (*result.notes, *result.warnings)
        ]
        out.notes += notes
    asked.told("probe", len(FEATURES), len(FEATURES))
    if not rows:
        raise EvaluationError(" ".join(out.notes))
    text = TEXT.format(label=asked.label)
    out.sections.append(section("Linear probe", text, [table(rows)], plots))
    return out


def _settings(asked: Asked, label: str, features: Features) -> ProbeSettings:
    """Choose spots that have what is looked at, their classes, and the coarsest unit of which they have several."""
    sides: tuple[Modality, ...] = ("image", "gene") if features == "both" else (features,)
    spots = read_spots(asked.store, sides, asked.split.test)
    slide_ids = [spots.slide_ids[at] for at in np.unique(spots.slide)]
    held = read_labelled(asked.store, label, slide_ids, _excluded(asked, label, slide_ids))
    return ProbeSettings(
        label=label,
        features=features,
        split=_split_of(len(np.unique(held.spots.patient)), len(np.unique(held.spots.slide))),
        slides=tuple(slide_ids),
        classes=tuple(held.classes[at] for at in np.unique(held.code)),
        seed=asked.settings.seed,
    )


def _excluded(asked: Asked, label: str, slide_ids: list[str]) -> list[str]:
    """Classes to leave out that these slides have."""
    rows = read_spots(asked.store, (), slide_ids).rows
    names = classes_of(asked.store.label(label, rows))[1]
    return [name for name in asked.settings.exclude if name in names]


def _split_of(n_patients: int, n_slides: int) -> Split:
    """Choose the coarsest unit of which there are several."""
    return "patient" if n_patients > 1 else "slide" if n_slides > 1 else "block"


def _row(result: ProbeResult, features: str) -> dict[str, Any]:
    mean, sd = result.level.mean, result.level.sd
    row: dict[str, Any] = {
        "features": features,
        "held out by": result.settings.split,
        "folds": len(result.folds),
        "N": len(result.predictions.rows),
        "classes": len(result.classes),
    }
    for name in ("balanced_accuracy", "macro_f1", "auroc"):
        row[name], row[f"{name} sd"] = mean[name], sd[name]
    row["chance"] = result.chance
    row["random features"] = result.levels["random_features"].mean["balanced_accuracy"]
    return row


def _confusion(result: ProbeResult, features: str) -> dict[str, Any]:
    return {
        "kind": "confusion",
        "data": {"classes": list(result.classes), "counts": result.confusion.tolist()},
        "caption": f"{features} embeddings: truth by row, said by column.",
    }
