"""Runs of both stages side by side, as a table and as curves."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tests.test_stage1_training import in_microns, recipe, toys
from trainer.plot import plot_curves
from trainer.recipe import RecipeError
from trainer.report import command, compare
from trainer.stage1.command import train_on
from trainer.stage1.state import Run
from trainer.state import LOG, read_log

SPLIT = {"hash": "abc", "by": "patient", "train": ["A"], "validate": [], "held_out": ["B"]}
STAGE2 = {
    "recipe": {"name": "clip", "optimiser": {"epochs": 2}},
    "seed": 0,
    "split": SPLIT,
    "panel": "0123456789abcdef",
}
EPOCH = {"step": 5, "lr": 1e-3, "scale": 14.0, "seconds": 1.0, "loss": 2.0, "locate": 1.5}


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    """A run of stage 1 as the trainer writes it: an epoch of hidden genes, and two with niches."""
    folder = tmp_path_factory.mktemp("stage1")
    run = Run(folder, 0, quiet=True)
    train_on(in_microns(toys(3)), recipe("schedule.both_epochs=2"), run, hold_out=((), ("S3",)))
    assert len(read_log(folder)) > 3  # parts of epochs are logged too
    return folder


@pytest.fixture
def stage2(tmp_path):
    """A run of stage 2 in its two files."""
    folder = tmp_path / "stage2"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(STAGE2))
    records = [{"epoch": epoch, **EPOCH} for epoch in (1, 2)]
    (folder / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def table(*runs):
    """Cells of the report by the name of their row."""
    lines = [line for line in compare(runs).splitlines()[2:] if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {name: cells for name, *cells in rows}


def drawn(monkeypatch, runs, path):
    """The figure of runs, still open."""
    from matplotlib import pyplot as plt

    figures = []
    with monkeypatch.context() as patched:
        patched.setattr(plt, "close", figures.append)
        plot_curves(runs, path)
    plt.close(figures[0])
    return figures[0]


def test_a_run_of_stage_one_counts_its_epochs_and_shows_what_was_measured_alone(stage1):
    rows = table(stage1)
    assert rows["recipe"] == ["stage1_small"]
    assert rows["epochs"] == ["3 of 3"]
    last = read_log(stage1)[-1]
    for name in ("igr", "cgr", "accuracy", "probe_igr", "probe_niche_accuracy", "baseline_igr"):
        assert rows[name] == [f"{last[name]:.3f}"]
    assert not {"n_niches", "spots_per_s", "ends_epoch", "step", "epoch", "lr"} & set(rows)
    assert float(rows["seconds"][0]) == pytest.approx(
        sum(record["seconds"] for record in read_log(stage1)), abs=0.51
    )


def test_an_epoch_of_stage_one_that_was_not_finished_does_not_count(stage1, tmp_path):
    records = read_log(stage1)
    ends = [at for at, record in enumerate(records) if record.get("ends_epoch")]
    (tmp_path / "run.json").write_text((stage1 / "run.json").read_text())
    text = "".join(json.dumps(record) + "\n" for record in records[: ends[1]])
    (tmp_path / LOG).write_text(text)
    rows = table(tmp_path)
    assert rows["epochs"] == ["1 of 3"]
    assert rows["igr"] == [f"{records[ends[0]]['igr']:.3f}"]
    (tmp_path / LOG).write_text(json.dumps(records[0]) + "\n")
    assert table(tmp_path)["epochs"] == ["0 of 3"]


def test_both_stages_stand_side_by_side(stage1, stage2):
    rows = table(stage1, stage2)
    assert rows["epochs"] == ["3 of 3", "2 of 2"]
    assert rows["locate"] == ["", "1.500"]


def test_steps_that_were_skipped_are_no_loss(stage2):
    (stage2 / LOG).write_text(json.dumps({"epoch": 1, **EPOCH, "skipped_steps": 3}) + "\n")
    assert "skipped_steps" not in table(stage2)


def test_a_line_of_the_log_that_was_cut_off_is_left_out(stage1, stage2, tmp_path):
    with (stage2 / LOG).open("a") as log:
        log.write('{"epoch": 3, "step": 7, "lo')
    assert table(stage2)["epochs"] == ["2 of 2"]
    (tmp_path / "run.json").write_text((stage1 / "run.json").read_text())
    (tmp_path / LOG).write_text((stage1 / LOG).read_text()[:-20])
    assert table(tmp_path)["epochs"] == ["2 of 3"]
    plot_curves([tmp_path, stage2], tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"recipe": {"na', "run.json is damaged"),
        ("[]", "run.json holds no table of values"),
        ('{"recipe": {}, "seed": 0}', "run.json has no split, panel: it is not of a training run"),
    ],
)
def test_a_damaged_record_of_a_run_is_said_in_words(stage2, text, words):
    (stage2 / "run.json").write_text(text)
    done = CliRunner().invoke(command, [str(stage2)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert words in done.output


def test_a_damaged_evaluation_is_said_in_words(stage2):
    (stage2 / "evaluation.json").write_text('{"retrieval": [')
    done = CliRunner().invoke(command, [str(stage2)])
    assert done.exit_code == 1
    assert "evaluation.json is damaged" in done.output


def test_a_run_of_stage_one_is_drawn_with_its_losses_and_no_accuracy(stage1, tmp_path, monkeypatch):
    losses, scale, recall = drawn(monkeypatch, [stage1], tmp_path / "curves.png").axes
    labels = {line.get_label(): list(line.get_xdata()) for line in losses.lines}
    assert labels == {
        **dict.fromkeys(("igr", "probe_igr", "baseline_igr"), [1, 2, 3]),
        **dict.fromkeys(("cgr", "probe_cgr", "baseline_cgr"), [2, 3]),
    }
    assert losses.get_ylabel() == "loss"  # not all are in nats
    assert [text.get_text() for text in (*scale.texts, *recall.texts)] == [
        "no logit scale",
        "no validation",
    ]
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_every_run_of_either_stage_has_a_curve_among_others(stage1, stage2, tmp_path, monkeypatch):
    losses, scale, _ = drawn(monkeypatch, [stage1, stage2], tmp_path / "curves.png").axes
    assert [line.get_label() for line in losses.lines] == [f"{stage1.name}: igr", "stage2"]
    assert [len(line.get_xdata()) for line in losses.lines] == [3, 2]
    assert [line.get_ydata()[0] for line in losses.lines] == [1, 1]  # sums of different losses
    assert losses.get_ylabel() == "loss, as a share of its first value"
    assert [line.get_label() for line in scale.lines] == ["stage2"]


def validated(folder, recalls, losses, chance=0.1):
    """A run of stage 2 that was validated, from its start on, as the trainer logs it."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(STAGE2))
    records = [
        {"epoch": epoch, **(EPOCH if epoch else {"scale": 2.0}), "validation_recall": recall}
        for epoch, recall in enumerate(recalls)
    ]
    for record, loss in zip(records[1:], losses, strict=True):
        record["loss"] = loss
    (folder / LOG).write_text(
        "".join(json.dumps({**one, "validation_chance": chance}) + "\n" for one in records)
    )
    return folder


