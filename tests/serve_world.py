"""Servers for tests: in this process without sockets, or on a port of this machine."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from starlette.testclient import TestClient

from stamp_index.serve.application import make_app
from stamp_index.serve.server import make_server
from stamp_index.serve.settings import Address, Limits
from tests.support import ToyEncoder

WITHIN_S = 30


@contextmanager
def asked(store_path, **given):
    """A client of the application, without sockets."""
    app = make_app(store_path, **{"encoder": ToyEncoder(), **given})
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        _until(lambda: client.get("/readyz").status_code == 200)
        yield client


@contextmanager
def served(store_path, **given):
    """Address of a server that runs in a thread."""
    limits = given.setdefault("limits", Limits())
    app = make_app(store_path, **{"encoder": ToyEncoder(), **given})
    found, ready = [], threading.Event()
    server, listening = make_server(
        app, Address(port=0), limits, lambda url: (found.append(url), ready.set())
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(WITHIN_S)
        _until(lambda: _is_ready(found[0]))
        yield found[0]
    finally:
        server.should_exit = True
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def _is_ready(url):
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


def _until(is_so):
    until = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


until = _until


def problem(answer):
    """Status and type of an error, which is always written alike."""
    said = answer.json()
    assert set(said) == {"error"}
    assert set(said["error"]) == {"type", "message"}
    assert "Traceback" not in said["error"]["message"]
    return answer.status_code, said["error"]["type"]
