"""A divided index answers as the undivided one does, whatever is asked and whatever happens to the store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stamp_index.errors import AnnIndexError, ShardError, StalePlanError
from stamp_index.index import Index, Settings, fold_index
from stamp_index.index.recipes import FlatRecipe, HnswSq8Recipe, IvfSq8Recipe
from stamp_index.shards import LocalShards, ShardedIndex, read_plan, shard_index, shards_folder
from stamp_index.shards.grouping import divide
from stamp_index.shards.messages import Question
from stamp_index.shards.part import Part
from stamp_index.store import SlideRows, Store
from tests.index_world import QUERIES, add, clustered, world
from tests.shard_world import (
    SPLITTABLE,
    assert_at_least_as_good,
    assert_identical,
    divided,
    mutable,
)
from tests.store_world import CARD
from tests.support import _plain_slide, random_store

SHARES = [1.0, 0.5, 0.1, 0.01, 0.002]


@pytest.fixture(scope="module", params=SPLITTABLE, ids=str)
def three(request, tmp_path_factory):
    return divided(tmp_path_factory.mktemp(request.param), SPLITTABLE[request.param])


def masks(store, share, seed=3):
    """Filters that allow this share of the rows: at random, and by whole slides as far as that goes."""
    rng = np.random.default_rng(seed)
    yield rng.random(store.n_rows) < share
    follows = np.zeros(store.n_rows, np.bool_)
    for slide in store.slides().sample(frac=1, random_state=seed).itertuples():
        if follows.mean() < share:
            follows[slide.first_spot : slide.first_spot + slide.n_spots] = True
    yield follows


# ---- the same answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 300, 1_000, 5_000])
def test_exact_answers_are_the_same_to_the_last_bit(three, k):
    _, whole, sharded = three
    assert_identical(sharded.search(QUERIES, k, recall=1), whole.search(QUERIES, k, recall=1))


@pytest.mark.parametrize("recall", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_other_answers_are_at_least_as_good(three, k, recall):
    _, whole, sharded = three
    if whole.card.kind != "flat" and recall not in {
        one["target"] for one in whole.card.calibration["choices"]
    }:
        pytest.skip("not measured for this recall")
    assert_at_least_as_good(
        sharded.search(QUERIES, k, recall=recall), whole.search(QUERIES, k, recall=recall)
    )


@pytest.mark.parametrize("breadth", [1, 2, 5])
@pytest.mark.parametrize("share", SHARES)
def test_filters_of_all_sizes(three, share, breadth):
    store, whole, sharded = three
    for mask in masks(store, share):
        for k in (1, 10, 400):
            exact = [one.search(QUERIES, k, allowed=mask, recall=1) for one in (sharded, whole)]
            assert_identical(*exact)
            rough = {"allowed": mask, "settings": Settings(breadth, 20)}
            for queries in (QUERIES, QUERIES[:1]):
                assert_at_least_as_good(
                    sharded.search(queries, k, **rough), whole.search(queries, k, **rough)
                )


def test_a_filter_that_allows_nothing_finds_nothing(three):
    store, _, sharded = three
    scores, rows = sharded.search(QUERIES, 5, allowed=np.zeros(store.n_rows, np.bool_))
    assert scores.shape == rows.shape == (len(QUERIES), 0)


def test_a_filter_is_made_ready_once_for_many_searches(three):
    store, whole, sharded = three
    mask = next(masks(store, 0.3))
    ready = sharded.prepare(mask)
    for _ in range(3):
        found = sharded.search(QUERIES, 20, allowed=ready, recall=1)
        assert_identical(found, whole.search(QUERIES, 20, allowed=mask, recall=1))


def test_cosines_of_any_rows_are_those_of_the_undivided_index(three):
    store, whole, sharded = three
    rows = np.random.default_rng(1).integers(0, store.n_rows + 50, 200)
    for query in QUERIES[:3]:
        np.testing.assert_array_equal(sharded.cosines(rows, query), whole.cosines(rows, query))


def test_card_and_backgrounds_are_those_of_the_undivided_index(three):
    _, whole, sharded = three
    assert sharded.card == whole.card
    assert sharded.backgrounds.keys() == whole.backgrounds.keys()
    for name, background in whole.backgrounds.items():
        np.testing.assert_array_equal(sharded.backgrounds[name].best, background.best)
    assert sharded.settings_for(whole.card.target_recall) == whole.settings_for(
        whole.card.target_recall
    )


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_wrong_arguments_are_refused_as_by_an_index(three, bad):
    _, whole, sharded = three
    for index in (whole, sharded):
        with pytest.raises(ValueError, match=str(bad)):
            index.search(QUERIES, bad)
        with pytest.raises(ValueError, match="shape"):
            index.search(QUERIES[:, :3], 5)
        with pytest.raises(ValueError, match="filter"):
            index.search(QUERIES, 5, allowed=np.ones(3, np.bool_))


def test_queries_without_direction_are_refused_before_any_shard_is_asked(three):
    store, _, _ = three
    service, parts = mutable(store)
    plan = parts[0].part.plan
    for kind in ("search", "cosines"):
        question = Question(plan.name, kind, np.zeros((1, plan.dim), np.float32), k=3)
        with pytest.raises(ValueError, match="no direction"):
            service.ask("image", question)
    assert [part.n_asked for part in parts] == [0] * len(parts)


def test_equal_scores_come_by_ascending_row_across_shards(tmp_path):
    vectors = np.repeat(clustered(25, 0), 40, axis=0)[np.random.default_rng(0).permutation(1_000)]
    store = random_store(tmp_path, vectors, vectors, n_slides=5)
    for recipe in (FlatRecipe(), IvfSq8Recipe(nlist=4, n_queries=8)):
        whole = Index.build(store, "image", recipe)
        shard_index(store, "image", 4)
        sharded = ShardedIndex.connect(store, "image", LocalShards.open(store))
        for k in (1, 39, 40, 41, 300):
            found = sharded.search(vectors[:9].astype(np.float32), k, recall=1)
            assert_identical(found, whole.search(vectors[:9].astype(np.float32), k, recall=1))
            assert (np.diff(found[1])[np.diff(found[0]) == 0] > 0).all()


# ---- rows added and deleted since ----------------------------------------------------------------


@pytest.mark.parametrize("kind", SPLITTABLE)
def test_rows_added_and_deleted_since_are_found_and_not_found(tmp_path, kind):
    store, whole, sharded = divided(tmp_path, SPLITTABLE[kind])
    store.delete("S2")
    mine = add(store, "new", 90, 50)
    for index in (whole, sharded):
        index.store.refresh()
    assert (sharded.n_newer, sharded.n_gone) == (whole.n_newer, whole.n_gone) == (90, 143)
    assert_identical(
        sharded.search(QUERIES, 1_000, recall=1), whole.search(QUERIES, 1_000, recall=1)
    )
    rough = {"settings": Settings(2, 30)}
    assert_at_least_as_good(
        sharded.search(QUERIES, 10, **rough), whole.search(QUERIES, 10, **rough)
    )
    _, rows = sharded.search(mine.astype(np.float32), 1, recall=1)
    assert (rows[:, 0] >= 1_000).mean() > 0.9
    for mask in masks(store, 0.4):
        found = sharded.search(QUERIES, 50, allowed=mask, recall=1)
        assert_identical(found, whole.search(QUERIES, 50, allowed=mask, recall=1))


def out_of_order(folder):
    """A store whose second encoder gave its first slide, twin of the last, vectors after the index was built."""
    parts = [clustered(150, 0), clustered(200, 1), clustered(150, 0)]
    store = random_store(folder, clustered(60, 5), clustered(60, 5), n_slides=2)
    store.add_encoder(replace(store.card, name="other", fingerprint="0e0e"))
    fillings = []
    for number, part in enumerate(parts):
        slide = _plain_slide(f"T{number}", len(part), 10 + number, 2)
        store.add(SlideRows(slide, part, part, None, None, store.card.fingerprint))
        fillings.append(SlideRows(slide, part, part, None, None, "0e0e"))
    second = Store.open(store.path, encoder="other")
    second.fill(fillings[1])
    second.fill(fillings[2])
    Index.build(second, "image", IvfSq8Recipe(nlist=8, n_queries=8))
    second.fill(fillings[0])
    fold_index(second, "image")
    return second


def test_rows_that_were_folded_in_out_of_order_are_found_by_row(tmp_path):
    store = out_of_order(tmp_path)
    whole = Index.open(store, "image")
    assert whole._state.generation.order is not None
    shard_index(store, "image", 3)
    sharded = ShardedIndex.connect(store, "image", LocalShards.open(store))
    for k in (1, 2, 7, 700):
        assert_identical(sharded.search(QUERIES, k, recall=1), whole.search(QUERIES, k, recall=1))
    rows = np.arange(store.n_rows)
    np.testing.assert_array_equal(
        sharded.cosines(rows, QUERIES[0]), whole.cosines(rows, QUERIES[0])
    )


# ---- dividing ------------------------------------------------------------------------------------


@given(
    runs=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    n_groups=st.integers(1, 40),
)
def test_groups_are_whole_slides_that_cover_every_row_once(runs, n_groups):
    slide_of = np.repeat(np.arange(len(runs)), runs)
    if n_groups > len(runs):
        with pytest.raises(AnnIndexError, match=f"at most {len(runs)}"):
            divide(slide_of, n_groups)
        return
    groups = divide(slide_of, n_groups)
    assert groups[0][0] == 0
    assert groups[-1][1] == len(slide_of)
    assert [stop for _, stop in groups[:-1]] == [start for start, _ in groups[1:]]
    assert all(start < stop for start, stop in groups)
    assert all(slide_of[start] != slide_of[start - 1] for start, _ in groups[1:])
    if n_groups <= len(runs) // 2 and len(set(runs)) == 1:
        assert max(b - a for a, b in groups) <= len(slide_of) / n_groups + max(runs)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=8),
    n_shards=st.integers(1, 8),
    k=st.integers(1, 400),
    seed=st.integers(0, 999),
)
def test_any_grouping_gives_the_same_answers(tmp_path_factory, sizes, n_shards, k, seed):
    store = Store.create(tmp_path_factory.mktemp("any") / "store", replace(CARD, dim=16))
    for number, n in enumerate(sizes):
        add(store, f"S{number}", n, seed + number)
    whole = Index.build(store, "image", FlatRecipe())
    shard_index(store, "image", min(n_shards, len(sizes)))
    sharded = ShardedIndex.connect(store, "image", LocalShards.open(store))
    mask = np.random.default_rng(seed).random(store.n_rows) < 0.5
    for allowed in (None, mask):
        expected = whole.search(QUERIES[:4], k, allowed=allowed, recall=1)
        assert_identical(sharded.search(QUERIES[:4], k, allowed=allowed, recall=1), expected)


def test_every_shard_names_its_slides_and_holds_their_rows(three):
    store, _, _ = three
    plan = read_plan(shards_folder(store, "image"))
    slides = store.slides().set_index("slide_id")
    assert [name for part in plan.parts for name in part.slides] == list(slides.index)
    for number, part in enumerate(plan.parts):
        assert len(part) == slides.loc[list(part.slides), "n_spots"].sum()
        path = shards_folder(store, "image") / plan.name / f"shard-{number:04d}" / "rows.npy"
        np.testing.assert_array_equal(np.load(path), np.arange(part.start, part.stop))


def test_a_graph_cannot_be_divided_and_the_words_say_what_can(tmp_path):
    store = world(tmp_path, n=600)
    Index.build(store, "image", HnswSq8Recipe(links=8, target_recall=0.8))
    with pytest.raises(AnnIndexError, match=r"graph, which cannot be divided.*ivf_sq8"):
        shard_index(store, "image", 2)
    assert not list(shards_folder(store, "image").glob("p-*"))


def test_more_shards_than_slides_are_refused_with_both_numbers(tmp_path):
    store = world(tmp_path, n=100, n_slides=3)
    Index.build(store, "image", FlatRecipe())
    with pytest.raises(AnnIndexError, match=r"4 shards.*3 slides"):
        shard_index(store, "image", 4)
    with pytest.raises(ValueError, match="0 shards"):
        shard_index(store, "image", 0)
    with pytest.raises(AnnIndexError, match="stamp-index shard"):
        LocalShards.open(store)


# ---- plans one after another ---------------------------------------------------------------------


def test_an_older_plan_is_served_on_and_the_one_before_it_goes(tmp_path):
    store, whole, sharded = divided(tmp_path, SPLITTABLE["ivf_sq8"])
    folder = shards_folder(store, "image")
    first = read_plan(folder).name
    second = shard_index(store, "image", 2).name
    assert {path.name for path in folder.glob("p-*")} == {first, second}
    assert_identical(sharded.search(QUERIES, 10, recall=1), whole.search(QUERIES, 10, recall=1))
    Part.open(folder, 2, first)  # as a replica that starts again
    third = shard_index(store, "image", 2).name
    assert {path.name for path in folder.glob("p-*")} == {second, third}


def test_searches_go_over_to_new_shards_with_the_filters_that_were_ready(tmp_path):
    store, whole, sharded = divided(tmp_path, SPLITTABLE["ivf_sq8"])
    add(store, "new", 60, 50)
    for index in (whole, sharded):
        index.store.refresh()
    mask = next(masks(store, 0.5))
    ready = sharded.prepare(mask)
    fold_index(store, "image")
    shard_index(store, "image", 5)
    sharded._service._parts = LocalShards.open(store)._parts  # as if started again
    expected = whole.search(QUERIES, 20, allowed=mask, recall=1)
    assert_identical(sharded.search(QUERIES, 20, allowed=ready, recall=1), expected)
    assert sharded.n_newer == 0
    rows = np.arange(store.n_rows)
    np.testing.assert_array_equal(
        sharded.cosines(rows, QUERIES[0]), whole.cosines(rows, QUERIES[0])
    )


def test_a_plan_that_nobody_serves_is_refused_with_both_names(tmp_path):
    store, _, sharded = divided(tmp_path, FlatRecipe())
    old = read_plan(shards_folder(store, "image")).name
    new = shard_index(store, "image", 2).name
    sharded._service._parts = LocalShards.open(store)._parts
    engine = sharded._state.generation.engine
    with pytest.raises(StalePlanError, match=rf"{old}.*{new}"):
        engine.exact(QUERIES, 3, None)


def test_shards_of_another_store_or_encoder_are_refused_with_both_values(tmp_path):
    store, _, _ = divided(tmp_path / "a", FlatRecipe())
    other = world(tmp_path / "b")
    service = LocalShards.open(store)
    with pytest.raises(ShardError, match=rf"{store.store_id}.*{other.store_id}"):
        ShardedIndex.connect(other, "image", service)
    with pytest.raises(ShardError, match="no gene index"):
        ShardedIndex.connect(store, "gene", service)
    plan = service._parts["image"].plan
    service._parts["image"].plan = replace(plan, fingerprint="beef")
    with pytest.raises(ShardError, match=r"beef.*0f0f"):
        ShardedIndex.connect(store, "image", service)
    service._parts["image"].plan = replace(plan, generation="g-000000000000")
    with pytest.raises(ShardError, match=rf"g-000000000000.*{plan.generation}"):
        ShardedIndex.connect(store, "image", service)


@pytest.mark.parametrize("name", ["index.faiss", "vectors.f16", "rows.npy"])
def test_a_damaged_or_missing_file_of_a_shard_is_refused(tmp_path, name):
    store, _, _ = divided(tmp_path, SPLITTABLE["ivf_sq8"])
    folder = shards_folder(store, "image")
    path = folder / read_plan(folder).name / "shard-0001" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    with pytest.raises(AnnIndexError, match=f"{name} is damaged"):
        LocalShards.open(store)
    Part.open(folder, 0)  # the others are as they were
    path.unlink()
    with pytest.raises(AnnIndexError, match=f"lacks {name}"):
        LocalShards.open(store)


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": 2}', "{", '{"format": 1}'])
def test_a_damaged_plan_is_refused_and_can_be_replaced(tmp_path, text):
    store, _, _ = divided(tmp_path, FlatRecipe())
    folder = shards_folder(store, "image")
    (folder / read_plan(folder).name / "plan.json").write_text(text)
    with pytest.raises(AnnIndexError):
        LocalShards.open(store)
    shard_index(store, "image", 2)
    LocalShards.open(store)
