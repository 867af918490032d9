"""Builds that go on, indexes that are kept up, disks that are full."""

from __future__ import annotations

import errno
import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli_build import build
from stamp_index.errors import AnnIndexError
from stamp_index.index import (
    Index,
    Keeper,
    build_index,
    doctor,
    fold_index,
    folding,
    has_index,
    index_folder,
    keep_up,
)
from stamp_index.index import building as lifecycle
from stamp_index.index.engine import estimate
from stamp_index.index.recipes import (
    AutoRecipe,
    FlatRecipe,
    IvfSq8Recipe,
)
from tests.index_world import (
    CLUSTERED_DIM,
    KINDS,
    PQ,
    QUERIES,
    Stop,
    add,
    exact,
    share_found,
    world,
)

# ---- builds that were interrupted ------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["read", "train", "fill", "write", "measure"])
def test_a_build_goes_on_where_it_was(tmp_path, stage):
    store = world(tmp_path)
    plain = build_index(store, "gene", PQ)  # of the same size, to compare with

    def stop(at, done, total):
        if at == stage:
            raise Stop

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    assert not has_index(store, "image")
    add(store, "LATER", 30, 5)  # what is planned stays, and this is newer
    stages = []
    card = build_index(store, "image", PQ, progress=lambda at, done, total: stages.append(at))
    assert card.n == plain.n == 1_000
    assert ("read" in stages) == (stage == "read")
    assert ("train" in stages) == (stage in ("read", "train"))
    index = Index.open(store, "image")
    assert index.n_newer == 30
    assert share_found(index.search(QUERIES, 10)[1], exact(store)) > 0.8
    assert doctor.examine(store.path) == []


def test_a_build_of_another_recipe_or_with_lost_rows_begins_anew(tmp_path):
    store = world(tmp_path)

    def stop(at, done, total):
        if at == "fill":
            raise Stop

    def stages_of(recipe):
        seen = []
        build_index(store, "image", recipe, progress=lambda at, done, total: seen.append(at))
        return seen

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    assert "read" in stages_of(IvfSq8Recipe(nlist=16))

    def stop_reading(at, done, total):
        raise Stop

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop_reading)
    store.delete("S2")  # rows that the plan has and nobody can read any more
    stages_of(PQ)
    index = Index.open(store, "image")
    assert (index.card.n, index.n_gone) == (750, 0)


def test_a_plan_that_cannot_be_read_is_no_plan(tmp_path):
    store = world(tmp_path, n=100)
    work = index_folder(store, "image") / "building"
    for text in ("", "[]", "{", json.dumps({"store_id": store.store_id})):
        work.mkdir(parents=True)
        (work / "plan.json").write_text(text)
        assert build_index(store, "image").n == 100
        assert not work.exists()


def test_a_build_that_cannot_fit_is_refused_with_numbers(tmp_path):
    store = world(tmp_path)
    with pytest.raises(AnnIndexError, match=r"needs .*MiB"):
        build_index(store, "image", PQ, max_memory_bytes=10_000)
    assert estimate(PQ, 1_000, CLUSTERED_DIM).peak_memory_bytes > 10_000


def test_what_auto_could_not_fit_into_memory_is_told_and_stands_in_the_card(tmp_path):
    store = world(tmp_path)
    recipe = tmp_path / "mine.toml"
    recipe.write_text('kind = "auto"\nflat_below = 0\n')
    asked = [str(store.path), "--recipe", str(recipe), "--modality", "image", "--max-memory", "90K"]
    done = CliRunner().invoke(build, asked, catch_exceptions=False)
    assert done.exit_code == 0
    assert "image: flat, 1000 vectors" in done.output
    tried = Index.open(store, "image").card.tried
    assert list(tried) == ["ivf_pq", "ivf_sq8"]
    for kind, given_up in tried.items():
        assert given_up["calibration"] is None
        assert f"image: {kind} was given up: An index of kind {kind} over 1,000" in done.output


def test_a_build_that_was_left_as_it_was_put_in_place_is_not_gone_on_with(tmp_path, monkeypatch):
    store = world(tmp_path)
    folder = index_folder(store, "image")
    with monkeypatch.context() as patch:
        real = lifecycle.shutil.rmtree

        def stop(path, **kwargs):
            if path == folder / "building":
                raise Stop
            real(path, **kwargs)

        patch.setattr(lifecycle.shutil, "rmtree", stop)
        with pytest.raises(Stop):
            build_index(store, "image", PQ)
    before = Index.open(store, "image").search(QUERIES, 5, recall=1)[1]
    add(store, "N", 30, 5)
    fold_index(store, "image")
    reader = Index.open(store, "image")
    build_index(store, "image", PQ)
    assert Index.open(store, "image").card.n == 1_030  # not the 1,000 of the old plan
    np.testing.assert_array_equal(reader.search(QUERIES, 10, recall=1)[1], exact(store))
    add(store, "M", 30, 6)
    fold_index(store, "image")
    np.testing.assert_array_equal(
        Index.open(store, "image").search(QUERIES, 10, recall=1)[1], exact(store)
    )
    assert doctor.examine(store.path) == []
    assert before.shape == (30, 5)


