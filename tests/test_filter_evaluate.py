"""Which rows pass a filter, against an interpreter of one row; and what is read to find out."""

from __future__ import annotations

from importlib import import_module
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.search import filtering
from stamp_index.search.filtering import Known, Not, evaluate, parse_filter
from tests.filter_world import (
    NUMBERS,
    TEXT_COLUMNS,
    TEXTS,
    World,
    leaves,
    make_world,
    trees,
    truth,
    value_of,
)

NAN = float("nan")
MODULE = import_module("stamp_index.search.filtering.evaluate")  # its function has the same name


def expected_mask(condition, world):
    mask = np.zeros(world.n_rows, bool)
    for first, rows in zip(world.slides["first_spot"], world.rows, strict=True):
        for i, row in enumerate(rows):
            mask[first + i] = condition is None or truth(condition, row) is True
    return mask


def names_what_is_not_there(condition, world):
    """Whether a text that the filter names occurs nowhere, or a number of a label that has none."""
    every = [row for rows in world.rows for row in rows]
    for leaf in leaves(condition):
        if isinstance(leaf, Known) or str(leaf.subject) == "barcode":
            continue
        asked = getattr(leaf, "values", None) or (leaf.value,)
        if str(leaf.subject) in TEXT_COLUMNS and TEXT_COLUMNS[str(leaf.subject)] in world.slides:
            there = set(world.slides[TEXT_COLUMNS[str(leaf.subject)]])
        else:
            there = {value_of(leaf.subject, row) for row in every}
        if isinstance(asked[0], str):
            if any(
                value not in there and (value or str(leaf.subject) == "spot") for value in asked
            ):
                return True
        elif str(leaf.subject).startswith("label") and not any(isinstance(v, float) for v in there):
            return True
    return False


# Mostly values that occur; some that do not.
asked_texts = st.sampled_from([*TEXTS, *TEXTS, "S0", "S2", "S0:b", "b0", "b1", "S0:b0", "S0:b:b1"])
conditions = st.one_of(
    trees(asked_texts, st.sampled_from(NUMBERS)),
    trees(st.sampled_from(TEXTS[:3]), st.sampled_from(NUMBERS), names=("organ", "mpp", "x_um")),
)


@given(conditions, st.integers(0, 10_000), st.sampled_from([3, 4_000_000]))
def test_rows_that_pass_are_those_of_a_row_by_row_interpreter(condition, seed, rows_at_once):
    world = make_world(seed)
    if names_what_is_not_there(condition, world):
        with pytest.raises(
            QueryError, match="not in the store|no such spot|None names|never a number"
        ):
            evaluate(condition, world)
        return
    with patch.object(MODULE, "_ROWS_AT_ONCE", rows_at_once):
        allowed = evaluate(condition, world)
    expected = expected_mask(condition, world)
    assert allowed.n == expected.sum()
    mask = np.ones(world.n_rows, bool) if allowed.mask is None else allowed.mask
    assert mask.tolist() == expected.tolist()
    firsts = world.slides["first_spot"]
    per_slide = [
        expected[first : first + n].sum()
        for first, n in zip(firsts, world.slides["n_spots"], strict=True)
    ]
    assert allowed.n_per_slide.tolist() == per_slide


# ---- truth -----------------------------------------------------------------------------------------


def flat_world(*columns, n=1, **slide):
    """One slide whose spots have the given values of (key, values)."""
    values = dict(columns)
    n = len(next(iter(values.values()))) if values else n
    known = dict.fromkeys(("patient_id", "organ", "disease", "species", "platform"), "")
    table = {"slide_id": "S1", "mpp": 0.5, "first_spot": 0, "n_spots": n} | known | slide
    rows = [table | {key: column[i] for key, column in values.items()} for i in range(n)]
    rows = [{("label", "region"): None, ("label", "grade"): None} | row for row in rows]
    return World(pd.DataFrame([table]), [rows], n)


def passing(text, world):
    allowed = evaluate(parse_filter(text), world)
    return [True] * world.n_rows if allowed.mask is None else allowed.mask.tolist()


