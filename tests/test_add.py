"""`stamp-index add`: one slide, folders and manifests; what goes on, what stays, what is told."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from stamp_index import cli_add
from stamp_index.cli import main
from stamp_index.embed.add import AddSettings, add_slides, summary
from stamp_index.embed.gene_side import GeneSettings
from stamp_index.embed.manifest import entries_of, read_manifest
from stamp_index.errors import SlideError, StoreBusyError, StoreError
from stamp_index.readers import SlideOptions, read
from stamp_index.store import EncoderCard, Store
from tests.space_ranger_run import Run
from tests.support import ToyEncoder


@pytest.fixture
def runs(tmp_path):
    """Three folders below one, each with other counts."""
    found = []
    for name in "ABC":
        run = Run(tmp_path / "slides" / name)
        run.counts[0, 0] += ord(name)
        run.write_h5()
        found.append(run.path.rename(tmp_path / "slides" / f"S{name}"))
    return found


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of an encoder that has no checkpoint to load; everything else is real."""
    encoder = ToyEncoder()
    monkeypatch.setattr("stamp_index.encoders.load_encoder", lambda path: encoder)
    store = Store.create(tmp_path / "store", EncoderCard.of(encoder))
    (tmp_path / "store" / "encoders" / store.encoder).mkdir(parents=True)
    return store


def states(outcomes):
    return {one.slide_id or Path(one.path).name: one.state for one in outcomes}


def test_a_folder_is_added_slide_by_slide_and_again_does_nothing(store, runs, tmp_path):
    entries = entries_of([tmp_path / "slides"])
    _, outcomes = add_slides(store.path, entries)
    assert states(outcomes) == {"SA": "added", "SB": "added", "SC": "added"}
    version = Store.open(store.path).version
    _, outcomes = add_slides(store.path, entries)
    assert states(outcomes) == {"SA": "there", "SB": "there", "SC": "there"}
    assert {one.reason for one in outcomes} == {"its files have not changed"}
    assert Store.open(store.path).version == version


def test_a_bad_slide_is_told_with_its_reason_and_the_others_are_added(store, runs):
    (runs[1] / "spatial" / "scalefactors_json.json").write_text("{")
    held, outcomes = add_slides(store.path, entries_of(runs))
    assert states(outcomes) == {"SA": "added", "SB": "failed", "SC": "added"}
    assert "scalefactors_json.json cannot be read" in outcomes[1].reason
    assert set(held.slides()["slide_id"]) == {"SA", "SC"}
    run = Run(runs[0].parent / "again")
    (runs[1] / "spatial" / "scalefactors_json.json").write_text(
        (run.spatial / "scalefactors_json.json").read_text()
    )
    _, outcomes = add_slides(store.path, entries_of(runs))
    assert states(outcomes) == {"SA": "there", "SB": "added", "SC": "there"}


def test_files_that_changed_are_read_again(store, runs):
    add_slides(store.path, entries_of(runs[:1]))
    os.utime(runs[0] / "filtered_feature_bc_matrix.h5")
    _, (outcome,) = add_slides(store.path, entries_of(runs[:1]))
    assert (outcome.state, outcome.reason) == (
        "there",
        "with the same image and counts, as slide 'SA' (--replace reads it anew)",
    )
    run = Run(runs[0].parent / "other")
    (run.path / "filtered_feature_bc_matrix.h5").replace(runs[0] / "filtered_feature_bc_matrix.h5")
    _, (outcome,) = add_slides(store.path, entries_of(runs[:1]))
    assert outcome.state == "failed"
    assert "replace it" in outcome.reason
    settings = AddSettings(replace=True)
    held, (outcome,) = add_slides(store.path, entries_of(runs[:1]), settings=settings)
    assert outcome.state == "replaced"
    assert held.slides()["slide_id"].tolist() == ["SA"]


def test_what_was_said_of_a_slide_belongs_to_what_was_asked(store, runs):
    add_slides(store.path, entries_of(runs[:1]))
    said = SlideOptions(slide_id="other name")
    _, (outcome,) = add_slides(store.path, entries_of(runs[:1], said))
    assert (outcome.state, outcome.slide_id) == ("there", "other name")
    assert "as slide 'SA'" in outcome.reason


