"""Recipes of indexes: the shipped ones, a user's own, and bad ones."""

from __future__ import annotations

import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index import IndexRecipe
from stamp_index.index.build import code_bytes


def test_shipped_recipes_say_what_the_defaults_are():
    assert IndexRecipe.load("flat") == IndexRecipe.flat()
    assert IndexRecipe.load("ivf_pq") == IndexRecipe(name="ivf_pq", kind="ivf_pq")
    assert IndexRecipe.for_rows(199_999).kind == "flat"
    assert IndexRecipe.for_rows(200_000).kind == "ivf_pq"


def test_a_recipe_comes_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('kind = "ivf_pq"\ntarget_recall = 0.8\nrerank_ladder = [30, 60]\n')
    recipe = IndexRecipe.load(path)
    assert (recipe.name, recipe.target_recall, recipe.rerank_ladder) == ("mine", 0.8, (30, 60))
    assert IndexRecipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "hnsw"', r"kind \(flat or ivf_pq\)"),
        ('kind = "ivf_pq"\ntarget_recall = 1.5', "target_recall"),
        ('kind = "ivf_pq"\nrerank_ladder = [100, 50]', "rerank_ladder"),
        ('kind = "ivf_pq"\nn_queries = "many"', "wrong type"),
        ('kind = "flat"\nnlist = 3', r"unknown fields \['nlist'\]"),
        ("target_recall = 0.9", "no 'kind'"),
        ("kind = ", "not valid TOML"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(AnnIndexError, match=said):
        IndexRecipe.load(path)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(AnnIndexError, match="no index recipe 'fast'. Name one of flat, ivf_pq"):
        IndexRecipe.load("fast")


def test_code_bytes_divide_the_dimension():
    assert [code_bytes(dim, 8) for dim in (512, 256, 128, 32, 7, 1)] == [64, 64, 32, 8, 1, 1]
    assert code_bytes(1024, 8) == 128
