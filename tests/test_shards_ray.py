"""Shards served by Ray Serve: asked over HTTP and through the cluster, killed, and whole again."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.errors import ShardError, StalePlanError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe, IvfSq8Recipe
from stamp_index.search.indexes import open_indexes
from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.shards import read_plan, shard_index, shards_folder
from stamp_index.shards.http_client import ROUTE, TOKEN_VARIABLE, HttpShards
from stamp_index.shards.messages import Question, encode_question
from stamp_index.shards.plan import part_folder
from stamp_index.shards.ray_client import RayShards
from stamp_index.store import Store
from tests.index_world import add
from tests.ray_world import collect
from tests.search_world import clustered, vector_store

ray = pytest.importorskip("ray")

# Ray leaves sockets and files to the end of its processes; it says of its own parts that they will change.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
QUERIES = clustered(6, 7)
TOKEN = "a-token-of-the-tests"
SHARD_S = 3.0


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A store whose shards are served on this machine, and where."""
    from stamp_index.shards import ray_serve

    store = vector_store(tmp_path_factory.mktemp("ray"))
    Index.build(store, "image", IvfSq8Recipe(nlist=8, n_queries=16))
    Index.build(store, "gene", FlatRecipe())
    for side in ("image", "gene"):
        shard_index(store, side, 2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN_VARIABLE, TOKEN)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        started = ray_serve.serve_shards(store, ray_serve.Served(port=port, timeout_s=SHARD_S))
        yield store, started.url
        started.stop()
        ray.shutdown()
    collect()


@pytest.fixture(params=["http", "ray"])
def searcher(request, service):
    store, url = service
    return VectorSearcher.open(store.path, shards=url if request.param == "http" else "ray://auto")


def posted(url, body, *, token=TOKEN, method="POST", path=f"{ROUTE}/image"):
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_answers_are_those_of_the_undivided_indexes(service, searcher):
    store, _ = service
    whole = VectorSearcher(store, open_indexes(store))
    for ask in (
        {"recall": 1.0},
        {"recall": 1.0, "filters": 'slide in ["S1", "S4"]', "against": "gene"},
        {"recall": 1.0, "one_per": "slide", "k": 6},
        {"against": {"image": 0.5, "gene": 0.5}},
    ):
        for hits, truth in zip(
            searcher.search_vectors(QUERIES, **ask),
            whole.search_vectors(QUERIES, **ask),
            strict=True,
        ):
            np.testing.assert_array_equal(hits.rows, truth.rows)
            np.testing.assert_array_equal(hits.scores, truth.scores)
            assert hits.notes == truth.notes


def test_shards_are_asked_where_an_event_loop_runs_as_in_notebooks(service):
    """Ray refuses to wait in the thread of a loop."""
    store, _ = service

    async def asked():
        searcher = VectorSearcher.open(store.path, shards="ray://auto")
        return searcher.search_vector(QUERIES[0], recall=1.0)

    truth = VectorSearcher(store, open_indexes(store)).search_vector(QUERIES[0], recall=1.0)
    with ThreadPoolExecutor(1) as thread:  # a loop of the browser tests may run in this one
        hits = thread.submit(asyncio.run, asked()).result()
    np.testing.assert_array_equal(hits.rows, truth.rows)


def test_rows_added_since_are_found_at_once(service):
    store, url = service
    store = Store.open(store.path)
    mine = add(store, "new", 30, 70).astype(np.float32)
    try:
        searcher = VectorSearcher.open(store.path, shards=url)
        assert searcher.indexes["image"].n_newer == 30
        rows = [hits.rows[0] for hits in searcher.search_vectors(mine, k=1, recall=1.0)]
        assert (np.array(rows) >= 600).all()
    finally:
        store.delete("new")


def test_the_command_line_asks_shards(service):
    store, url = service
    spot = store.spots(["spot_id"], [3])["spot_id"].iloc[0]
    ask = ["search", str(store.path), "--spot", spot, "-k", "4", "--csv", "--recall", "1"]
    result = CliRunner().invoke(main, [*ask, "--shards", url])
    assert result.exit_code == 0, result.output
    assert result.output == CliRunner().invoke(main, ask).output


def test_who_has_no_token_is_refused(service, monkeypatch):
    store, url = service
    for token in ("", "another"):
        status, answer = posted(url, b"", token=token)
        assert status == 401
        assert TOKEN_VARIABLE in json.loads(answer)["error"]
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with pytest.raises(ShardError, match=r"401.*bearer token"):
        HttpShards(url).plans()
    with pytest.raises(ShardError, match=TOKEN_VARIABLE):
        VectorSearcher.open(store.path, shards=url)


