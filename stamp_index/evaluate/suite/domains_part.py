"""Spatial domains of a suite: clusters of the embeddings against the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stamp_index.evaluate.domains import evaluate_domains
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.spots import read_spots, surroundings_um
from stamp_index.evaluate.suite.asked import Found
from stamp_index.store.label_classes import classes_of

if TYPE_CHECKING:
    from stamp_index.evaluate.suite.asked import Asked


def _there(asked: Asked, label: str) -> list[str]:
    """Classes to leave out that the test slides have."""
    rows = read_spots(asked.store, (), asked.split.test).rows
    names = classes_of(asked.store.label(label, rows))[1]
    return [name for name in asked.settings.exclude if name in names]


def domains_part(asked: Asked) -> Found:
    """Cluster the split's test slides.

    Raises
    ------
    EvaluationError
        If the store has no label with classes on the test slides.
    """
    if asked.label is None:
        msg = "No label of the test slides has two classes. Give one by --label, or annotate the slides."
        raise EvaluationError(msg)
    radius = surroundings_um(read_spots(asked.store, (), asked.split.test))
    how: dict[str, Any] = {
        "slides": asked.split.test,
        "exclude": _there(asked, asked.label),
        "smoothing_um": (None,) if radius is None else (None, radius),
        "seeds": range(asked.settings.seed, asked.settings.seed + 5),
    }
    found = evaluate_domains(asked.store, asked.label, **how)
    for name, view in asked.raw.items():
        found = found.with_baseline(
            evaluate_domains(view, asked.label, features=("image",), **how), name
        )
    return Found([found.section()], notes=list(found.notes))
