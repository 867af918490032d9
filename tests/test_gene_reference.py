from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import MissingGenesError, PanelError, QueryError
from stamp_index.genes import COMMON_ALIASES, GeneResolver
from stamp_index.genes.reference import GeneReference, species_of, without_version
from stamp_index.genes.reference.build import build
from stamp_index.genes.reference.mangled import names_before
from stamp_index.genes.reference.table import SpeciesTable
from tests.gene_files import CUSTOM, DAY, HOMOLOGY, small_reference, write_sources

if TYPE_CHECKING:
    from stamp_index.genes.reference import How


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> GeneReference:
    return small_reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def packaged() -> GeneReference:
    return GeneReference.load()


@pytest.mark.parametrize(
    ("name", "how", "symbol", "candidates"),
    [
        pytest.param("ERBB2", "symbol", "ERBB2", ("ERBB2",), id="symbol"),
        pytest.param("erbb2", "case", "ERBB2", ("ERBB2",), id="case"),
        pytest.param("C1ORF112", "case", "C1orf112", ("C1orf112",), id="orf"),
        pytest.param("FAM175A", "previous", "ABRAXAS1", ("ABRAXAS1",), id="previous"),
        pytest.param("fam175a", "previous", "ABRAXAS1", ("ABRAXAS1",), id="previous_in_lower_case"),
        pytest.param("HER2", "alias", "ERBB2", ("ERBB2",), id="alias"),
        pytest.param("ENSG00000141736", "ensembl", "ERBB2", ("ERBB2",), id="id"),
        pytest.param("ensg00000141736.12", "ensembl", "ERBB2", ("ERBB2",), id="id_with_version"),
        pytest.param("ENSG00000999999", "ensembl", "ERBB2", ("ERBB2",), id="older_id"),
        pytest.param("ENSG00000000009", "unknown", None, (), id="unknown_id"),
        pytest.param("AL627309.1", "symbol", "AL627309.1", ("AL627309.1",), id="of_an_annotation"),
        pytest.param("AP001.1", "alias", "AK4", ("AK4",), id="older_name_of_an_id"),
        pytest.param("AK3", "symbol", "AK3", ("AK3", "AK4"), id="symbol_that_was_another_genes"),
        pytest.param("MLL2", "previous", "KMT2D", ("KMT2D", "KMT2B"), id="previous_before_alias"),
        pytest.param("MLL4", "ambiguous", None, ("KMT2B", "KMT2D"), id="two_aliases"),
        pytest.param("MARCH1", "previous", "MARCHF1", ("MARCHF1",), id="march"),
        pytest.param("1-Mar", "mangled", None, ("MARCHF1", "MTARC1"), id="a_date"),
        pytest.param("OLD1", "unknown", None, (), id="withdrawn"),
        pytest.param(" ", "unknown", None, (), id="blank"),
    ],
)
def test_a_name_is_found_in_the_first_tier_that_knows_it(
    small: GeneReference, name: str, how: How, symbol: str | None, candidates: tuple[str, ...]
) -> None:
    match = small.resolve(name)
    assert (match.how, match.symbol, match.candidates) == (how, symbol, candidates)


def test_an_id_that_is_known_decides_against_the_name(small: GeneReference) -> None:
    match = small.resolve("AK3", gene_id="ENSG00000162433.2")
    assert (match.symbol, match.how) == ("AK4", "ensembl")
    assert small.resolve("AK3", gene_id="ENSG00000000009").symbol == "AK3"


@pytest.mark.parametrize(
    ("name", "before"),
    [
        pytest.param("1-Mar", ("MARCH1", "MARC1", "MAR1"), id="day_first"),
        pytest.param("Sep-02", ("SEPT2", "SEP2"), id="month_first"),
        pytest.param("2-Sep-06", ("SEPT2", "SEP2"), id="with_a_year"),
        pytest.param("2006-12-01", ("DEC1",), id="numbers"),
        pytest.param("2006-13-01", (), id="no_month"),
        pytest.param("MARCH1", (), id="a_symbol"),
        pytest.param("NKX2-1", (), id="a_symbol_with_a_dash"),
    ],
)
def test_dates_are_told_from_symbols(name: str, before: tuple[str, ...]) -> None:
    assert names_before(name) == before


