"""Recipes of indexes: the shipped ones, a user's own, bad ones, and what they say an index will take."""

from __future__ import annotations

import tomllib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import build, estimate
from stamp_index.index.recipes import (
    KINDS,
    AutoRecipe,
    FlatRecipe,
    HnswSq8Recipe,
    IvfPqRecipe,
    IvfRabitqRecipe,
    IvfSq8Recipe,
    from_dict,
    load_recipe,
    names,
)
from tests.engine_world import clustered


def test_every_kind_is_shipped_with_its_defaults():
    assert names() == sorted(KINDS)
    for name, kind in KINDS.items():
        assert load_recipe(name) == kind()


def test_every_field_is_documented_and_stands_in_its_file():
    from stamp_index.index.recipes import FOLDER
    from stamp_index.resources import bundle_root

    for name, kind in KINDS.items():
        text = (bundle_root() / "indexes" / FOLDER / f"{name}.toml").read_text()
        docs = "".join(base.__doc__ or "" for base in kind.__mro__)
        for item in fields(kind):
            assert f"    {item.name} : " in docs
            if item.name != "name" and name != "flat":
                assert item.name in text, (name, item.name)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_recipe_survives_being_written_down(kind):
    assert from_dict(kind().to_dict()) == kind()
    assert from_dict(kind(name="mine", target_recall=0.9).to_dict()).name == "mine"


@given(
    nlist=st.none() | st.integers(1, 2**20),
    rows=st.none() | st.integers(1_000, 2**24),
    ladder=st.lists(st.integers(10, 100_000), min_size=1, unique=True).map(sorted),
    target=st.floats(0.5, 0.9999),
)
def test_any_good_values_survive_being_written_down(nlist, rows, ladder, target):
    recipe = IvfPqRecipe(
        nlist=nlist, train_rows=rows, rerank_ladder=tuple(ladder), target_recall=target
    )
    assert from_dict(recipe.to_dict()) == recipe


def test_a_recipe_comes_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('kind = "ivf_sq8"\ntarget_recall = 0.8\nrerank_ladder = [30, 60]\n')
    recipe = load_recipe(path)
    assert isinstance(recipe, IvfSq8Recipe)
    assert (recipe.name, recipe.target_recall, recipe.rerank_ladder) == ("mine", 0.8, (30, 60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "ivf"', "kind 'ivf'; expected one of flat, hnsw_sq8, ivf_pq"),
        ("target_recall = 0.9", "kind None; expected one of"),
        (
            'kind = "ivf_pq"\ntarget_recall = 1.5',
            r"target_recall is 1.5; expected a number from 0.5",
        ),
        ('kind = "ivf_pq"\ntarget_recall = "high"', "target_recall is 'high'; expected a number"),
        ('kind = "ivf_pq"\nnlist = 0', "nlist is 0; .* 1 to 1,048,576, or nothing for 4 sqrt"),
        ('kind = "ivf_pq"\nnlist = 2.5', "nlist is 2.5; expected a whole number"),
        ('kind = "ivf_pq"\nnlist = true', "nlist is True; expected a whole number"),
        (
            'kind = "ivf_pq"\nrerank_ladder = [100, 50]',
            r"rerank_ladder is \(100, 50\); .* ascending",
        ),
        ('kind = "ivf_pq"\nrerank_ladder = []', r"rerank_ladder is \(\); expected whole numbers"),
        ('kind = "ivf_pq"\nrerank_ladder = 100', "rerank_ladder is 100; expected whole numbers"),
        (
            'kind = "flat"\nnlist = 3',
            "of kind flat has unknown nlist; it takes name, target_recall",
        ),
        ('kind = "hnsw_sq8"\nlinks = 1', "links is 1; expected a whole number from 4 to 256"),
        ('kind = "auto"\nchain = ["ivf_pq"]', r"chain is \('ivf_pq',\); .* and flat last"),
        ('kind = "auto"\nchain = ["auto", "flat"]', "chain is"),
        ('kind = "ivf_pq"\nname = 3', "name is 3; expected a text"),
        ("kind = ", "not valid TOML"),
    ],
)
def test_bad_recipes_are_refused_in_words(tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(AnnIndexError, match=said):
        load_recipe(path)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(AnnIndexError, match="no index recipe 'fast'. Name one of auto, flat, hnsw"):
        load_recipe("fast")


def test_lists_and_training_rows_follow_their_formulas():
    recipe = IvfPqRecipe()
    assert [recipe.lists_for(n) for n in (1_000_000, 5_000_000, 40_000)] == [4_000, 8_944, 800]
    assert recipe.lists_for(780) == 20  # 39 training rows for each
    assert [recipe.sample_for(n) for n in (1_000, 1_000_000, 5_000_000)] == [
        1_000,
        160_000,
        357_760,
    ]
    assert IvfPqRecipe(train_rows=3_900).lists_for(10**6) == 100
    assert IvfPqRecipe(nlist=17).lists_for(10**6) == 17


def test_codes_divide_the_dimension():
    sizes = [IvfPqRecipe().code_bytes(dim) for dim in (1024, 512, 256, 128, 32, 7, 1)]
    assert sizes == [128, 64, 64, 32, 8, 1, 1]
    assert [IvfRabitqRecipe().code_bytes(dim) for dim in (512, 9)] == [72, 10]


def test_auto_is_flat_for_few_rows_and_always_ends_in_flat():
    assert AutoRecipe().chain_for(19_999) == (FlatRecipe(),)
    chain = AutoRecipe(target_recall=0.9).chain_for(20_000)
    assert [recipe.kind for recipe in chain] == ["ivf_pq", "ivf_sq8", "flat"]
    assert {recipe.target_recall for recipe in chain} == {0.9}


@pytest.mark.parametrize(
    "recipe",
    [
        IvfPqRecipe(opq_rounds=1),
        IvfPqRecipe(opq_rounds=1, nlist=30, dims_per_byte=16),
        IvfRabitqRecipe(),
        IvfSq8Recipe(nlist=100),
        HnswSq8Recipe(links=16, ef_construction=40),
        HnswSq8Recipe(links=32, ef_construction=40),
    ],
    ids=lambda recipe: recipe.kind,
)
@pytest.mark.parametrize(("n", "dim"), [(12_000, 32), (5_000, 96)])
def test_the_estimate_is_within_a_tenth_of_the_real_file(tmp_path, recipe, n, dim):
    vectors = clustered(n, dim=dim).astype("float16")
    build(vectors, recipe, tmp_path)
    real = (tmp_path / "index.faiss").stat().st_size
    said = estimate(recipe, n, dim)
    assert abs(said.file_bytes - real) <= 0.1 * real
    assert said.bytes_per_vector == said.file_bytes / n
    assert said.sidecar_bytes == vectors.nbytes
    assert said.peak_memory_bytes > said.file_bytes


def test_the_estimate_of_auto_is_that_of_what_it_tries_first():
    assert estimate(AutoRecipe(), 10**6, 512) == estimate(IvfPqRecipe(), 10**6, 512)
    assert estimate(AutoRecipe(), 10**6, 512).bytes_per_vector < 100
    flat = estimate(FlatRecipe(), 10**6, 512)
    assert (flat.file_bytes, flat.sidecar_bytes) == (0, 1_024_000_000)


def test_toml_files_are_read_by_a_plain_reader():
    from stamp_index.index.recipes import FOLDER
    from stamp_index.resources import bundle_root

    for name in names():
        values = tomllib.loads((bundle_root() / "indexes" / FOLDER / f"{name}.toml").read_text())
        assert values["kind"] == name