def test_a_plan_that_the_store_has_outgrown_is_made_anew(tmp_path):
    store = world(tmp_path)

    def stop(at, done, total):
        if at == "fill":
            raise Stop

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    add(store, "MANY", 300, 5)
    assert build_index(store, "image", PQ).n == 1_300


@pytest.mark.parametrize(
    "name", ["vectors.f16", "engine/ivf_pq/trained.faiss", "engine/ivf_pq/shard-000000000000.faiss"]
)
def test_a_part_that_was_damaged_since_is_made_again(tmp_path, name):
    store = world(tmp_path)

    def stop(at, done, total):
        if at == "write":
            raise Stop

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    part = index_folder(store, "image") / "building" / name
    part.write_bytes(part.read_bytes()[:-100])
    build_index(store, "image", PQ)
    index = Index.open(store, "image")
    np.testing.assert_array_equal(index.search(QUERIES, 10, recall=1)[1], exact(store))
    assert index.search(QUERIES, 2_000)[1].shape == (30, 1_000)


def test_a_build_counts_the_seconds_of_the_runs_before(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle, "_NOTE_S", 0.0)
    store = world(tmp_path)

    def stop(at, done, total):
        if at == "write":
            raise Stop

    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    noted = index_folder(store, "image") / "building" / "seconds"
    assert float(noted.read_text()) > 0
    noted.write_text("5000.5\n")
    with pytest.raises(Stop):
        build_index(store, "image", PQ, progress=stop)
    assert float(noted.read_text()) > 5_000.5
    assert build_index(store, "image", PQ).build_seconds > 5_000.5
    assert build_index(store, "image", PQ).build_seconds < 5_000


@pytest.mark.parametrize(
    ("recipe", "on_gpu"), [(PQ, True), (KINDS[-1], False), (FlatRecipe(), False)]
)
def test_only_lists_are_said_to_be_of_a_gpu(tmp_path, monkeypatch, recipe, on_gpu):
    store = world(tmp_path)
    monkeypatch.setattr(lifecycle, "n_gpus", lambda: 1)
    assert build_index(store, "image", recipe).gpu is on_gpu


def test_a_slide_that_is_deleted_while_the_store_is_compared_is_not_found_afterwards(
    tmp_path, monkeypatch
):
    from stamp_index.index import difference

    store = world(tmp_path)
    index = Index.build(store, "image", FlatRecipe())
    add(store, "A", 20, 5)
    real = difference.newer_rows

    def newer_rows(*args):
        monkeypatch.setattr(difference, "newer_rows", real)
        store.delete("S2")  # as another thread might
        return real(*args)

    monkeypatch.setattr(difference, "newer_rows", newer_rows)
    index.search(QUERIES, 10)
    np.testing.assert_array_equal(index.search(QUERIES, 10)[1], exact(store))


# ---- keeping up ----------------------------------------------------------------------------------


def test_an_index_is_folded_when_many_rows_are_newer_and_built_again_when_it_has_changed(tmp_path):
    store = world(tmp_path)
    assert keep_up(store, "image") is None
    assert not has_index(store, "image")  # who has none gets none
    build_index(store, "image", FlatRecipe())
    assert keep_up(store, "image", fold_rows=40) is None
    add(store, "A", 39, 5)
    assert keep_up(store, "image", fold_rows=40) is None
    add(store, "B", 1, 6)
    assert keep_up(store, "image", fold_rows=40).n == 1_040
    add(store, "C", 480, 7)
    card = keep_up(store, "image", fold_rows=40)  # 520 folded into 1,000
    assert (card.n, card.n_trained) == (1_520, 1_520)
    store.delete("S1")
    assert keep_up(store, "image", fold_rows=40) is None
    store.delete("S2")
    card = keep_up(store, "image", fold_rows=40)  # 500 of 1,520 gone
    assert (card.n, card.n_trained) == (1_020, 1_020)
    store.delete(*store.slides()["slide_id"])
    assert keep_up(store, "image", fold_rows=40) is None
    assert Index.open(store, "image").search(QUERIES, 5)[1].shape == (30, 0)


def test_what_somebody_else_has_folded_is_not_built_again(tmp_path, monkeypatch):
    from stamp_index.index import upkeep

    store = world(tmp_path)
    build_index(store, "image", FlatRecipe())
    add(store, "A", 50, 5)
    real = upkeep.count

    def count(*args):
        counted = real(*args)
        fold_index(store, "image")
        return counted

    monkeypatch.setattr(upkeep, "count", count)
    assert keep_up(store, "image", fold_rows=40) is None
    assert Index.open(store, "image").card.n_trained == 1_000


