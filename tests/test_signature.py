from __future__ import annotations

import csv
import gzip
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import EmptyQueryError, MissingGenesError, QueryError
from stamp_index.genes import COMMON_ALIASES, GeneResolver, Signature, parse_signature

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.from_regex(
    r"[A-Za-z][A-Za-z0-9]{0,6}([.-][A-Za-z0-9]{1,4}){0,2}", fullmatch=True
).filter(lambda name: name.lower() not in ("high", "low"))
WEIGHTS = st.one_of(
    st.sampled_from([1.0, -1.0, 2.0, -0.5]),
    st.floats(0.001, 1000.0),
    st.floats(-1000.0, -0.001),
)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        pytest.param("CD8A high, EPCAM low", {"CD8A": 1, "EPCAM": -1}, id="words"),
        pytest.param("CD8A:high; EPCAM = LOW", {"CD8A": 1, "EPCAM": -1}, id="colon_equals_case"),
        pytest.param("CD8A\nEPCAM -1\r\n", {"CD8A": 1, "EPCAM": -1}, id="lines"),
        pytest.param(
            "CD8A 2, EPCAM=-0.5, MKI67:.25", {"CD8A": 2, "EPCAM": -0.5, "MKI67": 0.25}, id="numbers"
        ),
        pytest.param("+CD8A, -EPCAM", {"CD8A": 1, "EPCAM": -1}, id="prefix"),
        pytest.param("CD8A+, EPCAM-", {"CD8A": 1, "EPCAM": -1}, id="suffix"),
        pytest.param(
            "HLA-DRA low, MT-CO1, RP11-34P13.7 3",
            {"HLA-DRA": -1, "MT-CO1": 1, "RP11-34P13.7": 3},
            id="dashes_and_dots",
        ),
        pytest.param(
            "-HLA-DRA, NKX2-1-, -MT-CO1",
            {"HLA-DRA": -1, "NKX2-1": -1, "MT-CO1": -1},
            id="dashed_names_with_signs",
        ),
        pytest.param("NKX2-1", {"NKX2-1": 1}, id="a_dash_and_digit_belong_to_the_name"),
        pytest.param("7SK high", {"7SK": 1}, id="name_begins_with_digit"),
        pytest.param("CD8A high, CD8A", {"CD8A": 1}, id="same_term_twice"),
        pytest.param(" , ;CD8A,, ", {"CD8A": 1}, id="empty_terms"),
        pytest.param("CD8A 1e-2", {"CD8A": 0.01}, id="exponent"),
    ],
)
def test_every_way_of_writing_a_term_is_read(text: str, weights: dict[str, float]) -> None:
    assert parse_signature(text).weights == weights


def test_high_and_low_keep_their_order() -> None:
    signature = parse_signature("B low, A high, D -2, C 3")
    assert (signature.high, signature.low) == (("A", "C"), ("B", "D"))
    assert signature.text == "B low, A high, D -2, C 3"
    assert hash(signature) == hash(parse_signature(signature.text))


@given(st.dictionaries(NAMES, WEIGHTS, min_size=1, max_size=12))
def test_canonical_text_reads_back_as_the_same_signature(weights: dict[str, float]) -> None:
    folded = {name.casefold(): (name, weight) for name, weight in weights.items()}
    signature = Signature(tuple(folded.values()))
    assert parse_signature(signature.text) == signature


@given(st.text(max_size=80))
def test_any_text_gives_a_signature_or_a_query_error(text: str) -> None:
    try:
        signature = parse_signature(text)
    except QueryError:
        return
    assert parse_signature(signature.text) == signature


@pytest.mark.parametrize("text", ["", "  ", ",;\n", "\t,"])
def test_a_query_without_terms_is_empty(text: str) -> None:
    with pytest.raises(EmptyQueryError, match="names no gene"):
        parse_signature(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "CD8A high, cd8a low",
            r"cd8a is asked for both high and low \(CD8A high, cd8a low\)",
            id="high_and_low",
        ),
        pytest.param(
            "CD8A 2, CD8A 3",
            r"CD8A is asked for with two weights \(CD8A 2, CD8A 3\)",
            id="two_weights",
        ),
        pytest.param("CD8A 0", "weight of CD8A is 0", id="zero"),
        pytest.param("CD8A 1e999", "weight of CD8A is inf", id="infinite"),
        pytest.param("CD8A 0,5", "weight of CD8A is 0", id="decimal_comma"),
        pytest.param("CD8A CD3E", "Cannot read 'CD8A CD3E'", id="no_comma"),
        pytest.param("CD8A medium", "Cannot read 'CD8A medium'", id="unknown_level"),
        pytest.param("- EPCAM", "Cannot read '- EPCAM'", id="list_bullet_is_not_low"),
        pytest.param("+CD8A low", r"Cannot read '\+CD8A low'", id="sign_and_level"),
        pytest.param("+CD8A-", r"Cannot read '\+CD8A-'", id="two_signs"),
        pytest.param("high", "'high' in the query names no gene", id="level_without_gene"),
        pytest.param("CD8A, 42", "'42' is not a gene name", id="number_alone"),
        pytest.param("CD8A=", "Cannot read 'CD8A='", id="nothing_after_equals"),
        pytest.param("<b>CD8A</b>", "Cannot read '<b>CD8A</b>'", id="markup"),
        pytest.param("ＣＤ8Ａ", "Cannot read", id="full_width_letters"),
        pytest.param("x" * 100 + " nonsense", r"Cannot read 'x{57}\.\.\.'", id="long_term_is_cut"),
        pytest.param(", ".join(f"G{i}" for i in range(51)), "51 genes; at most 50", id="too_many"),
        pytest.param("A" * 6000, "6000 characters; at most 5000", id="too_long"),
    ],
)
def test_a_bad_query_is_refused_with_its_value(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_signature(text)


def test_weights_from_python_are_checked_alike() -> None:
    assert Signature.from_weights({"CD8A": 2}).text == "CD8A 2"
    with pytest.raises(QueryError, match="weight of CD8A is nan"):
        Signature.from_weights({"CD8A": float("nan")})
    with pytest.raises(EmptyQueryError, match="names no gene"):
        Signature.from_weights({})


RESOLVER = GeneResolver(
    ["CD8A", "EPCAM", "ERBB2", "MS4A1", "C1orf159"],
    [
        "ENSG00000153563.15",
        "ENSG00000119888",
        "ENSG00000141736",
        "ENSG00000156738",
        "ENSG00000131591",
    ],
    {"HER2": "ERBB2", "CD20": "MS4A1", "ESA": ["EPCAM", "CDH1"], "GONE": "NOT_HERE"},
)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        pytest.param("CD8A", "CD8A", id="symbol"),
        pytest.param("cd8a", "CD8A", id="case"),
        pytest.param("C1ORF159", "C1orf159", id="mixed_case"),
        pytest.param("ENSG00000153563", "CD8A", id="ensembl_id"),
        pytest.param("ENSG00000119888.21", "EPCAM", id="ensembl_id_with_version"),
        pytest.param("ensg00000119888", "EPCAM", id="ensembl_id_in_lower_case"),
        pytest.param("her2", "ERBB2", id="alias"),
    ],
)
def test_every_name_of_a_gene_is_found(name: str, symbol: str) -> None:
    assert RESOLVER.resolve([name]) == {name: symbol}