def test_orthologs_are_one_to_one_or_listed(small: GeneReference) -> None:
    assert small.ortholog("Erbb2", "mouse") == "ERBB2"
    assert small.ortholog("ERBB2", "human") == "Erbb2"
    assert small.ortholog("Hsd3b1", "mouse") is None
    assert small.orthologs("HSD3B1", "human") == ("Hsd3b1", "Hsd3b2")
    assert small.ortholog("C2", "mouse") is None
    assert small.ortholog("C2", "mouse", how="by_name") == "C2"
    assert small.ortholog("Hsd3b1", "mouse", how="by_name") == "HSD3B1"
    assert small.ortholog("Xist", "mouse", how="by_name") is None


def test_homology_classes_take_the_place_of_hgncs_orthologs(tmp_path: Path) -> None:
    (tmp_path / "HOM.rpt").write_text(HOMOLOGY)
    sources = replace(write_sources(tmp_path), homology=tmp_path / "HOM.rpt")
    facts = build(tmp_path / "built", sources, day=DAY)
    reference = GeneReference.load(tmp_path / "built")
    assert facts["orthologs"] == "homology"
    assert reference.ortholog("C2", "mouse") == "C2"
    assert reference.ortholog("Ak3", "mouse") is None


def test_a_custom_download_of_hgnc_is_read_alike(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    sources.hgnc.write_text(CUSTOM)
    build(tmp_path / "built", sources, day=DAY)
    reference = GeneReference.load(tmp_path / "built")
    assert [reference.resolve(name).symbol for name in ("NGL", "HER-2")] == ["ERBB2", "ERBB2"]
    assert reference.ortholog("Erbb2", "mouse") == "ERBB2"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path / "a", write_sources(tmp_path), day=DAY)
    arguments = ["--hgnc", "hgnc_complete_set.txt", "--mgi", "mgi.tsv", "--annotation"]
    command = [sys.executable, "-m", "stamp_index.genes.reference.build", *arguments]
    command += ["features.tsv.gz", "--date", DAY.isoformat(), "--out", "b"]
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run(
        command, cwd=tmp_path, check=True, env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    )
    for name in ("human.tsv.gz", "mouse.tsv.gz", "reference.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_counts_and_sources_stand_beside_the_table(small: GeneReference) -> None:
    human = small.facts["counts"]["human"]
    assert (human["genes"], human["with_one_to_one_ortholog"]) == (14, 7)
    assert human["genes_of_annotations"] == human["ids_of_annotations"] == 1
    assert human["left_out_of_annotations"] == 1  # FAM175A is a name of ABRAXAS1, its id is another
    assert small.facts["counts"]["mouse"]["genes"] == 11  # not the locus without an id
    assert [source["file"] for source in small.facts["sources"]][:2] == [
        "hgnc_complete_set.txt",
        "mgi.tsv",
    ]
    assert small.date == "2024-07-23"


def test_an_id_that_two_genes_claim_is_no_ones(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    with sources.mgi.open("a") as stream:
        stream.write("5\tAk9\t\tENSMUSG00000024782\n4\tAk8\t\tENSMUSG00000026807\n")
    build(tmp_path / "built", sources, day=DAY)
    reference = GeneReference.load(tmp_path / "built")
    assert reference.resolve("ENSMUSG00000024782", "mouse").how == "unknown"
    assert reference.resolve("Ak3", "mouse", gene_id="ENSMUSG00000024782").symbol == "Ak3"
    assert reference.resolve("ENSMUSG00000026807", "mouse").symbol == "Ak8"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    sources.mgi.write_text("ID\tname\n1\tErbb2\n")
    with pytest.raises(PanelError, match="has no column symbol; its columns are ID, name"):
        build(tmp_path / "built", sources, day=DAY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("reference.json", b"{}", "is not a gene reference of format 1", id="format"),
        pytest.param("reference.json", b"{", "cannot be read", id="json"),
        pytest.param("human.tsv.gz", b"no gzip", "cannot be read", id="no_gzip"),
        pytest.param(
            "human.tsv.gz", gzip.compress(b"a\tb\n"), "has the columns symbol", id="columns"
        ),
    ],
)
def test_a_damaged_reference_is_refused(tmp_path, name, content, message) -> None:
    small_reference(tmp_path)
    (tmp_path / "built" / name).write_bytes(content)
    reference = GeneReference(tmp_path / "built")
    with pytest.raises(PanelError, match=message):
        str((reference.date, reference.human))


def test_a_symbol_that_stands_twice_is_refused() -> None:
    with pytest.raises(PanelError, match="1 symbols of a gene table stand twice"):
        SpeciesTable("symbol\tids\tprevious\taliases\torthologs\nA\t\t\t\t\nA\t\t\t\t\n")


def test_another_species_is_refused(small: GeneReference) -> None:
    with pytest.raises(PanelError, match="species is 'rat'"):
        small.resolve("Erbb2", "rat")


def test_ids_and_names_must_be_as_many(small: GeneReference) -> None:
    with pytest.raises(ValueError, match="1 gene ids were given for 2 genes"):
        small.resolve_all(["A", "B"], ["ENSG00000141736"], species="human")


@pytest.mark.parametrize(
    ("genes", "ids", "species"),
    [
        pytest.param(["A"], ["ENSMUSG00000062312"], "mouse", id="ids"),
        pytest.param(["ENSG00000141736.3"], [], "human", id="names_that_are_ids"),
        pytest.param(["A", "B"], ["ENSG00000141736", "ENSMUSG00000062312"], "", id="two_species"),
        pytest.param(["A"], ["ENSDARG00000062312"], "", id="a_fish"),
        pytest.param(["ERBB2", "AK3", "G1"], [], "human", id="human_symbols"),
        pytest.param(["Erbb2", "Ak3", "C3"], [], "mouse", id="mouse_symbols"),
        pytest.param(["C3"], [], "", id="a_symbol_of_both"),
        pytest.param(["G1", "G2"], [], "", id="no_symbols"),
        pytest.param([], [], "", id="nothing"),
    ],
)
def test_the_species_is_told_by_ids_or_symbols(small, genes, ids, species) -> None:
    assert species_of(genes, ids, reference=small) == species


def test_the_packaged_reference_is_consistent(packaged: GeneReference) -> None:
    sizes = [path.stat().st_size for path in packaged.folder.iterdir()]
    assert sum(sizes) < 1_500_000
    for species, least in (("human", 43_000), ("mouse", 50_000)):
        table, counts = packaged.table(species), packaged.facts["counts"][species]
        assert len(table) == counts["genes"] > least
        prefix = {"human": "ENSG", "mouse": "ENSMUSG"}[species]
        ids = [gene_id for row in range(len(table)) for gene_id in table.ids(row)]
        assert len(ids) == len(set(ids))
        assert all(without_version(gene_id) == gene_id for gene_id in ids)
        assert {gene_id.rstrip("0123456789") for gene_id in ids} == {prefix}
        for row, symbol in enumerate(table.symbols):
            assert symbol == symbol.strip() != ""
            for other in table.previous(row):
                found = table.match(other)
                assert symbol in found.candidates, (
                    "a previous symbol leads to its gene, or is flagged"
                )


def test_orthologs_are_named_on_both_sides(packaged: GeneReference) -> None:
    human, mouse = packaged.human, packaged.mouse
    for here, there in ((human, mouse), (mouse, human)):
        for symbol in here.symbols:
            assert all(symbol in there.orthologs(partner) for partner in here.orthologs(symbol))
    one = [symbol for symbol in mouse.symbols if packaged.ortholog(symbol, "mouse")]
    assert len(one) == packaged.facts["counts"]["mouse"]["with_one_to_one_ortholog"] > 16_000


def test_packaged_names_of_renamed_genes_lead_to_their_symbols(packaged: GeneReference) -> None:
    asked = {
        "PD-L1": "CD274",
        "HER2": "ERBB2",
        "FAM175A": "ABRAXAS1",
        "MLL2": "KMT2D",
        "SEPT2": "SEPTIN2",
    }
    assert {name: packaged.resolve(name).symbol for name in asked} == asked
    assert packaged.resolve("2-Sep").candidates[0] == "SEPTIN2"
    assert packaged.ortholog("Trp53", "mouse") == "TP53"
    assert packaged.ortholog("Trp53", "mouse", how="by_name") is None


def test_common_aliases_do_not_contradict_the_reference(packaged: GeneReference) -> None:
    for alias, symbol in COMMON_ALIASES.items():
        assert packaged.resolve(symbol).how == "symbol"
        found = packaged.resolve(alias)
        assert found.how == "unknown" or symbol in found.candidates


@given(st.text(max_size=20), st.sampled_from(["", "ENSG00000141736", "x"]))
def test_any_text_gives_a_match(packaged: GeneReference, name: str, gene_id: str) -> None:
    match = packaged.resolve(name, gene_id=gene_id)
    assert match.name == name
    assert (match.symbol is None) == (match.how in ("ambiguous", "mangled", "unknown"))
    assert match.symbol is None or match.candidates[0] == match.symbol


@pytest.mark.parametrize(
    ("known", "asked", "found"),
    [
        pytest.param("ABRAXAS1", "FAM175A", "ABRAXAS1", id="previous_name_of_a_current_symbol"),
        pytest.param("FAM175A", "ABRAXAS1", "FAM175A", id="current_name_of_an_old_symbol"),
        pytest.param("FAM175A", "CCDC98", "FAM175A", id="one_old_name_for_another"),
        pytest.param("CD274", "B7-H1", "CD274", id="alias"),
        pytest.param("FAM175A", "ENSG00000163322", "FAM175A", id="id_that_the_store_lacks"),
    ],
)
def test_queries_know_what_the_reference_knows(known: str, asked: str, found: str) -> None:
    assert GeneResolver([known, "KRT8", "EPCAM"]).resolve([asked]) == {asked: found}


def test_a_query_by_a_mouse_synonym_finds_the_mouse_gene() -> None:
    resolver = GeneResolver(["Abraxas1", "Krt8"], ["ENSMUSG00000035234", "ENSMUSG00000049382"])
    assert resolver.resolve(["Fam175a", "krt8"]) == {"Fam175a": "Abraxas1", "krt8": "Krt8"}


def test_a_query_by_an_ambiguous_alias_lists_its_meanings() -> None:
    resolver = GeneResolver(["KMT2B", "KRT8", "EPCAM"])
    with pytest.raises(QueryError, match="MLL4 means several genes: KMT2B, KMT2D"):
        resolver.resolve(["MLL4"])
    with pytest.raises(MissingGenesError, match="MLL4"):
        GeneResolver(["KRT8", "EPCAM"]).resolve(["MLL4"])


def test_proteins_of_several_genes_are_left_to_close_names() -> None:
    with pytest.raises(MissingGenesError, match=r"\(CD8\).*CD8A, CD8B"):
        GeneResolver(["CD8A", "CD8B", "KRT8"]).resolve(["CD8"])


def test_given_aliases_keep_the_reference_out() -> None:
    with pytest.raises(MissingGenesError, match="FAM175A"):
        GeneResolver(["ABRAXAS1", "KRT8"], aliases={}).resolve(["FAM175A"])


def test_importing_genes_does_not_read_the_reference() -> None:
    code = (
        "from stamp_index.genes.reference import GeneReference; r = GeneReference.load(); "
        "from stamp_index.genes import GeneResolver; GeneResolver(['CD8A']).resolve(['cd8a']); "
        "raise SystemExit('human' in vars(r) or 'mouse' in vars(r) or 'facts' in vars(r))"
    )
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0
