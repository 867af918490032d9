"""The trainer's commands from slides on disk to a run folder, its card, and runs side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from stamp_index.encoders import load_encoder
from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.stage1_weights import save_stage1
from stamp_index.genes import GenePanel
from stamp_index.phantom import make_phantom
from tests.trainer_world import PIXELS, TINY, small_slides
from trainer.__main__ import main
from trainer.card import write_card
from trainer.plot import plot_curves, run_labels
from trainer.prepare import Job, stage1_overlap
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe
from trainer.report import compare
from trainer.split import Wish, make_split
from trainer.state import LOG, STATE, best_record, read_log
from trainer.train import train_slides
from trainer.validation import Validator


def invoke(*arguments, sets=()):
    """Run ``python -m trainer ARGUMENTS``."""
    overrides = [part for override in sets for part in ("--set", override)]
    return CliRunner().invoke(main, [*map(str, arguments), *overrides])


def contents(folder):
    """Every file of a run with its bytes."""
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# From slides on disk


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, n_patients=3, slides_per_patient=1, spots_per_slide=40, workers=1)
    return folder


@pytest.fixture(scope="module")
def trained(phantom, tmp_path_factory):
    """A run of two epochs on one patient, validated on the second, without the third."""
    out = tmp_path_factory.mktemp("runs") / "first"
    arguments = [
        "train",
        phantom,
        "--out",
        out,
        "--validate-patient",
        "P2",
        "--hold-out-patient",
        "P3",
    ]
    done = invoke(*arguments, sets=(*TINY, "optimiser.epochs=2"))
    return out, arguments, done


@pytest.mark.slow
def test_the_command_trains_and_says_on_what_and_where_the_encoder_is(trained):
    out, _, done = trained
    assert done.exit_code == 0, done.output
    assert "Training on P1_A; validating on P2_A; held out: P3_A (split by patient)." in done.output
    assert (
        f"Encoder stamp {load_encoder(out / 'encoder').fingerprint} is in {out / 'encoder'}."
        in done.output
    )


@pytest.mark.slow
def test_a_runs_folder_holds_all_that_it_takes_to_trust_and_repeat_it(trained):
    out, _, _ = trained
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "run.json",
        "split.json",
        "environment.json",
        LOG,
        STATE,
        "curves.png",
        "encoder",
        "ridge",
    }
    assert load_encoder(out / "encoder").name == "stamp"
    assert load_encoder(out / "ridge").name == "ridge"
    assert (out / "curves.png").stat().st_size > 5_000
    split = json.loads((out / "split.json").read_text())
    assert (split["train"], split["validate"], split["held_out"]) == (["P1_A"], ["P2_A"], ["P3_A"])
    made = json.loads((out / "run.json").read_text())
    assert made["recipe"]["optimiser"]["epochs"] == 2
    assert set(made["slides"]) == {"P1_A", "P2_A"}
    environment = json.loads((out / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["device"]
    records = read_log(out)
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert all(0 <= record["validation_recall"] <= 1 for record in records)
    assert all(record["validation_chance"] == 10 / 40 for record in records)
    assert made["kept_epoch"] == best_record(records)["epoch"]


@pytest.mark.slow
def test_the_card_names_data_split_numbers_limits_and_the_command(trained):
    out, _, _ = trained
    card = (out / "encoder" / "CARD.md").read_text()
    split = json.loads((out / "split.json").read_text())
    fingerprint = load_encoder(out / "encoder").fingerprint
    assert card.startswith(f"# Encoder stamp {fingerprint}")
    for part in (
        "Trained on P1_A: patients P1.", "Validated on P2_A; held out P3_A", split["hash"],
        "2 epochs", "The weights are those of ", " validation recall@10: 0.", "Terms:", "## Limits", "## Made by",
    ):  # fmt: skip
        assert part in card


@pytest.mark.slow
def test_a_card_keeps_the_terms_that_were_written_down_and_names_the_command(trained, monkeypatch):
    out, _, _ = trained
    path = out / "encoder" / "CARD.md"
    before = path.read_text()
    terms = next(line for line in before.splitlines() if line.startswith("- Terms:"))
    path.write_text(before.replace(terms, "- Terms: CC BY 4.0, as the slides."))
    monkeypatch.setattr("sys.argv", ["/somewhere/trainer/__main__.py", "train", "my slides"])
    write_card(out)
    after = path.read_text()
    assert "- Terms: CC BY 4.0, as the slides.\n" in after
    assert terms not in after
    assert "    stamp-index train 'my slides'\n" in after
    path.write_text(before)


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_gives_the_same_encoder(trained):
    out, arguments, _ = trained
    before = contents(out)
    done = invoke(*arguments, "--quiet", sets=(*TINY, "optimiser.epochs=2"))
    assert done.exit_code == 0, done.output
    after = contents(out)
    same = [name for name in before if name.suffix in (".pt", ".jsonl", ".safetensors", ".json")]
    assert {name: before[name] for name in same} == {name: after[name] for name in same}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "sets", "message"),
    [
        (("--seed", "5"), (), "holds a run with another seed"),
        (
            (),
            ("optimiser.lr=0.5",),
            "holds a run with another recipe",
        ),
        (("--hold-out-slide", "P2_A"), (), "P2_A cannot be held out and validate at once"),
        (("--gene", "ERBB22"), (), "cannot hold ERBB22.*ERBB2"),
        ((), ("optimiser.epoch=3",), "optimiser.epoch is unknown"),
        (("--overlay", "visum"), (), "no recipe or overlay 'visum'"),
    ],
    ids=["seed", "recipe", "split", "gene", "key", "overlay"],
)
def test_what_cannot_go_on_is_said_in_one_sentence_and_nothing_is_touched(
    trained, more, sets, message
):
    out, arguments, _ = trained
    before = contents(out)
    done = invoke(*arguments, *more, sets=(*TINY, "optimiser.epochs=2", *sets))
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    import re

    assert re.search(message, done.output), done.output
    assert contents(out) == before


@pytest.mark.slow
def test_another_run_may_take_over_the_frozen_split_and_stands_beside_the_first(trained, phantom):
    out, _, _ = trained
    other = out.parent / "second"
    done = invoke(
        "train", phantom, "--recipe", "clip", "--out", other, "--split", out / "split.json", "--quiet",
        "--features", out / "features", sets=TINY,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (other / "split.json").read_text() == (out / "split.json").read_text()
    png = out.parent / "both.png"
    report = invoke("report", out, other, "--png", png)
    assert report.exit_code == 0, report.output
    lines = report.output.splitlines()
    assert lines[0] == "| | first | second |"
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in lines
        if "|" in line
    }
    assert rows["recipe"] == ["stamp", "clip"]
    assert rows["epochs"] == ["2 of 2", "3 of 3"]
    assert rows["train / validate / held out"] == ["1 / 1 / 1"] * 2
    assert rows["locate"][0]
    assert not rows["locate"][1]
    assert "different splits" not in report.output
    assert png.stat().st_size > 5_000


def test_a_folder_without_slides_or_without_a_run_is_named(tmp_path):
    done = invoke("train", tmp_path, "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert "Error: " in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "run").exists()
    done = invoke("report", tmp_path)
    assert done.exit_code == 1
    assert f"{tmp_path} is not a run: it has no run.json" in done.output


def test_weights_that_cannot_be_had_are_named_before_any_slide_is_read(tmp_path):
    file = tmp_path / "none.safetensors"
    sets = [f'model.image_tower.weights="{file}"']
    done = invoke(
        "train", tmp_path / "none", "--out", tmp_path / "run", "--overlay", "vit", sets=sets
    )
    assert done.exit_code == 1
    assert f"Error: The weights file {file} does not exist." in done.output
    assert not (tmp_path / "run").exists()


def test_every_command_has_help():
    for name in ("pretrain", "train", "report"):
        done = invoke(name, "--help")
        assert done.exit_code == 0
        assert "Usage: " in done.output


# From slides in memory


@pytest.fixture(scope="module")
def slides():
    return small_slides(3, 20)


def job(out, *overrides, name="clip", **options):
    recipe = load_recipe(name, (*PIXELS, "optimiser.epochs=1", *overrides))
    return Job(recipe, out, quiet=True, workers=0, **options)


def test_patience_without_validation_slides_is_refused_before_anything_is_written(tmp_path, slides):
    split = make_split(slides, Wish())
    with pytest.raises(RecipeError, match="validation.patience needs slides to validate on"):
        train_slides(slides, split, job(tmp_path / "run", "validation.patience=2"))
    assert not (tmp_path / "run").exists()


def test_towers_that_cannot_be_built_are_named(tmp_path, slides):
    split = make_split(slides, Wish())
    with pytest.raises(
        RecipeError,
        match="towers of recipe 'clip' cannot be built: depth of the small ResNet is 19",
    ):
        train_slides(slides, split, job(tmp_path / "run", "model.image_tower.depth=19"))


def test_a_recipe_on_pixels_trains_live_saves_an_encoder_and_no_ridge(tmp_path, slides):
    split = make_split(slides, Wish(slides=["C"]))
    fingerprint = train_slides(slides, split, job(tmp_path / "run"))
    encoder = load_encoder(tmp_path / "run" / "encoder")
    assert encoder.fingerprint == fingerprint
    assert not (tmp_path / "run" / "ridge").exists()
    assert encoder.encode_spots(slides[2]).shape == (20, 8)
    again = train_slides(slides, split, job(tmp_path / "again"))
    assert again == fingerprint  # the same seed gives the same weights


def test_a_run_that_trains_no_step_is_an_encoder_too_and_is_not_replaced_by_another(
    tmp_path, slides
):
    split = make_split(slides, Wish(slides=["C"]))
    out = tmp_path / "run"
    train_slides(slides, split, job(out, "optimiser.epochs=0"))
    assert "No training steps" in (out / "encoder" / "CARD.md").read_text()
    before = contents(out)
    with pytest.raises(RecipeError, match="holds a run with another seed"):
        train_slides(slides, split, job(out, "optimiser.epochs=0", seed=1))
    assert contents(out) == before


@pytest.mark.parametrize(
    ("recalls", "kept", "words"),
    [
        ([0.4, 0.3, 0.4], 0, "of the start (epoch 0), since no epoch had a better validation recall@10: 0.400"),
        ([0.4, 0.3, 0.5], 2, "of epoch 2, with the best validation recall@10: 0.500"),
    ],
)  # fmt: skip
def test_run_card_and_report_say_which_epoch_was_kept(
    tmp_path, slides, monkeypatch, recalls, kept, words
):
    left = list(recalls)
    monkeypatch.setattr(Validator, "__call__", lambda *_: {"recall": left.pop(0), "chance": 0.2})
    out, split = tmp_path / "run", make_split(slides, Wish(slides=["C"]), Wish(slides=["B"]))
    train_slides(slides, split, job(out, "optimiser.epochs=2"))
    assert json.loads((out / "run.json").read_text())["kept_epoch"] == kept
    assert f"- The weights are those {words} (mean of" in (out / "encoder" / "CARD.md").read_text()
    table = compare([out])
    assert f"| weights are of epoch | {kept or '0 (the start)'} |" in table
    assert "| validation recall of the start | 0.400 |" in table
    assert "| validation recall by chance | 0.200 |" in table
    assert "| epochs | 2 of 2 |" in table
    train_slides(slides, split, job(out, "optimiser.epochs=2"))  # whose note is no other run
    assert json.loads((out / "run.json").read_text())["kept_epoch"] == kept


def test_a_run_remembers_where_its_features_are_cached_and_may_go_on_with_others(tmp_path, slides):
    out, split = tmp_path / "run", make_split(slides, Wish(slides=["C"]))
    train_slides(slides, split, job(out, features=tmp_path / "cache"))
    assert json.loads((out / "run.json").read_text())["features"] == str(tmp_path / "cache")
    train_slides(slides, split, job(out))
    assert "features" not in json.loads((out / "run.json").read_text())


def test_runs_of_different_splits_are_not_to_be_compared(tmp_path, slides):
    for name, held in (("one", "A"), ("two", "B")):
        train_slides(slides, make_split(slides, Wish(slides=[held])), job(tmp_path / name))
    table = compare([tmp_path / "one", tmp_path / "two"])
    assert "These runs have different splits: their figures cannot be compared." in table
    evaluation = {
        "retrieval": [
            {"encoder": "trained", "gallery": "A", "direction": "image to gene", "R@10": 0.25, "N": 20, "chance R@10": 0.5},
            {"encoder": "chance", "gallery": "A", "direction": "image to gene", "R@10": 0.5, "N": 20, "chance R@10": 0.5},
        ]
    }  # fmt: skip
    (tmp_path / "one" / "evaluation.json").write_text(json.dumps(evaluation))
    table = compare([tmp_path / "one", tmp_path / "two"])
    assert "| A, image to gene R@10 (N 20, chance 0.500), trained | 0.250 |  |" in table
    assert "0.500 |  |" not in table.replace("0.500), trained", "")


def test_runs_of_one_name_stand_beside_each_other_under_the_shortest_names_that_differ(
    tmp_path, slides
):
    runs = [tmp_path / name for name in ("A/run", "B/run", "other")]
    for seed, run in enumerate(runs):
        train_slides(slides, make_split(slides, Wish(slides=["C"])), job(run, seed=seed))
    table = compare(runs)
    assert table.splitlines()[0] == "| | A/run | B/run | other |"
    assert "| seed | 0 | 1 | 2 |" in table
    assert run_labels([tmp_path / "A", tmp_path / "A"]) == [str(tmp_path / "A")[-1]] * 2


def test_every_run_has_a_curve_and_no_legend_lies_on_one(tmp_path, monkeypatch):
    from matplotlib import pyplot as plt

    runs = [tmp_path / name / "run" for name in "AB"]
    for run in runs:
        run.mkdir(parents=True)
        records = [{"epoch": e, "loss": 9.0 / e, "long name": 2.0, "scale": 14.0} for e in (1, 2)]
        (run / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    for given in (runs, runs[:1]):
        plot_curves(given, tmp_path / "curves.png")
    monkeypatch.undo()
    labels = [line.get_label() for line in drawn[0].axes[0].lines]
    assert labels == ["A/run", "B/run"]
    for figure in drawn:
        legends = [(axes.get_legend(), axes) for axes in figure.axes]
        legends += [(legend, axes) for legend in figure.legends for axes in figure.axes]
        there = [(legend.get_window_extent(), axes) for legend, axes in legends if legend]
        assert there
        for legend, axes in there:
            assert legend.x0 >= axes.get_window_extent().x1
            assert legend.x1 <= figure.bbox.x1
        plt.close(figure)


# From a gene encoder of stage 1


@pytest.fixture
def stage1(tmp_path, slides):
    """A gene encoder that stage 1 trained on A and C, and the recipe's fields that take it over."""
    panel = GenePanel.fit(slides, 30)
    settings = {"context": 8, "width": 16, "depth": 1, "heads": 2}
    fingerprint = save_stage1(
        tmp_path / "stage1",
        GeneTower(len(panel), **settings),
        panel,
        gene_tower={"kind": "rank_profile", **settings},
        training={"split": {"train": ["A", "C"], "patients": {"A": "P1", "B": "P2", "C": "P3"}}},
    )
    tower = 'model.gene_tower={kind="rank_profile", context=8, width=16, depth=1, heads=2}'
    return fingerprint, (tower, f"genes.stage1={json.dumps(str(tmp_path / 'stage1'))}")


