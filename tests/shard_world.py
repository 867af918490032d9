"""Stores whose indexes are divided, and shards that do not answer."""

from __future__ import annotations

import threading

import numpy as np

from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe, IvfRabitqRecipe, IvfSq8Recipe
from stamp_index.shards import LocalShards, ShardedIndex, read_plan, shard_index, shards_folder
from stamp_index.shards.part import Part
from stamp_index.shards.service import Parts
from tests.index_world import PQ, world

SPLITTABLE = {
    "flat": FlatRecipe(),
    "ivf_pq": PQ,
    "ivf_rabitq": IvfRabitqRecipe(nlist=16, target_recall=0.8),
    "ivf_sq8": IvfSq8Recipe(nlist=16),
}


class Mute:
    """A shard that can be told to fail, or to hang until it is let go."""

    def __init__(self, part):
        self.part, self.mood, self.n_asked = part, "well", 0
        self.let_go = threading.Event()

    def answer(self, question):
        self.n_asked += 1
        if self.mood == "dead":
            raise ConnectionError("the shard's host is gone")
        if self.mood == "hangs":
            self.let_go.wait(20)
        return self.part.answer(question)


def divided(folder, recipe, *, n_shards=3, n=1_000, n_slides=7):
    """A store, its index and the same index of shards."""
    store = world(folder, n=n, n_slides=n_slides)
    whole = Index.build(store, "image", recipe)
    shard_index(store, "image", n_shards)
    return store, whole, ShardedIndex.connect(store, "image", LocalShards.open(store))


def mutable(store, modality="image", *, timeout_s=0.3):
    """Shards of a store in this process, and what makes each of them mute."""
    folder = shards_folder(store, modality)
    plan = read_plan(folder)
    parts = [Mute(Part.open(folder, number)) for number in range(len(plan.parts))]
    return LocalShards({modality: Parts(plan, parts, timeout_s=timeout_s)}), parts


def assert_identical(found, expected):
    """The same scores to the last bit, and the same rows."""
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def assert_at_least_as_good(found, expected):
    """The i-th best hit of each query scores no less."""
    assert found[1].shape == expected[1].shape
    assert (found[0] >= expected[0]).all()
    for rows in found[1]:
        assert len(set(rows.tolist())) == len(rows)
