from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingGenesError, PanelError
from stamp_index.genes import GenePanel
from stamp_index.genes.covering import coverage, require_coverage
from stamp_index.genes.matching import match_to_panel
from stamp_index.readers import validate
from stamp_index.readers.gene_names import for_panel, harmonise
from stamp_index.slides import Slide
from tests.gene_files import small_reference

if TYPE_CHECKING:
    from stamp_index.genes.reference import GeneReference


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> GeneReference:
    return small_reference(tmp_path_factory.mktemp("reference"))


def make_slide(genes, gene_ids=(), species: str = "human", seed: int = 0) -> Slide:
    """Four spots with random counts of 1 to 8."""
    counts = np.random.default_rng(seed).integers(1, 9, (4, len(genes))).astype(np.float32)
    spots = pd.DataFrame({"x_px": np.arange(4.0), "y_px": 0.0}, index=list("abcd"))
    return Slide(
        "s",
        spots,
        csr_matrix(counts),
        tuple(genes),
        None,
        None,
        55.0,
        gene_ids=tuple(gene_ids),
        species=species,
    )


def column(slide: Slide, gene: str) -> list[float]:
    return slide.counts.toarray()[:, slide.genes.index(gene)].tolist()


@pytest.mark.parametrize(
    ("gene", "panel", "fate"),
    [
        pytest.param("ERBB2", "ERBB2", "unchanged", id="the_same"),
        pytest.param("FAM175A", "FAM175A", "unchanged", id="the_same_old_name"),
        pytest.param("ABRAXAS1", "FAM175A", "previous", id="panel_is_older"),
        pytest.param("FAM175A", "ABRAXAS1", "previous", id="slide_is_older"),
        pytest.param("CCDC98", "FAM175A", "previous", id="two_old_names"),
        pytest.param("HER2", "ERBB2", "alias", id="alias"),
        pytest.param("erbb2", "ERBB2", "case", id="case"),
        pytest.param("ENSG00000141736.4", "ERBB2", "ensembl", id="slide_has_ids"),
        pytest.param("NGL", "ENSG00000141736", "ensembl", id="panel_has_ids"),
        pytest.param("MYGENE", "MYGENE", "unchanged", id="unknown_but_the_same"),
        pytest.param("MLL4", "MLL4", "unchanged", id="ambiguous_but_the_same"),
    ],
)
def test_a_gene_gets_the_panels_name(
    small: GeneReference, gene: str, panel: str, fate: str
) -> None:
    matched = match_to_panel([gene, "AK3"], panel=[panel, "C3"], species="human", reference=small)
    assert matched.names == (panel, "AK3")
    assert matched.report.fates[fate] == ((gene, panel),)


@pytest.mark.parametrize(
    ("gene", "fate"),
    [
        pytest.param("AK3", "outside", id="not_in_the_panel"),
        pytest.param("MLL4", "ambiguous", id="ambiguous"),
        pytest.param("1-Mar", "mangled", id="a_date"),
        pytest.param("MYGENE", "unknown", id="unknown"),
    ],
)
def test_a_gene_that_is_not_clearly_in_the_panel_keeps_its_name(
    small: GeneReference, gene: str, fate: str
) -> None:
    panel = ["KMT2D", "MARCHF1", "ERBB2"]
    matched = match_to_panel([gene], panel=panel, species="human", reference=small)
    assert (matched.names, matched.gene_ids[0]) == (
        (gene,),
        "ENSG00000147853" if gene == "AK3" else "",
    )
    assert matched.report.counts[fate] == 1


def test_an_id_tells_which_gene_an_old_symbol_is(small: GeneReference) -> None:
    ids = ["ENSG00000162433.1", "ENSG00000147853"]
    matched = match_to_panel(["AK3", "AK6"], ids, species="human", reference=small)
    assert matched.names == ("AK4", "AK3")
    assert matched.gene_ids == ("ENSG00000162433", "ENSG00000147853")
    kept = match_to_panel(["AK3"], ids[:1], panel=["AK3"], species="human", reference=small)
    assert kept.names == ("AK3",)
    assert kept.report.counts["contradicting"] == 1


