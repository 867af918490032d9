"""The served store follows the newest version, and requests finish on the one that they began with."""

from __future__ import annotations

import shutil
import threading
import weakref

import numpy as np
import pytest

from stamp_index.index import build_index, fold_index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.serve.live import Live
from stamp_index.serve.problems import RefusedError
from tests.serve_world import asked, until
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store


@pytest.fixture
def store(tmp_path):
    return toy_store(tmp_path)


@pytest.fixture
def live(store):
    made = Live(store.path, encoder=ToyEncoder())
    made.refresh()
    yield made
    made.close()


def test_nothing_is_answered_before_the_store_is_open(store):
    live = Live(store.path)
    assert not live.is_ready
    with pytest.raises(RefusedError, match="not open yet"):
        live.now()


def test_a_new_version_is_served_and_the_old_one_still_answers_whoever_has_it(store, live):
    before = live.now()
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    store.delete("S1")
    live.refresh()
    assert live.now().store.version == store.version
    assert "S9" in live.now().slides.index
    hits = before.searcher.search_spot("S1:B0001-1", k=3)
    assert hits.store_version == before.store.version
    assert live.now().asking.search_genes("CD8A", k=120).store_version == store.version


def test_nothing_of_an_old_version_is_kept_once_nobody_asks_it(store, live):
    build_index(store, "image", FlatRecipe())
    for number in range(3):
        old = live.now()
        old.asking.search_genes("CD8A", k=3, filters='organ == "breast"')
        kept = [weakref.ref(one) for one in (old, old.searcher, old.store, old.searcher._engine)]
        del old
        store.add(toy_rows(toy_slide(f"N{number}", 20, 50 + number)))
        live.refresh()
        assert [one() for one in kept] == [None] * 4


def test_the_same_version_is_not_opened_again(live):
    before = live.now()
    live.refresh()
    assert live.now() is before


def test_the_encoder_and_the_indexes_are_carried_over(store, live):
    build_index(store, "image", FlatRecipe())
    store.add(toy_rows(toy_slide("S8", 40, 98)))
    live.refresh()
    before = live.now()
    assert set(before.searcher.indexes) == {"image"}
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    live.refresh()
    now = live.now()
    assert now.asking.encoder is before.asking.encoder
    assert [one.searcher.indexes["image"].n_newer for one in (before, now)] == [40, 80]
    vectors = np.eye(4, 32)
    for opened in (before, now):  # each finds what its own version holds
        exact = opened.searcher.nearest(vectors, k=10, recall=1.0)[0]
        truth = np.sort(vectors @ opened.store.vectors("image").astype(np.float64).T, axis=1)[
            :, :-11:-1
        ]
        np.testing.assert_allclose(exact, truth, atol=2e-3)


def test_an_index_that_is_built_or_folded_is_used_without_a_new_version(store, live):
    before = live.now()
    build_index(store, "image", FlatRecipe())
    live.refresh()
    assert set(live.now().searcher.indexes) == {"image"}
    assert before.searcher.indexes == {}
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    live.refresh()
    fold_index(store, "image")
    now = live.now()
    live.refresh()
    assert live.now() is now
    assert now.searcher.indexes["image"].n_newer == 0


def test_another_store_in_the_place_of_this_one_is_opened(store, live, tmp_path):
    other = toy_store(tmp_path / "other", n_slides=1)
    shutil.rmtree(store.path)
    shutil.copytree(other.path, store.path)
    live.refresh()
    assert live.now().store.store_id == other.store_id


def test_a_store_that_cannot_be_opened_leaves_the_version_before(store, live):
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    newest = store.path / "versions" / f"{store.version:08d}.json"
    newest.write_text("{")
    with pytest.raises(Exception, match="not a readable store version"):
        live.refresh()
    assert live.now().store.version == store.version - 1


class Failing(Live):
    """Fails a few times with what nobody thought of."""

    left = 3

    def refresh(self):
        if self.left:
            self.left -= 1
            msg = "of a library"
            raise RuntimeError(msg)
        super().refresh()


def test_whatever_fails_newer_versions_are_looked_for(store, caplog):
    live = Failing(store.path, encoder=ToyEncoder(), check_every_s=0.01)
    live.start()
    until(lambda: live.is_ready)
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    until(lambda: live.now().store.version == store.version)
    live.close()
    assert caplog.text.count("of a library") == 1  # said once


def test_an_encoder_is_loaded_once_while_an_index_cannot_be_opened(store, monkeypatch):
    from stamp_index.serve import live as module

    build_index(store, "image", FlatRecipe())
    card = next(store.path.rglob("card.json"))
    good = card.read_text()
    loaded, frozen = [], []
    carried = module._carried
    monkeypatch.setattr(module, "_carried", lambda of: (loaded.append(1), carried(of))[1])
    monkeypatch.setattr(module.gc, "freeze", lambda: frozen.append(1))
    live = Live(store.path)
    card.write_text("{")
    for _ in range(3):
        with pytest.raises(Exception, match=r"card\.json"):
            live.refresh()
    card.write_text(good)
    live.refresh()
    assert set(live.now().searcher.indexes) == {"image"}
    assert (len(loaded), len(frozen)) == (1, 1)
    live.close()


def test_a_server_tells_for_how_long_it_has_not_seen_the_newest_version(store, live):
    store.add(toy_rows(toy_slide("S9", 40, 99)))
    newest = store.path / "versions" / f"{store.version:08d}.json"
    good, before = newest.read_text(), live.unseen_s
    newest.write_text("{")
    with pytest.raises(Exception, match="not a readable store version"):
        live.refresh()
    after = live.unseen_s
    assert after > before
    newest.write_text(good)
    live.refresh()
    assert live.unseen_s < after
    with asked(store.path) as client:
        assert "stamp_index_store_unseen_seconds " in client.get("/metrics").text


def test_requests_do_not_fail_while_versions_change(store):
    found, stop = [], threading.Event()
    with asked(store.path) as client:

        def ask():
            while not stop.is_set():
                answer = client.post("/v1/search/genes", json={"signature": "CD8A", "k": 5})
                found.append((answer.status_code, answer.json().get("store_version")))

        thread = threading.Thread(target=ask)
        thread.start()
        for number in range(3):
            store.add(toy_rows(toy_slide(f"N{number}", 20, 50 + number)))
            until(lambda: found and found[-1][1] == store.version)
        stop.set()
        thread.join(30)
    assert {status for status, _ in found} == {200}
    versions = [version for _, version in found]
    assert versions == sorted(versions)
