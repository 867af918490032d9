from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import PanelError
from stamp_index.genes import COMMON_ALIASES, GeneCompleter, GeneReference, GeneResolver

PATHOLOGY = ("CD8A", "CD8B", "EPCAM", "ERBB2", "MS4A1", "MKI67", "VIM", "GAPDH", "TP53", "KRT1")
N_GENES = 36_601  # of the 10x reference GRCh38-2020-A


def _many_genes() -> list[str]:
    """Symbols of the reference, and some that no reference knows."""
    known = GeneReference.load().human.symbols
    genes = dict.fromkeys([*PATHOLOGY, *known[: N_GENES - 200]])
    invented = (f"NOVEL{at}.1" for at in range(1000))
    return [*genes, *invented][:N_GENES]


@pytest.fixture(scope="module")
def genes() -> list[str]:
    return _many_genes()


@pytest.fixture(scope="module")
def completer(genes) -> GeneCompleter:
    measured = set(genes) - {"EPCAM"}
    return GeneCompleter(genes, species="human", measured=measured)


def _symbols(completions) -> list[str]:
    return [one.symbol for one in completions]


def test_a_symbol_comes_first_in_any_case_and_is_no_alias(completer):
    for text in ("CD8A", "cd8a", "  Cd8A "):
        first = completer.complete(text)[0]
        assert (first.symbol, first.matched, first.kind, first.note) == (
            "CD8A",
            "CD8A",
            "symbol",
            "",
        )


def test_short_symbols_come_before_long_ones_and_letters_before_a_longer_number(completer):
    assert _symbols(completer.complete("CD8"))[:3] == ["CD8A", "CD8B", "CD8B2"]
    offered = [one.symbol for one in completer.complete("EPC") if one.kind == "symbol"]
    beginning = [symbol for symbol in offered if symbol.startswith("EPC")]
    assert beginning == sorted(beginning, key=lambda symbol: (len(symbol), symbol))
    assert offered[: len(beginning)] == beginning


@pytest.mark.parametrize(
    ("text", "symbol", "matched"),
    [
        pytest.param("her2", "ERBB2", "HER2", id="protein"),
        pytest.param("ki-67", "MKI67", "KI-67", id="protein_with_a_dash"),
        pytest.param("CD20", "MS4A1", "CD20", id="cluster_of_differentiation"),
        pytest.param("Neu", "ERBB2", "NEU", id="alias_of_the_reference"),
    ],
)
def test_other_names_say_which_gene_they_mean(completer, text, symbol, matched):
    found = completer.complete(text)
    alias = next(one for one in found if one.symbol == symbol)
    assert (alias.matched.casefold(), alias.kind) == (matched.casefold(), "alias")
    assert alias.note.startswith(f"{alias.matched} -> {symbol}")


def test_the_beginning_of_a_common_name_is_offered_beside_many_symbols(completer):
    found = completer.complete("HER", limit=12)
    assert len(found) == 12
    assert "ERBB2" in _symbols(found)
    assert found[0].symbol.startswith("HER")


def test_a_previous_symbol_and_an_ensembl_id_find_the_gene(completer):
    table = GeneReference.load().human
    row = table.row_of["CIP2A"]
    small = GeneCompleter(["CIP2A", "CD8A"], ["", "ENSG00000153563.11"], species="human")
    previous = table.previous(row)[0]
    assert [(c.symbol, c.kind) for c in small.complete(previous)][:1] == [("CIP2A", "previous")]
    for text in ("ENSG00000153563", "ensg00000153563.4", "ENSG000001535"):
        (only,) = small.complete(text)
        assert (only.symbol, only.kind) == ("CD8A", "ensembl")
    assert completer.complete("ENSG00000141736")[0].symbol == "ERBB2"


def test_a_store_with_old_names_is_found_by_the_new_ones():
    old = GeneReference.load().human.previous(GeneReference.load().human.row_of["CIP2A"])[0]
    (only,) = GeneCompleter([old, "CD8A"], species="human").complete("CIP2A")
    assert (only.symbol, only.matched) == (old, "CIP2A")


