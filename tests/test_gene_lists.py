from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.genes import (
    GeneReference,
    Signature,
    gene_sets_from_net,
    parse_signature,
    read_gene_text,
    read_gmt,
)
from stamp_index.genes.lists import GENE_COLUMNS, LEVEL_COLUMNS, LEVELS

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda name: any(letter.isalpha() for letter in name) and name.isascii()
)
WEIGHTS = st.one_of(st.sampled_from([1.0, -1.0, 2.0]), st.floats(0.001, 1000), st.floats(-1000, -0.001))  # fmt: skip
SIGNATURES = st.dictionaries(NAMES, WEIGHTS, min_size=1, max_size=50).map(
    lambda weights: Signature(
        tuple({name.casefold(): (name, weight) for name, weight in weights.items()}.values())
    )
)


def _read(text: str) -> dict[str, float]:
    """Terms of a text that has no problem."""
    read = read_gene_text(text)
    assert read.problems == ()
    return dict(read.terms)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        pytest.param("CD8A high, EPCAM low", {"CD8A": 1, "EPCAM": -1}, id="signature"),
        pytest.param("CD8A 2; EPCAM = -0.5", {"CD8A": 2, "EPCAM": -0.5}, id="signature_weights"),
        pytest.param("CD8A\nCD3E\r\n\nKRT8", {"CD8A": 1, "CD3E": 1, "KRT8": 1}, id="column"),
        pytest.param("CD8A CD3E\tKRT8;VIM", {"CD8A": 1, "CD3E": 1, "KRT8": 1, "VIM": 1}, id="row"),
        pytest.param("\ufeff'CD8A', \u201cCD3E\u201d", {"CD8A": 1, "CD3E": 1}, id="quoted"),
        pytest.param("['CD8A', 'CD3E']", {"CD8A": 1, "CD3E": 1}, id="python_list"),
        pytest.param("\u2191CD8A \u2193EPCAM", {"CD8A": 1, "EPCAM": -1}, id="arrows_before"),
        pytest.param("CD8A\u25b2, EPCAM \u25bc", {"CD8A": 1, "EPCAM": -1}, id="arrows_behind"),
        pytest.param("CD8A, \u2193 EPCAM", {"CD8A": 1, "EPCAM": -1}, id="arrow_of_its_own_cell"),
        pytest.param("+CD8A -EPCAM KRT8-", {"CD8A": 1, "EPCAM": -1, "KRT8": -1}, id="signs"),
        pytest.param("EPCAM \u22120.5", {"EPCAM": -0.5}, id="typographic_minus"),
        pytest.param("-HLA-DRA, NKX2-1-, NKX2\u20115", {"HLA-DRA": -1, "NKX2-1": -1, "NKX2-5": 1}, id="dashes"),  # fmt: skip
        pytest.param("CD8A up, EPCAM Down-regulated", {"CD8A": 1, "EPCAM": -1}, id="words"),
        pytest.param("high CD8A CD3D low EPCAM", {"CD8A": 1, "CD3D": 1, "EPCAM": -1}, id="words_before"),  # fmt: skip
        pytest.param("CD8A (high) and KRT8 (-)", {"CD8A": 1, "KRT8": -1}, id="brackets"),
        pytest.param("Up: CD8A CD3E\nDown: EPCAM, KRT8", {"CD8A": 1, "CD3E": 1, "EPCAM": -1, "KRT8": -1}, id="headings_of_lines"),  # fmt: skip
        pytest.param("Low genes:\nEPCAM\nHigh:\nCD8A", {"EPCAM": -1, "CD8A": 1}, id="headings"),
        pytest.param("\u2022 CD8A\n\u2022 CD3E low", {"CD8A": 1, "CD3E": -1}, id="bullets"),
        pytest.param("1. CD8A\n2) CD3E", {"CD8A": 1, "CD3E": 1}, id="numbered"),
        pytest.param("CD8A,2.5\nEPCAM,low", {"CD8A": 2.5, "EPCAM": -1}, id="csv_without_header"),
        pytest.param("CD8A\t2,5\nEPCAM\t-1,5", {"CD8A": 2.5, "EPCAM": -1.5}, id="decimal_comma"),
        pytest.param("gene,weight\nCD8A,2\n\"EPCAM\",-1\n", {"CD8A": 2, "EPCAM": -1}, id="csv"),
        pytest.param("Gene\nCD8A\nEPCAM", {"CD8A": 1, "EPCAM": 1}, id="header_alone"),
        pytest.param("Direction;Symbol\nup;CD8A\nDOWN;EPCAM", {"CD8A": 1, "EPCAM": -1}, id="direction"),  # fmt: skip
        pytest.param("gene;weight\nCD8A;2,5", {"CD8A": 2.5}, id="csv_with_decimal_comma"),
        pytest.param('"","avg_log2FC"\n"CD8A",2.5\n"KRT8",-3', {"CD8A": 2.5, "KRT8": -3}, id="r_table"),  # fmt: skip
        pytest.param("UP high, low -2", {"UP": 1, "low": -2}, id="genes_called_like_levels"),
    ],
)  # fmt: skip
def test_every_way_of_pasting_genes_is_read(text, weights):
    assert _read(text) == weights


