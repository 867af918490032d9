"""What cannot be built or asked is refused with what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index import Index, build_index, load_recipe
from tests.index_world import PQ, QUERIES, world


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (
            {"recipe": "flat"},
            TypeError,
            "The recipe is 'flat'; expected what `load_recipe` returns",
        ),
        ({"seed": 2**31 - 1}, ValueError, "seed is 2147483647; expected a whole number from 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"max_memory_bytes": 0}, ValueError, "max_memory_bytes is 0; expected a number of bytes"),
        ({"max_memory_bytes": float("nan")}, ValueError, "max_memory_bytes is nan"),
    ],
)
def test_what_a_build_cannot_take_is_refused(tmp_path, asked, error, said):
    with pytest.raises(error, match=said):
        build_index(world(tmp_path), "image", **asked)


@pytest.mark.parametrize(
    "text", ["a." * 100_000 + "b=1", "a=" + "[" * 20_000, "n_queries=" + "9" * 5_000]
)
def test_a_recipe_that_is_no_recipe_is_refused_at_once(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(AnnIndexError, match="Index recipe"):
        load_recipe(path)


def test_numbers_of_numpy_are_numbers_of_hits(tmp_path):
    index = Index.build(world(tmp_path), "image", PQ)
    np.testing.assert_array_equal(
        index.search(QUERIES, np.int64(5))[1], index.search(QUERIES, 5)[1]
    )