def test_malformed_questions_are_refused_and_the_service_goes_on(service):
    store, url = service
    plan = read_plan(shards_folder(store, "image"))
    good = {"plan": plan.name, "kind": "search", "queries": QUERIES, "k": 3}
    for body, path, words in (
        (b"", f"{ROUTE}/image", "cannot be read"),
        (os.urandom(5_000), f"{ROUTE}/image", "cannot be read"),
        (encode_question(Question(**good)), f"{ROUTE}/nothing", "no shards of"),
        (encode_question(Question(**good | {"queries": QUERIES[:, :3]})), f"{ROUTE}/image", "16"),
        (
            encode_question(Question(**good, filters={9: np.zeros(1, np.uint8)})),
            f"{ROUTE}/image",
            "shard 9",
        ),
        (
            encode_question(Question(**good, filters={0: np.ones(1, np.uint8)})),
            f"{ROUTE}/image",
            "filter",
        ),
    ):
        status, answer = posted(url, body, path=path)
        assert status == 400
        assert words in json.loads(answer)["error"]
    assert posted(url, b"", method="DELETE")[0] == 405
    stale = encode_question(Question(**good | {"plan": "p-0123456789ab"}))
    assert posted(url, stale)[0] == 409
    assert posted(url, encode_question(Question(**good)))[0] == 200


def test_a_question_that_is_too_long_is_refused_by_its_length(service):
    from stamp_index.shards.messages import MOST_BYTES

    _, url = service
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    connection.putrequest("POST", f"{ROUTE}/image")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", str(MOST_BYTES + 1))
    connection.endheaders(b"begin")
    assert connection.getresponse().status == 413
    connection.close()


def test_a_plan_that_is_not_served_is_refused_with_both_names(service):
    store, url = service
    plan = read_plan(shards_folder(store, "image"))
    question = Question("p-0123456789ab", "search", QUERIES, k=3)
    with pytest.raises(StalePlanError, match=rf"p-0123456789ab.*{plan.name}.*{plan.generation}"):
        HttpShards(url).ask("image", question)


def test_clients_wait_as_long_as_shards_have_and_longer(service):
    store, url = service
    for client in (HttpShards(url), RayShards("ray://auto")):
        assert client._patience.wait_s > 2 * SHARD_S
        assert set(client.plans()) == {"image", "gene"}
        assert SHARD_S < client._patience.wait_s <= SHARD_S + 5
        assert client.plans()["image"] == read_plan(shards_folder(store, "image")).facts


def test_nobody_listening_is_one_sentence_with_the_address(service):
    store, _ = service
    for address in ("http://127.0.0.1:9", "http://127.0.0.1:9/other"):
        with pytest.raises(ShardError, match="cannot be reached"):
            VectorSearcher.open(store.path, shards=address)
    with pytest.raises(ValueError, match="ftp"):
        VectorSearcher.open(store.path, shards="ftp://host")


def kill(deployment):
    """End the process of a deployment's replica at once."""
    from ray.util import list_named_actors

    held = [
        one for one in list_named_actors(all_namespaces=True) if f"#{deployment}#" in one["name"]
    ]
    assert len(held) == 1
    ray.kill(ray.get_actor(held[0]["name"], namespace=held[0]["namespace"]))


def test_a_killed_shard_is_named_and_the_next_queries_are_whole_again(service, tmp_path):
    store, url = service
    searcher = VectorSearcher.open(store.path, shards=url)
    plan = read_plan(shards_folder(store, "image"))
    before = searcher.search_vector(QUERIES[0], k=40, recall=1.0)
    assert before.is_whole
    shard = part_folder(shards_folder(store, "image") / plan.name, 1)
    away = shard.rename(tmp_path / "away")  # so that no other takes its place at once
    try:
        kill("image-1")
        until = time.monotonic() + 60  # Ray kills a moment later
        while (hits := searcher.search_vector(QUERIES[0], k=40, recall=1.0)).is_whole:
            assert time.monotonic() < until
    finally:
        away.rename(shard)
    slides = ", ".join(plan.parts[1].slides)
    assert any(
        f"1 of 2 shards of the image index did not answer (slides {slides}): their 300 spots"
        in note
        for note in hits.notes
    ), hits.notes
    alive = before.rows[before.rows < plan.parts[1].start]
    np.testing.assert_array_equal(hits.rows[: len(alive)], alive)
    until = time.monotonic() + 60
    while not (again := searcher.search_vector(QUERIES[0], k=40, recall=1.0)).is_whole:
        assert time.monotonic() < until
        time.sleep(0.5)
    np.testing.assert_array_equal(again.rows, before.rows)
    assert again.notes == before.notes


def test_an_open_address_needs_a_token(service, monkeypatch):
    from stamp_index.shards import ray_serve

    store, _ = service
    monkeypatch.delenv(TOKEN_VARIABLE)
    with pytest.raises(ShardError, match=TOKEN_VARIABLE):
        ray_serve.serve_shards(store, ray_serve.Served(host="0.0.0.0"))
