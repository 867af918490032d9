"""Shards on a Ray cluster that others use: what runs there goes on, and nothing opens without being asked for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from stamp_index.errors import ShardError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.shards import shard_index
from stamp_index.shards.http_client import TOKEN_VARIABLE, HttpShards
from tests.ray_world import collect
from tests.search_world import vector_store

ray = pytest.importorskip("ray")

# Ray leaves sockets and files to the end of its processes; it says of its own parts that they will change.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TOKEN = "a-token-of-the-tests"


class Other:
    """What somebody else serves."""

    async def __call__(self, request):
        del request
        return "here"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = vector_store(tmp_path_factory.mktemp("shared"))
    Index.build(store, "image", FlatRecipe())
    shard_index(store, "image", 2)
    return store


@pytest.fixture(scope="module")
def port():
    """Where the cluster's Serve listens, on every address of this machine, with somebody's application."""
    from ray import serve

    number = free_port()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "0.0.0.0", "port": number})
    serve.run(
        serve.deployment(Other, ray_actor_options={"num_cpus": 0}).bind(),
        name="other",
        route_prefix="/other",
    )
    yield number
    serve.shutdown()
    ray.shutdown()
    collect()


def others_answer(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=20) as answer:
        return answer.read() == b"here"


@pytest.fixture
def started(store):
    """Run `serve-shards` in a process of its own; returns it and the address that it says."""
    running = []

    def start(*options, stderr=None, **environ):
        code = "from stamp_index.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, "serve-shards", str(store.path), *options],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        running.append(process)
        said = next(line for line in process.stdout if "served at" in line)
        return process, said.split("served at ")[1].split()[0]

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_stopping_the_shards_leaves_the_others_of_a_cluster(store, port, started, monkeypatch):
    from ray import serve

    where = ray.get_runtime_context().gcs_address
    options = ("--address", where, "--host", "0.0.0.0", "--port", str(port))
    process, url = started(*options, **{TOKEN_VARIABLE: TOKEN})
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    here = url.replace("0.0.0.0", "127.0.0.1")
    assert HttpShards(here).plans()["image"]["store_id"] == store.store_id
    assert others_answer(port)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert list(serve.status().applications) == ["other"]
    assert others_answer(port)


def test_ray_that_was_started_for_the_shards_ends_with_them(store, started):
    process, url = started("--port", str(free_port()), **{TOKEN_VARIABLE: ""})
    assert set(HttpShards(url, token="").plans()) == {"image"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with pytest.raises(ShardError, match="cannot be reached"):
        HttpShards(url, token="").plans()


def test_serving_says_where_and_nothing_of_rays_that_alarms(store, started, tmp_path):
    with (tmp_path / "stderr").open("w+") as stderr:
        process, url = started("--port", str(free_port()), stderr=stderr, **{TOKEN_VARIABLE: ""})
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        stderr.seek(0)
        said = stderr.read()
    assert url.count("/") == 2  # as README writes it, without a path
    for word in ("Connecting to existing", "graceful_shutdown", "Deleting app", "Started Serve"):
        assert word not in said + process.stdout.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_what_listens_elsewhere_is_not_taken_for_what_was_asked_for(store, port, host, monkeypatch):
    """Serve keeps the address that it was started with, and says so in a log alone."""
    from ray import serve

    from stamp_index.shards import ray_serve

    monkeypatch.setenv(TOKEN_VARIABLE, "" if host == "127.0.0.1" else TOKEN)
    asked = ray_serve.Served(host, port if host == "127.0.0.1" else port + 1)
    with pytest.raises(ShardError, match=rf"listens on 0\.0\.0\.0:{port}, not on {host}"):
        ray_serve.serve_shards(store, asked)
    assert list(serve.status().applications) == ["other"]


def test_the_open_address_of_a_cluster_needs_a_token(store, port, monkeypatch):
    from stamp_index.shards import ray_serve

    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ShardError, match=TOKEN_VARIABLE):
        ray_serve.serve_shards(store, ray_serve.Served("0.0.0.0", port))
