"""What an encoder learnt from decides what a report may call new: its training and validation slides, or no record at all."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")

from stamp_index.embed.folder import embed_into
from stamp_index.encoders.checkpoint import load_encoder, save_encoder
from stamp_index.evaluate import (
    EvaluationError,
    SuiteSettings,
    evaluate_store,
    make_split,
    split_by_patient,
    split_of_encoder,
    taught_patients,
)
from tests.public_files import write_encoder
from tests.support import TOY_GENES, toy_slide

PATIENTS = {"t1": "P1", "t2": "P1", "v1": "P2", "v2": "P2", "n1": "P3", "n2": "P4"}
RETRIEVAL = SuiteSettings(parts=("retrieval",))


def store_with(folder, split):
    """Six slides of four patients in a store whose encoder has this on record."""
    path = write_encoder(folder / "checkpoint", TOY_GENES[:20], size_px=32)
    if split is not None:
        save_encoder(load_encoder(path), path, training={"split": split})
    slides = [
        toy_slide(name, 20, seed=at, patient_id=patient)
        for at, (name, patient) in enumerate(PATIENTS.items())
    ]
    return embed_into(folder / "store", slides, encoder_path=path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    split = {"by": "patient", "train": ["t1"], "validate": ["v1"], "test": [], "patients": PATIENTS}
    return store_with(tmp_path_factory.mktemp("known"), split)


def kinds(report):
    rows = report.rows("Retrieval within each slide")
    return {row["slide"]: row["test spots of"] for row in rows}


def test_patients_whose_slides_chose_the_epoch_are_not_new(store):
    assert taught_patients(store) == ("P1", "P2")
    split = split_of_encoder(store)
    assert (split.train, split.by) == (("t1",), "section")
    assert split.test == ("n1", "n2", "t2", "v2")
    assert split.is_history_known
    found = kinds(evaluate_store(store, split, RETRIEVAL))
    assert found == {
        "t2": "patients that were learnt from",
        "v2": "patients that were learnt from",
        "n1": "new patients",
        "n2": "new patients",
    }
    with pytest.raises(EvaluationError, match="P2 is on both sides"):
        split_by_patient(store.slides(), ["P2"], taught_patients(store))


def test_a_given_split_is_held_against_what_the_encoder_learnt_from(store):
    slides = store.slides()
    with pytest.raises(EvaluationError, match="tests slide t1, on which the encoder"):
        evaluate_store(store, make_split(slides, ["t2"], ["t1"], by="section"), RETRIEVAL)
    with pytest.raises(EvaluationError, match="tests slide v1"):
        evaluate_store(store, make_split(slides, ["n1"], ["v1", "n2"]), RETRIEVAL)
    with pytest.raises(EvaluationError, match="P1 is on both sides"):
        evaluate_store(store, make_split(slides, ["n1"], ["t2"]), RETRIEVAL)
    report = evaluate_store(store, make_split(slides, ["n1"], ["t2"], by="section"), RETRIEVAL)
    assert kinds(report) == {"t2": "patients that were learnt from"}
    assert report.split["taught"] == ["P1", "P2", "P3"]
    fine = evaluate_store(store, make_split(slides, ["n1"], ["n2"]), RETRIEVAL)
    assert kinds(fine) == {"n2": "new patients"}


@pytest.mark.parametrize("record", [None, "without patients"])
def test_without_a_record_nobody_is_called_new(tmp_path, record):
    patients = dict.fromkeys(PATIENTS, "")
    split = {"by": "slide", "train": ["t1"], "validate": [], "test": [], "patients": patients}
    store = store_with(tmp_path, split if record else None)
    made = split_of_encoder(store)
    assert not made.is_history_known
    report = evaluate_store(store, make_split(store.slides(), ["n1"], ["n2"]), RETRIEVAL)
    assert kinds(report) == {"n2": "patients not known to be new"}
    assert any("not on record which patients" in note for note in report.notes)
    assert not report.split["is_history_known"]
    assert dataclasses.replace(made, is_history_known=True).hash == made.hash
