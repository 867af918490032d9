"""Region search: what is refused, in words."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.search import Region, RegionSettings
from tests.region_world import (
    CENTRE,
    KINDS,
    XY,
    circle,
    four_slides,
    planted,
    searcher_of,
    slide,
    square,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return four_slides(tmp_path_factory.mktemp("regions"))


BAD = [
    pytest.param(Region("A", [(0, 0), (1, 1)]), EmptyQueryError, "has 2 corners", id="two_corners"),
    pytest.param(
        Region("A", [(0, 0), (9, 9), (99, 99)]),
        EmptyQueryError,
        "on slide 'A' has no area",
        id="line",
    ),
    pytest.param(
        Region("A", [(0, 0), (9_000, 9_000), (9_000, 0), (0, 9_000)]),
        QueryError,
        r"Self-intersection\[4500 4500\], in um",
        id="crosses_itself",
    ),
    pytest.param(
        square((50, 50), 40),
        EmptyQueryError,
        "spans x 10 to 90 and y 10 to 90 um; the 900 spots",
        id="no_spots",
    ),
    pytest.param(square((600, 790), 60), QueryError, r"holds [1-4] spots; .* at least 5", id="few"),
    pytest.param(square(CENTRE, 300, "X"), QueryError, "no slide 'X' .* such as A, B", id="slide"),
    pytest.param(["A:B00001", "A:NONE"], QueryError, "no spot 'A:NONE'", id="spot"),
    pytest.param(list(range(895, 905)), QueryError, r"2 slides \(A 5, B 5\)", id="two_slides"),
    pytest.param([], EmptyQueryError, "names no spots", id="no_names"),
    pytest.param([0, 1, 2], QueryError, "holds 3 spots", id="three_rows"),
    pytest.param([10**9] * 5, ValueError, "Row 1000000000 is not in the store", id="row"),
    pytest.param("A:B00001", TypeError, "the string 'A:B00001'", id="string"),
    pytest.param(
        Region("A", [(0, 0), (np.nan, 1), (3, 3)]), ValueError, "NaN or infinite", id="nan"
    ),
    pytest.param(Region("A", [1, 2, 3]), ValueError, r"of shape \(3,\)", id="shape"),
    pytest.param(square(CENTRE, 300, unit="mm"), ValueError, "unit of a region is 'mm'", id="unit"),
]


@pytest.mark.parametrize(("region", "error", "words"), BAD)
def test_what_is_no_region_is_refused_in_words(world, region, error, words):
    with pytest.raises(error, match=words):
        world.search_region(region)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_number_of_regions_that_is_none_is_refused(world, k):
    with pytest.raises(ValueError, match=f"k is {k}; expected a whole number of hits, 1 or more"):
        world.search_region(circle(CENTRE, 330), k=k)


def test_more_regions_than_spots_are_refused(world):
    with pytest.raises(
        QueryError, match=r"3601 hits were asked for, but the store .* has 3600 spots"
    ):
        world.search_region(circle(CENTRE, 330), k=3_601)


@pytest.mark.parametrize("recall", [0.5, 0, 2, True, "1"])
def test_a_recall_that_is_none_is_refused(world, recall):
    with pytest.raises(ValueError, match=f"recall is {recall!r}; expected 0.95, 0.99, or 1.0"):
        world.search_region(circle(CENTRE, 330), recall=recall)


def test_a_filter_that_leaves_nothing_says_so(world):
    with pytest.raises(QueryError, match='pass the filter .*"A".* and are not of slide A'):
        world.search_region(circle(CENTRE, 330), filters='slide == "A"')


def test_a_shape_that_is_no_polygon_and_an_unknown_modality_are_refused(world):
    import shapely

    with pytest.raises(ValueError, match="outline is a Point"):
        world.search_region(Region("A", shapely.Point(3, 4)))
    with pytest.raises(ValueError, match="no 'sound' embeddings"):
        world.search_region(circle(CENTRE, 330), query="sound")
    with pytest.raises(ValueError, match="'sound' embeddings"):
        world.search_region(circle(CENTRE, 330), against="sound")
    with pytest.raises(ValueError, match="exclude_own is 'all'"):
        world.search_region(circle(CENTRE, 330), exclude_own="all")


def test_a_slide_without_the_embedding_that_asks_is_refused(tmp_path):
    from dataclasses import replace

    kind = KINDS[planted(CENTRE, 320, 1)]
    counts_only = replace(slide("A", XY, kind), image=None)
    world = searcher_of(tmp_path, counts_only, slide("B", XY, kind))
    with pytest.raises(QueryError, match="Slide 'A' has no image embeddings"):
        world.search_region(circle(CENTRE, 330))
    assert len(world.search_region(circle(CENTRE, 330), query="gene")) > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_prototypes", 0), ("n_near", 1.5), ("n_slides", True), ("per_slide", -1), ("seed", -1), ("seed", 1.5), ("floor", 1.5),
     ("softness", 0.0), ("max_overlap", float("nan"))],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected"):
        RegionSettings(**{name: value})


def test_a_store_of_one_slide_has_nothing_else_to_find(tmp_path):
    world = searcher_of(tmp_path, slide("A", XY, KINDS[planted(CENTRE, 320, 1)]))
    with pytest.raises(QueryError, match="None of the 900 spots .* are not of slide A"):
        world.search_region(circle(CENTRE, 330))


def test_a_slide_whose_spots_lie_at_one_place_cannot_ask(tmp_path):
    heap = slide("HEAP", np.full((9, 2), 700.0), KINDS[np.zeros(9, int)])
    world = searcher_of(tmp_path, heap, slide("B", XY, KINDS[planted(CENTRE, 320, 1)]))
    with pytest.raises(QueryError, match="slide 'HEAP' lie at one or two places"):
        world.search_region(list(range(9)))
    assert len(world.search_region(circle(CENTRE, 330, "B"))) == 0