def test_a_store_that_another_process_writes_stops_everything(store, runs, monkeypatch):
    def busy(*_, **__):
        msg = "another process keeps writing"
        raise StoreBusyError(msg)

    monkeypatch.setattr("stamp_index.embed.slide_adder.ingest", busy)
    with pytest.raises(StoreBusyError):
        add_slides(store.path, entries_of(runs))


def test_a_slide_says_where_its_rows_come_from(store, runs):
    held, _ = add_slides(store.path, entries_of(runs[:1], SlideOptions(organ="liver")))
    said = json.loads(held.slides()["provenance"].iloc[0])
    matrix = runs[0] / "filtered_feature_bc_matrix.h5"
    digests = {Path(file["name"]).name: file["sha256"] for file in said["files"]}
    assert digests[matrix.name] == hashlib.sha256(matrix.read_bytes()).hexdigest()
    assert set(digests) == {matrix.name, "tissue_positions.csv", "scalefactors_json.json"}
    assert (said["reader"], said["reader_version"]) == ("Space Ranger", 1)
    genes = {"orthologs": None, "min_coverage": 0.5}
    assert said["request"] == {"path": str(runs[0]), "organ": "liver", "genes": genes}
    assert Path(said["image"]["name"]).name == "tissue_hires_image.png"


