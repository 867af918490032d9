"""The filter language: what is read, how it is written back, and how the rest is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stamp_index.errors import QueryError
from stamp_index.search import filtering
from stamp_index.search.filtering import (
    And,
    Call,
    Compare,
    Field,
    In,
    Known,
    Not,
    Or,
    all_of,
    field_in,
    field_not_in,
    parse_filter,
)
from tests.filter_world import trees

ORGAN, X = Field("organ"), Field("x_um")
BREAST, FAR = Compare(ORGAN, "==", "breast"), Compare(X, ">", 5.0)

nasty = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="\"'\\\n\t\0 ()and,é日“", max_size=12),
    st.sampled_from(['" or organ == "', "\\", '\\"', "'; drop table", "\r\n", "and", "-0"]),
)
finite = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**20), 10**20))


# ---- text and tree ---------------------------------------------------------------------------------


@given(trees(nasty, finite))
def test_text_of_a_tree_is_read_as_the_same_tree(tree):
    assert parse_filter(str(tree)) == tree
    assert str(parse_filter(str(tree))) == str(tree)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        pytest.param("", None, id="empty"),
        pytest.param(" \n\t", None, id="spaces"),
        pytest.param('organ == "breast"', BREAST, id="double quotes"),
        pytest.param("organ=='breast'", BREAST, id="single quotes"),
        pytest.param('"breast" == organ', BREAST, id="value first"),
        pytest.param(r'organ == "a\"b\\c"', Compare(ORGAN, "==", 'a"b\\c'), id="escapes"),
        pytest.param(r"organ == 'it\'s'", Compare(ORGAN, "==", "it's"), id="single quote inside"),
        pytest.param('organ == "a\nb"', Compare(ORGAN, "==", "a\nb"), id="line end inside"),
        pytest.param('organ == "Lungengewebe ä 肺"', Compare(ORGAN, "==", "Lungengewebe ä 肺"), id="unicode"),
        pytest.param("x_um > 5", FAR, id="whole number"),
        pytest.param("5 < x_um", FAR, id="number first"),
        pytest.param("x_um>+5.0e0", FAR, id="exponent"),
        pytest.param("x_um > -.5", Compare(X, ">", -0.5), id="no zero before the point"),
        pytest.param("x_um > 5.", FAR, id="no digit after the point"),
        pytest.param("x_um == -0", Compare(X, "==", 0.0), id="minus zero"),
        pytest.param(
            "0 < x_um <= 500", And((Compare(X, ">", 0.0), Compare(X, "<=", 500.0))), id="chain up"
        ),
        pytest.param(
            "500 >= x_um > 0", And((Compare(X, "<=", 500.0), Compare(X, ">", 0.0))), id="chain down"
        ),
        pytest.param('organ in ("a", "b")', In(ORGAN, ("a", "b")), id="list"),
        pytest.param('organ in ["a", "b",]', In(ORGAN, ("a", "b")), id="brackets, comma at the end"),
        pytest.param('organ in ("a")', In(ORGAN, ("a",)), id="list of one"),
        pytest.param('organ in ("a", "a")', In(ORGAN, ("a",)), id="said twice"),
        pytest.param('organ NOT In ("a")', Not(In(ORGAN, ("a",))), id="not in"),
        pytest.param('not organ in ("a")', Not(In(ORGAN, ("a",))), id="not in, said first"),
        pytest.param("n_genes in (1, 2)", In(Field("n_genes"), (1.0, 2.0)), id="list of numbers"),
        pytest.param('expr("CD8A") is known', Known(Call("expr", "CD8A")), id="known"),
        pytest.param("organ IS Missing", Not(Known(ORGAN)), id="missing"),
        pytest.param("organ is not known", Not(Known(ORGAN)), id="not known"),
        pytest.param("organ is not missing", Known(ORGAN), id="not missing"),
        pytest.param('label("grade") >= 2', Compare(Call("label", "grade"), ">=", 2.0), id="label"),
        pytest.param("count( 'A' )==0", Compare(Call("count", "A"), "==", 0.0), id="spaces in a call"),
    ],
)  # fmt: skip
def test_conditions_are_read(text, tree):
    assert parse_filter(text) == tree


A, B, C = (Compare(ORGAN, "==", name) for name in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("{a} or {b} and {c}", Or((A, And((B, C))))),
        ("({a} or {b}) and {c}", And((Or((A, B)), C))),
        ("not {a} and {b}", And((Not(A), B))),
        ("not ({a} and {b})", Not(And((A, B)))),
        ("{a} AND {b} Or {c}", Or((And((A, B)), C))),
        ("({a} and ({b} and {c}))", And((A, B, C))),
        ("not not {a}", Not(Not(A))),
        ("not 1 < x_um < 5", Not(And((Compare(X, ">", 1.0), Compare(X, "<", 5.0))))),
    ],
)
def test_not_binds_before_and_before_or(text, tree):
    assert parse_filter(text.format(a=A, b=B, c=C)) == tree


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("5<x_um", "x_um > 5"),
        ("x_um > -0", "x_um > 0"),
        ("organ=='it\\'s'", 'organ == "it\'s"'),
        ("NOT organ IN ['a']", 'organ not in ("a")'),
        ('organ == "a" or x_um > 1e3 and x_um < 1e22', 'organ == "a" or (x_um > 1000 and x_um < 1e+22)'),
        ('not (organ == "a")', 'not organ == "a"'),
        ("not x_um is missing", "not x_um is missing"),
        ("0.5 <= mpp < 1", "mpp >= 0.5 and mpp < 1"),
    ],
)  # fmt: skip
def test_canonical_text(text, canonical):
    assert str(parse_filter(text)) == canonical


def test_the_examples_of_the_documentation_are_read():
    page = filtering.__doc__
    examples = page.split("Ten examples")[1].split("::\n")[1].split("From Python")[0].split("\n")
    examples = [line.strip() for line in examples if line.strip()]
    assert len(examples) == 10
    for text in [*examples, page.split("::\n")[1].split("The language")[0].strip()]:
        assert parse_filter(str(parse_filter(text))) == parse_filter(text)


# ---- refusals --------------------------------------------------------------------------------------

REFUSED = [
    ('organ = "breast"', "=", "no = in filters. Write == instead"),
    ('organ == "a" & x_um > 1', "&", "no & in filters. Write and instead"),
    ('organ == "a" && x_um > 1', "&&", "Write and instead"),
    ('organ == "a" | x_um > 1', "|", "Write or instead"),
    ('organ == "a" || x_um > 1', "||", "Write or instead"),
    ('!(organ == "a")', "!", "Write not instead"),
    ('organ <> "a"', "<>", "Write != instead"),
    ("x_um => 3", "=>", "Write >= instead"),
    ("x_um ≤ 3", "≤", "Write <= instead"),
    ("x_um > −3", "−", "Write - instead"),
    ("x_um <!= 3", "<!=", "no operator <!=. There are ==, !="),
    ('organ == "a"; x_um > 1', ";", "Write and instead"),
    ("organ == “breast”", "“breast”", 'quotes are curly. Use straight ones: "breast"'),
    ("organ == ‘breast’", "‘breast’", 'Use straight ones: "breast"'),
    ("organ == “breast", "“", 'quote is curly. Use straight ones: "'),
    ("organ == breast", "breast", 'Text stands in quotes: "breast"'),
    ("organ == lymph node and x_um > 1", "lymph node", 'Text stands in quotes: "lymph node"'),
    ('organ in ("a", skin)', "skin", 'Text stands in quotes: "skin"'),
    ("slide == 10X-12", "10X-12", 'text is written "10X-12"'),
    ("x_um > 500um", "500um", "Numbers have no unit, as in x_um > 500"),
    ("x_um == nan", "nan", "asked for with x_um is missing"),
    ('organ == "breast', '"', "quote is not closed"),
    (r'organ == "a\nb"', r"\n", "means nothing inside quotes"),
    ('(organ == "a"', "(", "parenthesis is not closed"),
    ('organ == "a")', ")", "parenthesis closes nothing"),
    ('organ in ("a", "b"', "(", r"list is not closed. Add the missing \)"),
    ('organ in ["a" "b"]', '"b"', "comes a comma or ]"),
    ('organ in ("a",', "", "ends in the list. Add a value"),
    ('organ == "a" and', "", "ends after 'and'. Add a condition"),
    ("organ ==", "", "ends after organ ==. Add a value"),
    ("organ == == 3", "==", "A value was expected after organ ==", 1),
    ("not", "", "ends after 'not'"),
    ("organ", "", "organ must be compared: ==, !="),
    ('organ "a"', '"a"', "organ must be compared"),
    ("and", "and", "A condition was expected"),
    ('ogran == "a"', "ogran", "no field ogran. Did you mean organ?"),
    ('patient_id == "a"', "patient_id", "Did you mean patient?"),
    ('Organ == "a"', "Organ", "Did you mean organ?"),
    ("CD8A > 1", "CD8A", r'There are organ, .*A gene is written expr\("CD8A"\)'),
    ("expr(CD8A) > 1", "CD8A", r'stands in quotes: expr\("CD8A"\)'),
    ("expr > 1", "expr", r'needs a name in parentheses, as in expr\("CD8A"\)'),
    ('expr("CD8A" > 1', ">", "one name and a closing parenthesis"),
    ("expr(3) > 1", "3", "needs one name in quotes"),
    ('expr(" ") > 1', '" "', "names no gene"),
    ('label("") == "a"', '""', r'names no label; write label\("region"\)'),
    ('organ("a")', "(", "organ is a field and takes no parentheses"),
    ("organ > 3", "3", "organ > 3 asks for the order of text"),
    ('label("a") < "b"', '"b"', "asks for the order of text"),
    ("organ == 3", "3", 'put 3 in quotes, as in "3"'),
    ('n_counts == "many"', '"many"', 'cannot be compared with the text "many"'),
    ('n_counts in (1, "2")', '"2"', "n_counts is a number"),
    ('label("a") in (1, "b")', "1", "mixes text and numbers"),
    ('organ == ("a")', "(", r"one value. For several write organ in \(...\)"),
    ('organ in "a"', '"a"', r'parentheses: organ in \("a"\)'),
    ("organ in", "", r'comes a list in parentheses, as in organ in \("a", "b"\)'),
    ("organ in ()", ")", "has 0 values; expected 1 to 10,000"),
    ('"a" in organ', "in", r'as in organ in \("a", ...\)'),
    ('organ not "a"', '"a"', r"comes 'in', as in organ not in \(...\)"),
    ('organ is "a"', '"a"', "comes 'known' or 'missing'"),
    ('organ == "a" or "b"', '"b"', 'Name the field again, as in organ == "b"'),
    ('"a" == "b"', '"b"', "One side must be a field"),
    ("x_um < y_um", "y_um", "compared with values only"),
    ("0 < x_um > 5", ">", "point the same way"),
    ("0 < x_um < 5 < y_um", "<", "one field and two signs", 2),
    ("x_um > 0 < 5", "<", "has the field in the middle"),
    ("x_um > 0,5", ",", "decimal point, not a comma"),
    ('organ == "a", x_um > 5', ",", "comma stands only in lists"),
    ('organ == "a" x_um > 5', "x_um", "Join another with 'and' or 'or'"),
    ("x_um > 5 -3", "-3", "no arithmetic"),
    ("x_um > 5 * 3", "*", "no arithmetic"),
    ("x_um > 1e999", "1e999", "too large"),
    ('organ == "\ud800"', '"\ud800"', "not valid Unicode"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_read_is_pointed_at_with_words(case):
    text, place, words, *nth = case
    with pytest.raises(QueryError, match=words) as caught:
        parse_filter(text)
    first, line, carets = str(caught.value).split("\n")
    start = len(text)
    if place:
        start = [m.start() for m in re.finditer(re.escape(place), text)][nth[0] if nth else 0]
    assert first.startswith(f"Cannot read the filter at character {start + 1}. ")
    assert line == "  " + text.replace("\ud800", "\ufffd")
    assert carets == " " * (2 + start) + "^" * max(len(place), 1)


def test_place_in_a_long_text_is_shown_with_what_stands_around():
    text = " and ".join(['organ == "breast"'] * 9) + ' and ogran == "skin" and ' + str(FAR) * 9
    with pytest.raises(QueryError) as caught:
        parse_filter(text)
    _, line, carets = str(caught.value).split("\n")
    assert line[carets.index("^") : carets.index("^") + 5] == "ogran"
    assert line.startswith("  ...")
    assert line.endswith("...")
    assert len(line) <= 90


def test_place_on_a_later_line_is_shown_with_its_line():
    with pytest.raises(QueryError, match="character 14") as caught:
        parse_filter("x_um > 3\nand\t日本 == 3\nand x_um")
    _, line, carets = str(caught.value).split("\n")
    assert line == "  and 日本 == 3"
    assert carets == "      ^^^^"  # these characters are two columns wide


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x_um > 1" + " " * 10_000, "has 10,008 characters; at most 10,000"),
        ("(" * 65 + "x_um > 1" + ")" * 65, "nested more than 64 deep"),
        ("not " * 65 + "x_um > 1", "nested more than 64 deep"),
    ],
    ids=["length", "parentheses", "not"],
)
def test_limits_are_said_in_words(text, words):
    with pytest.raises(QueryError, match=words):
        parse_filter(text)


def test_what_is_just_within_the_limits_is_read():
    assert parse_filter("x_um > 5" + " " * 9_992) == FAR
    assert parse_filter("(" * 64 + "x_um > 5" + ")" * 64) == FAR
    side_by_side = " and ".join(["(not x_um <= 5)"] * 65)
    assert len(parse_filter(side_by_side).terms) == 65
    deep = parse_filter("not " * 64 + "x_um > 5")
    assert deep.depth == 64
    assert parse_filter(str(deep)) == deep


def test_conditions_nested_without_parentheses_have_the_same_limit():
    text = "x_um > 5"
    for _ in range(40):
        text = f"x_um > 1 or x_um > 2 and ({text})"
    with pytest.raises(QueryError, match="nested more than 64 deep"):
        parse_filter(text)


pieces = st.lists(
    st.sampled_from(
        [*'()[],"\'\\=<>!&| \n-.;“', "==", "!=", "<=", "and", "or", "not", "in", "is", "known", "missing"]
        + ["organ", "x_um", "expr", "label", '"a"', "'b'", "5", "1e9", "0.5", "skin", 'expr("A")']
    ),
    max_size=14,
).map(" ".join)  # fmt: skip


@given(st.one_of(st.text(max_size=60), pieces, pieces.map(lambda text: text.replace(" ", ""))))
@example('organ == "')
@example("\ud800")
@example('"\ud800"')
@example('organ in "\ud800"')
@example('label("\ud800") == "a"')
def test_any_text_is_read_or_refused_as_a_query(text):
    try:
        tree = parse_filter(text)
    except QueryError as exc:
        str(exc).encode()  # can be printed
    else:
        assert parse_filter(str(tree) if tree else "") == tree


@given(trees(nasty, finite, depth=3), st.data())
def test_a_tree_with_a_piece_cut_out_is_read_or_refused(tree, data):
    text = str(tree)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    try:
        parse_filter(text[:start] + text[stop:])
    except QueryError as exc:
        str(exc).encode()


def test_filter_that_is_no_text_is_a_type_error():
    with pytest.raises(TypeError, match="filter is 5; expected text"):
        parse_filter(5)


# ---- trees made without text -----------------------------------------------------------------------


def test_choices_of_an_interface_make_a_filter():
    made = all_of(
        field_in("organ", ["breast", "skin"]),
        field_in("slide", []),
        field_not_in("patient", ("P1",)),
        field_not_in("platform", ["Visium", "Xenium"]),
        None,
    )
    text = (
        'organ in ("breast", "skin") and patient != "P1" and platform not in ("Visium", "Xenium")'
    )
    assert str(made) == text
    assert parse_filter(text) == made


def test_nothing_chosen_filters_nothing():
    assert all_of() is None
    assert all_of(None, field_in("organ", []), field_not_in("slide", ())) is None
    assert all_of(BREAST, None) is BREAST


def test_numbers_of_numpy_and_whole_numbers_are_numbers():
    import numpy as np

    assert field_in("n_counts", np.array([3, 4])) == In(Field("n_counts"), (3.0, 4.0))
    assert field_in("n_counts", [np.float32(0.5)]) == Compare(Field("n_counts"), "==", 0.5)
    assert type(field_in("organ", [np.str_("a")]).value) is str


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: field_in("organ", "breast"), TypeError, "string 'breast'; expected several"),
        (lambda: field_in("organ", [None]), TypeError, "value is None; expected text or a number"),
        (lambda: field_in("n_counts", [True]), TypeError, "value is True"),
        (lambda: field_in("ogran", ["a"]), QueryError, "Did you mean organ"),
        (lambda: field_in("n_counts", [float("nan")]), QueryError, "infinite, too large or NaN"),
        (lambda: field_in("n_counts", [10**400]), QueryError, "infinite, too large or NaN"),
        (lambda: field_in("slide", map(str, range(10_001))), QueryError, "10001 values"),
        (lambda: Compare(ORGAN, "like", "a"), ValueError, "operator is 'like'"),
        (lambda: Call("sum", "CD8A"), QueryError, "no field sum"),
        (lambda: Call("expr", 3), QueryError, "a name is text"),
        (lambda: And((BREAST,)), ValueError, "And joins 1 conditions"),
        (lambda: all_of(BREAST, "x_um > 1"), TypeError, "'x_um > 1' is no condition"),
        (lambda: Not(None), TypeError, "None is no condition"),
    ],
)
def test_trees_refuse_what_cannot_be_evaluated(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_joined_conditions_of_one_kind_are_one():
    assert And((And((A, B)), C)) == And((A, B, C))
    assert Or((A, Or((B, C)))) == Or((A, B, C))
    assert And((Or((A, B)), C)).depth == 2


@pytest.mark.parametrize(
    "text", ["a" * 9_000, '"' + "a" * 9_000 + '"', "<" * 9_000, "5" + "a" * 9_000]
)
def test_long_pieces_are_cut_in_messages(text):
    with pytest.raises(QueryError) as caught:
        parse_filter(text)
    assert len(str(caught.value)) < 1_000
