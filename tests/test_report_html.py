"""Reports as one page: whatever a report holds, it is text; nothing is fetched; every part is there."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.evaluate import plots
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.html import render_html
from stamp_index.evaluate.html_table import number_texts, table_html

HOSTILE = '<script>alert("1")</script>\'&amp;</td></svg>{}$\\frac$'
VOID = {"meta", "br", "hr", "img", "link", "input"}
SERIES = [{"name": "a", "values": [0.1, 0.4], "low": [0.0, 0.3], "high": [0.2, 0.5]}]
DATA = {
    "recall_curve": {"k": [1, 10], "series": SERIES, "chance": [0.01, 0.1]},
    "few_shot": {"shots": [1, 50], "series": SERIES, "chance": 0.2},
    "bars_with_interval": {"labels": ["x", "y"], "series": SERIES, "chance": 0.0},
    "per_gene_scatter": {
        **{"genes": ["A", "B"], "x": [0.1, 0.2], "y": [0.3, None]},
        **{"x_label": "ridge", "y_label": "kNN", "is_same_measure": True},
    },
    "confusion": {"classes": ["fat", "stroma"], "counts": [[5, 1], [0, 0]]},
}


class Strict(HTMLParser):
    """Refuses what is not closed, closed twice, or closed in another order; keeps text, tags and attributes."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attrs]

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(page):
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def whole_report(word="plain"):
    """A report with every kind of part, in which `word` stands wherever a name can."""
    table = {
        "columns": [word, {"name": "ARI", "title": f"ARI {word}"}],
        "rows": [{word: f"{word} 1", "ARI": 0.25}, {word: None, "ARI": float("nan")}],
        "caption": f"table {word}",
    }
    data = {kind: dict(values) for kind, values in DATA.items()}
    for kind in ("recall_curve", "few_shot", "bars_with_interval"):
        data[kind]["series"] = [{**SERIES[0], "name": word}, {**SERIES[0], "name": f"_{word}"}]
    data["bars_with_interval"]["labels"] = data["confusion"]["classes"] = [word, "other"]
    data["per_gene_scatter"] |= {"genes": [word, "B"], "x_label": word, "y_label": word}
    drawn = [
        {"kind": kind, "data": values, "caption": f"{kind} {word}"} for kind, values in data.items()
    ]
    return {
        "title": f"title {word}",
        "about": [(f"name {word}", f"value {word}")],
        "notes": [f"note {word}"],
        "sections": [
            {
                "title": f"section {word}",
                "text": f"one {word}\n\ntwo",
                "tables": [table],
                "plots": drawn,
            },
            {
                "title": "second",
                "text": "",
                "tables": [{"columns": ["a"], "rows": [], "caption": "none"}],
            },
            {"title": "third", "text": "nothing else"},
        ],
    }


def test_every_part_of_a_report_is_on_the_page():
    page = parsed(render_html(whole_report()))
    said = " ".join(page.texts)
    for word in (
        *("title plain", "name plain", "value plain", "note plain", "section plain", "one plain"),
        *("second", "third", "nothing else", "table plain", "ARI plain", "No rows.", "0.250"),
        *(f"{kind} plain" for kind in DATA),
    ):
        assert word in said
    assert page.tags.count("h1") == 1
    assert page.tags.count("section") == page.tags.count("h2") == 3
    assert page.tags.count("svg") == page.tags.count("figure") == len(DATA)
    assert page.tags.count("p") == 5  # two paragraphs, a caption, "No rows.", "nothing else"


def test_hostile_names_are_text_wherever_they_stand():
    source = render_html(whole_report(HOSTILE))
    page = parsed(source)
    assert page.tags.count("script") == 1
    assert "<script>alert" not in source
    said = " ".join(page.texts)
    for place in ("title", "name", "value", "note", "section", "one", "table"):
        assert f"{place} {HOSTILE}" in said
    names = {name for _, name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on")]


def test_nothing_is_fetched_and_only_the_own_script_may_run():
    source = render_html(whole_report())
    found = set(re.findall(r"[a-z]+://[^\s\"'<>)]+", source))
    assert found <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }  # names, not places
    assert not re.search(r"@import|url\((?!#)", source)
    page = parsed(source)
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#"), (tag, name, value)
    policy = next(
        value for tag, _, value in page.attributes if tag == "meta" and "default-src" in value
    )
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_ids_are_unique_and_references_have_a_target():
    page = parsed(render_html(whole_report()))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for _, name, value in page.attributes if name in ("href", "xlink:href")}
    clips = [value for _, name, value in page.attributes if name == "clip-path"]
    used |= {re.fullmatch(r"url\(#(.*)\)", value).group(1) for value in clips}
    assert used <= set(ids)
    assert clips


def test_the_same_report_gives_the_same_page():
    assert render_html(whole_report()) == render_html(whole_report())


def test_a_page_can_be_written_whatever_characters_names_hold():
    page = render_html(
        {"title": "a\x00b\ud800c\x1b[0m \u202e \u4e2d\u6587 \U0001f9ec", "notes": ["\x7f"]}
    )
    page.encode("utf-8")
    said = " ".join(parsed(page).texts)
    assert "a\ufffdb\ufffdc\ufffd[0m" in said
    assert "\u4e2d\u6587 \U0001f9ec" in said