def test_a_manifest_says_what_files_do_not(tmp_path, store, runs):
    table = tmp_path / "manifest.csv"
    table.write_text(
        "path,patient,organ,mpp\nslides/SA,P1,liver,\nslides/SB,P2,skin,1.01\n\nslides/none,P3,skin,\n"
    )
    held, outcomes = add_slides(store.path, entries_of([table], SlideOptions(disease="none")))
    assert [one.state for one in outcomes] == ["added", "added", "failed"]
    assert "There is nothing at" in outcomes[2].reason
    slides = held.slides().set_index("slide_id")
    assert slides["patient_id"].tolist() == ["P1", "P2"]
    assert slides["organ"].tolist() == ["liver", "skin"]
    assert slides["disease"].tolist() == ["none", "none"]
    assert slides.loc["SB", "mpp"] == 1.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty; expected a header", id="empty"),
        pytest.param("organ\nliver\n", "has no column 'path'", id="no path"),
        pytest.param("path,tissue\na,b\n", "unknown columns 'tissue'", id="unknown column"),
        pytest.param("path,organ,organ\na,b,c\n", "has column organ twice", id="doubled column"),
        pytest.param("path,organ\n,liver\n", "line 2, names no path", id="row without path"),
        pytest.param("path,organ\na,b,c\n", "line 2, has 3 values for 2", id="too many values"),
        pytest.param(
            "path,mpp\na,wide\n",
            "line 2: mpp is 'wide'; expected microns per pixel above 0",
            id="no number",
        ),
        pytest.param("path,mpp\na,-1\n", "line 2: mpp is -1.0; expected", id="below zero"),
        pytest.param("path,spots\na,nuclei\n", "line 2: spots is 'nuclei'", id="unknown choice"),
        pytest.param('path\n"a\n', "cannot be read", id="open quote"),
        pytest.param("path\n\xff", "cannot be read", id="not UTF-8"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(tmp_path, text, message):
    table = tmp_path / "manifest.csv"
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(SlideError, match=message):
        read_manifest(table)


def test_one_slide_that_is_said_to_be_two_things_is_refused(tmp_path, runs):
    table = tmp_path / "manifest.tsv"
    table.write_text("path\torgan\nslides/SA\tliver\nslides/SA\tskin\n")
    with pytest.raises(SlideError, match="named twice, with different options"):
        entries_of([table])
    table.write_text("path\torgan\nslides\tliver\nslides/SB\tskin\n")
    organs = {entry.path.name: entry.options.organ for entry in entries_of([table])}
    assert organs == {
        "SA": "liver",
        "SB": "skin",
        "SC": "liver",
    }  # what names the slide itself wins
    with pytest.raises(SlideError, match="holds 3 slides, so one slide_id"):
        entries_of([tmp_path / "slides"], SlideOptions(slide_id="X"))


def test_the_command_shows_one_table_and_ends_with_1_where_a_slide_failed(tmp_path, store, runs):
    (runs[2] / "spatial" / "tissue_positions.csv").write_text("barcode,in_tissue\n")
    report = tmp_path / "summary.csv"
    arguments = [
        "add",
        str(store.path),
        *map(str, runs),
        "--patient",
        "P1",
        "--report",
        str(report),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "2 added, 1 failed" in result.stdout
    assert "The positions" in result.stdout
    assert "version 3, 126 spots" in result.stdout
    table = pd.read_csv(report)
    assert table["state"].tolist() == ["added", "added", "failed"]
    assert set(Store.open(store.path).slides()["patient_id"]) == {"P1"}
    again = CliRunner().invoke(main, ["embed", str(store.path), str(runs[0]), "--patient", "P1"])
    assert (again.exit_code, "1 there" in again.stdout) == (0, True)


def test_summary_holds_no_formula_for_a_spreadsheet_to_run(tmp_path, store, runs):
    manifest, report = tmp_path / "slides.csv", tmp_path / "summary.csv"
    manifest.write_text(f"path,slide_id\n{runs[0]},=1+1\n")
    arguments = ["add", str(store.path), str(manifest), "--patient", "P1", "--report", str(report)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(report)["slide_id"].tolist() == ["'=1+1"]
    assert "=1+1" in Store.open(store.path).slides()["slide_id"].tolist()


def test_a_summary_of_nothing_has_its_columns():
    assert "state" in summary([]).columns


def test_embeddings_beside_those_of_another_encoder_are_filled_in(store, runs, monkeypatch):
    add_slides(store.path, entries_of(runs[:1]))
    other = ToyEncoder(seed=7)
    other.name = "second"
    monkeypatch.setattr("stamp_index.encoders.load_encoder", lambda path: other)
    monkeypatch.setattr(Store, "add_encoder", _without_checkpoint(Store.add_encoder))
    checkpoint = store.path / "encoders" / "toy"
    settings = AddSettings(beside=True)
    held, (outcome,) = add_slides(
        store.path, entries_of(runs[:1]), encoder_path=checkpoint, settings=settings
    )
    assert outcome.state == "filled"
    assert held.has_vector("image").all()


def _without_checkpoint(add_encoder):
    return lambda self, card, *, checkpoint: add_encoder(self, card)


def test_a_file_that_changes_while_its_slide_is_embedded_is_not_taken(store, runs, monkeypatch):
    matrix = runs[0] / "filtered_feature_bc_matrix.h5"
    encode = ToyEncoder.encode_spots

    def slow(self, slide):
        os.utime(matrix)  # somebody writes
        return encode(self, slide)

    monkeypatch.setattr(ToyEncoder, "encode_spots", slow)
    settings = AddSettings(genes=GeneSettings(min_coverage=0.0))
    held, (outcome,) = add_slides(store.path, entries_of(runs[:1]), settings=settings)
    assert outcome.state == "failed"
    assert "filtered_feature_bc_matrix.h5 was changed while" in outcome.reason
    assert held.n_spots == 0


def test_two_slides_of_one_name_do_not_replace_each_other_in_one_go(store, runs):
    entries = [entries_of([run], SlideOptions(slide_id="same"))[0] for run in runs[:2]]
    settings = AddSettings(replace=True)
    _, outcomes = add_slides(store.path, entries, settings=settings)
    assert [one.state for one in outcomes] == ["added", "failed"]
    assert "was added from" in outcomes[1].reason


def test_an_error_that_nobody_foresaw_keeps_no_other_slide_out(store, runs, monkeypatch):
    def strange(path, *arguments, **settings):
        if path.name == "SB":
            raise ZeroDivisionError("division by zero")
        return read(path, *arguments, **settings)

    monkeypatch.setattr("stamp_index.embed.slide_adder.read", strange)
    _, outcomes = add_slides(store.path, entries_of(runs))
    assert [one.state for one in outcomes] == ["added", "failed", "added"]
    assert outcomes[1].reason == "ZeroDivisionError: division by zero"


def test_an_interrupt_says_what_was_done_and_that_it_goes_on(store, runs, monkeypatch):
    def interrupted(path, *arguments, **settings):
        if path.name == "SB":
            raise KeyboardInterrupt
        return read(path, *arguments, **settings)

    monkeypatch.setattr("stamp_index.embed.slide_adder.read", interrupted)
    result = CliRunner().invoke(main, ["add", str(store.path), *map(str, runs), "--quiet"])
    assert result.exit_code == 130
    assert "1 added" in result.stdout
    assert "Interrupted; the same command again goes on." in result.stdout


@pytest.mark.parametrize(
    "place",
    [
        "stamp_index.embed.manifest.entries_of",
        "stamp_index.crew.open_crew",
        "stamp_index.cli_add._notes",
    ],
)
def test_an_interrupt_before_and_after_the_slides_is_told_too(store, runs, monkeypatch, place):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    result = CliRunner().invoke(main, ["add", str(store.path), *map(str, runs), "--quiet"])
    assert result.exit_code == 130
    assert result.stdout.endswith("Interrupted; the same command again goes on.\n")
    assert ("3 added" in result.stdout) == place.endswith("_notes")


def test_a_crew_is_opened_whole_before_an_interrupt_counts(monkeypatch):
    steps = []

    @contextmanager
    def slow_crew(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("open")
        yield
        steps.append("closed")

    def use():
        with cli_add._crew("local", address=None, n_workers=None):
            steps.append("used")

    monkeypatch.setattr("stamp_index.crew.open_crew", slow_crew)
    with pytest.raises(KeyboardInterrupt):
        use()
    assert steps == ["open"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_slide_is_told_at_once_where_no_terminal_shows_bars(store, runs):
    (runs[1] / "filtered_feature_bc_matrix.h5").write_bytes(b"")
    asked = ["add", str(store.path), *map(str, runs)]
    lines = CliRunner().invoke(main, asked).stderr.splitlines()
    assert lines[0].startswith("1 of 3: SA added, 63 spots, ")
    assert lines[1].startswith(f"2 of 3: {runs[1]} failed: ")
    assert lines[2].startswith("3 of 3: SC added, 63 spots, ")
    assert " of 3: " not in CliRunner().invoke(main, [*asked, "--quiet"]).stderr


def test_why_a_slide_is_embedded_by_its_images_alone_is_in_the_table(store, runs):
    result = CliRunner().invoke(main, ["add", str(store.path), str(runs[0]), "--quiet"])
    assert "SA: Its gene profiles are not embedded, its images are." in result.stdout
    again = CliRunner().invoke(main, ["add", str(store.path), str(runs[0]), "--quiet"])
    assert "63" in again.stdout.splitlines()[1]  # spots, also of a slide that is there


def test_what_came_beside_a_slide_since_is_seen(store, runs):
    add_slides(store.path, entries_of(runs[:1]))
    (runs[0] / "slide.toml").write_text('organ = "liver"')
    settings = AddSettings(replace=True)
    _, (outcome,) = add_slides(store.path, entries_of(runs[:1]))
    assert "as slide 'SA' (--replace reads it anew)" in outcome.reason
    held, _ = add_slides(store.path, entries_of(runs[:1]), settings=settings)
    assert held.slides()["organ"].tolist() == ["liver"]


def test_a_full_disk_ends_the_run(store, runs, monkeypatch):
    def full(*_, **__):
        msg = "The store could not be written (No space left on device)."
        raise StoreError(msg)

    monkeypatch.setattr("stamp_index.embed.slide_adder.ingest", full)
    with pytest.raises(StoreError, match="No space left"):
        add_slides(store.path, entries_of(runs))


class Hears:
    """A watcher that notes what it hears."""

    def __init__(self):
        self.heard = []

    def begin(self, entry, at, n): ...

    def step(self, done, total): ...

    def end(self, outcome):
        self.heard.append(outcome.state)

    def hear(self, news, n):
        self.heard.append((news.done, news.running, n))


def test_a_watcher_hears_where_the_run_stands_before_a_slide_has_ended(store, runs):
    watcher = Hears()
    add_slides(store.path, entries_of(runs[:2]), watcher=watcher)
    one, other = (0, 1, 2), (1, 1, 2)
    assert watcher.heard == [one, (1, 0, 2), "added", other, (2, 0, 2), "added"]


def test_workers_that_were_lost_are_told_of_once(capsys):
    from stamp_index.cli_add import Bars
    from stamp_index.crew import News

    with Bars([], quiet=False) as bars:
        for lost in (0, 1, 1, 3):
            bars.hear(News(0, 2, 2, lost), 5)
    said = capsys.readouterr().err
    assert said.count("Workers lost so far: 1. Their slides go to others.") == 1
    assert said.count("Workers lost so far: 3.") == 1
    with Bars([], quiet=True) as bars:
        bars.hear(News(0, 2, 2, 1), 5)
    assert capsys.readouterr().err == ""
