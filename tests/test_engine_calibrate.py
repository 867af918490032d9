"""Calibration: stated recall is true, targets that are missed are said, and auto falls back."""

from __future__ import annotations

import json
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import Engine, HeldOut, Settings, calibrate, make
from stamp_index.index.engine.sources import Look
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.recipes import AutoRecipe, FlatRecipe, IvfPqRecipe
from tests.engine_world import RECIPES, clustered, engine_of, share_found, slow_search, unit

IVF = {"ivf_pq": RECIPES["ivf_pq"], "ivf_sq8": RECIPES["ivf_sq8"]}  # quick to build
calibration = sys.modules[calibrate.__module__]  # the package has a function of its name
VECTORS = clustered().astype(np.float16)


def held_out(n=120):
    """Rows of the table itself, and queries that are not in it."""
    own = np.arange(0, 6_000, 6_000 // n)[:n]
    return {
        "image": HeldOut(VECTORS[own].astype(np.float32), own),
        "gene": HeldOut(unit(clustered(n, seed=7) + 0.1)),
    }


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return engine_of("ivf_pq", tmp_path_factory.mktemp("engine"), VECTORS)


@pytest.fixture(scope="module")
def measured(engine):
    return calibrate(engine, held_out())


def test_stated_recall_is_what_a_slow_search_sees(engine, measured):
    choice = measured.choice(0.99)
    queries = held_out()["gene"].half(1).vectors
    _, rows = engine.search(queries, 11, settings=choice.settings)
    exact, _ = slow_search(VECTORS, queries, 10)
    assert choice.recall["gene"] == pytest.approx(share_found(rows[:, :10], exact), abs=0.005)
    assert all(one.reached for one in measured.choices)


def test_a_query_does_not_count_itself(engine, measured):
    queries = held_out()["image"].half(1)
    _, rows = engine.search(queries.vectors, 11, settings=measured.choice(0.99).settings)
    assert (rows == queries.own[:, None]).any(axis=1).all()  # each finds itself
    slow, _ = slow_search(VECTORS, queries.vectors, 11)
    found = np.array([row[row != own][:10] for row, own in zip(rows, queries.own, strict=True)])
    exact = np.array([row[row != own][:10] for row, own in zip(slow, queries.own, strict=True)])
    assert measured.choice(0.99).recall["image"] == pytest.approx(
        share_found(found, exact), abs=0.005
    )


@pytest.mark.parametrize("kind", RECIPES)
def test_every_rung_is_what_whole_searches_give(tmp_path, kind):
    noise = unit(np.random.default_rng(3).normal(size=(3_000, 64)))  # so that depth matters
    vectors, queries = noise[:2_940].astype(np.float16), HeldOut(noise[2_940:])
    engine = engine_of(kind, tmp_path, vectors)
    measured = calibrate(engine, {"gene": queries}, ladder=(40, 60, 100, 400))
    asked = queries.half(0).vectors
    exact, _ = slow_search(vectors, asked, 10)
    for rung in measured.rungs:
        _, rows = engine.search(asked, 10, settings=Settings(rung.breadth, rung.n_rerank))
        assert rung.recall["gene"] == pytest.approx(share_found(rows, exact), abs=1e-9)
        assert rung.safe["gene"] <= rung.recall["gene"]
    assert len({rung.recall["gene"] for rung in measured.rungs}) > 5
    for breadth in (4, 16, 50):  # what makes one search tell all depths
        many = engine.source.codes(asked, Look(breadth, 400))
        for depth in (1, 10, 50, 200):
            few = engine.source.codes(asked, Look(breadth, depth))
            np.testing.assert_array_equal(few, many[:, :depth])


def test_exact_truth_is_found_once_for_each_half_of_the_queries_and_by_all_threads(
    engine, monkeypatch
):
    seen, real = [], calibration.search_pieces

    def counted(vectors, queries, k, pieces):
        seen.append((len(queries), load_faiss().omp_get_max_threads()))
        return real(vectors, queries, k, pieces)

    monkeypatch.setattr(calibration, "search_pieces", counted)
    monkeypatch.setattr(calibration, "_FILTER_SHARES", ())
    before = load_faiss().omp_get_max_threads()
    load_faiss().omp_set_num_threads(2)
    try:
        calibrate(engine, held_out(), targets=(0.8, 0.9, 0.95, 0.99))
    finally:
        load_faiss().omp_set_num_threads(before)
    assert seen == [(60, 2)] * 4  # two modalities, two halves


def test_the_choice_is_the_cheapest_safe_rung(measured):
    for choice in measured.choices:
        safe = [rung for rung in measured.rungs if min(rung.safe.values()) >= choice.target]
        cheapest = min(safe, key=lambda rung: rung.cpu_ms)
        assert (choice.breadth, choice.n_rerank) == (cheapest.breadth, cheapest.n_rerank)
    costs = {(rung.breadth, rung.n_rerank): rung.cpu_ms for rung in measured.rungs}
    for (breadth, depth), cost in costs.items():
        for (other, deeper), more in costs.items():
            if other >= breadth and deeper >= depth:
                assert more >= cost  # more work never looks cheaper


def test_filters_are_measured_too(measured):
    assert {(check.share, check.follows) for check in measured.filters} == {
        (share, follows) for share in (0.5, 0.1, 0.01) for follows in (False, True)
    }
    for check in measured.filters:
        assert min(check.recall.values()) >= 0.95


def test_all_of_it_is_json(measured):
    told = json.loads(json.dumps(measured.to_dict()))
    assert told["n_queries"] == {"image": 120, "gene": 120}
    assert len(told["rungs"]) == len(measured.rungs)


def test_a_graph_is_measured_alike(tmp_path):
    engine = engine_of("hnsw_sq8", tmp_path, VECTORS)
    measured = calibrate(engine, held_out(), ladder=RECIPES["hnsw_sq8"].rerank_ladder)
    assert measured.choice(0.95).reached
    assert not any(check.follows for check in measured.filters)


def test_a_target_out_of_reach_is_said(tmp_path):
    noise = unit(np.random.default_rng(3).normal(size=(5_000, 64))).astype(np.float16)
    queries = {"image": HeldOut(unit(np.random.default_rng(4).normal(size=(60, 64))))}
    recipe = IvfPqRecipe(opq_rounds=1, dims_per_byte=32, rerank_ladder=(50,), nlist=16)
    made = make(noise, recipe, tmp_path, held_out=queries)
    assert [one.reached for one in made.calibration.choices] == [False, False]
    assert made.recipe is recipe
    choice = made.calibration.choice(0.99)
    assert not choice.reached
    assert choice.recall["image"] < 0.95
    best = max(min(rung.recall.values()) for rung in made.calibration.rungs)
    assert any(
        (rung.breadth, rung.n_rerank) == (choice.breadth, choice.n_rerank)
        and rung.recall["image"] == best
        for rung in made.calibration.rungs
    )


@pytest.mark.slow
def test_auto_notices_that_noise_has_no_structure(tmp_path):
    noise = unit(np.random.default_rng(3).normal(size=(8_000, 96))).astype(np.float16)
    queries = {"image": HeldOut(unit(np.random.default_rng(4).normal(size=(100, 96))))}
    made = make(noise, AutoRecipe(flat_below=1_000), tmp_path, held_out=queries)
    assert made.recipe.kind == "flat"
    assert made.path is None
    assert list(made.tried) == ["ivf_pq", "ivf_sq8"]
    for given_up in made.tried.values():
        choice = given_up.calibration.choice(0.99)
        slow = choice.cpu_ms >= given_up.calibration.exact_cpu_ms
        assert not choice.reached or slow
        words = "by exact search" if choice.reached else "the target is 0.99"
        assert given_up.why.endswith(words)


def test_auto_goes_on_to_the_next_kind_where_one_does_not_fit_into_memory(tmp_path):
    recipe = AutoRecipe(flat_below=1_000, n_queries=100)
    made = make(VECTORS, recipe, tmp_path, held_out=held_out(), max_memory_bytes=100_000)
    assert made.recipe.kind == "flat"
    assert list(made.tried) == ["ivf_pq", "ivf_sq8"]
    for kind, given_up in made.tried.items():
        assert f"of kind {kind} over 6,000 vectors" in given_up.why
        assert "MiB are allowed" in given_up.why
        assert given_up.calibration is None
    with pytest.raises(AnnIndexError, match="of kind ivf_pq"):
        make(VECTORS, IvfPqRecipe(), tmp_path, held_out=held_out(), max_memory_bytes=100_000)


def test_what_auto_gave_up_is_out_of_memory_before_the_next_is_built(tmp_path, monkeypatch):
    alive, engines, module = [], [], sys.modules[make.__module__]
    real, poor = module.calibrate, module.build

    def build(vectors, recipe, *args, **more):
        alive.append([kind for kind, engine in engines if engine() is not None])
        return poor(vectors, IVF.get(recipe.kind, recipe), *args, **more)

    def calibrate_and_note(engine, *args, **more):
        engines.append((len(engines), weakref.ref(engine)))
        told = real(engine, *args, **more)
        return replace(told, choices=tuple(replace(one, reached=False) for one in told.choices))

    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "calibrate", calibrate_and_note)
    made = make(VECTORS, AutoRecipe(flat_below=1_000), tmp_path, held_out=held_out())
    assert alive == [[], [], []]
    assert list(made.tried) == ["ivf_pq", "ivf_sq8"]


