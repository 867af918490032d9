"""Shards as users meet them: on the command line, in Python and in the app."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.app_launcher import Served, app_command
from stamp_index.cli import main
from stamp_index.errors import QueryError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.search import Searcher
from stamp_index.shards import LocalShards, ShardedIndex, read_plan, shards_folder
from tests.shard_world import mutable
from tests.support import ToyEncoder, toy_store


@pytest.fixture
def store(tmp_path):
    made = toy_store(tmp_path, n_slides=4, n_spots=40)
    Index.build(made, "image", FlatRecipe())
    Index.build(made, "gene", FlatRecipe())
    return made


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_both_indexes_are_divided_and_the_shards_are_listed(store):
    done = run("shard", store.path, "--shards", 3)
    assert done.exit_code == 0, done.output
    assert done.output.count("3 shards") == 2
    assert "shard 2: 40 vectors of 1 slide," in done.output
    assert len(read_plan(shards_folder(store, "gene")).parts) == 3
    one = run("shard", store.path, "--shards", 2, "--modality", "gene")
    assert "image" not in one.output


def test_a_store_without_indexes_says_what_to_run(tmp_path):
    done = run("shard", toy_store(tmp_path, n_slides=2, n_spots=5).path)
    assert done.exit_code == 1
    assert "stamp-index build" in done.output


def test_a_search_by_shards_prints_what_one_without_does(store, monkeypatch):
    monkeypatch.delenv("STAMP_INDEX_SHARDS", raising=False)
    run("shard", store.path)
    spot = store.spots(["spot_id"], [3])["spot_id"].iloc[0]
    ask = ("search", store.path, "--spot", spot, "-k", 4)
    plain = run(*ask)
    assert plain.exit_code == 0, plain.output
    assert run(*ask, "--shards", "local").output == plain.output
    monkeypatch.setenv("STAMP_INDEX_SHARDS", "nowhere")
    refused = run(*ask)
    assert refused.exit_code == 1
    assert "'nowhere'; expected http://host:port" in refused.output


def test_a_searcher_takes_the_address_and_every_query_is_as_before(store):
    run("shard", store.path)
    encoder = ToyEncoder()
    plain = Searcher.open(store.path, encoder=encoder)
    sharded = Searcher.open(store.path, encoder=encoder, shards="local")
    assert all(isinstance(index, ShardedIndex) for index in sharded.indexes.values())
    spot = store.spots(["spot_id"], [50])["spot_id"].iloc[0]
    patch = np.full((300, 300, 3), 200, np.uint8)
    for ask in (
        lambda s: s.search_genes("CD8A high, EPCAM low", k=9),
        lambda s: s.search_image(patch, mpp=0.5, k=9),
        lambda s: s.search_profile({"CD8A": 5.0, "EPCAM": 2.0}, k=9),
        lambda s: s.search_spot(spot, k=9, exclude_own="slide", against="gene"),
    ):
        one, other = ask(plain), ask(sharded)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.table["percentile"], other.table["percentile"])
        assert one.notes == other.notes


def test_more_hits_than_one_answer_holds_are_refused_with_and_without_shards(store, monkeypatch):
    run("shard", store.path)
    for module in ("search.selection", "shards.messages", "shards.engine"):
        monkeypatch.setattr(f"stamp_index.{module}.MOST_HITS", 20)
    said = set()
    for shards in (None, "local"):
        searcher = Searcher.open(store.path, encoder=ToyEncoder(), shards=shards)
        assert len(searcher.search_genes("CD8A high", k=20)) == 20
        with pytest.raises(QueryError) as refused:
            searcher.search_genes("CD8A high", k=21)
        said.add(str(refused.value))
    assert said == {"21 hits were asked for; one answer holds at most 20. Ask for fewer."}


def test_the_app_is_told_where_the_shards_are(store):
    command = app_command(store.path, Served(shards="http://host:8000"))
    assert "--shards=http://host:8000" in command
    assert not any("shards" in word for word in app_command(store.path, Served()))


def test_the_apps_server_reads_where_the_shards_are(monkeypatch):
    pytest.importorskip("streamlit")
    server = importlib.import_module("app.server")
    asked = server._parser().parse_args(["--store", "s", "--shards=http://host:8000"])
    assert asked.shards == "http://host:8000"


def test_the_app_asks_shards_shows_who_is_silent_and_does_not_keep_that(store, monkeypatch):
    pytest.importorskip("streamlit")
    pages = importlib.import_module("tests.browser.app_pages")
    settings, stores = (
        importlib.import_module("app.settings"),
        importlib.import_module("app.stores"),
    )
    run("shard", store.path, "--shards", 4)
    service, parts = mutable(store)
    service._parts["gene"] = LocalShards.open(store)._parts["gene"]
    monkeypatch.setattr("stamp_index.shards.connect", lambda address, _: service)
    served = settings.Settings(store_path=str(store.path), shards="http://shards")
    monkeypatch.setattr(settings, "_current", [served])
    parts[2].mood = "dead"
    at = pages.start(store, q="CD8A high")
    assert isinstance(stores.open_store(str(store.path)).searcher.indexes["image"], ShardedIndex)
    silent = read_plan(shards_folder(store, "image")).parts[2].slides[0]
    words = f"1 of 4 shards of the image index did not answer (slide {silent})"
    assert words in _shown(at)
    assert silent not in {tile["slide"] for tile in pages.tiles(at)}
    parts[2].mood = "well"
    at = pages.run(at)
    assert "shards" not in _shown(at)
    assert silent in {tile["slide"] for tile in pages.tiles(at)}


def _shown(at):
    return " ".join(
        str(one.value)
        for kind in ("caption", "markdown", "info", "warning")
        for one in at.get(kind)
    )
