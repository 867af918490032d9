"""Stage 1 as a run: it learns, resumes after kill -9, and stops at what it cannot use."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stamp_index.errors import MissingGenesError
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel
from tests.support import toy_slide
from tests.test_readers_her2st import edit_counts, write_section
from trainer.recipe import RecipeError
from trainer.stage1 import loop
from trainer.stage1.baseline import PRIORS, RankFrequency
from trainer.stage1.command import GENE_ENCODER, command, train_on
from trainer.stage1.config import Schedule, load_stage1_recipe
from trainer.stage1.data import prepare, split_counts
from trainer.stage1.evaluate import Probe
from trainer.stage1.loop import Stage1Trainer, learning_rate, make_batch
from trainer.stage1.model import Stage1Model, build_tower
from trainer.stage1.state import BAD_BATCH, Run, TrainingError
from trainer.state import LOG, STATE, read_log

TINY = (
    "gene_tower.context=12",
    "gene_tower.width=16",
    "gene_tower.heads=2",
    "schedule.mask_epochs=1",
    "schedule.both_epochs=1",
    "schedule.niches=2",
    "schedule.save_every=2",
)


def recipe(*overrides):
    return load_stage1_recipe("stage1_small", (*TINY, *overrides))


def toys(n=2, n_spots=90):
    return [
        toy_slide(f"S{i + 1}", n_spots, i, patient_id=f"P{i + 1}", image=False) for i in range(n)
    ]


def in_microns(slides):
    """Toy slides without image have no pixel size; counts-only sections of legacy ST do."""
    return [replace(slide, mpp=2.0) for slide in slides]


def test_genes_are_found_better_than_by_their_rank_on_a_held_out_slide(tmp_path):
    settings = recipe(
        "schedule.mask_epochs=0",
        "schedule.both_epochs=30",
        "schedule.niches=4",
        "schedule.lr=1e-2",
        "gene_tower.width=32",
        "gene_tower.dropout=0.0",
    )
    run = Run(tmp_path, 0, quiet=True)
    train_on(in_microns(toys(3)), settings, run, hold_out=((), ("S3",)))
    last = read_log(tmp_path)[-1]
    assert last["probe_igr"] < last["baseline_igr"] - 0.5
    assert last["probe_accuracy"] > 1.5 * last["baseline_accuracy"]
    assert last["probe_cgr"] < last["baseline_cgr"] - 0.3  # bands of domains: neighbours tell
    for name in ("run.json", "split.json", "environment.json", "losses.png", STATE):
        assert (tmp_path / name).stat().st_size > 0


def test_one_batch_is_learnt_by_heart():
    """Both losses of nine spots that hide the same genes every time fall to nearly nothing."""
    slides = in_microns(toys(1, 9))
    settings = recipe("gene_tower.dropout=0.0", "gene_tower.width=64", "genes.n_genes=0")
    panel = GenePanel.fit(slides, None, min_spots=1)
    spots = prepare(slides, panel, 12)
    torch.manual_seed(0)
    model = Stage1Model(build_tower(settings.gene_tower, len(panel)), len(panel))
    batch = make_batch(spots.tokens, len(panel), settings, np.random.default_rng(0))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        window = loop.Window()
        loss = loop.total_loss(settings, model, batch, both=True, window=window)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    chance = 2 * np.log(len(panel))
    assert loss.item() < 0.05 * chance


def test_the_first_epochs_train_the_gene_head_only(tmp_path):
    run = Run(tmp_path, 0, quiet=True)
    settings = recipe("schedule.both_epochs=0", "schedule.weight_decay=0.0")
    slides = in_microns(toys(1))
    panel = GenePanel.fit(slides, None)
    model = Stage1Model(build_tower(settings.gene_tower, len(panel)), len(panel))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Stage1Trainer(settings, model, prepare(slides, panel, 12), run).train()
    moved = {
        n.split(".")[0] for n, value in model.state_dict().items() if not value.equal(before[n])
    }
    assert moved == {"tower", "gene_head"}
    assert all("cgr" not in record for record in read_log(tmp_path))


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.test_stage1_training import fresh
    from trainer.stage1.loop import Stage1Trainer

    step = Stage1Trainer._train_step
    def dying(self, *args):
        if self.step == 15:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, *args)
    Stage1Trainer._train_step = dying
    fresh(Path(sys.argv[1])).train()
"""