@pytest.mark.parametrize(
    ("genes", "names", "clashing"),
    [
        pytest.param(["ERBB2", "NGL"], ["ERBB2", "NGL"], 1, id="previous_beside_the_symbol"),
        pytest.param(["erbb2", "ERBB2"], ["erbb2", "ERBB2"], 1, id="case_beside_the_symbol"),
        pytest.param(["HER2", "NGL"], ["HER2", "ERBB2"], 1, id="previous_before_alias"),
        pytest.param(["HER2", "NEU"], ["HER2", "NEU"], 2, id="two_aliases"),
        pytest.param(["ENSG00000141736", "HER2"], ["ERBB2", "HER2"], 1, id="alias_beside_the_id"),
    ],
)
def test_two_names_in_one_slide_are_two_genes(small, genes, names, clashing) -> None:
    matched = match_to_panel(genes, species="human", reference=small)
    assert list(matched.names) == names
    assert matched.report.counts["clashing"] == clashing


def test_the_surer_of_two_names_gets_the_panels_name(small: GeneReference) -> None:
    matched = match_to_panel(["NGL", "ERBB2"], panel=["HER2"], species="human", reference=small)
    assert matched.names == ("NGL", "HER2")
    matched = match_to_panel(["HER2", "ERBB2"], panel=["HER2"], species="human", reference=small)
    assert matched.names == ("HER2", "ERBB2")


def test_columns_of_one_gene_are_summed(small: GeneReference) -> None:
    slide = make_slide(["ERBB2", "ENSG00000141736.2", "ENSG00000999999", "AK3"])
    out, report = harmonise(slide, reference=small)
    assert out.genes == ("ERBB2", "AK3")
    assert slide.counts.nnz == 4 * 4, "the slide itself stays as it was"
    assert column(out, "ERBB2") == slide.counts.toarray()[:, :3].sum(axis=1).tolist()
    assert report.summed == {"ERBB2": ("ERBB2", "ENSG00000141736.2", "ENSG00000999999")}
    assert out.gene_ids == ("ENSG00000141736", "ENSG00000147853")
    assert out.notes == (
        "2 of 4 genes were renamed (2 by ensembl); 3 columns were summed into 1 (gene reference of 2024-07-23).",
    )
    assert validate(out).genes == out.genes


def test_orthologs_are_a_choice(small: GeneReference) -> None:
    panel = GenePanel(("ERBB2", "C2", "C3", "HSD3B1"), (1.0,) * 4)
    slide = make_slide(["Erbb2", "C2", "Neu2", "Hsd3b1", "C3"], species="mouse")
    with pytest.raises(MissingGenesError, match=r"are mouse, the panel's human: orthologs='table'"):
        for_panel(slide, panel, min_coverage=0.6, reference=small)
    by_table, report = for_panel(slide, panel, orthologs="table", reference=small)
    assert by_table.genes == ("ERBB2", "C2 (mouse)", "Neu2", "Hsd3b1", "C3")
    assert by_table.gene_ids[:2] == ("ENSG00000141736", "")
    counts = {fate: n for fate, n in report.counts.items() if n}
    assert counts == {"ortholog": 2, "several_orthologs": 1, "no_ortholog": 1, "unknown": 1}
    by_name, report = for_panel(slide, panel, orthologs="by_name", reference=small)
    assert by_name.genes == ("ERBB2", "C2", "Neu2", "HSD3B1", "C3")
    assert report.coverage is not None
    assert report.coverage.share == 1.0


def test_human_genes_are_found_in_a_mouse_panel(small: GeneReference) -> None:
    panel = GenePanel(("Erbb2", "Fam175a"), (1.0, 1.0), "mouse")
    out, _ = for_panel(make_slide(["NGL", "ABRAXAS1"]), panel, orthologs="table", reference=small)
    assert out.genes == ("Erbb2", "Fam175a")


