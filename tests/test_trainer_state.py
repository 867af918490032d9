"""A run's state and log on disk: whole or as before, and refused where damaged."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from stamp_index.encoders.model import AlignModel
from tests.trainer_world import recipe_of
from trainer import environment
from trainer.objective import Objective
from trainer.recipe import RecipeError
from trainer.schedule import make_optimiser
from trainer.state import (
    LOG,
    STATE,
    Parts,
    Progress,
    append_log,
    best_record,
    check_same_run,
    load_state,
    note_in_run,
    read_log,
    run_lock,
    save_state,
)


def test_a_line_cut_off_by_a_kill_gives_way(tmp_path):
    append_log(tmp_path, {"epoch": 1, "loss": 3.0}, epoch=1)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"epoch": 2, "lo')
    append_log(tmp_path, {"epoch": 2, "loss": 2.0}, epoch=2)
    append_log(tmp_path, {"epoch": 2, "loss": 1.0}, epoch=2)
    assert read_log(tmp_path) == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.0}]


def test_a_log_whose_last_line_was_cut_off_is_read_without_it(tmp_path):
    append_log(tmp_path, {"epoch": 1, "loss": 3.0}, epoch=1)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert read_log(tmp_path) == [{"epoch": 1, "loss": 3.0}]


def test_a_full_disk_keeps_what_a_run_was_told(tmp_path):
    check_same_run(tmp_path, {"seed": 1})
    before = (tmp_path / "run.json").read_text()
    (tmp_path / "run.tmp").symlink_to("/dev/full")  # where every write finds no space
    with pytest.raises(OSError, match="No space left"):
        check_same_run(tmp_path, {"seed": 2})
    assert (tmp_path / "run.json").read_text() == before


def test_a_run_that_holds_something_is_not_replaced_by_another(tmp_path):
    check_same_run(tmp_path, {"seed": 1})
    check_same_run(tmp_path, {"seed": 2})  # nothing is lost yet
    (tmp_path / STATE).touch()
    check_same_run(tmp_path, {"seed": 2})
    with pytest.raises(RecipeError, match="holds a run with another seed"):
        check_same_run(tmp_path, {"seed": 1})


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{\xff")]
)
def test_a_run_whose_record_is_lost_is_not_taken_for_any_other(tmp_path, damage):
    check_same_run(tmp_path, {"seed": 1})
    (tmp_path / STATE).touch()
    damage(tmp_path / "run.json")
    with pytest.raises(RecipeError, match=r"run\.json is missing or damaged"):
        check_same_run(tmp_path, {"seed": 1})


def test_two_processes_do_not_train_into_one_folder(tmp_path):
    with (
        run_lock(tmp_path / "run"),
        pytest.raises(RecipeError, match="Another process trains into"),
        run_lock(tmp_path / "run"),
    ):
        pass
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_run_is_not_written_into_a_file(tmp_path):
    (tmp_path / "run").write_text("notes")
    with (
        pytest.raises(RecipeError, match="run cannot be written .*Give a folder that is a run's"),
        run_lock(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "run").read_text() == "notes"


def test_a_run_that_differs_in_two_things_names_both(tmp_path):
    check_same_run(tmp_path, {"seed": 1, "panel": "a", "recipe": {"name": "stamp"}})
    (tmp_path / STATE).touch()
    with pytest.raises(RecipeError, match="holds a run with another seed and panel. Give"):
        check_same_run(tmp_path, {"seed": 2, "panel": "b", "recipe": {"name": "stamp"}})


def test_a_run_that_differs_in_many_keys_of_its_recipe_names_the_first_and_counts_the_others(
    tmp_path,
):
    check_same_run(tmp_path, {"recipe": {"a": 1, "b": {"c": 2, "d": [3]}, "old": 4}})
    (tmp_path / STATE).touch()
    words = r"another recipe\.a, recipe\.b\.c, recipe\.b\.d and 2 more\. Give"
    with pytest.raises(RecipeError, match=words):
        check_same_run(tmp_path, {"recipe": {"a": 0, "b": {"c": 0, "d": [0]}, "new": 4}})


def test_notes_decide_nothing_and_are_replaced_by_those_of_now(tmp_path):
    check_same_run(tmp_path, {"seed": 1}, notes={"features": "/a"})
    note_in_run(tmp_path, kept_epoch=3)
    noted = {"seed": 1, "features": "/a", "kept_epoch": 3}
    assert json.loads((tmp_path / "run.json").read_text()) == noted
    (tmp_path / STATE).touch()
    check_same_run(tmp_path, {"seed": 1}, notes={"features": "/b"})
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 1, "features": "/b"}
    with pytest.raises(RecipeError, match="holds a run with another seed. Give"):
        check_same_run(tmp_path, {"seed": 2}, notes={"features": "/b"})


def test_the_best_record_is_the_first_of_the_best_and_no_number_is_none():
    records = [
        {"epoch": 0, "validation_recall": recall, "at": at}
        for at, recall in enumerate([None, 0.2, float("nan"), 0.4, 0.4, "0.9", True])
    ]
    assert best_record(records)["at"] == 3
    assert best_record([{"epoch": 1, "loss": 2.0}]) is None


def test_an_interrupt_in_the_middle_of_a_write_is_no_full_disk(tmp_path, monkeypatch):
    def interrupted(values, file):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")  # as torch's writer does on its way out

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, small_parts(), Progress(step=4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["5", "{}", "[]", '{"epoch": "x"}', "\udcff"])
def test_a_line_of_the_log_that_is_no_record_is_left_out(tmp_path, line):
    append_log(tmp_path, {"epoch": 1, "loss": 3.0}, epoch=1)
    with (tmp_path / LOG).open("ab") as file:
        file.write(f"{line}\n".encode(errors="surrogateescape"))
    append_log(tmp_path, {"epoch": 2, "loss": 2.0}, epoch=2)
    assert read_log(tmp_path) == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]


def test_the_environment_that_a_run_began_in_stays_and_others_are_added(tmp_path, monkeypatch):
    path = tmp_path / "environment.json"
    for commit in ("a", "a", "b", "b", "a"):
        monkeypatch.setattr(environment, "environment", lambda commit=commit: {"commit": commit})
        environment.record_environment(path)
    assert json.loads(path.read_text()) == {
        "commit": "a",
        "resumed": [{"commit": "b"}, {"commit": "a"}],
    }


def small_parts(dim=8):
    recipe = recipe_of(
        {"kind": "clip", "left": "patch", "right": "gene"},
        model={"dim": dim, "gene_tower": {"kind": "profile", "width": 8}, "image_tower": {"kind": "hybrid", "width": 16}},
    )  # fmt: skip
    model, objective = AlignModel(recipe.model, 12), Objective(recipe)
    return Parts(model, objective, make_optimiser((model, objective), recipe.optimiser))


def test_a_full_disk_keeps_the_state_before_and_says_so(tmp_path):
    parts = small_parts()
    save_state(tmp_path, parts, Progress(step=3))
    before = (tmp_path / STATE).read_bytes()
    (tmp_path / f"{STATE}.tmp").symlink_to("/dev/full")  # where every write finds no space
    with pytest.raises(
        OSError, match=f"not written to {tmp_path} .*No space left.*one before is still there"
    ):
        save_state(tmp_path, parts, Progress(step=4))
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("inline_container: unexpected pos")],
)
def test_a_write_that_breaks_off_in_the_middle_keeps_the_state_before(tmp_path, monkeypatch, error):
    parts = small_parts()
    save_state(tmp_path, parts, Progress(step=3))

    def half(values, file):
        file.write(b"x" * 1000)
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="The state of the run was not written"):
        save_state(tmp_path, parts, Progress(step=4))
    monkeypatch.undo()
    assert load_state(tmp_path, small_parts()).step == 3
    assert not (tmp_path / f"{STATE}.tmp").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:3000],
        lambda raw: b"",
        lambda raw: b"hello world" * 100,
        lambda raw: bytes(200) + raw[200:],
    ],
    ids=["cut off", "cut short", "empty", "another file", "start lost"],
)
def test_a_damaged_state_is_named(tmp_path, damage):
    save_state(tmp_path, small_parts(), Progress(step=3))
    (tmp_path / STATE).write_bytes(damage((tmp_path / STATE).read_bytes()))
    with pytest.raises(RecipeError, match=r"state\.pt is damaged or of another architecture"):
        load_state(tmp_path, small_parts())


def test_a_state_of_another_architecture_or_content_is_refused(tmp_path):
    save_state(tmp_path, small_parts(dim=8), Progress(step=3))
    with pytest.raises(RecipeError, match="damaged or of another architecture"):
        load_state(tmp_path, small_parts(dim=4))
    torch.save({"model": {}}, tmp_path / STATE)
    with pytest.raises(RecipeError, match="damaged or of another architecture"):
        load_state(tmp_path, small_parts())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["model"]["heads.gene.weight"].fill_(float("nan")), "not finite"),
        (lambda state: state["progress"].update(step=-5), "progress is"),
        (lambda state: state["progress"].update(step="a"), "progress is"),
        (lambda state: state["progress"].update(sums=5), "no attribute"),
        (lambda state: state.update(best=5), "no attribute"),
        (lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(3)), "of shape"),
    ],
    ids=["nan", "negative step", "no step", "sums", "best", "moments"],
)
def test_a_state_whose_contents_cannot_be_is_refused(tmp_path, change, words):
    parts = small_parts()
    for parameter in parts.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    parts.optimiser.step()
    save_state(tmp_path, parts, Progress(step=3))
    state = torch.load(tmp_path / STATE, weights_only=True)
    change(state)
    torch.save(state, tmp_path / STATE)
    with pytest.raises(RecipeError, match=f"is damaged or of another architecture .*{words}"):
        load_state(tmp_path, small_parts())


def test_a_state_that_would_run_code_is_refused_without_advice_to_trust_it(tmp_path):
    (tmp_path / STATE).write_bytes(pickle.dumps({"model": print}, protocol=2))
    with pytest.raises(RecipeError, match="more than tensors and plain values") as caught:
        load_state(tmp_path, small_parts())
    assert "weights_only" not in str(caught.value)


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    parts = small_parts()
    progress = Progress(7, {"loss": 2.5, "steps": 2.0}, 0.25, 3, 1)
    parts.best = {"x": torch.arange(3)}
    parts.objective.log_scale.data.fill_(1.5)
    save_state(tmp_path, parts, progress)
    again = small_parts()
    assert load_state(tmp_path, again) == progress
    theirs = parts.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in again.model.state_dict().items())
    assert again.objective.log_scale.item() == 1.5
    assert torch.equal(again.best["x"], parts.best["x"])
    assert json.loads(json.dumps(vars(progress))) == vars(progress)