def test_losses_of_several_runs_are_shares_of_their_first_values(tmp_path, monkeypatch):
    runs = [
        validated(tmp_path / "a", [0.2, 0.3, 0.4], [8.0, 4.0]),
        validated(tmp_path / "b", [0.5, 0.3, 0.4], [0.5, 0.1]),
        validated(tmp_path / "c", [0.5, 0.3], [0.0]),
    ]
    figure = drawn(monkeypatch, runs, tmp_path / "curves.png")
    shares = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert shares == [[1.0, 0.5], [1.0, pytest.approx(0.2)]]


def test_recall_is_drawn_from_the_start_with_chance_and_what_was_kept(tmp_path, monkeypatch):
    runs = [
        validated(tmp_path / "a", [0.2, 0.3, 0.4], [8.0, 4.0]),
        validated(tmp_path / "b", [0.5, 0.3, 0.4], [0.5, 0.1]),
    ]
    for given in (runs, runs[1:]):
        figure = drawn(monkeypatch, given, tmp_path / "curves.png")
        recall = figure.axes[2]
        lines = {line.get_label(): line for line in recall.lines}
        assert list(lines["chance 0.1"].get_ydata()) == [0.1, 0.1]
        curve = lines["b" if len(given) > 1 else "mean of both"]
        assert list(curve.get_xdata()) == [0, 1, 2]
        rings = [line for line in recall.lines if line.get_marker() == "o"]
        kept = [(*line.get_xdata(), *line.get_ydata()) for line in rings]
        assert kept == [(2, 0.4), (0, 0.5)][-len(given) :]
        assert recall.get_ylim() == (0, pytest.approx(0.5, rel=0.1))


