"""The command line on a toy store."""

from __future__ import annotations

import io
import sys

import pytest
from click.testing import CliRunner

from stamp_index.cli import _progress, main, read_profile
from stamp_index.errors import QueryError
from stamp_index.evaluate import ann_recall
from stamp_index.search import Searcher
from tests.support import ToyEncoder, toy_store


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
    assert "--exclude-own goes with --spot only" in done.output


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
    with _progress("embedding", quiet=quiet) as show:
        for done in (10, 40):
            show(done, 40)
    assert ("100%" in shown.getvalue()) == is_shown
    assert bool(shown.getvalue()) == is_shown
