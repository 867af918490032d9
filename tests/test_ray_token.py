"""Clusters of Ray that ask for a token, and those that ask for none: said at once, and how to join."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from stamp_index.crew import ray_connection, ray_token
from stamp_index.errors import CrewError

grpc = pytest.importorskip("grpc")
pytest.importorskip("ray")
ASKS = r"answers at '{}' and asks for a token: set RAY_AUTH_MODE=token here; .* RAY_AUTH_TOKEN"


@pytest.fixture(autouse=True)
def _no_mode(monkeypatch):
    monkeypatch.delenv(
        "RAY_AUTH_MODE", raising=False
    )  # whoever started a Ray here before has set it


@contextmanager
def answering(code):
    """A gRPC server that refuses every call with a code; gives its address."""

    def refuse(_, context):
        context.abort(code, "refused")

    class Handler(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(refuse)

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_asks_for_a_token_is_no_missing_cluster(scheme, monkeypatch):
    with answering(grpc.StatusCode.UNAUTHENTICATED) as where:
        address = f"{scheme}{where}"
        with pytest.raises(CrewError, match=ASKS.format(address)):
            ray_connection._require_reachable(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        ray_connection._require_reachable(address)


@pytest.mark.parametrize("mode", ["", "token"])
@pytest.mark.parametrize("code", ["UNIMPLEMENTED", "INTERNAL", "UNKNOWN"])
def test_a_service_of_another_kind_is_no_cluster(code, mode, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with (
        answering(grpc.StatusCode[code]) as where,
        pytest.raises(CrewError, match=f"answers at '{where}', but it is no Ray cluster"),
    ):
        ray_connection._require_reachable(where)


def test_what_says_nothing_is_no_cluster(monkeypatch):
    monkeypatch.setattr(ray_token, "_ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(CrewError, match="it is no Ray cluster"):
            ray_connection._require_reachable(address)


def test_what_only_a_cluster_says_is_left_to_ray():
    with answering(grpc.StatusCode.FAILED_PRECONDITION) as where:
        ray_connection._require_reachable(where)


def test_what_cannot_be_joined_is_said_to_answer(monkeypatch):
    failure = ConnectionError("ray client connection timeout")
    said = ray_connection._not_joined("ray://host:10001", failure)
    assert said.startswith("Something answers at 'ray://host:10001', but cannot be joined")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "RAY_AUTH_MODE is token: if it asks for none, unset that" in ray_connection._not_joined(
        "host:6379", failure
    )
    assert ray_connection._not_joined("auto", failure).startswith("There is no Ray cluster")


def free_ports(n):
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A plain `ray start --head` where a token lies, as Ray 2.60 does it; environment and addresses."""
    home = tmp_path_factory.mktemp("h")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environ |= {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    gcs, client = free_ports(2)
    options = ["--port", gcs, "--ray-client-server-port", client, "--include-dashboard=false"]
    options += ["--num-cpus=1", "--object-store-memory=90000000", "--node-ip-address=127.0.0.1"]
    code = "from ray.scripts.scripts import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, "start", "--head", "--block", *options],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    for port in (gcs, client):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            assert time.monotonic() < until
            time.sleep(0.2)
    yield environ, (f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}")
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


JOIN = """
import sys
from stamp_index.crew import open_crew
with open_crew("ray", address=sys.argv[1], n_workers=1):
    import ray
    print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("which", [0, 1], ids=["head", "client"])
def test_a_plain_start_of_ray_is_joined_with_the_mode_alone(head, which):
    environ, addresses = head
    command = [sys.executable, "-W", "error::UserWarning", "-c", JOIN, addresses[which]]
    with pytest.raises(CrewError, match=ASKS.format(addresses[which])):
        ray_connection._require_reachable(addresses[which])
    env = environ | {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.stdout == "1.0\n", done.stderr
