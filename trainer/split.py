"""Which slides train and which are held out: by patient, or by section where there is one patient only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stamp_index.slides import Slide


@dataclass(frozen=True)
class Split:
    """Slide ids of both sides.

    Attributes
    ----------
    by : str
        ``patient`` where no patient is on both sides, else ``section``.
    train, held_out : tuple of str
        Slide ids, sorted.
    patients : dict of str to str
        Patient of each slide.
    """

    by: Literal["patient", "section", "nothing"]
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    patients: dict[str, str]

    @property
    def hash(self) -> str:
        """Hash of the ids, to name the split in results."""
        text = json.dumps([self.train, self.held_out])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return {
            **values,
            "train": list(self.train),
            "held_out": list(self.held_out),
            "hash": self.hash,
        }

    def save(self, folder: Path) -> None:
        """Write ``split.json``."""
        (folder / "split.json").write_text(json.dumps(self.to_dict(), indent=1))

    def describe(self) -> str:
        """One sentence for the person who trains."""
        ends = {
            "patient": "held out by patient",
            "section": "held out by section only: a patient of the held-out slides is also trained on",
            "nothing": "nothing held out: recall cannot be measured on this run",
        }
        held = f"; held out: {', '.join(self.held_out)}" if self.held_out else ""
        return f"Training on {', '.join(self.train)}{held} ({ends[self.by]})."


def make_split(slides: Sequence[Slide], patients: Sequence[str], slide_ids: Sequence[str]) -> Split:
    """Split slides into training and held out.

    Raises
    ------
    RecipeError
        If a name is unknown, two slides share an id, a slide has no image, or nothing is left to train on.
    """
    ids = [slide.slide_id for slide in slides]
    patient_of = {slide.slide_id: slide.patient_id for slide in slides}
    doubled = sorted({name for name in ids if ids.count(name) > 1})
    if doubled:
        msg = f"Two slides have the id {', '.join(doubled)}; give each slide its own slide_id."
        raise RecipeError(msg)
    for given, known, what in (
        (patients, set(patient_of.values()), "patient"),
        (slide_ids, ids, "slide"),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            msg = f"No {what} {', '.join(unknown)} among the slides; there are {', '.join(sorted(known))}."
            raise RecipeError(msg)
    held = [name for name in ids if patient_of[name] in patients or name in slide_ids]
    train = [name for name in ids if name not in held]
    if not train:
        msg = "Every slide is held out; leave at least one to train on."
        raise RecipeError(msg)
    blind = sorted(
        slide.slide_id for slide in slides if slide.image is None and slide.slide_id in train
    )
    if blind:
        msg = f"Slides without an image cannot be trained on: {', '.join(blind)}. Leave them out."
        raise RecipeError(msg)
    shared = {patient_of[name] for name in train} & {patient_of[name] for name in held}
    by: Literal["patient", "section", "nothing"] = "section" if shared else "patient"
    return Split(by if held else "nothing", tuple(sorted(train)), tuple(sorted(held)), patient_of)