@pytest.mark.parametrize(
    ("text", "terms", "problem"),
    [
        pytest.param(
            "CD8A\n<b>x</b>", 1, "Line 2: '<b>x</b>' cannot be read as a gene", id="markup"
        ),  # fmt: skip
        pytest.param(
            "CD8A\nCD8A low",
            1,
            r"Line 2: CD8A has been given another weight \(1\)",
            id="contradiction",
        ),  # fmt: skip
        pytest.param("# T cells\nCD8A", 1, "Line 1: '# T cells' is a comment", id="comment"),
        pytest.param(
            "- CD8A", 0, "may be an item of a list, or low. Write 'CD8A' or '-CD8A'", id="dash"
        ),  # fmt: skip
        pytest.param("high\nCD8A", 1, "Line 1: 'high' stands without a gene", id="level_alone"),
        pytest.param("CD8A 0", 0, "The weight of CD8A is 0", id="zero"),
        pytest.param("gene,p\nCD8A,1", 1, "Line 1: these columns are not read: 'p'", id="column"),
        pytest.param("gene,weight\nCD8A,n.s.", 0, "Line 2: 'n.s.' of CD8A is neither", id="level"),
        pytest.param("gene,weight\n,3", 0, "Line 2: ',3' names no gene", id="no_gene"),
        pytest.param("gene", 0, "'gene' is a heading, and nothing stands below it", id="heading"),
        pytest.param("A" * 65, 0, "is too long for the name of a gene", id="long"),
        pytest.param(
            " ".join(f"G{at}" for at in range(60)),
            50,
            "10 more are left out, from G50 on",
            id="many",
        ),  # fmt: skip
    ],
)
def test_what_cannot_be_read_is_listed_with_its_line(text, terms, problem):
    read = read_gene_text(text)
    assert len(read.terms) == terms
    assert len(read.problems) == 1
    assert re.search(problem, read.problems[0])


def test_many_problems_are_counted_rather_than_listed():
    read = read_gene_text("\n".join(f"<{at}>" for at in range(200)))
    assert len(read.problems) == 50
    assert read.problems[-1] == "151 more things could not be read."


def test_what_is_too_long_or_no_text_is_refused():
    with pytest.raises(QueryError, match="100001 characters; at most 100000"):
        read_gene_text("A" * 100_001)
    with pytest.raises(QueryError, match="bytes that are no text"):
        read_gene_text("CD8A\0")


@pytest.mark.parametrize("sign", list("(:=\t-+'\u2191"))
def test_a_hundred_thousand_signs_are_no_gene_and_no_burden(sign):
    assert read_gene_text(sign * 100_000).terms == ()


def test_a_text_without_genes_has_no_signature():
    assert read_gene_text("").text == ""
    with pytest.raises(EmptyQueryError):
        _ = read_gene_text(" \n").signature


def test_no_word_for_a_level_or_a_heading_is_a_gene():
    symbols = {symbol.casefold() for symbol in GeneReference.load().human.symbols}
    assert symbols.isdisjoint({*LEVELS, *GENE_COLUMNS, *LEVEL_COLUMNS})


@given(SIGNATURES)
def test_the_canonical_text_of_a_signature_reads_back(signature):
    assert read_gene_text(signature.text).signature == signature


@given(SIGNATURES, st.sampled_from([", ", "\n", "; ", " ,\n\t"]))
def test_terms_in_any_separation_are_the_same_signature(signature, separator):
    text = separator.join(signature.text.split(", "))
    assert read_gene_text(text).signature == parse_signature(text.replace("\t", " "))


@given(SIGNATURES, st.sampled_from([",", ";", "\t"]))
def test_a_table_reads_back_as_its_signature(signature, mark):
    rows = [f"{gene}{mark}{weight!r}" for gene, weight in signature.items]
    assert read_gene_text("\n".join([f"gene{mark}weight", *rows])).signature == signature


@given(
    st.text(st.sampled_from("AB8 \t,;:+-\u2191\u2193#\n\"'=.0elowhigh"), max_size=60)
    | st.text(max_size=60)
)
def test_any_text_gives_terms_that_the_grammar_reads_and_problems_for_the_rest(text):
    try:
        read = read_gene_text(text)
    except QueryError:
        assert "\0" in text
        return
    if read.terms:
        assert parse_signature(read.text).items == read.terms
    elif any(letter.isalnum() for letter in text):
        assert read.problems


GMT = "TUMOUR_UP\thttp://x\tEPCAM\tKRT8\tMYC\nB_CELL\tna\tMS4A1\tCD19\nTUMOUR_DN\thttp://y\tCD8A\tMYC\n"


