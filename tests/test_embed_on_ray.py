"""Slides embedded by workers on two machines, one of which is lost: every slide is there once, as if one had done all."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.crew import open_crew
from stamp_index.embed import slide_adder
from stamp_index.embed.add import AddSettings, add_slides
from stamp_index.embed.manifest import Entry, entries_of
from stamp_index.embed.slide_adder import OpenedFrom, SlideAdder
from stamp_index.errors import StoreBusyError
from stamp_index.readers import SlideOptions, read
from stamp_index.store import Store
from stamp_index.store.lock import WAIT_S
from tests.public_files import write_encoder
from tests.ray_world import lose_second, two_nodes
from tests.space_ranger_run import Run

N_SLIDES = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Slides on disk, and a checkpoint."""
    root = tmp_path_factory.mktemp("world")
    for number in range(N_SLIDES):
        run = Run(root / "slides" / str(number))
        run.counts[0, 0] += number
        run.write_h5()
        run.path.rename(root / "slides" / f"S{number}")
    return root, write_encoder(root / "encoder", read(root / "slides" / "S0").genes)


def contents(store):
    slides = store.slides()
    ids = slides["slide_id"].tolist()
    assert len(ids) == len(set(ids))
    rows = zip(ids, slides["first_spot"], slides["n_spots"], strict=True)
    return {
        one: [store.vectors(side, np.arange(first, first + n)) for side in ("image", "gene")]
        for one, first, n in rows
    }


def assert_same(store, other):
    ours, theirs = contents(store), contents(other)
    assert ours.keys() == theirs.keys()
    for one in ours:
        for a, b in zip(ours[one], theirs[one], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def cluster():
    with two_nodes() as nodes:
        yield nodes


class Killer:
    """Watches, and loses a node when the first slide is there."""

    def __init__(self, cluster):
        self.cluster, self.killed = cluster, 0

    def begin(self, entry, at, n): ...

    def step(self, done, total): ...

    def hear(self, news, n):
        self.lost = news.lost

    def end(self, outcome):
        if not self.killed:
            lose_second(self.cluster)
        self.killed += 1


@pytest.mark.slow
def test_with_a_node_lost_in_the_middle_every_slide_is_there_once(world, cluster, tmp_path):
    root, encoder = world
    bad = Entry(root / "slides" / "missing", SlideOptions())
    entries = [*entries_of([root / "slides"]), bad]
    killer = Killer(cluster)
    with open_crew("ray", address=cluster.address) as crew:
        store, outcomes = add_slides(
            tmp_path / "ray", entries, encoder_path=encoder, crew=crew, watcher=killer
        )
        assert killer.killed == len(entries)
        assert [one.state == "failed" for one in outcomes] == [False] * N_SLIDES + [True]
        assert [one.path for one in outcomes] == [str(entry.path) for entry in entries]
        here, _ = add_slides(tmp_path / "here", entries, encoder_path=encoder)
        assert_same(store, here)
        store.delete("S2")
        command = ["add", str(tmp_path / "ray"), str(root / "slides"), "--engine", "ray"]
        again = CliRunner().invoke(main, [*command, "--address", cluster.address])
    assert again.exit_code == 0, again.output
    assert f"1 added, {N_SLIDES - 1} there" in again.output
    assert "spots a second" in again.output
    assert_same(Store.open(store.path), here)


# ---- a worker, without Ray -------------------------------------------------------------------------


@pytest.fixture
def opened(world, tmp_path):
    root, encoder = world
    store, _ = add_slides(tmp_path / "store", [], encoder_path=encoder)
    where = OpenedFrom(str(store.path), store.encoder, None, store.n_rows)
    return root, store, where


def test_a_slide_whose_worker_was_lost_after_its_commit_is_found_there(opened):
    root, store, where = opened
    entry = entries_of([root / "slides" / "S0"])[0]
    settings = AddSettings(replace=True)
    assert SlideAdder.open(where, settings)(entry).state == "added"
    version = store.refresh()
    again = SlideAdder.open(where, settings)(entry)
    assert (again.state, again.reason) == ("there", "a worker that was lost had added it")
    assert store.refresh() == version


def test_a_slide_that_another_worker_adds_while_this_one_embeds_is_found_there(opened):
    root, store, where = opened
    entry = entries_of([root / "slides" / "S0"])[0]
    late, early = (SlideAdder.open(where, AddSettings()) for _ in range(2))
    told, todo = [], [early]

    def meanwhile(done, total):
        if todo:
            told.append(todo.pop()(entry))

    late.tell = meanwhile
    outcome = late(entry)
    assert [one.state for one in told] == ["added"]
    assert (outcome.state, outcome.reason) == ("there", "a worker that was lost had added it")
    assert outcome.embedded == told[0].embedded
    store.refresh()
    assert store.slides()["slide_id"].tolist() == ["S0"]


def test_a_busy_store_is_waited_for_longer_than_others_wait(opened, monkeypatch):
    root, store, where = opened
    entries = entries_of([root / "slides" / "S0", root / "slides" / "S1"])
    adder = SlideAdder.open(where, AddSettings())
    assert slide_adder._BUSY_S > 10 * WAIT_S
    monkeypatch.setattr(slide_adder, "_BUSY_S", 0.2)
    with (
        store.place.writing(1.0),
        pytest.raises(StoreBusyError, match=r"waited 0\.2 s"),
    ):
        adder(entries[0])
    monkeypatch.setattr(slide_adder, "_BUSY_S", 30.0)
    with ThreadPoolExecutor(1) as pool:
        with store.place.writing(1.0):
            waiting = pool.submit(adder, entries[1])
            time.sleep(0.5)
        assert waiting.result(30).state == "added"


def test_two_slides_of_one_id_are_told_apart_whoever_adds_them(opened):
    root, store, where = opened
    settings = AddSettings(replace=True)
    one, other = entries_of([root / "slides" / "S0", root / "slides" / "S1"])
    other = Entry(other.path, replace(other.options, slide_id="S0"))
    assert SlideAdder.open(where, settings)(one).state == "added"
    second = SlideAdder.open(where, settings)(other)
    assert second.state == "failed"
    assert "was added from" in second.reason
    assert f"{one.path} just now. Give one of the two another slide_id" in second.reason
    later = OpenedFrom(where.store, where.encoder, None, store.refresh() and store.n_rows)
    assert SlideAdder.open(later, settings)(other).state == "replaced"  # in another run it is meant