@given(st.text(max_size=60))
def test_any_text_comes_back_as_text(word):
    parser = parsed(render_html({"title": "t", "notes": [f"[{word}]"]}))
    said = "".join(parser.texts)
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", word)
    assert f"[{kept}]" in said
    assert parser.tags.count("li") == 1


def test_a_report_of_a_title_only_is_a_page():
    page = parsed(render_html({"title": "Only"}))
    assert page.texts.count("Only") == 2


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({}, "needs a title"),
        ({"title": "t", "sections": [{"text": "no title"}]}, "Section 1 .* KeyError"),
        (
            {"title": "t", "sections": [{"title": "s", "tables": [{"rows": []}]}]},
            "Section 1 .*columns",
        ),
        (
            {"title": "t", "sections": [{"title": "s", "plots": [{"kind": "pie", "data": {}}]}]},
            "'pie'",
        ),
        (
            {
                "title": "t",
                "sections": [{"title": "s", "plots": [{"kind": "few_shot", "data": {"k": 1}}]}],
            },
            "few_shot plot do not fit",
        ),
    ],
)
def test_reports_of_another_form_are_refused(report, words):
    with pytest.raises(EvaluationError, match=words):
        render_html(report)


@pytest.mark.parametrize("kind", sorted(DATA))
def test_plots_are_svg_with_outlines_for_text_and_the_inks_of_the_page(kind):
    svg = plots.draw(kind, DATA[kind])
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {one.tag.split("}")[1] for one in root.iter()}
    assert not tags & {"text", "image", "metadata", "script"}
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert plots.draw(kind, DATA[kind]) == svg


def test_plots_do_not_depend_on_the_style_around_them():
    import matplotlib as mpl

    wanted = plots.confusion(**DATA["confusion"])
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 30, "text.color": "red"}):
        assert plots.confusion(**DATA["confusion"]) == wanted


def test_chance_is_a_dashed_line_and_series_differ_by_more_than_colour():
    series = [{"name": name, "values": [0.1, 0.5]} for name in "ab"]
    with_chance = plots.few_shot(shots=[1, 5], series=series, chance=0.3)
    without = plots.few_shot(shots=[1, 5], series=series)
    assert with_chance.count("stroke-dasharray") > without.count("stroke-dasharray") > 0
    marks = re.findall(r'<path id="(m[0-9a-f]+)"', without)
    assert len(set(marks)) >= 4  # two signs of series, ticks of two axes


def test_gaps_and_nothing_at_all_can_be_drawn():
    gap = [{"name": "a", "values": [None, float("nan")]}]
    ET.fromstring(plots.recall_curve(k=[1, 5], series=gap))
    ET.fromstring(plots.bars_with_interval(labels=["x", "y"], series=gap))
    ET.fromstring(plots.bars_with_interval(labels=[], series=[]))
    ET.fromstring(plots.per_gene_scatter(genes=[], x=[], y=[], x_label="a", y_label="b"))


def test_genes_and_points_that_do_not_fit_are_refused():
    data = {"genes": ["A"], "x": [1.0, 2.0], "y": [1.0, 2.0], "x_label": "a", "y_label": "b"}
    with pytest.raises(EvaluationError, match="1 genes have 2 points"):
        plots.draw("per_gene_scatter", data)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2000, None], ["1", "2,000", None]),
        ([3.0, 4.0], ["3", "4"]),
        ([0.5, -0.25, math.nan], ["0.500", "\u22120.250", None]),
        ([-1e-9, 0.5], ["0.000", "0.500"]),
        ([0.0004, 0.25], ["0.0004", "0.2500"]),
        ([12.345, 5.0], ["12.35", "5.00"]),
        ([5210.4, 21.2], ["5,210", "21"]),
        ([3e-7, 0.0], ["3.00e\u221207", "0.00e+00"]),
        ([], []),
    ],
)
def test_numbers_of_a_column_have_the_digits_they_deserve(values, wanted):
    assert number_texts(values) == wanted


def test_numbers_stand_right_and_the_best_is_marked_only_where_asked():
    rows = [{"a": "x", "n": 0.5, "m": 2}, {"a": "y", "n": np.float32(0.75), "m": np.int64(1)}]
    plain = table_html({"columns": ["a", "n", "m"], "rows": rows})
    assert "best" not in plain
    assert plain.count('<td class="number"') == 4
    assert plain.count('<th scope="col" class="number">') == 2
    asked = [{"name": "n", "best": "high", "digits": 1}, {"name": "m", "best": "low"}]
    marked = table_html({"columns": asked, "rows": rows})
    assert re.findall(r'best" data-value="[^"]*">([^<]*)<', marked) == ["0.8", "1"]


def test_truths_and_mixed_columns_are_text():
    rows = [{"a": True, "b": 1}, {"a": False, "b": "many"}]
    html = table_html({"columns": ["a", "b"], "rows": rows})
    assert "number" not in html
    assert ">yes<" in html
    assert ">many<" in html


def test_one_number_that_ran_away_does_not_take_the_decimals_of_the_others():
    assert number_texts([1.19, 1.18, 2.5, 2174512.3]) == ["1.190", "1.180", "2.500", "2.17e+06"]