@pytest.mark.parametrize("frozen", [True, False])
def test_what_stage_1_gave_learns_on_or_stays_as_it_is_by_option(tmp_path, slides, stage1, frozen):
    split = make_split(slides, Wish(slides=["C"]))
    option = f"genes.freeze_stage1={str(frozen).lower()}"
    out = tmp_path / "run"
    train_slides(slides, split, job(out, "optimiser.epochs=2", option, *stage1[1]))
    given = load_file(tmp_path / "stage1" / "weights.safetensors")
    trained = load_encoder(out / "encoder").model.tower_of("gene").state_dict()
    moved = {name for name, value in given.items() if not torch.equal(value, trained[name])}
    assert moved == (set() if frozen else set(given))
    train_slides(slides, split, job(tmp_path / "start", "optimiser.epochs=0", option, *stage1[1]))
    start = load_encoder(tmp_path / "start" / "encoder").model.tower_of("gene").state_dict()
    assert not torch.equal(start["profile.weight"], trained["profile.weight"])


def test_freezing_a_gene_encoder_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match="freeze_stage1 needs the gene encoder of stage 1"):
        load_recipe("stamp", ("genes.freeze_stage1=true",))


def test_run_and_card_name_the_gene_encoder_of_stage_1_and_its_slides(tmp_path, slides, stage1):
    fingerprint, overrides = stage1
    out = tmp_path / "run"
    split = make_split(slides, Wish(slides=["C"]))
    train_slides(slides, split, job(out, "optimiser.epochs=0", *overrides))
    made = json.loads((out / "run.json").read_text())
    assert made["stage1"].pop("overlap")[0].endswith("figures on them are transductive.")
    origin = {"fingerprint": fingerprint, "train": ["A", "C"], "patients": ["P1", "P3"]}
    assert made["stage1"] == origin
    card = (out / "encoder" / "CARD.md").read_text()
    assert f"- Gene encoder pre-trained in stage 1 ({fingerprint}) on A, C.\n" in card
    assert "- The gene encoder was pre-trained on the counts of C, which are kept out here" in card
    train_slides(slides, split, job(tmp_path / "plain", "optimiser.epochs=0"))
    assert "stage1" not in json.loads((tmp_path / "plain" / "run.json").read_text())
    assert "stage 1" not in (tmp_path / "plain" / "encoder" / "CARD.md").read_text()