def test_a_slide_that_measures_too_little_is_refused(small: GeneReference) -> None:
    slide = make_slide(["FAM175A", "MYGENE"])
    panel = ["ABRAXAS1", "ERBB2", "AK3"]
    with pytest.raises(
        MissingGenesError,
        match=r"Slide s measures 1 of the panel's 3 genes \(33.3%\), of 2 genes in all; at least 50% are "
        r"needed. Missing: ERBB2, AK3. .* min_coverage=0.33",
    ):
        for_panel(slide, panel, reference=small)
    out, report = for_panel(slide, panel, min_coverage=0.33, reference=small)
    assert out.genes == ("ABRAXAS1", "MYGENE")
    assert report.coverage == coverage(out.genes, panel)


def test_what_fits_by_name_fits_where_no_species_can_be_told(small: GeneReference) -> None:
    slide = make_slide(["G1", "G2", "G3"], species="")
    out, report = for_panel(slide, GenePanel(("G1", "G3"), (1.0, 1.0)), reference=small)
    assert (out.genes, out.notes, report.counts["unchanged"]) == (slide.genes, (), 2)
    rat = make_slide(["G1"], species="rat")
    assert for_panel(rat, GenePanel(("G1",), (1.0,)), reference=small)[0].genes == ("G1",)


def test_latin_names_of_species_are_understood(small: GeneReference) -> None:
    out, _ = harmonise(make_slide(["Fam175a"], species="Mus musculus"), reference=small)
    assert out.genes == ("Abraxas1",)


