"""Which slides were learnt from and which are tested, with a hash that every result carries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from stamp_index.store.view import StoreView

SplitBy = Literal["patient", "section"]


@dataclass(frozen=True)
class Split:
    """Slides of a store that are learnt from, and those that are tested.

    Attributes
    ----------
    by : {"patient", "section"}
        "section" where a patient of a tested slide was learnt from, which every result then says.
    train, test : tuple of str
        Slide ids, sorted. `train` may be empty: then nothing that needs training spots is measured.
    taught : tuple of str
        Patients that were learnt from, or chose the epoch, sorted; also such as have no slide in the store.
    is_history_known : bool
        Whether the encoder says what it learnt from, with a patient for every slide: else no patient is known to be new.
    """

    by: SplitBy
    train: tuple[str, ...]
    test: tuple[str, ...]
    taught: tuple[str, ...] = ()
    is_history_known: bool = True

    def __post_init__(self) -> None:
        if self.by not in get_args(SplitBy):
            msg = f"A split is by {' or '.join(get_args(SplitBy))}; this one says {self.by!r}."
            raise EvaluationError(msg)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over the sorted ids."""
        text = json.dumps([self.by, self.train, self.test, self.taught], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "by": self.by,
            "train": list(self.train),
            "test": list(self.test),
            "taught": list(self.taught),
            "is_history_known": self.is_history_known,
            "hash": self.hash,
        }


def split_by_patient(
    slides: pd.DataFrame, test_patients: Iterable[str], also_taught: Iterable[str] = ()
) -> Split:
    """Test some patients, learn from all others; slides of unknown patients are in neither part.

    Parameters
    ----------
    slides : DataFrame
        As `Store.slides` gives it.
    test_patients : iterable of str
    also_taught : iterable of str
        Patients that an encoder learnt from.

    Raises
    ------
    EvaluationError
        If there is no such patient, or one was learnt from.
    """
    patients = set(test_patients)
    unknown = patients - set(slides["patient_id"]) | (patients & {""})
    if unknown:
        held = ", ".join(sorted(set(slides["patient_id"]) - {""})) or "none"
        msg = f"There is no patient {', '.join(map(repr, sorted(unknown)))}; the store has {held}."
        raise EvaluationError(msg)
    known = slides[slides["patient_id"] != ""]
    tested = known["patient_id"].isin(patients)
    return make_split(
        slides,
        known.loc[~tested, "slide_id"],
        known.loc[tested, "slide_id"],
        also_taught=also_taught,
    )


def make_split(
    slides: pd.DataFrame,
    train: Iterable[str],
    test: Iterable[str],
    *,
    by: SplitBy = "patient",
    also_taught: Iterable[str] = (),
) -> Split:
    """Make a split of these slides.

    Parameters
    ----------
    slides : DataFrame
        As `Store.slides` gives it: slide_id and patient_id.
    train, test : iterable of str
        Slide ids.
    by : {"patient", "section"}
        "section" allows a patient on both sides.
    also_taught : iterable of str
        Patients that were learnt from besides those of `train`.

    Raises
    ------
    EvaluationError
        If a slide is on both sides or not in the store, nothing is tested, or a patient is on both sides of a split
        by patient.
    """
    learnt, tested = sorted(set(train)), sorted(set(test))
    patient_of = dict(zip(slides["slide_id"], slides["patient_id"], strict=True))
    unknown = [name for name in (*learnt, *tested) if name not in patient_of]
    if unknown:
        msg = f"There is no slide {', '.join(unknown)} in the store. Correct the split, or add the slides."
        raise EvaluationError(msg)
    if not tested:
        msg = (
            "The split tests no slide. Name at least one slide or patient that was not learnt from."
        )
        raise EvaluationError(msg)
    both = set(learnt) & set(tested)
    if both:
        msg = f"Slide {', '.join(sorted(both))} is learnt from and tested. Take it out of one side."
        raise EvaluationError(msg)
    taught = {*_patients(patient_of, learnt), *also_taught} - {""}
    shared = taught & _patients(patient_of, tested)
    if by == "patient" and shared:
        msg = (
            f"Patient {', '.join(sorted(shared))} is on both sides of the split: its sections look alike, so the result "
            'would be too good. Move the slides of a patient to one side, or say by="section", which every result then '
            "tells."
        )
        raise EvaluationError(msg)
    return Split(by, tuple(learnt), tuple(tested), tuple(sorted(taught)))