@pytest.mark.parametrize(
    ("held", "validate", "named"),
    [(["C"], ["B"], "C"), (["B"], ["C"], "C"), (["B"], [], None)],
    ids=["held out", "validated on", "neither"],
)
def test_kept_out_slides_that_stage_1_has_seen_are_said(
    tmp_path, slides, stage1, held, validate, named
):
    split = make_split(slides, Wish(slides=held), Wish(slides=validate))
    said = stage1_overlap(job(tmp_path, *stage1[1]).recipe, split)
    if named is None:
        assert said == []
    else:
        (sentence,) = said
        assert f"pre-trained on the counts of {named}, which are kept out here" in sentence
    assert stage1_overlap(job(tmp_path).recipe, split) == []


def test_a_kept_out_patient_of_whom_stage_1_has_seen_other_sections_is_said(
    tmp_path, slides, stage1
):
    again = [replace(s, patient_id="P1") if s.slide_id == "B" else s for s in slides]
    (sentence,) = stage1_overlap(
        job(tmp_path, *stage1[1]).recipe, make_split(again, Wish(slides=["B"]))
    )
    assert "pre-trained on other sections of P1, whose slides are kept out here" in sentence


def test_a_frozen_split_and_slides_to_hold_out_are_not_taken_together(tmp_path):
    done = invoke(
        "train",
        tmp_path,
        "--out",
        tmp_path / "run",
        "--split",
        "s.json",
        "--hold-out-patient",
        "P3",
    )
    assert done.exit_code == 1
    assert "leave --hold-out-* and --validate-* out" in done.output
    assert not (tmp_path / "run").exists()
