"""Linear probes of a suite: what image, gene and both embeddings tell of the label, with whole patients held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.domains.labels import read_labelled
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.probe import ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.suite.asked import Found, section, table

if TYPE_CHECKING:
    from stamp_index.evaluate.probe import ProbeResult
    from stamp_index.evaluate.probe.settings import Features, Split
    from stamp_index.evaluate.suite.asked import Asked

FEATURES: Final[tuple[Features, ...]] = ("image", "gene", "both")
TEXT: Final = (
    "Logistic regression on the frozen embeddings tells the classes of '{label}' apart, each {unit} held out in turn; the "
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
    held = read_labelled(asked.store, asked.label, asked.split.test, asked.settings.exclude)
    split = _split_of(len(np.unique(held.spots.patient)), len(np.unique(held.spots.slide)))
    out = Found(notes=list(held.notes))
    rows: list[dict[str, Any]] = []
    plots = []
    for at, features in enumerate(FEATURES):
        asked.told("probe", at, len(FEATURES))
        settings = ProbeSettings(
            label=asked.label,
            features=features,
            split=split,
            slides=asked.split.test,
            classes=tuple(np.array(held.classes)[np.unique(held.code)]),
            seed=asked.settings.seed,
        )
        try:
            result = run_probe(asked.store, settings)
        except ProbeError as error:
            out.notes.append(f"No probe on {features} embeddings: {error}")
            continue
        rows.append(_row(result, features, split))
        plots.append(_confusion(result, features))
        out.notes += [note for note in (*result.notes, *result.warnings) if note not in out.notes]
    asked.told("probe", len(FEATURES), len(FEATURES))
    if not rows:
        raise EvaluationError(" ".join(out.notes))
    text = TEXT.format(label=asked.label, unit=split)
    out.sections.append(section("Linear probe", text, [table(rows)], plots))
    return out


def _split_of(n_patients: int, n_slides: int) -> Split:
    """Choose the coarsest unit of which there are several."""
    return "patient" if n_patients > 1 else "slide" if n_slides > 1 else "block"


def _row(result: ProbeResult, features: str, split: str) -> dict[str, Any]:
    mean, sd = result.level.mean, result.level.sd
    row: dict[str, Any] = {
        "features": features,
        "held out by": split,
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
