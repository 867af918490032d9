"""Which slides train, which validate and which are held out: by patient, or by section and saying so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stamp_index.slides import Slide

Role = Literal["train", "validate", "held_out"]


@dataclass(frozen=True)
class Wish:
    """Patients and slides that a person keeps out of training, for one role."""

    patients: Sequence[str] = ()
    slides: Sequence[str] = ()


@dataclass(frozen=True)
class Split:
    """Slide ids of each role.

    Attributes
    ----------
    by : str
        ``patient`` where no patient is on both sides, else ``section``; ``nothing`` where all slides train.
    train, validate, held_out : tuple of str
        Slide ids, sorted.
    patients : dict of str to str
        Patient of each slide.
    """

    by: Literal["patient", "section", "nothing"]
    train: tuple[str, ...]
    validate: tuple[str, ...]
    held_out: tuple[str, ...]
    patients: dict[str, str]

    @property
    def hash(self) -> str:
        """Hash of the ids, to name the split in results."""
        text = json.dumps([self.train, self.validate, self.held_out])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        roles = {role: list(getattr(self, role)) for role in ("train", "validate", "held_out")}
        return {"by": self.by, **roles, "patients": self.patients, "hash": self.hash}

    def save(self, folder: Path) -> None:
        """Write ``split.json``."""
        (folder / "split.json").write_text(json.dumps(self.to_dict(), indent=1))

    def describe(self) -> str:
        """One sentence for the person who trains."""
        ends = {
            "patient": "split by patient",
            "section": "held out by section only: a patient of the held-out slides is also trained on",
            "nothing": "nothing held out: recall cannot be measured on this run",
        }
        held = f"; held out: {', '.join(self.held_out)}" if self.held_out else ""
        checked = f"; validating on {', '.join(self.validate)}" if self.validate else ""
        return f"Training on {', '.join(self.train)}{checked}{held} ({ends[self.by]})."


def make_split(slides: Sequence[Slide], held_out: Wish, validate: Wish | None = None) -> Split:
    """Split slides by what is held out and what validates.

    Raises
    ------
    RecipeError
        If a name is unknown, a slide is wished for twice, two slides share an id or their contents, a slide
        that trains or validates has no image, or nothing is left to train on.
    """
    validate = validate or Wish()
    patient_of = {slide.slide_id: slide.patient_id for slide in slides}
    refuse_doubles(slides)
    for wish in (held_out, validate):
        _check_known(wish, patient_of)
    held, checked = _chosen(held_out, patient_of), _chosen(validate, patient_of)
    both = sorted(set(held) & set(checked))
    if both:
        msg = (
            f"{', '.join(both)} cannot be held out and validate at once; name each for one of them."
        )
        raise RecipeError(msg)
    train = [name for name in patient_of if name not in {*held, *checked}]
    if not train:
        msg = "Every slide is held out; leave at least one to train on."
        raise RecipeError(msg)
    _check_pictured(slides, {*train, *checked})
    roles = (tuple(sorted(names)) for names in (train, checked, held))
    return _split(*roles, patient_of)


def _split(
    train: tuple[str, ...],
    checked: tuple[str, ...],
    held: tuple[str, ...],
    patient_of: dict[str, str],
) -> Split:
    """Say of three roles what they are kept apart by."""
    patients = [{patient_of[name] for name in names} for names in (train, checked, held)]
    shared = any(one & other for one, other in combinations(patients, 2))
    by: Literal["patient", "section", "nothing"] = "section" if shared else "patient"
    if not (held or checked):
        by = "nothing"
    return Split(by, train, checked, held, patient_of)


def read_split(path: Path, slides: Sequence[Slide]) -> Split:
    """Read a frozen split and check that it is about these slides.

    Raises
    ------
    RecipeError
        If the file cannot be read, was changed after it was written, gives a slide two roles, trains on none, names
        other slides, would train on a double or on a slide without an image, or says of the patients what the
        slides do not.
    """
    split = _frozen(path)
    _check_roles(path, split)
    refuse_doubles(slides)
    roles = (split.train, split.validate, split.held_out)
    there = {slide.slide_id for slide in slides}
    named = {name for role in roles for name in role}
    if there != named:
        msg = (
            f"{path} is a split of other slides: missing here {', '.join(sorted(named - there)) or 'none'}; not in it "
            f"{', '.join(sorted(there - named)) or 'none'}. Give the same slides."
        )
        raise RecipeError(msg)
    _check_pictured(slides, {*split.train, *split.validate})
    found = _split(*roles, {slide.slide_id: slide.patient_id for slide in slides})
    if found != split:
        msg = (
            f"{path} splits by {split.by}, with patients {split.patients}; the slides say {found.by}, with {found.patients}. "
            "Mend the slides' patient_id, or make the split again."
        )
        raise RecipeError(msg)
    return split


def _frozen(path: Path) -> Split:
    """Read the file of a split, as it was written."""
    try:
        values = json.loads(path.read_text())
        ids = {role: _names(role, values[role]) for role in ("train", "validate", "held_out")}
        split = Split(values["by"], **ids, patients=dict(values["patients"]))
    except OSError as exc:
        msg = f"{path} cannot be read ({exc.strerror}); give the split.json of a run."
        raise RecipeError(msg) from exc
    except RecursionError as exc:
        msg = f"{path} is not a split (it nests too deeply); give the split.json of a run."
        raise RecipeError(msg) from exc
    except (ValueError, KeyError, TypeError) as exc:
        # Not its repr: that of a UnicodeDecodeError holds the whole file.
        reason = f"{type(exc).__name__}: {exc}"
        msg = f"{path} is not a split ({reason}); give the split.json of a run."
        raise RecipeError(msg) from exc
    if split.hash != values.get("hash"):
        msg = f"{path} says hash {values.get('hash')}, its slides give {split.hash}: it was edited. Make it again."
        raise RecipeError(msg)
    return split


def _names(role: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        msg = f"{role} is no list of slide ids"
        raise TypeError(msg)
    return tuple(given)


def _check_roles(path: Path, split: Split) -> None:
    """Refuse a slide in two roles or twice in one, which would leak whatever the hash says, and no training."""
    acts = {"train": "trains", "validate": "validates", "held_out": "is held out"}
    taken: dict[str, str] = {}
    for role, act in acts.items():
        for name in getattr(split, role):
            if name in taken:
                twice = f"{act} twice" if taken[name] == act else f"{taken[name]} and {act}"
                msg = f"{path} is no split: {name} {twice}. Each slide has one role, once; make the split again."
                raise RecipeError(msg)
            taken[name] = act
    if not split.train:
        msg = f"{path} leaves no slide to train on; make a split that trains on at least one."
        raise RecipeError(msg)


def refuse_doubles(slides: Sequence[Slide]) -> None:
    """Refuse two slides with one id, one image or the same counts: one could train and the other be held out."""
    ids = [slide.slide_id for slide in slides]
    doubled = sorted({name for name in ids if ids.count(name) > 1})
    if doubled:
        msg = f"Two slides have the id {', '.join(doubled)}; give each slide its own slide_id."
        raise RecipeError(msg)
    seen: dict[tuple[str, str], str] = {}
    for slide in slides:
        marks = [("counts", slide.counts_hash())]
        if slide.image is not None:
            marks.append(("image", slide.image.content_hash()))
        for what, mark in marks:
            other = seen.setdefault((what, mark), slide.slide_id)
            if other != slide.slide_id and not (
                what == "image" and _parts_of_one(slides, other, slide)
            ):
                msg = (
                    f"Slides {other} and {slide.slide_id} have the same {what}: they are one section under two names, "
                    "and would be on both sides of a split. Leave one out."
                )
                raise RecipeError(msg)


def _parts_of_one(slides: Sequence[Slide], other: str, slide: Slide) -> bool:
    """Say whether two slides of one patient share a picture that holds several sections."""
    first = next(found for found in slides if found.slide_id == other)
    return bool(first.patient_id) and first.patient_id == slide.patient_id


def _check_known(wish: Wish, patient_of: Mapping[str, str]) -> None:
    for given, known, what in (
        (wish.patients, set(patient_of.values()), "patient"),
        (wish.slides, set(patient_of), "slide"),
    ):
        unknown = sorted(set(given) - known)
        if unknown:
            msg = f"No {what} {', '.join(unknown)} among the slides; there are {', '.join(sorted(known))}."
            raise RecipeError(msg)


def _chosen(wish: Wish, patient_of: Mapping[str, str]) -> list[str]:
    return [n for n, patient in patient_of.items() if patient in wish.patients or n in wish.slides]


def _check_pictured(slides: Sequence[Slide], names: set[str]) -> None:
    blind = sorted(s.slide_id for s in slides if s.image is None and s.slide_id in names)
    if blind:
        msg = f"Slides without an image cannot be trained on: {', '.join(blind)}. Leave them out."
        raise RecipeError(msg)