def test_parts_of_names_are_found_after_their_beginnings(completer):
    found = _symbols(completer.complete("PCAM"))
    assert "EPCAM" in found
    assert all("did you mean" not in one.note for one in completer.complete("PCAM"))


@pytest.mark.parametrize(
    ("typed", "meant"), [("EPCMA", "EPCAM"), ("GAPHD", "GAPDH"), ("VIMENTN", "VIM")]
)
def test_a_mistyped_name_is_asked_about(completer, typed, meant):
    found = completer.complete(typed)
    assert found[0].symbol == meant
    assert all(one.note.startswith("did you mean") for one in found)


def test_a_protein_of_several_genes_is_never_taken_for_one(completer):
    assert all(one.matched.casefold() not in ("cd8", "cd3") for one in completer.complete("CD8"))


def test_each_completion_says_whether_it_is_measured(completer):
    assert completer.complete("EPCAM")[0].measured is False
    assert completer.complete("CD8A")[0].measured is True
    assert GeneCompleter(["EPCAM"], species="human").complete("epc")[0].measured is True


@pytest.mark.parametrize("text", ["", "   ", "x" * 61, "\n", "§§", "<b>"])
def test_nothing_is_offered_for_nothing_and_for_nonsense(completer, text):
    assert completer.complete(text) == []


def test_wrong_arguments_are_refused(completer):
    with pytest.raises(ValueError, match="limit is 0"):
        completer.complete("CD8", 0)
    with pytest.raises(ValueError, match="1 gene ids were given for 2 genes"):
        GeneCompleter(["A", "B"], ["ENSG00000000001"])
    with pytest.raises(PanelError, match="zebrafish"):
        GeneCompleter(["A"], species="zebrafish").complete("A")


def test_a_completer_of_no_genes_offers_nothing():
    assert GeneCompleter([]).complete("CD8") == []


def test_the_first_words_of_a_mouse_store_are_mouse_genes():
    mouse = GeneReference.load().mouse.symbols[:500]
    found = GeneCompleter([*mouse, "Cd8a", "Epcam"]).complete("cd8")
    assert found[0].symbol == "Cd8a"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_offered_agrees_with_a_slow_search_of_the_symbols(completer, genes, data):
    gene = data.draw(st.sampled_from(genes[:3000]))
    begin = data.draw(st.integers(0, len(gene) - 1))
    text = gene[begin : data.draw(st.integers(begin + 1, len(gene)))]
    found, known = completer.complete(text, 12), set(genes)
    assert len({one.symbol for one in found}) == len(found) <= 12
    assert found == completer.complete(text.lower(), 12)
    key = text.casefold()
    exact = [symbol for symbol in genes if symbol.casefold() == key]
    assert [one.symbol for one in found[: len(exact)]] == exact
    by_other_name = {one.symbol for one in found if one.kind != "symbol"}
    n_exact = sum(one.matched.casefold() == key for one in found)
    begins = {symbol for symbol in genes if symbol.casefold().startswith(key)} - by_other_name
    offered = begins.intersection(one.symbol for one in found)
    assert len(offered) >= min(len(begins), 12 - 12 // 4 - n_exact)
    if offered:  # and they are the short ones, but that a longer number comes last
        longest = max(map(len, offered))
        left_out = {symbol for symbol in begins - offered if not symbol[len(key) :][:1].isdigit()}
        assert all(len(symbol) >= longest for symbol in left_out) or key[-1].isdigit()
    for one in found:
        assert one.symbol in known
        assert key in one.matched.casefold() or one.note.startswith("did you mean")


def test_every_common_name_leads_where_the_resolver_leads(genes):
    known = [*genes, *COMMON_ALIASES.values()]
    completer, resolver = GeneCompleter(known, species="human"), GeneResolver(known)
    for alias in COMMON_ALIASES:
        assert completer.complete(alias)[0].symbol == resolver.resolve([alias])[alias]