def test_unknown_genes_are_all_named_with_close_names() -> None:
    with pytest.raises(MissingGenesError) as caught:
        RESOLVER.resolve(["CD8", "EPCAM", "EPCM", "GONE"])
    message = str(caught.value)
    assert message.startswith("3 of 4 genes are not known here (CD8, EPCM, GONE).")
    assert "Close names: CD8A, EPCAM" in message
    assert RESOLVER.resolve(["CD8", "EPCAM"], on_missing="ignore") == {"EPCAM": "EPCAM"}


def test_an_ambiguous_alias_lists_its_meanings() -> None:
    with pytest.raises(QueryError, match="ESA means several genes: EPCAM, CDH1"):
        RESOLVER.resolve(["ESA"])


def test_symbols_that_differ_in_case_only_are_ambiguous_unless_written_exactly() -> None:
    resolver = GeneResolver(["Abc1", "ABC1"])
    assert resolver.resolve(["Abc1", "ABC1"]) == {"Abc1": "Abc1", "ABC1": "ABC1"}
    with pytest.raises(QueryError, match="abc1 means several genes: Abc1, ABC1"):
        resolver.resolve(["abc1"])


def test_a_signature_resolves_to_symbols_and_merges_two_names_of_one_gene() -> None:
    assert (
        parse_signature("HER2 high, erbb2 high, cd8a low").resolve(RESOLVER).text
        == "ERBB2 high, CD8A low"
    )
    with pytest.raises(QueryError, match="ERBB2 is asked for both high and low"):
        parse_signature("HER2 high, ERBB2 low").resolve(RESOLVER)
    with pytest.raises(
        EmptyQueryError, match=re.escape("Nothing is left of the query 'XYZ9 high'")
    ):
        parse_signature("XYZ9").resolve(RESOLVER, on_missing="ignore")


def test_a_resolver_with_too_few_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="1 gene ids were given for 2 genes"):
        GeneResolver(["A", "B"], ["ENSG00000153563"])


def test_names_of_proteins_are_understood_unless_a_symbol_is_meant() -> None:
    resolver = GeneResolver(["ERBB2", "MKI67", "CD274", "P53"])
    asked = ["HER2", "Ki-67", "pd-l1", "P53"]
    assert list(resolver.resolve(asked).values()) == ["ERBB2", "MKI67", "CD274", "P53"]
    with pytest.raises(MissingGenesError, match=r"1 of 1 genes are not known here \(HER2\)"):
        GeneResolver(["ERBB2"], aliases={}).resolve(["HER2"])


def test_common_names_have_one_approved_meaning(shared_data: Path) -> None:
    meanings: dict[str, set[str]] = {}
    with gzip.open(shared_data / "gene_reference/hgnc_symbol_aliases.tsv.gz", "rt") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            meanings.setdefault(row["Symbol"].upper(), set()).add(row["Approved.Symbol"])
    for alias, symbol in COMMON_ALIASES.items():
        assert symbol in meanings[symbol]
        assert meanings.get(alias, {symbol}) == {symbol}


def test_an_alias_means_the_symbol_as_it_is_written_where_mouse_and_human_genes_are_known():
    resolver = GeneResolver(["ERBB2", "Erbb2", "MS4A1", "Ms4a1", "CD274", "Cd274"])
    names = ["HER2", "CD20", "PD-L1"]
    assert list(resolver.resolve(names).values()) == ["ERBB2", "MS4A1", "CD274"]
    with pytest.raises(QueryError, match="erbb2 means several genes: ERBB2, Erbb2"):
        resolver.resolve(["erbb2"])
    assert GeneResolver(["Erbb2"]).resolve(["HER2"]) == {"HER2": "Erbb2"}
