"""Splits: by patient or section, with validation slides, doubles refused, and frozen in a file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support import toy_slide
from trainer.recipe import RecipeError
from trainer.split import Split, Wish, make_split, read_split, refuse_doubles

PATIENTS = {"A": "P1", "B": "P1", "C": "P2", "D": "P3"}


@pytest.fixture(scope="module")
def slides():
    return [
        toy_slide(name, 12, seed, patient_id=patient)
        for seed, (name, patient) in enumerate(PATIENTS.items())
    ]


def test_a_held_out_patient_takes_all_its_slides_along(slides):
    split = make_split(slides, Wish(patients=["P1"]))
    assert split == Split("patient", ("C", "D"), (), ("A", "B"), PATIENTS)
    assert split.describe() == "Training on C, D; held out: A, B (split by patient)."


def test_validation_slides_neither_train_nor_are_held_out(slides):
    split = make_split(slides, Wish(patients=["P3"]), Wish(patients=["P2"]))
    assert (split.train, split.validate, split.held_out) == (("A", "B"), ("C",), ("D",))
    assert split.by == "patient"
    assert "validating on C" in split.describe()


@pytest.mark.parametrize(
    ("held", "checked"),
    [(Wish(slides=["A"]), Wish()), (Wish(), Wish(slides=["A"])), (Wish(slides=["A"]), Wish(slides=["B"]))],
    ids=["held out and trained", "validated and trained", "held out and validated"],
)  # fmt: skip
def test_a_patient_in_two_roles_makes_a_split_by_section_which_says_so(slides, held, checked):
    split = make_split(slides, held, checked)
    assert split.by == "section"
    assert "by section only" in split.describe()


def test_a_run_that_holds_nothing_out_says_that_it_cannot_be_measured(slides):
    split = make_split(slides, Wish())
    assert (split.by, split.held_out) == ("nothing", ())
    assert "recall cannot be measured" in split.describe()


@pytest.mark.parametrize(
    ("held", "checked", "message"),
    [
        (Wish(patients=["P9"]), Wish(), "No patient P9 among the slides; there are P1, P2, P3"),
        (Wish(slides=["Z"]), Wish(), "No slide Z among the slides; there are A, B, C, D"),
        (Wish(), Wish(slides=["Y"]), "No slide Y among the slides"),
        (Wish(patients=["P1", "P2", "P3"]), Wish(), "Every slide is held out; leave at least one"),
        (Wish(["P1"]), Wish(["P2", "P3"]), "Every slide is held out; leave at least one"),
        (Wish(slides=["A"]), Wish(patients=["P1"]), "A cannot be held out and validate at once"),
    ],
    ids=["patient", "slide", "validation slide", "all held out", "none left", "twice"],
)
def test_a_split_that_cannot_be_made_says_why(slides, held, checked, message):
    with pytest.raises(RecipeError, match=message):
        make_split(slides, held, checked)


def test_a_slide_without_an_image_may_be_held_out_but_not_trained_or_validated_on(slides):
    blind = replace(slides[3], image=None)
    given = [*slides[:3], blind]
    assert make_split(given, Wish(slides=["D"])).held_out == ("D",)
    with pytest.raises(RecipeError, match="without an image cannot be trained on: D"):
        make_split(given, Wish(slides=["C"]))
    with pytest.raises(RecipeError, match="without an image cannot be trained on: D"):
        make_split(given, Wish(), Wish(slides=["D"]))


def test_one_section_under_two_names_is_refused_by_its_counts(slides):
    renamed = replace(slides[0], slide_id="X", patient_id="P9", image=slides[1].image)
    with pytest.raises(
        RecipeError, match="A and X have the same counts: they are one section under two names"
    ):
        make_split([slides[0], slides[2], renamed], Wish(slides=["X"]))


def test_one_section_under_two_names_is_refused_by_its_image(slides):
    recounted = replace(slides[1], slide_id="X", patient_id="P9", image=slides[0].image)
    with pytest.raises(
        RecipeError, match="A and X have the same image: they are one section under two names"
    ):
        make_split([slides[0], slides[2], recounted], Wish(slides=["X"]))


def test_sections_of_one_patient_may_share_a_picture_but_those_without_a_name_may_not(slides):
    neighbour = replace(slides[1], image=slides[0].image)
    refuse_doubles([slides[0], neighbour])
    with pytest.raises(RecipeError, match="same image"):
        refuse_doubles([replace(slides[0], patient_id=""), replace(neighbour, patient_id="")])


def test_two_slides_with_one_id_are_refused(slides):
    with pytest.raises(RecipeError, match="Two slides have the id A"):
        make_split([slides[0], replace(slides[1], slide_id="A")], Wish())


# The file


@pytest.fixture
def frozen(tmp_path, slides):
    split = make_split(slides, Wish(patients=["P3"]), Wish(slides=["C"]))
    split.save(tmp_path)
    return split, tmp_path / "split.json"


def test_a_frozen_split_comes_back_whatever_the_order_of_the_slides(frozen, slides):
    split, path = frozen
    assert read_split(path, slides[::-1]) == split
    assert json.loads(path.read_text())["hash"] == split.hash


def test_the_hash_names_the_roles(slides):
    one = make_split(slides, Wish(slides=["A"]))
    assert one.hash == make_split(slides[::-1], Wish(slides=["A"])).hash
    assert one.hash != make_split(slides, Wish(slides=["B"])).hash
    assert one.hash != make_split(slides, Wish(), Wish(slides=["A"])).hash


def test_a_split_that_was_edited_is_refused(frozen, slides):
    _, path = frozen
    values = json.loads(path.read_text())
    values["train"], values["held_out"] = [*values["train"], "D"], []
    path.write_text(json.dumps(values))
    with pytest.raises(
        RecipeError, match=f"says hash {values['hash']}, its slides give .*it was edited"
    ):
        read_split(path, slides)


@pytest.mark.parametrize(
    "change",
    [{"by": "section"}, {"patients": {"A": "P9", "B": "P2", "C": "P3", "D": "P3"}}],
    ids=["by", "patients"],
)
def test_a_split_that_says_of_its_patients_what_the_slides_do_not_is_refused(
    frozen, slides, change
):
    split, path = frozen
    patients = {**split.patients, **change.get("patients", {})}
    path.write_text(json.dumps({**split.to_dict(), **change, "patients": patients}))
    with pytest.raises(RecipeError, match="Mend the slides' patient_id, or make the split again"):
        read_split(path, slides)


def test_a_frozen_split_does_not_train_a_slide_without_an_image(frozen, slides):
    split, path = frozen
    blind = [replace(s, image=None) if s.slide_id == split.train[0] else s for s in slides]
    with pytest.raises(RecipeError, match=f"cannot be trained on: {split.train[0]}"):
        read_split(path, blind)


def test_a_split_of_other_slides_is_refused(frozen, slides):
    _, path = frozen
    other = toy_slide("E", 12, 9, patient_id="P4")
    with pytest.raises(RecipeError, match="missing here D; not in it E. Give the same slides"):
        read_split(path, [*slides[:3], other])


def test_a_double_among_the_slides_of_a_frozen_split_is_refused(frozen, slides):
    _, path = frozen
    double = replace(slides[3], counts=slides[0].counts)
    with pytest.raises(RecipeError, match="A and D have the same counts"):
        read_split(path, [*slides[:3], double])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"train": 3}'], ids=["empty", "list", "nothing", "number"]
)
def test_a_file_that_is_no_split_is_refused(frozen, slides, text):
    _, path = frozen
    path.write_text(text)
    with pytest.raises(RecipeError, match="is not a split .*give the split.json of a run"):
        read_split(path, slides)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"held_out": ["A", "D"]}, "A trains and is held out. Each slide has one role"),
        ({"validate": ["B", "C"]}, "B trains and validates"),
        ({"train": ["A", "A", "B"]}, "A trains twice"),
        ({"train": [], "held_out": ["A", "B", "D"]}, "leaves no slide to train on"),
    ],
    ids=["trained and held out", "trained and validated", "twice", "none"],
)
def test_a_split_with_a_fitting_hash_still_gives_each_slide_one_role(
    frozen, slides, roles, message
):
    split, path = frozen
    changed = {role: tuple(names) for role, names in roles.items()}
    replace(split, **changed).save(path.parent)
    with pytest.raises(RecipeError, match=message):
        read_split(path, slides)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"train": "AB", "validate": [], "held_out": []}', '{"train": [["A"]]}', "\udc80"],
    ids=["deep", "text for a list", "list in a list", "no text"],
)  # fmt: skip
def test_a_damaged_split_is_said_in_words(frozen, slides, text):
    _, path = frozen
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecipeError, match="is not a split .*give the split.json of a run"):
        read_split(path, slides)


def test_a_split_that_is_missing_or_a_folder_is_said_in_words(tmp_path, slides):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(RecipeError, match="cannot be read .*give the split.json of a run"):
            read_split(path, slides)