def split_of_encoder(store: StoreView) -> Split:
    """Split a store by the encoder that it carries: what that was trained on, and the other slides.

    Slides that chose the epoch (validation) are in neither part, and their patients count as learnt from. A store without its encoder, or with one that learnt
    from none of its slides, has no training slides.

    Raises
    ------
    EvaluationError
        If every slide was learnt from.
    """
    slides = store.slides()
    held = list(slides["slide_id"])
    taught = _training_split(store)
    train = [name for name in held if name in set(taught.get("train", ()))]
    seen = {*train, *taught.get("validate", ())}
    test = [name for name in held if name not in seen]
    if not held:
        msg = f"The store at {store.place} has no slide yet. Add some by stamp-index add."
        raise EvaluationError(msg)
    if not test:
        msg = (
            f"The encoder '{store.encoder}' learnt from every slide of the store ({', '.join(held[:8])}), so none is "
            "held out. Add slides of other patients."
        )
        raise EvaluationError(msg)
    # A training slide may lie in no store; its patient was seen all the same.
    named = set(taught_patients(store))
    patient_of = dict(zip(slides["slide_id"], slides["patient_id"], strict=True))
    shared = _patients(patient_of, test) & (named | _patients(patient_of, train))
    made = make_split(slides, train, test, by="section" if shared else "patient", also_taught=named)
    return replace(made, is_history_known=_is_history_known(taught))


def held_against_encoder(store: StoreView, split: Split) -> Split:
    """Hold a split against what the store's encoder learnt from, whoever made it.

    Returns
    -------
    Split
        The same with every patient that the encoder learnt from.

    Raises
    ------
    EvaluationError
        If a tested slide was learnt from or chose the epoch, or its patient was and the split is by patient.
    """
    history = _training_split(store)
    seen = {*history.get("train", ()), *history.get("validate", ())} & set(split.test)
    if seen:
        msg = (
            f"The split tests slide {', '.join(sorted(seen))}, on which the encoder '{store.encoder}' was trained or its "
            "epoch chosen. Test other slides."
        )
        raise EvaluationError(msg)
    taught = {*split.taught, *taught_patients(store)}
    made = make_split(store.slides(), split.train, split.test, by=split.by, also_taught=taught)
    known = split.is_history_known and _is_history_known(history)
    return replace(made, is_history_known=known)


def taught_patients(store: StoreView) -> tuple[str, ...]:
    """List the patients that the store's encoder is known to have learnt from, or whose slides chose its epoch."""
    split = _training_split(store)
    patients = split.get("patients", {})
    seen = (*split.get("train", ()), *split.get("validate", ()))
    return tuple(sorted({patients[name] for name in seen if patients.get(name)}))


def _is_history_known(history: dict[str, Any]) -> bool:
    """Whether every training slide has a patient on record."""
    patients = history.get("patients", {})
    train = history.get("train", ())
    return bool(train) and all(patients.get(name) for name in train)


def _training_split(store: StoreView) -> dict[str, Any]:
    from stamp_index.encoders import read_manifest
    from stamp_index.errors import StampIndexError

    try:
        folder = store.encoder_path
    except StampIndexError:
        return {}
    split: dict[str, Any] = read_manifest(folder)["training"].get("split", {})
    return split


def _patients(patient_of: dict[str, str], slide_ids: Sequence[str]) -> set[str]:
    return {patient_of[name] for name in slide_ids} - {""}
