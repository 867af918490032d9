"""The command line on a toy store."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.cli_build import memory_size
from stamp_index.cli_search import read_profile
from stamp_index.cli_store import progress
from stamp_index.errors import QueryError
from stamp_index.evaluate import ann_recall
from stamp_index.index import Index
from stamp_index.search import Searcher
from stamp_index.store import Store
from tests.support import ToyEncoder, toy_rows, toy_slides, toy_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    made = toy_store(tmp_path / "toy")
    opened = Searcher.open(made.path, encoder=ToyEncoder())
    # A toy encoder has no checkpoint to load; everything behind it is real.
    monkeypatch.setattr(Searcher, "open", classmethod(lambda *_args, **_named: opened))
    return made.path


def _run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_signature_a_spot_and_a_profile_can_be_asked(store, tmp_path):
    csv = tmp_path / "profile.csv"
    csv.write_text("gene,count\nCD8A,30\nCD3E,20\n")
    for query in (("--genes", "CD8A high"), ("--profile", csv)):
        done = _run("search", store, *query, "-k", 3, "--csv")
        assert done.exit_code == 0, done.output
        assert (
            len([line for line in done.output.splitlines() if line[:2] in {"1,", "2,", "3,"}]) == 3
        )


def test_an_option_that_does_not_apply_is_refused(store):
    done = _run("search", store, "--genes", "CD8A high", "--exclude-own", "slide")
    assert done.exit_code != 0
    assert "--exclude-own goes with --spot or --region only" in done.output


def test_hits_are_spread_and_both_embeddings_searched_on_demand(store):
    asked = ("search", store, "--genes", "CD8A high", "-k", 3, "--csv", "--against", "both")
    for one_per in ("slide", "150"):
        done = _run(*asked, "--one-per", one_per, "--recall", "1.0")
        assert done.exit_code == 0, done.output
        lines = [line for line in done.output.splitlines() if line[:2] in {"1,", "2,", "3,"}]
        assert len(lines) == 3
    for one_per in ("organ", "-5", "nan"):
        done = _run(*asked, "--one-per", one_per)
        assert done.exit_code != 0
        assert f"--one-per is '{one_per}'" in done.output


def test_indexes_are_built_and_their_recall_reported(store):
    done = _run("build", store, "--quiet")
    assert done.exit_code == 0, done.output
    rows = ann_recall(store)
    assert {row["index"] for row in rows} == {"image", "gene"}
    assert all(row["ann_recall@10"] == 1.0 for row in rows)  # a small store gets flat by itself


def test_info_names_slides_and_encoder(store):
    done = _run("info", store)
    assert done.exit_code == 0
    assert ToyEncoder().fingerprint in done.output


def test_a_wrong_line_of_a_profile_is_named(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("CD8A,3\nEPCAM,lots\n")
    with pytest.raises(QueryError, match="Line 2 of .* is 'EPCAM,lots'"):
        read_profile(path)
    path.write_text("CD8A,3\nEPCAM,1\nCD8A,4\n")
    with pytest.raises(QueryError, match="Line 3 of .* names CD8A again"):
        read_profile(path)
    path.write_text("CD8A;3\nEPCAM,1\n")
    with pytest.raises(QueryError, match="Line 1 of .* is 'CD8A;3'"):
        read_profile(path)
    with pytest.raises(QueryError, match="cannot be read"):
        read_profile(tmp_path / "none.csv")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("place", "quiet", "is_shown"),
    [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)],
    ids=["terminal", "quiet", "file"],
)
def test_progress_is_shown_on_a_terminal_unless_it_is_to_be_quiet(
    monkeypatch, place, quiet, is_shown
):
    shown = place()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress("embedding", quiet=quiet) as show:
        for done in (10, 40):
            show(done, 40)
    assert ("100%" in shown.getvalue()) == is_shown
    assert bool(shown.getvalue()) == is_shown


def test_indexes_are_folded_where_there_are_any(store):
    done = _run("build", store, "--fold")
    assert done.exit_code == 0, done.output
    assert "no indexes yet" in done.output
    assert _run("build", store, "--modality", "image").exit_code == 0
    done = _run("build", store, "--fold")
    assert done.output == "image: nothing to add.\n"
    done = _run("build", store, "--fold", "--recipe", "flat")
    assert done.exit_code == 2
    assert "leave out --recipe" in done.output


def test_a_copied_store_is_checked_once_and_noted(store, tmp_path, monkeypatch):
    assert _run("build", store).exit_code == 0
    shutil.copytree(store, tmp_path / "copy")
    assert _run("doctor", tmp_path / "copy", "--mend").exit_code == 0
    from stamp_index.index import files

    taken, real = [], files.hashlib.sha256
    monkeypatch.setattr(files.hashlib, "sha256", lambda *a: taken.append(1) or real(*a))
    Index.open(Store.open(tmp_path / "copy"), "image")
    assert len(taken) == 1  # of the card


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 * 2**30), ("800mb", 800 * 2**20), ("1.5KiB", 1536), ("77", 77)]
)
def test_sizes_are_read_with_their_units(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "many", "4 potatoes", "inf"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not a size in bytes"):
        memory_size(text)


def test_info_says_how_far_an_index_is_from_its_store(tmp_path):
    store = toy_store(tmp_path, n_slides=2)
    assert "image: 80 spots, no index: searched exactly" in _run("info", store.path).output
    Index.build(store, "image")
    store.delete("S1")
    store.add(toy_rows(toy_slides(3)[2]))
    said = _run("info", store.path).output
    assert "image: 80 spots; index flat of 40, recall@10 image 1.000" in said
    assert "40 newer ones searched exactly, 40 of its rows deleted since" in said


def test_a_reader_that_has_seen_enough_ends_a_verb_without_a_word(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-c", "from stamp_index.cli import main; main()", "info"]
    with os.fdopen(write, "wb") as unread:
        done = subprocess.run(
            [*words, str(store.path)], stdout=unread, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_connection_that_broke_is_told(store, monkeypatch):
    def broken(*_arguments, **_settings):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Store, "open", broken)
    done = _run("info", store)
    assert done.exit_code == 1
    assert "Broken pipe" in done.output