def test_auto_is_flat_for_few_rows(tmp_path):
    made = make(VECTORS, AutoRecipe(), tmp_path, held_out=held_out())
    assert (made.recipe.kind, made.path, made.tried) == ("flat", None, {})
    assert made.calibration.choice(0.99).recall == {"image": 1.0, "gene": 1.0}
    assert made.calibration.rungs == ()


def test_a_made_engine_searches_with_the_settings_of_its_target(tmp_path):
    recipe = IvfPqRecipe(opq_rounds=1, nlist=64, target_recall=0.9)
    made = make(VECTORS, recipe, tmp_path, held_out=held_out())
    assert made.engine.settings == made.calibration.choice(0.9).settings
    assert made.path == tmp_path / "ivf_pq" / "index.faiss"
    assert made.path.is_file()
    assert {choice.target for choice in made.calibration.choices} == {0.9, 0.95, 0.99}


def test_too_few_rows_to_train_are_searched_exactly(tmp_path):
    queries = {"image": HeldOut(clustered(10, seed=1))}
    made = make(VECTORS[:100], IvfPqRecipe(), tmp_path, held_out=queries)
    assert isinstance(made.recipe, FlatRecipe)


def test_measuring_needs_queries(engine):
    with pytest.raises(ValueError, match="no held-out queries; give at least two"):
        calibrate(engine, {"image": HeldOut(VECTORS[:1].astype(np.float32))})


def test_measuring_leaves_the_number_of_threads(engine):
    before = load_faiss().omp_get_max_threads()
    calibrate(engine, held_out(20), targets=(0.9,))
    assert load_faiss().omp_get_max_threads() == before
    assert Engine(None, VECTORS).source is None
