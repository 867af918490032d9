"""Test slides by what is known of their patients: numbers of known patients say less, and never stand with those of new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stamp_index.evaluate.spots import EvaluatedSpots
    from stamp_index.evaluate.suite.asked import Asked

NEW: Final = "new patients"
TAUGHT: Final = "patients that were learnt from"
UNKNOWN: Final = "patients unknown"
UNSURE: Final = (
    "patients not known to be new"  # it is not on record whose slides the encoder learnt from
)


def groups(asked: Asked, spots: EvaluatedSpots) -> dict[str, list[str]]:
    """Test slides by what is known of their patients; each kind is a gallery of its own."""
    slides = asked.store.slides().set_index("slide_id")
    new = NEW if asked.split.is_history_known else UNSURE
    out: dict[str, list[str]] = {}
    for slide_id in spots.slide_ids:
        patient = slides.loc[slide_id, "patient_id"]
        kind = UNKNOWN if not patient else TAUGHT if patient in asked.split.taught else new
        out.setdefault(kind, []).append(slide_id)
    return {kind: out[kind] for kind in (NEW, UNSURE, TAUGHT, UNKNOWN) if kind in out}