def test_a_gmt_is_read_and_its_pairs_are_joined():
    sets = {one.name: one for one in read_gmt(GMT.encode())}
    assert list(sets) == ["TUMOUR", "TUMOUR_UP", "B_CELL", "TUMOUR_DN"]
    assert sets["TUMOUR"].signature.text == "EPCAM high, KRT8 high, CD8A low"
    assert sets["TUMOUR"].skipped == ("MYC",)
    assert sets["B_CELL"].signature == parse_signature("MS4A1, CD19")
    assert sets["B_CELL"].description == "na"
    assert read_gmt(GMT) == tuple(sets.values())


def test_weights_of_a_gmt_and_names_that_are_no_genes_are_kept_apart():
    (only,) = read_gmt("S\t\tCD8A,2.5\tEPCAM,-1.0\tHLA-A /// HLA-B\t7105\t\n")
    assert only.signature.text == "CD8A 2.5, EPCAM low"
    assert only.skipped == ("HLA-A /// HLA-B", "7105")


def test_sets_of_one_name_stay_apart():
    assert [one.name for one in read_gmt("S\t\tA1\nS\t\tB1\n")] == ["S", "S (2)"]


def test_a_set_of_over_50_genes_is_cut_by_the_caller():
    genes = [f"G{at}" for at in range(80)]
    (large,) = read_gmt("S\t\t" + "\t".join(genes))
    with pytest.raises(QueryError, match=r"S has 80 genes; a query has at most 50. .*head\(50\)"):
        _ = large.signature
    assert large.head(50).signature.genes == tuple(genes[:50])
    assert large.head(100) is large


@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 50))
def test_a_cut_set_keeps_both_directions_and_its_largest_weights(n_high, n_low, n):
    weights = [float(at + 1) for at in range(n_high)] + [-float(at + 1) for at in range(n_low)]
    cells = "\t".join(f"G{at},{weight}" for at, weight in enumerate(weights))
    if not weights:
        return
    (one,) = read_gmt(f"S\t\t{cells}")
    cut = one.head(n)
    assert len(cut.genes) == min(n, len(weights))
    for sign, n_all in ((1, n_high), (-1, n_low)):
        kept = [weight * sign for weight in cut.weights if weight * sign > 0]
        assert bool(kept) == bool(n_all)
        assert sorted(kept) == [float(at + 1) for at in range(n_all)][n_all - len(kept) :]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\x1f\x8b\x08", "gzip file: unpack it first", id="gzip"),
        pytest.param(b"PK\x03\x04xl/", "zip file or a spreadsheet", id="spreadsheet"),
        pytest.param(b"%PDF-1.7", "a PDF", id="pdf"),
        pytest.param(b"<!DOCTYPE html><html>", "a web page", id="html"),
        pytest.param('{"S": ["CD8A"]}', "JSON", id="json"),
        pytest.param(b"\xff\xfeS\x00", "no text in UTF-8", id="utf16"),
        pytest.param("S\t\tCD8A\0", "bytes that are no text", id="nul"),
        pytest.param("", "has no set", id="empty"),
        pytest.param("S\t\tCD8A\nT only\n", "Line 2 of the GMT file is 'T only'", id="line"),
        pytest.param("S\tna\t\t\n", "at least one gene", id="no_genes"),
        pytest.param("S\t\tCD8A,0\n", r"A weight is '0' in line 1", id="weight"),
        pytest.param("S\t\tA\n" * 50_001, "more than 50000 sets", id="sets"),
        pytest.param("S" * 5_000_001, "at most 5 MB", id="size"),
    ],
)
def test_what_is_no_gmt_says_what_it_is(content, says):
    with pytest.raises(QueryError, match=says):
        read_gmt(content)


def test_a_net_becomes_sets_with_weights():
    net = pd.DataFrame(
        {
            "source": ["MYC", "TP53", "MYC"],
            "target": ["NCL", "CDKN1A", "CDKN1A"],
            "weight": [1, 2.5, -0.5],
        }
    )
    sets = gene_sets_from_net(net)
    assert [(one.name, one.signature.text) for one in sets] == [
        ("MYC", "NCL high, CDKN1A -0.5"),
        ("TP53", "CDKN1A 2.5"),
    ]
    assert gene_sets_from_net(net[["source", "target"]])[0].weights == (1.0, 1.0)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        pytest.param(
            {"tf": ["A"], "target": ["B"]},
            "no column source; its columns are tf, target",
            id="column",
        ),  # fmt: skip
        pytest.param({"source": [], "target": []}, "has no line", id="empty"),
        pytest.param(
            {"source": ["A"], "target": ["B"], "weight": [float("nan")]},
            "A weight is nan in row 0",
            id="weight",
        ),  # fmt: skip
    ],
)
def test_a_table_that_is_no_net_says_why(frame, says):
    with pytest.raises(QueryError, match=says):
        gene_sets_from_net(pd.DataFrame(frame))