def test_a_run_without_steps_is_a_line_that_others_can_be_held_against(tmp_path, monkeypatch):
    runs = [
        validated(tmp_path / "a", [0.2, 0.3, 0.4], [8.0, 4.0]),
        validated(tmp_path / "b", [0.35], []),
    ]
    figure = drawn(monkeypatch, runs, tmp_path / "curves.png")
    level = [line for line in figure.axes[2].lines if set(line.get_ydata()) == {0.35}]
    assert {line.get_color() for line in level} == {"C1"}
    assert any(len(line.get_xdata()) == 2 for line in level)
    rows = table(*runs)
    assert rows["epochs"] == ["2 of 2", "0 of 2"]
    assert rows["weights are of epoch"] == ["2", "0 (the start)"]
    assert rows["best validation recall"] == ["0.400", "0.350"]
    assert rows["validation recall of the start"] == ["0.200", "0.350"]
    assert rows["validation recall by chance"] == ["0.100", "0.100"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": 5}, "recipe is 5; expected a table"),
        ({"recipe": {"name": 5}}, "name is 5; expected text"),
        ({"recipe": {"optimiser": 5}}, "optimiser is 5; expected a table"),
        ({"recipe": {"schedule": {"mask_epochs": 1}}}, "both_epochs is None; expected a whole number"),
        ({"split": {}}, "train is None; expected a list"),
        ({"split": {**SPLIT, "hash": 5}}, "hash is 5; expected text"),
        ({"panel": 5}, "panel is 5; expected text"),
        ({"seed": None}, "seed is None; expected a whole number"),
    ],
)  # fmt: skip
def test_a_record_of_a_run_with_another_kind_of_value_is_damaged(stage2, change, words):
    (stage2 / "run.json").write_text(json.dumps({**STAGE2, **change}))
    with pytest.raises(RecipeError, match=rf"run.json is damaged \({words}"):
        compare([stage2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"retrieval": 5}', "retrieval is 5; expected a list"),
        ('{"retrieval": [5]}', "a row of retrieval is 5; expected a table"),
        ('{"retrieval": [{}]}', "encoder is None; expected text"),
        ('{"retrieval": [{"encoder": "trained", "R@10": 0.5}]}', "gallery is None; expected text"),
        ('{"retrieval": [{"encoder": "trained", "gallery": "g", "direction": "d", "R@10": null}]}',
         "R@10 is None; expected a number"),
        ("[" * 100_000, "it nests too deeply"),
    ],
    ids=["number", "row", "encoder", "gallery", "recall", "deep"],
)  # fmt: skip
def test_an_evaluation_with_another_kind_of_value_is_damaged(stage2, text, words):
    (stage2 / "evaluation.json").write_text(text)
    with pytest.raises(RecipeError, match=rf"evaluation.json is damaged \({words}"):
        compare([stage2])


def test_what_is_no_number_in_a_log_is_skipped(stage2, tmp_path):
    odd = {"loss": None, "locate": "low", "scale": [], "validation_recall": None, "step": 10**400}
    records = [{"epoch": 1, **EPOCH}, {"epoch": 2, **EPOCH, **odd}, {"loss": 10**400}, odd]
    (stage2 / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = table(stage2)
    assert rows["seconds"] == ["2"]
    assert "loss" not in rows
    plot_curves([stage2], tmp_path / "one.png")
    plot_curves([stage2, stage2], tmp_path / "two.png")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.foo", "is no name of a picture; it must end in .png"),
        ("x", "is no name of a picture; it must end in .png"),
        ("no/such/x.png", "there is no folder"),
        ("stage2", "is a folder; give the name of a file, for example"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_table(
    stage2, tmp_path, name, words
):
    done = CliRunner().invoke(command, [str(stage2), "--png", str(tmp_path / name)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: --png ")
    assert words in done.output
    assert not list(tmp_path.glob("*.png"))


def test_curves_are_where_the_report_says(stage2, tmp_path):
    path = tmp_path / "curves.PNG"
    done = CliRunner().invoke(command, [str(stage2), "--png", str(path)])
    assert done.exit_code == 0
    assert f"Curves are in {path}." in done.output
    assert path.is_file()