def test_truth_table_of_the_documentation_holds():
    table = filtering.__doc__.split("What is missing")[1].split("Ten examples")[0]
    rows = [line.split() for line in table.split("\n")]
    rows = [row for row in rows if len(row) == 5 and set(row) <= {"true", "false", "unknown"}]
    assert len(rows) == 9
    numbers = {"true": 1.0, "false": 0.0, "unknown": NAN}
    a, b = 'expr("CD8A") > 0', 'expr("EPCAM") > 0'
    for in_a, in_b, both, either, not_a in rows:
        world = flat_world(
            (("expr", "CD8A"), [numbers[in_a]]), (("expr", "EPCAM"), [numbers[in_b]])
        )
        for text, said in ((f"{a} and {b}", both), (f"{a} or {b}", either), (f"not {a}", not_a)):
            assert passing(text, world) == [said == "true"]
            assert passing(f"not ({text})", world) == [said == "false"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('expr("CD8A") > 1', [False, True, False]),
        ('not (expr("CD8A") > 1)', [True, False, False]),
        ('expr("CD8A") != 2', [True, False, False]),
        ('expr("CD8A") not in (2, 3)', [True, False, False]),
        ('expr("CD8A") is known', [True, True, False]),
        ('expr("CD8A") is missing', [False, False, True]),
        ('not (expr("CD8A") is missing)', [True, True, False]),
        ('expr("CD8A") > 1 or expr("CD8A") is missing', [False, True, True]),
    ],
)
def test_gene_that_was_not_measured_passes_no_comparison(text, expected):
    assert passing(text, flat_world((("expr", "CD8A"), [0.0, 2.0, NAN]))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('label("region") == "tumour"', [True, False, False, False, False]),
        ('label("region") != "tumour"', [False, True, False, False, True]),
        ('label("region") not in ("tumour", "stroma")', [False, False, False, False, True]),
        ('label("region") is known', [True, True, False, True, False]),
        ('label("region") is missing', [False, False, True, False, True]),
        ('label("region") == ""', [False, False, False, False, True]),
        ('label("region") >= 3', [False, False, False, True, False]),
        ('label("region") != 4', [False, False, False, True, False]),
        ('not (label("region") == 3)', [False, False, False, False, False]),
    ],
)
def test_label_of_another_kind_passes_no_comparison(text, expected):
    labels = ["tumour", "stroma", None, 3.0, ""]
    assert passing(text, flat_world((("label", "region"), labels))) == expected


def test_unknown_patient_is_an_ordinary_value():
    world = make_world(3)
    world.slides["patient_id"] = ["P1", "", "P2", "", "P1"]
    world.slides["n_spots"] = [len(rows) for rows in world.rows]
    counted = {
        text: (evaluate(parse_filter(text), world).n_per_slide > 0).tolist()
        for text in ('patient == ""', 'patient != "P1"', "patient is known", "patient is missing")
    }
    has_spots = [bool(rows) for rows in world.rows]
    assert counted['patient == ""'] == [h and i in (1, 3) for i, h in enumerate(has_spots)]
    assert counted["patient is missing"] == counted['patient == ""']
    assert counted['patient != "P1"'] == [h and i in (1, 2, 3) for i, h in enumerate(has_spots)]
    assert counted["patient is known"] == [h and i in (0, 2, 4) for i, h in enumerate(has_spots)]


# ---- what comes out --------------------------------------------------------------------------------


def test_no_mask_where_every_row_passes():
    world = flat_world((("expr", "CD8A"), [1.0, 2.0]))
    for condition in (None, parse_filter('organ == ""'), parse_filter('expr("CD8A") > 0')):
        allowed = evaluate(condition, world)
        assert allowed.mask is None
        assert allowed.n == 2
        assert allowed.n_per_slide.tolist() == [2]


def test_rows_of_no_slide_never_pass():
    world = flat_world(n=2, first_spot=1)
    world.n_rows = 5
    for condition in (None, parse_filter("organ is missing")):
        assert evaluate(condition, world).mask.tolist() == [False, True, True, False, False]


