"""The route of a probe's answers: what it tells of each spot, and to whom."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from stamp_index.store import Store
from tests.app_world import Client
from tests.probe_page_world import finished, ticket_of
from tests.support import toy_slides, toy_store

from app import probe_runs  # isort: skip
from app import settings as served  # isort: skip
from app.api.tokens import mint  # isort: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("runs"), slides=toy_slides(4, 40))


@pytest.fixture(scope="module")
def ticket(store):
    """Of a probe of three slides, whose classes have little to do with the spots."""
    rng = np.random.default_rng(0)
    drawn = {row: ("near", "far")[int(rng.integers(2))] for row in range(120)}
    return ticket_of(store, labels=drawn, label="drawn here", split="slide", C=1.0)


@pytest.fixture(scope="module")
def gene_ticket(store):
    return ticket_of(store, gene="EPCAM", split="slide", C=0.001)


@pytest.fixture
def client(store):
    client = Client(store)
    yield client
    served.configure(served.Settings())


def told(answer) -> list[str | None]:
    """Categories of all spots."""
    assert answer.status_code == 200, answer.text
    names = json.loads(answer.headers["x-meaning"])["categories"]
    return [names[code - 1] if code else None for code in np.frombuffer(answer.content, "<u2")]


def test_right_and_wrong_spots_are_those_of_the_result(client, ticket):
    table = probe_runs.result_of(ticket, "").to_pandas()
    here = table[table["slide_id"] == "S2"]
    expected = ["right" if right else "wrong" for right in here["right"]]
    assert set(expected) == {"right", "wrong"}
    assert told(client.get("slides/1/run", job=ticket, show="right")) == expected
    assert told(client.get("slides/1/run", job=ticket, show="predicted")) == list(here["predicted"])
    assert told(client.get("slides/1/run", job=ticket, show="truth")) == list(here["truth"])


def test_classes_have_the_same_codes_on_every_slide_whether_they_are_there_or_not(client, ticket):
    for number in range(4):
        answer = client.get(f"slides/{number}/run", job=ticket, show="truth")
        assert json.loads(answer.headers["x-meaning"])["categories"] == ["far", "near"]


def test_spots_that_were_not_probed_are_not_known(client, ticket):
    assert told(client.get("slides/3/run", job=ticket, show="right")) == [None] * 40


def test_codes_of_a_gene_mean_prediction_less_measurement(client, gene_ticket):
    answer = client.get("slides/0/run", job=gene_ticket, show="right")
    meaning = json.loads(answer.headers["x-meaning"])
    codes = np.frombuffer(answer.content, "<u2").astype(np.float64)
    values = meaning["low"] + (codes - 1) / 65534 * (meaning["high"] - meaning["low"])
    table = probe_runs.result_of(gene_ticket, "").to_pandas()
    expected = table.loc[table["slide_id"] == "S1", "residual"]
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert meaning["name"] == "EPCAM, predicted less measured"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"job": "someone.nothing", "show": "right"},
        {"job": "x" * 5000, "show": "right"},
        {"show": "right"},
        {"job": "ticket", "show": "everything"},
        {"job": "ticket"},
    ],
)
def test_what_is_not_there_is_a_404_in_plain_text(client, ticket, query):
    query = {name: ticket if value == "ticket" else value for name, value in query.items()}
    answer = client.get("slides/0/run", **query)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.text) < 400


def test_no_answer_without_a_token(client, ticket):
    assert client.get("slides/0/run", token="", job=ticket, show="right").status_code == 401


def test_run_of_a_user_is_told_to_that_user_only(client, store, ticket):
    job = finished(store, "probe-user:ann", label="domain", split="slide", C=1.0, n_folds=2)
    asked = {"job": job, "show": "right"}
    assert client.get("slides/0/run", token=mint("ann"), **asked).status_code == 200
    assert client.get("slides/0/run", token=mint("bob"), **asked).status_code == 404
    assert client.get("slides/0/run", token=mint(""), **asked).status_code == 404
    # a ticket of a session opens nothing for those who log in
    answer = client.get("slides/0/run", token=mint("ann"), job=ticket, show="right")
    assert answer.status_code == 404


def test_run_on_a_later_version_finds_its_spots_by_their_ids(store, ticket, tmp_path):
    path = tmp_path / "grown"
    shutil.copytree(store.path, path)
    grown = Store.open(path)
    before = probe_runs.result_of(ticket, "").to_pandas()
    grown.delete("S1")
    client = Client(grown)
    number = list(client.opened.slides.index).index("S2")
    here = before[before["slide_id"] == "S2"]
    assert told(client.get(f"slides/{number}/run", job=ticket, show="truth")) == list(here["truth"])


def test_run_on_another_store_shows_nothing(ticket, tmp_path):
    client = Client(toy_store(tmp_path, n_slides=1))
    assert client.get("slides/0/run", job=ticket, show="right").status_code == 404