def fresh(folder):
    """A trainer of the toys as `train_on` makes it, without its files and picture."""
    slides = in_microns(toys())
    panel = GenePanel.fit(slides, 1000)
    torch.manual_seed(0)
    model = Stage1Model(build_tower(recipe().gene_tower, len(panel)), len(panel))
    folder.mkdir(exist_ok=True)
    return Stage1Trainer(recipe(), model, prepare(slides, panel, 12), Run(folder, 0, quiet=True))


def check_same_end(whole, stopped):
    """Weights are equal bit for bit, and so is the log but for the window that the stop cut in two."""
    for name, value in whole.model.state_dict().items():
        assert value.equal(stopped.model.state_dict()[name]), name
    timed = ("seconds", "spots_per_s")
    logs = [
        [{k: v for k, v in record.items() if k not in timed} for record in read_log(t.run.folder)]
        for t in (whole, stopped)
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("at", [3, 10, 15])
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_with_the_same_weights_and_log(
    tmp_path, monkeypatch, at
):
    whole = fresh(tmp_path / "whole")
    whole.train()
    stopped, step = fresh(tmp_path / "stopped"), Stage1Trainer._train_step

    def dying(self, *args):
        if self.step == at:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(Stage1Trainer, "_train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    monkeypatch.undo()
    with (tmp_path / "stopped" / LOG).open("a") as log:
        log.write('{"step": 99')  # as if cut off in the middle of a line
    again = fresh(tmp_path / "stopped")
    assert 0 < again.step <= at
    again.train()
    check_same_end(whole, again)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights_and_log(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    died = subprocess.run(script, env=environment, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    whole, again = fresh(tmp_path / "whole"), fresh(tmp_path / "killed")
    assert again.step == 14
    whole.train()
    again.train()
    check_same_end(whole, again)


def test_a_state_without_its_log_line_gets_it_back(tmp_path):
    run = Run(tmp_path, 0, quiet=True)
    train_on(in_microns(toys(1)), recipe(), run)
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    (tmp_path / LOG).write_text("".join(lines[:-1]))
    run.load()
    assert (tmp_path / LOG).read_text() == "".join(lines)


def test_a_finished_run_is_not_trained_again_and_another_recipe_is_refused(tmp_path):
    run = Run(tmp_path, 0, quiet=True)
    first = train_on(in_microns(toys(1)), recipe(), run)
    assert train_on(in_microns(toys(1)), recipe(), run) == first
    with pytest.raises(RecipeError, match=r"holds a run with another recipe.schedule.lr. Give"):
        train_on(in_microns(toys(1)), recipe("schedule.lr=0.5"), run)
    with pytest.raises(RecipeError, match="another seed"):
        train_on(in_microns(toys(1)), recipe(), Run(tmp_path, 1, quiet=True))


def test_a_loss_that_is_no_number_stops_with_the_spots_of_its_batch(tmp_path, monkeypatch):
    steps = []

    def poisoned(*args, **keywords):
        steps.append(1)
        loss = total_loss(*args, **keywords)
        return loss * float("nan") if len(steps) == 4 else loss

    total_loss = loop.total_loss
    monkeypatch.setattr(loop, "total_loss", poisoned)
    with pytest.raises(TrainingError, match=r"step 4 .* 18 spots are in .*bad_batch.json"):
        train_on(in_microns(toys(1)), recipe(), Run(tmp_path, 0, quiet=True))
    facts = json.loads((tmp_path / BAD_BATCH).read_text())
    assert facts["step"] == 4
    assert len(facts["spot_ids"]) == 18
    assert all(name.startswith("S1:B") for name in facts["spot_ids"])
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_a_full_disk_leaves_the_last_state_whole(tmp_path, monkeypatch):
    run = Run(tmp_path, 0)
    run.save({"a": 1}, {"step": 1})

    def full(_, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left.*same command again"):
        run.save({"a": 2}, {"step": 2})
    assert run.load()["a"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG, STATE]


def test_a_damaged_state_is_named(tmp_path):
    Run(tmp_path, 0).save({}, {"step": 1})
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:100])
    with pytest.raises(TrainingError, match=f"{STATE} is damaged.*Delete it"):
        Run(tmp_path, 0).load()


def test_slides_without_nine_spots_near_enough_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="No slide has a niche of 9 spots"):
        train_on(
            in_microns(toys(1)), recipe("objective.max_pitches=0.5"), Run(tmp_path, 0, quiet=True)
        )


def test_a_slide_of_other_genes_is_named():
    slides = in_microns(toys(2))
    mouse = replace(slides[1], genes=tuple(name.title() + "x" for name in slides[1].genes))
    with pytest.raises(MissingGenesError, match="Slide S2 measures 0 of the panel's 60"):
        prepare([slides[0], mouse], GenePanel.fit(slides[:1], None), 12)


def test_niches_hold_spots_of_one_slide_and_change_from_epoch_to_epoch():
    slides = in_microns(toys(3))
    spots = prepare(slides, GenePanel.fit(slides, None), 12)
    one, other = (spots.niches(np.random.default_rng(epoch), 10.0) for epoch in (0, 1))
    for niche in one.tolist():
        assert len({spots.spot_ids[spot].split(":")[0] for spot in niche}) == 1
        assert len(set(niche)) == 9
    assert {*map(frozenset, one.tolist())} != {*map(frozenset, other.tolist())}


def test_the_baseline_is_the_smoothed_share_of_a_gene_at_its_rank():
    tokens = np.array([[0, 1, 2], [0, 2, PAD - TOKEN_OFFSET], [1, 0, 2]]) + TOKEN_OFFSET
    frequency = RankFrequency.fit(tokens, 4)
    chosen = np.array([[True, False, True]])
    loss, accuracy = frequency.score(np.array([[0, 1, 3]]) + TOKEN_OFFSET, chosen)
    overall = np.array([4, 3, 4, 1]) / 12
    losses = [
        -np.log((2 + prior * overall[0]) / (3 + prior)) - np.log(prior * overall[3] / (2 + prior))
        for prior in PRIORS
    ]
    assert loss == pytest.approx(min(losses) / 2, rel=1e-5)
    assert accuracy == 0.5


def test_measuring_leaves_the_model_as_it_was_and_gives_the_same_twice():
    slides = in_microns(toys(2))
    panel = GenePanel.fit(slides, None)
    spots = prepare(slides, panel, 12)
    probe = Probe.make(recipe(), spots, RankFrequency.fit(spots.tokens, len(panel)))
    model = Stage1Model(build_tower(recipe().gene_tower, len(panel)), len(panel)).train()
    cpu = torch.device("cpu")
    first, second = (probe.measure(model, cpu, loop.precision(cpu)) for _ in range(2))
    assert first == second
    assert model.training
    assert first["igr"] == pytest.approx(np.log(len(panel) + TOKEN_OFFSET), rel=0.2)


def test_ranks_that_no_spot_reaches_are_cut_off():
    tokens = np.zeros((9, 12), dtype=np.uint16)
    tokens[:, :4] = np.arange(4) + TOKEN_OFFSET
    assert make_batch(tokens, 10, recipe(), np.random.default_rng(0)).shown.shape == (9, 4)
    empty = make_batch(np.zeros((9, 12), np.uint16), 10, recipe(), np.random.default_rng(0))
    assert empty.shown.shape == (9, 1)


def test_learning_rate_warms_up_and_ends_at_zero():
    schedule = Schedule(mask_epochs=5, both_epochs=5, lr=1.0, warmup_share=0.1)
    assert [learning_rate(schedule, at) for at in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    curve = [learning_rate(schedule, at) for at in np.linspace(1, 10, 50)]
    assert all(a > b for a, b in zip(curve, curve[1:], strict=False))
    assert learning_rate(schedule, 10.0) == learning_rate(schedule, 12.0) == 0.0


def two_sections(folder):
    """Counts files of C2 and D1."""
    first, second = (write_section(folder, section, image=None) for section in ("C2", "D1"))
    edit_counts(second, lambda lines: [lines[0], *lines[:0:-1]])  # else D1 is C2 under another name
    return first, second


def pretrain(*arguments):
    """The command in its smallest size."""
    overrides = [*TINY, "genes.n_genes=0"]
    sets = [part for override in overrides for part in ("--set", override)]
    return CliRunner().invoke(command, [*map(str, arguments), *sets])


def test_the_command_trains_on_counts_without_images(tmp_path):
    two_sections(tmp_path / "data")
    result = pretrain(tmp_path / "data", "--out", tmp_path / "run", "--hold-out-patient", "D")
    assert result.exit_code == 0, result.output
    assert "split by patient" in result.output
    assert "Hidden genes on held-out slides" in result.output
    manifest = json.loads((tmp_path / "run" / GENE_ENCODER / "stage1.json").read_text())
    assert manifest["training"]["split"]["train"] == ["C2"]
    assert manifest["gene_tower"]["kind"] == "rank_profile"


def test_slides_named_in_another_order_give_the_same_gene_encoder_and_quiet_says_nothing(tmp_path):
    sections = two_sections(tmp_path / "data")
    made = []
    for name, order in (("one", sections), ("other", sections[::-1])):
        result = pretrain(*order, "--out", tmp_path / name, "--quiet")
        assert result.exit_code == 0, result.output
        assert result.output == ""
        made.append(json.loads((tmp_path / name / GENE_ENCODER / "stage1.json").read_text()))
    assert made[0]["fingerprint"] == made[1]["fingerprint"]


def test_several_processes_are_refused_before_anything_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    result = pretrain(tmp_path / "nothing", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "torchrun started 4 processes" in result.output
    assert "Give the command without torchrun" in result.output
    assert not (tmp_path / "run").exists()


def test_tensorboard_has_the_numbers_of_the_log(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train_on(in_microns(toys(1)), recipe(), Run(tmp_path, 0, quiet=True))
    shown = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    records = read_log(tmp_path)
    for name in ("igr", "lr", "probe_igr"):
        logged = [(record["step"], record[name]) for record in records if name in record]
        found = sorted((event.step, event.value) for event in shown.Scalars(name))
        np.testing.assert_allclose(found, logged, rtol=1e-6)  # values are float32 there
    assert not {"step", "ends_epoch"} & {*shown.Tags()["scalars"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "nothing"], "no recipe or overlay 'nothing'.*stage1_small"),
        (["--recipe", "stamp"], "'stamp' is no stage-1 recipe"),
        (["--set", "schedule.speed=2"], r"schedule.speed is unknown \(known: mask_epochs"),
        (["--set", "loss=2"], r"loss is unknown \(known: name"),
        (["--set", "schedule.lr=fast"], "schedule.lr is 'fast': Input should be a valid number"),
        (["--set", "objective.cgr_targets=none"], "objective.cgr_targets is 'none': Input should be 'all' or 'masked'"),
        (["--set", "schedule.max_norm=0.0"], "schedule.max_norm is 0.0: .* greater than 0"),
        (["--set", "schedule.max_norm=nan"], "schedule.max_norm is nan"),
        (["--set", "schedule.weight_decay=-0.1"], "schedule.weight_decay is -0.1: .* greater than or equal to 0"),
        (["--set", "schedule.lr=inf"], "schedule.lr is inf: .* finite"),
        (["--set", "objective.cgr_weight=nan"], "objective.cgr_weight is nan: .* finite"),
        (["--set", "objective.igr_weight=-1.0"], "objective.igr_weight is -1.0"),
        (["--set", "objective.igr_weight=0.0", "--set", "objective.cgr_weight=0.0"],
         "expected one of them above 0"),
        (["--set", "genes.n_genes=1"], "n_genes is 1; expected 0, for every gene, or at least 2"),
        (["--set", "schedule.mask_epochs=0", "--set", "schedule.both_epochs=0"],
         "0 together; expected 1 to"),
        (["--set", "gene_tower.heads=0"], "gene_tower.heads is 0; expected a whole number"),
        (["--set", "gene_tower.heads=3"], "gene_tower.heads is 3, which does not divide width, 128"),
        (["--set", "gene_tower.dropout=1.5"], "gene_tower.dropout is 1.5; expected a share"),
        (["--set", "gene_tower.kind=vae"], "gene_tower.kind is 'vae'; stage 1 trains"),
        (["--set", "gene_tower.ffn=3"], "gene tower 'rank_profile' cannot be built"),
        (["--hold-out-slide", "Z9"], "No slide Z9 among the slides; there are C2"),
        (["--hold-out-patient", "C"], "Every slide is held out"),
        (["--gene", "NOTAGENE"], "panel cannot hold NOTAGENE"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(tmp_path, arguments, words):
    write_section(tmp_path / "data", image=None)
    given = [str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--quiet", *arguments]
    result = CliRunner().invoke(command, given)
    assert result.exit_code == 1
    assert re.search(words, result.output), result.output
    assert not (tmp_path / "run" / GENE_ENCODER).exists()


def test_splitting_by_section_is_said():
    slides = toys(2)
    same = [replace(slide, patient_id="P1") for slide in slides]
    assert split_counts(slides, (), ("S2",)).by == "patient"
    assert split_counts(same, (), ("S2",)).by == "section"
    with pytest.raises(RecipeError, match="have the id S1"):
        split_counts([slides[0], slides[0]], (), ())


@pytest.mark.parametrize("name", ["stage1", "stage1_small"])
def test_recipes_that_come_with_the_trainer_load(name):
    loaded = load_stage1_recipe(name)
    assert loaded.name == name
    tower = build_tower(loaded.gene_tower | {"width": 16, "depth": 1, "heads": 2}, 50)
    assert tower.positions(torch.full((1, 4), 31)).shape == (1, 4, 16)