def test_store_without_slides_has_no_rows_that_pass():
    world = flat_world()
    world.slides, world.rows, world.n_rows = world.slides.iloc[:0], [], 0
    allowed = evaluate(parse_filter('expr("CD8A") > 0 or mpp < 1'), world)
    assert (allowed.n, allowed.mask, len(allowed.n_per_slide)) == (0, None, 0)


# ---- what is read ----------------------------------------------------------------------------------


@pytest.fixture
def world():
    """Four slides of four spots: two of breast, two of skin, both kinds with and without patient P1."""
    slides, rows = [], []
    for i in range(4):
        slide = {
            "slide_id": f"S{i}", "patient_id": "P1" if i % 2 else "P2", "mpp": 0.25 * (i + 1),
            "organ": ("breast", "skin")[i // 2], "disease": "", "species": "human", "platform": "Visium",
            "first_spot": 4 * i, "n_spots": 4,
        }  # fmt: skip
        slides.append(slide)
        rows.append([])
        for j in range(4):
            spot = {
                "x_um": 100.0 * j,
                "y_um": 100.0 * i,
                "n_counts": 1000.0 * i,
                "barcode": f"b{j}",
            }
            spot |= {
                "spot_id": f"S{i}:b{j}",
                ("expr", "CD8A"): float(j),
                ("count", "EPCAM"): float(i),
            }
            spot |= {("label", "region"): "tumour" if j else None, ("label", "grade"): float(i)}
            rows[-1].append(slide | spot)
    return World(pd.DataFrame(slides), rows, 16)


CD8A, EPCAM, REGION = ("expr", "CD8A"), ("count", "EPCAM"), ("label", "region")
EVERY = ["S0", "S1", "S2", "S3"]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        pytest.param('organ == "breast" or mpp > 0.9', [], id="slides only"),
        pytest.param("organ != 'skin' and not patient in ('P1')", [], id="slides only, negated"),
        pytest.param('expr("CD8A") > 1', [(CD8A, EVERY)], id="one gene"),
        pytest.param(
            'expr("CD8A") > 1 and organ == "breast"', [(CD8A, ["S0", "S1"])], id="and: slides first"
        ),
        pytest.param(
            'expr("CD8A") > 1 or organ == "breast"', [(CD8A, ["S2", "S3"])], id="or: slides first"
        ),
        pytest.param(
            'not (expr("CD8A") > 1 or organ == "breast")', [(CD8A, ["S2", "S3"])], id="negated or"
        ),
        pytest.param(
            'label("region") == "tumour" and expr("CD8A") > 1 and n_counts > 1500',
            [("n_counts", EVERY), (CD8A, ["S2", "S3"]), (REGION, ["S2", "S3"])],
            id="and: cheapest first, next only where some spot is left",
        ),
        pytest.param(
            'label("region") == "tumour" or n_counts > 1500',
            [("n_counts", EVERY), (REGION, ["S0", "S1"])],
            id="or: next only where some spot does not pass yet",
        ),
        pytest.param(
            "0 < x_um < 300 and y_um > 150 and x_um != 200",
            [("x_um", EVERY), ("y_um", EVERY)],
            id="a column once",
        ),
        pytest.param(
            'y_um > 150 and (x_um > 100 or expr("CD8A") > 0)',
            [("y_um", EVERY), ("x_um", ["S2", "S3"]), (CD8A, ["S2", "S3"])],
            id="nested",
        ),
        pytest.param(
            '(organ == "breast" and expr("CD8A") > 1) or (organ == "skin" and count("EPCAM") > 2)',
            [(EPCAM, ["S2", "S3"]), (CD8A, ["S0", "S1"])],
            id="each gene on its slides",
        ),
        pytest.param('barcode == "b1" and slide == "S2"', [("barcode", ["S2"])], id="barcode"),
        pytest.param(
            'spot in ("S2:b1", "S3:b1") and mpp < 0.9',
            [("spot_id", ["S2", "S3"]), ("spot_id", ["S2"])],
            id="spots: only their slides, once to see whether they are there",
        ),
        pytest.param("n_counts > 1 and organ == 'breast' and patient == ''", [], id="no slide left"),
    ],
)  # fmt: skip
def test_only_what_is_needed_is_read(world, text, reads):
    evaluate(parse_filter(text), world)
    assert world.reads == reads