@pytest.mark.parametrize(
    ("species", "options", "message"),
    [
        pytest.param("rat", {}, "species is 'rat'", id="unknown_species"),
        pytest.param("", {}, "species is ''", id="no_species"),
        pytest.param("human", {"orthologs": "table"}, "both sides are human", id="one_species"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(small, species, options, message) -> None:
    with pytest.raises(PanelError, match=message):
        harmonise(make_slide(["G1"], species=species), reference=small, **options)


def test_words_and_shares_are_checked(small: GeneReference) -> None:
    with pytest.raises(ValueError, match="orthologs is 'guess'"):
        match_to_panel(
            ["A"], species="mouse", panel_species="human", orthologs="guess", reference=small
        )
    with pytest.raises(ValueError, match="min_coverage is 50"):
        require_coverage(["A"], ["A"], 50)
    with pytest.raises(ValueError, match="panel is empty"):
        coverage(["A"], [])


def test_the_report_speaks_in_plain_lines_and_json(small: GeneReference) -> None:
    genes = ["ERBB2", "ENSG00000141736", "FAM175A", "1-Mar", "MLL4", "MYGENE", "HER2"]
    _, report = for_panel(make_slide(genes), ["ERBB2", "ABRAXAS1"], reference=small)
    assert str(report).splitlines() == [
        "7 human genes; gene reference of 2024-07-23",
        "  1 had the right name",
        "  1 were renamed by their Ensembl id: ENSG00000141736 to ERBB2",
        "  1 were renamed from or to a previous symbol: FAM175A to ABRAXAS1",
        "  1 have a name that several genes have or had, and keep it: MLL4 (KMT2B or KMT2D)",
        "  1 have a date for a name, and keep it: 1-Mar (MARCHF1 or MTARC1)",
        "  1 have an old or other name of a gene that stands here already, and keep it: HER2",
        "  1 are not in the reference, and keep their name: MYGENE",
        "  1 stood in several columns, now summed: ERBB2 of ERBB2 and ENSG00000141736",
        "  2 of the panel's 2 genes (100.0%) are measured",
    ]
    assert report.renamed == {"ENSG00000141736": "ERBB2", "FAM175A": "ABRAXAS1"}
    fields = json.loads(json.dumps(report.to_dict()))
    assert fields["counts"]["clashing"] == 1
    assert fields["candidates"] == {"1-Mar": ["MARCHF1", "MTARC1"], "MLL4": ["KMT2B", "KMT2D"]}
    assert fields["coverage"] == {"n_panel": 2, "n_found": 2, "share": 1.0, "missing": []}


NAMES = st.sampled_from(
    [
        "ERBB2",
        "NGL",
        "HER2",
        "erbb2",
        "NEU",
        "ENSG00000141736",
        "ENSG00000141736.2",
        "ENSG00000999999",
    ]
    + ["AK3", "AK4", "AK6", "AK3L1", "AP001.1", "MLL2", "MLL4", "KMT2B", "KMT2D", "1-Mar", "MARCH1"]
    + [
        "Erbb2",
        "C2",
        "C3",
        "Hsd3b1",
        "HSD3B1",
        "Fam175a",
        "ABRAXAS1",
        "Mll2",
        "X",
        "C2 (mouse)",
        "Gpr165",
        "GPR165P",
    ]
)
IDS = st.sampled_from(
    [
        "",
        "ENSG00000141736",
        "ENSG00000147853",
        "ENSG00000162433.3",
        "ENSG00000999999",
        "ENSG00000000009",
    ]
    + ["ENSMUSG00000062312", "ENSMUSG00000024371", "ENSMUSG00000027871"]
)
COLUMNS = st.lists(st.tuples(NAMES, IDS), min_size=1, max_size=12, unique_by=lambda pair: pair[0])
CHOICES = st.sampled_from(
    [("human", None), ("mouse", None), ("mouse", "table"), ("mouse", "by_name")]
)


@given(COLUMNS, st.booleans(), CHOICES)
def test_harmonising_twice_is_harmonising_once(small, columns, with_ids, choice) -> None:
    species, orthologs = choice
    genes, ids = zip(*columns, strict=True)
    slide = make_slide(genes, ids if with_ids else (), species)
    once, report = harmonise(slide, orthologs=orthologs, reference=small)
    twice, _ = harmonise(once, orthologs=orthologs, reference=small)
    assert (twice.genes, twice.gene_ids, twice.notes) == (once.genes, once.gene_ids, once.notes)
    assert (twice.counts != once.counts).nnz == 0
    assert report.n_genes == len(genes)


@given(COLUMNS, st.lists(NAMES, min_size=1, max_size=5, unique=True), st.booleans(), CHOICES)
def test_no_count_is_lost_and_no_exact_match_either(
    small, columns, panel, with_ids, choice
) -> None:
    species, orthologs = choice
    genes, ids = zip(*columns, strict=True)
    slide = make_slide(genes, ids if with_ids else (), species)
    panel_species = "human" if orthologs else species
    fitted = GenePanel(tuple(panel), (1.0,) * len(panel), panel_species)
    out, report = for_panel(slide, fitted, orthologs=orthologs, min_coverage=0, reference=small)
    assert out.counts.sum(axis=1).tolist() == slide.counts.sum(axis=1).tolist()
    assert len(set(out.genes)) == len(out.genes)
    assert report.coverage == coverage(out.genes, panel)
    if orthologs is None:
        assert set(genes) & set(panel) <= set(out.genes)
    again, _ = for_panel(out, fitted, orthologs=orthologs, min_coverage=0, reference=small)
    assert again.genes == out.genes


def test_newer_annotations_find_the_names_of_an_old_panel(shared_data) -> None:
    def names(path):
        with gzip.open(shared_data / path, "rt") as stream:
            return stream.readline().rstrip("\n").split("\t")[1:]

    with gzip.open(shared_data / "gene_reference/features_GRCh38-2020-A.tsv.gz", "rt") as stream:
        rows = [line.split("\t") for line in stream]
    panel = names("her2st/ST-cnts/C2.tsv.gz")
    symbols, ids = [row[1] for row in rows], [row[0] for row in rows]
    assert coverage(symbols, panel).share == pytest.approx(0.968, abs=0.001)
    for genes, gene_ids in ((symbols, ids), (symbols, []), (ids, [])):
        matched = match_to_panel(genes, gene_ids, panel=panel, species="human")
        assert coverage(matched.names, panel).share > 0.99
