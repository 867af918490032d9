"""What the app says of a store: empty, damaged, newer, synthetic, changed meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stamp_index.store import EncoderCard, Store
from tests.browser.app_pages import (
    IMAGE_PAGE,
    component,
    html,
    markdown,
    slides_page,
    start,
    tiles,
)
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_slides, toy_store

pytest.importorskip("streamlit")

from app import admission, settings
from app.settings import Settings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("app"), n_slides=3, n_spots=40)


def test_empty_store_says_what_to_run(tmp_path):
    empty = Store.create(tmp_path / "empty", EncoderCard.of(ToyEncoder()))
    for page in (None, IMAGE_PAGE):
        at = start(empty, page)
        assert "This store has no slides yet" in [s.value for s in at.subheader]
        assert "stamp-index add" in at.code[0].value
        assert not at.text_input


def test_newer_store_asks_for_an_upgrade(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    newest = sorted((store.path / "versions").glob("*.json"))[-1]
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "format_version": 99}))
    at = start(store.path)
    assert "99" in markdown(at)
    assert at.code[0].value == "pip install --upgrade stamp-index"


def test_missing_store_is_one_sentence_with_its_path(tmp_path):
    at = start(tmp_path / "nowhere")
    assert "nowhere" in markdown(at)
    assert [s.value for s in at.subheader] == ["This store cannot be opened"]


@pytest.mark.parametrize("auth", ["none", "proxy"])
def test_folder_of_the_store_is_shown_only_where_nobody_logs_in(tmp_path, monkeypatch, auth):
    empty = Store.create(tmp_path / "empty", EncoderCard.of(ToyEncoder()))
    damaged = toy_store(tmp_path / "other", n_slides=1, n_spots=5)
    sorted((damaged.path / "versions").glob("*.json"))[-1].write_text("{")
    monkeypatch.setattr(admission, "user", lambda: "reader")
    for path in (empty.path, damaged.path, tmp_path / "nowhere"):
        monkeypatch.setattr(settings, "_current", [Settings(store_path=str(path), auth=auth)])
        at = start(path)
        shown = "".join([markdown(at), html(at), *[code.value for code in at.code]])
        assert path.name in shown
        assert (str(tmp_path) in shown) == (auth == "none")


def test_slides_are_shown_though_the_encoder_is_another_one_and_searching_says_so(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=20, encoder=ToyEncoder(seed=1))
    at = slides_page(store)
    assert component(at, "viewer")
    assert not at.error
    at = start(store)
    assert [one.value for one in at.subheader] == ["The encoder of this store cannot be used"]
    assert "holds embeddings of encoder" in markdown(at)


def test_damaged_store_is_one_sentence(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    sorted((store.path / "versions").glob("*.json"))[-1].write_text("{")
    at = start(store.path)
    assert "not a readable store version" in markdown(at)


def test_no_store_says_how_to_start():
    at = start(None)
    assert at.code[0].value == "stamp-index app STORE"


def test_slide_added_meanwhile_is_seen_by_the_next_query(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=20)
    at = start(store, q="CD8A high")
    assert {tile["slide"] for tile in tiles(at)} == {"S1"}
    store.add(toy_rows(toy_slides(2, 20)[1]))
    at.run()
    assert {tile["slide"] for tile in tiles(at)} == {"S1", "S2"}


def test_synthetic_store_is_called_so_and_a_real_one_is_not(store, tmp_path):
    drawn = toy_store(tmp_path, slides=[replace(toy_slide("S1", 20), platform="phantom")])
    assert "Synthetic data" in markdown(start(drawn))
    assert "Synthetic data" not in markdown(start(store))


def test_footer_counts_the_store_and_limits_its_use(store):
    body = html(start(store))
    assert "3 slides · 120 spots · 60 genes · encoder toy" in body
    assert "Research use only" in body


def test_showing_pages_leaves_the_store_as_it_was(tmp_path):
    store = toy_store(tmp_path, n_slides=2, n_spots=20)
    before = {file: file.stat().st_mtime_ns for file in store.path.rglob("*")}
    start(store, q="CD8A high")
    start(store, IMAGE_PAGE, spot="S1:B0003-1")
    assert {file: file.stat().st_mtime_ns for file in store.path.rglob("*")} == before