def test_an_index_that_is_built_again_takes_no_more_memory_than_was_allowed(tmp_path, monkeypatch):
    from stamp_index.index import upkeep

    store = world(tmp_path)
    build_index(store, "image", FlatRecipe(), max_memory_bytes=2**30)
    add(store, "A", 600, 5)
    asked = {}
    monkeypatch.setattr(upkeep, "build_index", lambda *_, **named: asked.update(named))
    keep_up(store, "image", fold_rows=40)
    assert asked["max_memory_bytes"] == 2**30


def test_a_fold_that_loses_recall_is_followed_by_a_build(tmp_path, monkeypatch):
    store = world(tmp_path)
    assert build_index(store, "image", PQ).reached
    add(store, "N", 60, 5)
    real, poor = folding.measure, {"image": (0.7, 0.01), "gene": (0.99, 0.001)}
    monkeypatch.setattr(folding, "measure", lambda *a: {**real(*a), **poor})
    folded = fold_index(store, "image")
    assert (folded.reached, folded.ann_recall_at_10["image"]) == (False, 0.7)
    add(store, "M", 60, 6)
    assert (
        keep_up(store, "image", fold_rows=1_000).n_trained == 1_120
    )  # though nobody waited for it
    add(store, "O", 60, 7)
    assert keep_up(store, "image", fold_rows=40).n_trained == 1_180


def test_what_goes_wrong_in_the_background_is_raised_at_the_end(tmp_path, monkeypatch):
    store = world(tmp_path, n=100)
    build_index(store, "image", FlatRecipe())
    next(index_folder(store, "image").glob("g-*/rows.npy")).write_bytes(b"")
    done = []
    with pytest.raises(AnnIndexError, match="bytes; the index's card says"):
        keep_through(store, done)
    assert len(done) == 5  # what is added goes on meanwhile: an index is a cache


def keep_through(store, done, stop=False):
    """Nudge a keeper five times, or stop after the first."""
    with Keeper(store.path, store.encoder) as keeper:
        for number in range(5):
            keeper.nudge()
            done.append(number)
            time.sleep(0.05)
            if stop:
                raise Stop


def test_a_build_in_the_background_stops_when_nobody_waits_for_it(tmp_path):
    store = world(tmp_path)
    build_index(store, "image", PQ)
    add(store, "MANY", 600, 5)  # it would be built again
    with pytest.raises(Stop):
        keep_through(store, [], stop=True)
    assert Index.open(store, "image").card.n == 1_000


def test_the_keeper_folds_what_comes_while_it_is_busy(tmp_path, monkeypatch):
    from stamp_index.index import upkeep

    monkeypatch.setattr(upkeep.keep_up, "__kwdefaults__", {"fold_rows": 10})
    store = world(tmp_path)
    build_index(store, "image", FlatRecipe())
    build_index(store, "gene", FlatRecipe())
    with Keeper(store.path, store.encoder) as keeper:
        for number in range(4):
            add(store, f"N{number}", 15, number)
            keeper.nudge()
    for side in ("image", "gene"):
        assert Index.open(store, side).n_newer == 0


# ---- full disks ----------------------------------------------------------------------------------


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def locked(*_args, **_kwargs):
    raise PermissionError(errno.EACCES, "Permission denied", "/x")


def test_a_full_disk_is_told_and_the_old_index_goes_on(tmp_path, monkeypatch):
    store = world(tmp_path)
    sidecar = index_folder(store, "image") / build_index(store, "image", PQ).sidecar
    add(store, "N", 60, 5)
    for place in (
        (folding, "_append"),
        (folding, "write_json"),
        (lifecycle, "write_json"),
        (lifecycle, "_read_vectors"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(*place, full)
            work = fold_index if place[0] is folding else build_index
            with pytest.raises(AnnIndexError, match=r"cannot be written .*No space left"):
                work(store, "image")
        index = Index.open(store, "image")
        assert index.n_newer == 60
        assert sidecar.stat().st_size == index.card.sidecar_bytes  # no room is kept from others
        assert share_found(index.search(QUERIES, 10)[1], exact(store)) > 0.8
    for work, place in ((fold_index, folding), (build_index, lifecycle)):
        with monkeypatch.context() as patch:
            patch.setattr(place, "write_json", locked)
            with pytest.raises(AnnIndexError, match=r"denied: '/x'\). Put right what this says"):
                work(store, "image")
    assert fold_index(store, "image").n == 1_060
    assert build_index(store, "image", AutoRecipe()).kind == "flat"
    assert doctor.examine(store.path) == []
