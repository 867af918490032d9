"""Rows that are folded into an index: found, measured, read once, and nothing lost where it stops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stamp_index.index import (
    Index,
    build_index,
    doctor,
    fold_index,
    folding,
    generation,
    index_folder,
    keep_up,
)
from stamp_index.index import building as lifecycle
from stamp_index.index.engine import reading
from stamp_index.index.recipes import FlatRecipe
from stamp_index.store import SlideRows, Store
from tests.index_world import CLUSTERED_DIM, KINDS, PQ, QUERIES, add, exact, share_found, world
from tests.support import _plain_slide


@pytest.mark.parametrize("recipe", KINDS, ids=lambda recipe: recipe.kind)
def test_folded_rows_are_found_in_the_index(tmp_path, recipe):
    store = world(tmp_path)
    build_index(store, "image", recipe)
    reader = Index.open(Store.open(store.path), "image")
    for number in range(2):
        add(store, f"N{number}", 50, 10 + number)
        store.delete(f"S{number + 1}")
        card = fold_index(store, "image")
        assert card.n == 1_000 + 50 * (number + 1)
        assert card.n_trained == 1_000
        index = Index.open(store, "image")
        assert (index.n_newer, index.n_gone) == (0, 250 * (number + 1))
        assert share_found(index.search(QUERIES, 10)[1], exact(store)) > 0.8
        np.testing.assert_array_equal(index.search(QUERIES, 10, recall=1)[1], exact(store))
        everything = index.search(QUERIES[:2], 2_000)[1]
        np.testing.assert_array_equal(np.sort(everything[0]), store.rows())
    assert fold_index(store, "image") is None
    assert reader.search(QUERIES, 5)[1].max() < 1_000  # shows its own version, from removed files
    reader.store.refresh()
    np.testing.assert_array_equal(reader.search(QUERIES, 2_000)[1][0].shape, [store.n_spots])
    reader.refresh()
    assert reader.n_newer == 0
    assert doctor.examine(store.path) == []


def test_folding_measures_recall_again(tmp_path):
    store = world(tmp_path)
    before = build_index(store, "image", PQ)
    add(store, "N", 100, 5)
    after = fold_index(store, "image")
    assert set(after.ann_recall_at_10) == {"image", "gene"}
    assert after.ann_recall_at_10 != before.ann_recall_at_10
    assert after.calibration == json.loads(json.dumps(before.calibration))


def test_recall_after_folding_is_that_of_new_rows_and_of_rows_that_never_trained(
    tmp_path, monkeypatch
):
    store = world(tmp_path)
    left_out, asked, real = [], [], (lifecycle.make, folding.measure)

    def make(*args, held_out, **more):
        left_out.append(held_out)
        return real[0](*args, held_out=held_out, **more)

    def measure(engine, queries, settings):
        asked.append(queries)
        return real[1](engine, queries, settings)

    monkeypatch.setattr(lifecycle, "make", make)
    monkeypatch.setattr(folding, "measure", measure)
    build_index(store, "image", PQ)
    add(store, "N0", 20, 5)
    fold_index(store, "image")
    store.delete("N0")
    vectors = add(store, "N1", 200, 6)
    fold_index(store, "image")
    (built,), (first, second) = left_out, asked
    reported = built["image"].half(1).own  # these neither trained the index nor chose its settings
    assert len(reported) == 50
    for queries, n_newer in ((first, 20), (second, 64)):
        own = queries["image"].own
        assert len(own) == 50 + n_newer
        assert set(own[:50]) == set(reported)
        assert len(set(own)) == len(own)
        assert own[50:].min() >= 1_000
        assert len(queries["gene"].vectors) == 64 + n_newer
        assert queries["gene"].own is None
    own = second["image"].own[50:]
    newest = own >= 1_020
    np.testing.assert_array_equal(
        second["image"].vectors[50:][newest], vectors[own[newest] - 1_020].astype(np.float16)
    )
    newer = vectors.astype(np.float16)
    is_newer = [
        (newer == query).all(axis=1).any() for query in second["gene"].vectors.astype(np.float16)
    ]
    assert is_newer == [False] * 64 + [True] * 64  # of the others none that came since


def test_random_queries_after_a_fold_find_nothing_that_was_replaced(tmp_path):
    store = world(tmp_path)
    build_index(store, "image", FlatRecipe())
    ids = store.slides()["slide_id"].to_numpy()
    held = {
        name: store.vectors("image", np.flatnonzero(store.mask_of(ids == name))) for name in ids
    }
    before = Index.open(store, "image").backgrounds["image"].best
    for number, (name, vectors) in enumerate(held.items(), start=50):
        unit = vectors.astype(np.float32)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        slide = _plain_slide(name, len(unit), number, 2)
        store.add(SlideRows(slide, unit, unit, None, None, store.card.fingerprint), replace=True)
    fold_index(store, "image")
    after = Index.open(store, "image").backgrounds["image"].best
    # Its twin of before the replacement would be found at 1.
    assert before.max() < 0.999
    assert after.max() < 0.999
    np.testing.assert_allclose(np.median(after), np.median(before), atol=0.02)


@pytest.mark.parametrize("recipe", [FlatRecipe(), PQ], ids=lambda recipe: recipe.kind)
def test_folding_reads_an_index_once_and_few_vectors_at_a_time(tmp_path, monkeypatch, recipe):
    store = world(tmp_path)
    build_index(store, "image", recipe)
    add(store, "N", 100, 5)
    assert fold_index(Store.open(store.path, version=store.version - 1), "image") is None
    n_read, asked, real, vectors = [], [], reading.read_index, Store.vectors

    def read_index(path):
        n_read.append(path)
        return real(path)

    def counted(self, modality, rows=None):
        asked.append(len(rows))
        return vectors(self, modality, rows)

    for module in (folding, generation):
        monkeypatch.setattr(module, "read_index", read_index)
    with monkeypatch.context() as patch:
        patch.setattr(folding, "_BLOCK_ROWS", 16)
        patch.setattr(Store, "vectors", counted)
        fold_index(store, "image")
    assert asked[:7] == [16] * 6 + [4]
    assert len(n_read) == (recipe.kind != "flat")
    n_read.clear()
    assert doctor.examine(store.path) == []
    assert len(n_read) == (recipe.kind != "flat")
    np.testing.assert_array_equal(
        Index.open(store, "image").search(QUERIES, 10, recall=1)[1], exact(store)
    )


def test_a_store_shown_at_an_older_version_goes_with_an_index_that_was_folded_since(tmp_path):
    store = world(tmp_path)
    add(store, "GONE", 20, 9)
    build_index(store, "image", PQ)
    add(store, "ALSO", 20, 10)
    older = Store.open(store.path, version=store.version)
    waiting = Store.open(store.path)  # shows the version that it was opened at
    fold_index(store, "image")
    store.delete("GONE", "ALSO")
    add(store, "N", 40, 5)
    fold_index(store, "image")
    for seen in (store, older):
        found = Index.open(seen, "image").search(QUERIES, 10, recall=1)[1]
        np.testing.assert_array_equal(found, exact(seen))
    assert fold_index(waiting, "image") is None  # rows that it does not see are not gone
    assert keep_up(waiting, "image", fold_rows=1) is None
    assert Index.open(store, "image").card.store_version == store.version


def test_what_a_killed_fold_left_at_the_end_of_the_vectors_is_written_over(tmp_path):
    store = world(tmp_path)
    card = build_index(store, "image", PQ)
    sidecar = index_folder(store, "image") / card.sidecar
    with sidecar.open("ab") as file:
        file.write(b"half of a row that was")
    np.testing.assert_array_equal(
        Index.open(store, "image").search(QUERIES, 10, recall=1)[1], exact(store)
    )
    add(store, "N", 20, 5)
    fold_index(store, "image")
    assert sidecar.stat().st_size == 2 * CLUSTERED_DIM * 1_020
    np.testing.assert_array_equal(
        Index.open(store, "image").search(QUERIES, 10, recall=1)[1], exact(store)
    )