def test_all_but_one_spot_is_read_of_its_slide_only(world):
    allowed = evaluate(parse_filter('spot != "S2:b1"'), world)
    assert {tuple(slides) for _, slides in world.reads} == {("S2",)}
    assert np.flatnonzero(~allowed.mask).tolist() == [9]


def test_colon_in_the_name_of_a_slide_is_no_end_of_it(world):
    world.slides["slide_id"] = ["S0", "S0:b1", "S2", "S3"]
    for row in world.rows[1]:
        row["spot_id"] = f"S0:b1:{row['barcode']}"
    assert np.flatnonzero(evaluate(parse_filter('spot == "S0:b1:b2"'), world).mask).tolist() == [6]
    assert np.flatnonzero(evaluate(parse_filter('spot == "S0:b1"'), world).mask).tolist() == [1]


def test_slides_are_read_in_blocks(world):
    with patch.object(MODULE, "_ROWS_AT_ONCE", 8):
        allowed = evaluate(parse_filter('expr("CD8A") > 1'), world)
    assert world.reads == [(CD8A, ["S0", "S1"]), (CD8A, ["S2", "S3"])]
    assert allowed.n_per_slide.tolist() == [2, 2, 2, 2]


def test_wrong_number_of_values_names_what_was_read(world):
    world.rows[2].pop()
    with pytest.raises(
        ValueError, match=r'15 values of expr\("CD8A"\) were read of slides with 16'
    ):
        evaluate(parse_filter('expr("CD8A") > 1'), world)


# ---- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('organ == "lung"', 'organ "lung", which is not in the store. It has "breast", "skin". Correct'),
        ('organ != "Breast"', 'Close: "breast"'),
        ('organ in ("breast", "lung", "liver")', 'organ "lung", "liver", which'),
        ('not slide in ("S9")', 'It has "S0", "S1", "S2", "S3"'),
        ('disease == "tumour"', "It has none at all"),
        ('mpp > 5 and organ == "lung"', 'organ "lung"'),
        ('organ == "breast" or label("regiom") == "x"', 'no spot.* label "regiom". Close: "region"'),
        ('label("region") == "tumor"', 'label("region") "tumor".*Close: "tumour"'),
        ('label("region") > 1', 'label("region") is never a number in this store. It has "tumour"'),
        ('label("grade") == "high"', 'label("grade") "high".*It has none at all'),
        ('spot == "S2:b9"', 'spot "S2:b9". "S2" has no such spot'),
        ('spot in ("S2:b0", "S1:b0", "S1:b7")', 'spot "S1:b7". "S1", "S2" have no such spot'),
        ('spot != "S9:b0"', 'None names a slide.*It has "S0"'),
        ('spot == "b0"', "A spot is written <slide>:<barcode>"),
    ],
)  # fmt: skip
def test_what_the_store_does_not_have_is_refused_with_what_it_has(world, text, words):
    pattern = ".*".join(map(_escaped, words.split(".*")))
    with pytest.raises(QueryError, match=f"(?i){pattern}"):
        evaluate(parse_filter(text), world)


def _escaped(words):
    return words.replace("(", r"\(").replace(")", r"\)")


def test_long_lists_of_what_there_is_are_cut(world):
    world.slides = pd.concat([world.slides.assign(organ=f"organ {i:02}") for i in range(25)])
    with pytest.raises(QueryError, match='"organ 19" and 5 more. Correct'):
        evaluate(parse_filter('organ == "lung"'), world)


def test_gene_that_no_slide_measured_is_refused_even_where_slides_decide(world):
    with pytest.raises(MissingGenesError, match="CD8X"):
        evaluate(parse_filter('organ == "breast" and patient == "" and expr("CD8X") > 1'), world)


def test_gene_is_read_by_the_name_of_the_store(world):
    evaluate(parse_filter('expr("cd8a") > 1 and not expr("Cd8a") is missing'), world)
    assert world.reads == [(CD8A, EVERY)]


def test_barcodes_are_not_looked_up(world):
    assert evaluate(parse_filter('barcode == "b9"'), world).n == 0
    assert evaluate(Not(parse_filter('barcode == "b9"')), world).mask is None
