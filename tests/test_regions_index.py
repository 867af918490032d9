"""What a region search asks of indexes and of the store."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from stamp_index.index import Index
from stamp_index.search import RegionSettings
from stamp_index.search.regions.search import random_rows
from stamp_index.store import Store
from tests.region_world import CENTRE, KINDS, XY, circle, four_slides, planted, searcher_of, slide


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return four_slides(tmp_path_factory.mktemp("regions"))


def test_an_index_finds_what_exact_search_finds(world):
    exact = world.search_region(circle(CENTRE, 330))
    indexed = type(world)(world.store, world.encoder)
    indexed.indexes["image"] = Index.build(world.store, "image")
    found = indexed.search_region(circle(CENTRE, 330))
    assert [rows.tolist() for rows in found.rows] == [rows.tolist() for rows in exact.rows]
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-5)  # the index rounds otherwise


def test_what_an_index_makes_of_what_may_be_found_is_made_once_for_all_regions(world):
    indexed = type(world)(world.store, world.encoder)
    indexed.indexes["image"] = index = Index.build(world.store, "image")
    made, prepare = [], index.prepare
    index.prepare = lambda mask: made.append(mask) or prepare(mask)
    for radius in (250, 330, 400):
        indexed.search_region(circle(CENTRE, radius))
    assert len(made) == 1
    for radius in (250, 330):  # these leave out their own spots, each its own
        indexed.search_region(circle(CENTRE, radius), exclude_own="nothing")
    assert len(made) == 3


def test_random_spots_are_those_drawn_from_a_list_of_all_that_have_the_embedding(tmp_path):
    kind = KINDS[planted(CENTRE, 320, 1)]
    parts = [slide("A", XY, kind), slide("GONE", XY, kind), slide("C", XY, kind)]
    parts += [replace(slide("B", XY, kind), image=None), slide("D", XY[:40], kind[:40])]
    store = Store.open(searcher_of(tmp_path, *parts).store.path)
    store.delete("GONE")
    task = SimpleNamespace(store=store, slides=store.slides(), settings=RegionSettings(seed=3))
    for side in ("image", "gene"):
        present = np.flatnonzero(store.has_vector(side))
        drawn = np.random.default_rng(3).choice(present, 1_024, replace=False)
        assert random_rows(task, side).tolist() == sorted(drawn.tolist())


@pytest.mark.parametrize("recall", [0.95, 0.99, 1, 1.0])
def test_the_recall_that_is_asked_for_reaches_the_index(world, recall, monkeypatch):
    sources, asked = world._engine.sources, []
    nearest = sources.nearest

    def noting(*args, **named):
        asked.append(named["recall"])
        return nearest(*args, **named)

    monkeypatch.setattr(sources, "nearest", noting)
    world.search_region(circle(CENTRE, 330), recall=recall)
    assert asked == [recall]
