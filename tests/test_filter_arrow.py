"""Filters as Arrow expressions: Arrow's and Lance's answers against an interpreter of one row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stamp_index.search.filtering import field_in, parse_filter, to_arrow
from tests.filter_world import NUMBERS, SPOT_NUMBERS, TEXT_COLUMNS, TEXTS, trees, truth

NASTY = ('a "b" \\ c', "x' or '1' = '1", "日本\n", "\0", "ORGAN", "a%_*")
VALUES = (*NUMBERS, 1e300, 5e-324, -2.5)
TYPES = {"n_genes": pa.int32(), "y_px": pa.float32()} | dict.fromkeys(
    TEXT_COLUMNS.values(), pa.string()
)
GENE = st.sampled_from([1.0, 3.0, float("nan")])

text_values = st.sampled_from([*TEXTS, *NASTY])
numbers = st.sampled_from([*VALUES, 0.1])
# -nan is what 0 / 0 gives on some machines; engines sort it below all numbers.
stored_numbers = st.sampled_from([*VALUES, -0.0, 0.1, float("nan"), -float("nan"), None])


def make_table(rows):
    columns = [*TEXT_COLUMNS.values(), *SPOT_NUMBERS]
    types = [TYPES.get(name, pa.float64()) for name in columns]
    arrays = [
        pa.array([row[name] for row in rows], kind)
        for name, kind in zip(columns, types, strict=True)
    ]
    return pa.table(arrays, columns)


@st.composite
def tables(draw, n=6):
    """A spots table with nulls and NaN, and its rows as the interpreter takes them."""
    rows = []
    for _ in range(draw(st.integers(0, n))):
        row = {name: draw(st.one_of(text_values, st.none())) for name in TEXT_COLUMNS.values()}
        row |= {name: draw(stored_numbers) for name in SPOT_NUMBERS}
        row["n_genes"] = draw(st.sampled_from([0, 1, 2, None]))
        row["y_px"] = draw(
            st.sampled_from([0.0, -0.0, 2.5, float(np.float32(0.1)), float("nan"), None])
        )
        row |= {("expr", gene): draw(GENE) for gene in ("CD8A", "EPCAM")}
        row |= {("count", gene): draw(GENE) for gene in ("CD8A", "EPCAM")}
        row |= {
            ("label", name): draw(st.sampled_from(["breast", 1.0, None]))
            for name in ("region", "grade")
        }
        rows.append(row | {"mpp": draw(st.sampled_from([1.0, 2.5, float("nan")]))})
    return make_table(rows), rows


stored = trees(text_values, numbers, calls=False, names=(*TEXT_COLUMNS, *SPOT_NUMBERS))


def passing(table, expression):
    numbered = table.append_column("row", pa.array(range(len(table)), pa.int64()))
    return numbered.filter(expression).column("row").to_pylist()


EMPTY_ROW = dict.fromkeys([*TEXT_COLUMNS.values(), *SPOT_NUMBERS])

ZERO_ROW = EMPTY_ROW | {"x_um": -0.0}


@given(stored, tables())
@example(parse_filter('organ not in ("breast", "")'), (make_table([EMPTY_ROW]), [EMPTY_ROW]))
@example(parse_filter("not x_um in (1, 2)"), (make_table([EMPTY_ROW]), [EMPTY_ROW]))
@example(parse_filter("x_um in (0, 1)"), (make_table([ZERO_ROW]), [ZERO_ROW]))
def test_expression_passes_the_rows_of_a_row_by_row_interpreter(condition, given_table):
    table, rows = given_table
    pushed = to_arrow(condition, table.schema)
    assert pushed.remaining is None
    expected = [i for i, row in enumerate(rows) if truth(condition, row) is True]
    assert passing(table, pushed.expression) == expected


@given(trees(text_values, numbers), tables())
def test_expression_and_what_remains_are_the_filter(condition, given_table):
    table, rows = given_table
    pushed = to_arrow(condition, table.schema)
    expected = [i for i, row in enumerate(rows) if truth(condition, row) is True]
    left = list(range(len(rows)))
    if pushed.expression is not None:
        left = passing(table, pushed.expression)
        assert set(left) >= set(expected)
    if pushed.remaining is not None:
        left = [i for i in left if truth(pushed.remaining, rows[i]) is True]
    assert left == expected


@pytest.fixture(scope="module")
def lance_table(tmp_path_factory):
    """A table on disk with indexed columns, and its rows."""
    import lance

    rng = np.random.default_rng(5)
    rows = []
    for _ in range(400):
        row = {name: rng.choice([*TEXTS, *NASTY, None]) for name in TEXT_COLUMNS.values()}
        row |= {
            name: rng.choice([*VALUES, -0.0, 0.1, np.nan, -np.nan, None]) for name in SPOT_NUMBERS
        }
        row["n_genes"] = rng.choice([0, 1, 2, None])
        row["y_px"] = rng.choice([0.0, -0.0, 2.5, float(np.float32(0.1)), np.nan, None])
        rows.append(row)
    dataset = lance.write_dataset(
        make_table(rows), tmp_path_factory.mktemp("lance") / "spots.lance"
    )
    dataset.create_scalar_index("organ", "BITMAP")
    dataset.create_scalar_index("patient_id", "BTREE")
    dataset.create_scalar_index("x_um", "BTREE")
    return dataset, rows


@given(stored)
def test_lance_passes_the_rows_of_a_row_by_row_interpreter(lance_table, condition):
    dataset, rows = lance_table
    pushed = to_arrow(condition, dataset.schema)
    found = dataset.to_table(filter=pushed.expression, columns=[], with_row_id=True)
    expected = [i for i, row in enumerate(rows) if truth(condition, row) is True]
    assert found.column("_rowid").to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    [
        'organ == "breast"',
        'organ != "breast"',
        'organ in ("breast", "skin", "")',
        'organ not in ("breast", "skin")',
        "organ is missing",
        "organ is known",
        'organ == "breast" and patient != "skin"',
    ],
)
def test_lance_answers_text_by_its_index(lance_table, text):
    dataset, _ = lance_table
    scanner = dataset.scanner(filter=to_arrow(parse_filter(text), dataset.schema).expression)
    plan = scanner.explain_plan()
    assert "ScalarIndexQuery" in plan
    assert "refine_filter=--" in plan  # nothing is left for a scan


SCHEMA = make_table([]).schema


@pytest.mark.parametrize(
    ("text", "expression", "remaining"),
    [
        pytest.param('organ == "a"', 'organ == "a"', None, id="all"),
        pytest.param('expr("A") > 1', None, 'expr("A") > 1', id="nothing"),
        pytest.param("mpp < 1", None, "mpp < 1", id="the spots have no mpp"),
        pytest.param(
            'organ == "a" and expr("A") > 1 and label("b") == "c"',
            'organ == "a"',
            'expr("A") > 1 and label("b") == "c"',
            id="terms of and",
        ),
        pytest.param(
            'organ == "a" or expr("A") > 1', None, 'organ == "a" or expr("A") > 1', id="term of or"
        ),
        pytest.param(
            '(organ == "a" and expr("A") > 1) or organ == "b"',
            'organ == "a" or organ == "b"',
            '(organ == "a" and expr("A") > 1) or organ == "b"',
            id="part of or narrows, and is asked again",
        ),
        pytest.param(
            'not (organ == "a" or expr("A") > 1)', 'organ != "a"', 'expr("A") <= 1', id="negated or"
        ),
    ],
)
def test_what_spots_cannot_tell_remains(text, expression, remaining):
    pushed = to_arrow(parse_filter(text), SCHEMA)
    assert str(pushed.remaining) == str(remaining)
    if expression is None:
        assert pushed.expression is None
    else:
        assert pushed.expression.equals(to_arrow(parse_filter(expression), SCHEMA).expression)


def test_column_that_the_table_lacks_remains():
    schema = pa.schema([field for field in SCHEMA if field.name != "disease"])
    pushed = to_arrow(parse_filter('organ == "a" and disease == "b"'), schema)
    assert str(pushed.remaining) == 'disease == "b"'


def test_no_filter_is_no_expression():
    pushed = to_arrow(None, SCHEMA)
    assert (pushed.expression, pushed.remaining) == (None, None)


def test_values_are_never_read_as_expressions():
    pushed = to_arrow(parse_filter("organ == \"breast' or '1' = '1\""), SCHEMA)
    null_safe = pc.field("organ") == pc.scalar("breast' or '1' = '1")
    assert pushed.expression.equals(null_safe)


@given(trees(text_values, numbers, calls=False, names=(*TEXT_COLUMNS, *SPOT_NUMBERS), depth=60))
def test_what_lance_is_given_never_grows_large(condition):
    from pyarrow.substrait import serialize_expressions

    pushed = to_arrow(condition, SCHEMA)
    if pushed.expression is not None:
        assert serialize_expressions([pushed.expression], ["filter"], SCHEMA).nbytes < 5_000_000


def _deep(n):
    text = "x_um > 0.5"
    for i in range(n):
        text = f"x_um > 0.9{i} or x_um < 0.1{i} and ({text})"
    return text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" or ".join(f"x_um == {i}" for i in range(600)), id="alternatives"),
        pytest.param(" and ".join(f'slide != "{i}"' for i in range(500)), id="exceptions"),
        pytest.param(_deep(30), id="deep"),
    ],
)
def test_filter_with_hundreds_of_comparisons_remains(text):
    condition = parse_filter(text)
    pushed = to_arrow(condition, SCHEMA)
    assert pushed.expression is None
    assert pushed.remaining is not None
    narrowed = to_arrow(parse_filter(f'organ == "a" and ({text})'), SCHEMA)
    assert narrowed.expression is None or narrowed.expression.equals(
        to_arrow(parse_filter('organ == "a"'), SCHEMA).expression
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" or ".join(f"x_um == {i}" for i in range(30)), id="numbers"),
        pytest.param(" or ".join(f'slide == "{i}"' for i in range(30)), id="texts"),
        pytest.param(str(field_in("slide", map(str, range(10_000)))), id="list"),
    ],
)
def test_filter_of_usual_size_is_expressed(text, monkeypatch):
    monkeypatch.setattr("stamp_index.search.filtering.parse.MAX_CHARACTERS", 10**6)
    pushed = to_arrow(parse_filter(text), SCHEMA)
    assert pushed.expression is not None
    assert pushed.remaining is None
