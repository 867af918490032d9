from __future__ import annotations

import csv
import gzip
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from stamp_index.errors import DuplicateGenesError, MissingGenesError, PanelError
from stamp_index.genes import (
    GenePanel,
    GeneResolver,
    close_names,
    compat_means,
    cp10k,
    log1p_cp10k,
    rank_tokens,
)
from stamp_index.genes.variable import residual_variance
from stamp_index.slides import Slide

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = arrays(np.float32, (4, 6), elements=st.integers(0, 9).map(float))


def slide_of(counts: np.ndarray, genes: list[str], slide_id: str = "S") -> Slide:
    spots = pd.DataFrame({"x_px": 0.0, "y_px": 0.0}, index=[f"b{i}" for i in range(len(counts))])
    return Slide(
        slide_id, spots, csr_matrix(counts, dtype=np.float32), tuple(genes), None, None, 55.0
    )


def slow_tokens(counts: np.ndarray, means: np.ndarray, context: int) -> list[list[int]]:
    """The recipe word for word: scale, divide, sort, cut, pad."""
    result = []
    for row in counts:
        total = row.sum()
        ratios = [(-(v / total * 10_000) / means[g], g) for g, v in enumerate(row) if v > 0]
        ratios = [(round(r, 9), g) for r, g in ratios]  # equal ratios may differ in the last bit
        tokens = [g + 30 for _, g in sorted(ratios)][:context]
        result.append(tokens + [0] * (context - len(tokens)))
    return result


@given(COUNTS, st.integers(1, 8))
def test_rank_tokens_equal_the_recipe_word_for_word(counts: np.ndarray, context: int) -> None:
    means = np.array([1.0, 2.0, 0.5, 4.0, 1.0, 3.0])
    tokens = rank_tokens(csr_matrix(counts), means, context)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == slow_tokens(counts.astype(float), means, context)


def test_rank_tokens_do_not_depend_on_how_the_matrix_is_stored() -> None:
    messy = csr_matrix(
        (np.array([2.0, 1.0, 0.0, 5.0]), np.array([3, 0, 1, 2]), np.array([0, 4])), shape=(1, 4)
    )
    assert not messy.has_sorted_indices
    assert rank_tokens(messy, np.ones(4), 5).tolist() == [[32, 33, 30, 0, 0]]


def test_rank_tokens_refuse_what_is_not_aligned_raw_counts() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), but counts has 2 columns"):
        rank_tokens(csr_matrix(np.ones((1, 2))), np.ones(3), 4)
    with pytest.raises(ValueError, match="above 0; the smallest is 0"):
        rank_tokens(csr_matrix(np.ones((1, 2))), np.array([0.0, 1.0]), 4)
    with pytest.raises(ValueError, match="context is 0"):
        rank_tokens(csr_matrix(np.ones((1, 2))), np.ones(2), 0)
    with pytest.raises(ValueError, match="negative value, -1"):
        rank_tokens(csr_matrix([[-1.0, 2.0]]), np.ones(2), 4)


def test_rank_tokens_are_those_of_the_published_models(shared_data: Path) -> None:
    stamp = shared_data / "parity" / "stamp"
    with gzip.open(stamp / "vocabulary.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    vocabulary = {row["ensembl_id"]: (i, float(row["mean"] or 0)) for i, row in enumerate(rows)}
    with gzip.open(stamp / "symbol_to_ensembl.csv.gz", "rt") as stream:
        to_id = {row["symbol"]: row["ensembl_id"] for row in csv.DictReader(stream)}
    table = pd.read_csv(shared_data / "her2st/ST-cnts/C2.tsv.gz", sep="\t", index_col=0, nrows=20)
    column_of: dict[int, int] = {}
    for place, symbol in enumerate(table.columns):
        gene_id = to_id.get(symbol)
        if gene_id in vocabulary:
            column_of[vocabulary[gene_id][0]] = place
    counts = np.zeros((20, len(vocabulary)), dtype=np.float32)
    counts[:, list(column_of)] = table.to_numpy()[:, list(column_of.values())]
    means = compat_means([mean for _, mean in vocabulary.values()])
    tokens = rank_tokens(csr_matrix(counts), means, 1500)
    expected = np.load(stamp / "tokens_her2st_C2_first20.npz", allow_pickle=False)["tokens"]
    # Equal ratios may stand either way: compare the ratio at each rank, and the genes above the cut.
    ratio = np.hstack([np.zeros((20, 30)), counts / means])
    rows = np.arange(20)[:, None]
    np.testing.assert_allclose(ratio[rows, tokens], ratio[rows, expected], rtol=1e-6)
    for row in range(20):
        last = ratio[row, expected[row, -1]]
        above = [
            {t for t in ids[row].tolist() if ratio[row, t] > last * (1 + 1e-6)}
            for ids in (tokens, expected)
        ]
        assert above[0] == above[1]


def test_compat_means_round_half_up_and_never_to_zero() -> None:
    assert compat_means([0.0, 0.4, 0.5, 1.5, 2.49]).tolist() == [1, 1, 1, 2, 2]


@given(COUNTS)
def test_expression_is_log1p_of_counts_per_10000(counts: np.ndarray) -> None:
    result = log1p_cp10k(csr_matrix(counts))
    total = counts.sum(axis=1, keepdims=True)
    expected = np.log1p(counts / np.where(total > 0, total, 1) * 1e4)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.toarray(), expected, rtol=1e-5)


def test_normalising_leaves_the_counts_as_they_were() -> None:
    counts = csr_matrix(np.array([[1.0, 3.0]], dtype=np.float32))
    scaled = cp10k(counts)
    assert scaled.toarray().tolist() == [[2500.0, 7500.0]]
    assert counts.toarray().tolist() == [[1.0, 3.0]]


PANEL = GenePanel(("CD8A", "EPCAM", "ACTB"), (2.0, 3.5, 40.0))


@settings(deadline=None)
@given(COUNTS, st.permutations(["EPCAM", "XIST", "CD8A", "OTHER", "ACTB", "LAST"]))
def test_aligning_equals_looking_up_gene_by_gene(counts: np.ndarray, genes: list[str]) -> None:
    aligned = PANEL.align(csr_matrix(counts), genes)
    expected = np.stack([counts[:, genes.index(gene)] for gene in PANEL.genes], axis=1)
    assert aligned.dtype == np.float32
    assert aligned.has_sorted_indices
    np.testing.assert_array_equal(aligned.toarray(), expected)


def test_aligned_tokens_do_not_depend_on_the_order_of_columns() -> None:
    counts = np.array([[3.0, 1.0, 9.0]])
    one = PANEL.align(csr_matrix(counts), ["CD8A", "EPCAM", "ACTB"])
    other = PANEL.align(csr_matrix(counts[:, ::-1]), ["ACTB", "EPCAM", "CD8A"])
    np.testing.assert_array_equal(
        rank_tokens(one, PANEL.means, 4), rank_tokens(other, PANEL.means, 4)
    )


def test_genes_that_the_slide_lacks_are_zero() -> None:
    assert PANEL.align(csr_matrix([[5.0]]), ["EPCAM"]).toarray().tolist() == [[0.0, 5.0, 0.0]]


def test_no_overlap_names_five_genes_of_each_side() -> None:
    with pytest.raises(
        MissingGenesError,
        match=r"None of the 2 genes \(Cd8a, Epcam, \.\.\.\) .* panel of 3 genes \(CD8A, EPCAM, ACTB",
    ):
        PANEL.align(csr_matrix(np.ones((1, 2))), ["Cd8a", "Epcam"])


def test_duplicate_columns_are_refused() -> None:
    with pytest.raises(
        DuplicateGenesError, match=r"1 genes stand more than once in the columns of counts \(CD8A\)"
    ):
        PANEL.align(csr_matrix(np.ones((1, 2))), ["CD8A", "CD8A"])
    with pytest.raises(ValueError, match="counts has 2 columns, but 1 gene names"):
        PANEL.align(csr_matrix(np.ones((1, 2))), ["CD8A"])


@pytest.mark.parametrize(
    ("genes", "means", "error", "message"),
    [
        pytest.param((), (), ValueError, "empty", id="empty"),
        pytest.param(("A", "B"), (1.0,), ValueError, "2 genes but 1 means", id="lengths"),
        pytest.param(("A", "A"), (1.0, 1.0), DuplicateGenesError, r"\(A\)", id="duplicate"),
        pytest.param(("A", "B"), (1.0, 0.0), ValueError, "B 0", id="zero_mean"),
        pytest.param(("A", "B"), (math.nan, 1.0), ValueError, "A nan", id="nan_mean"),
    ],
)
def test_an_impossible_panel_is_refused(
    genes: tuple, means: tuple, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        GenePanel(genes, means)


def test_a_panel_survives_json_bit_for_bit() -> None:
    panel = GenePanel(("A", "B"), np.array([0.1, 1 / 3]), "mouse")
    again = GenePanel.from_dict(json.loads(json.dumps(panel.to_dict())))
    assert again == panel
    assert (again.hash, again.species) == (panel.hash, "mouse")


def test_the_hash_depends_on_order_and_means() -> None:
    hashes = {
        GenePanel(g, m).hash
        for g, m in [
            (("A", "B"), (1.0, 2.0)),
            (("B", "A"), (1.0, 2.0)),
            (("A", "B"), (1.0, 2.5)),
            (("AB",), (1.0,)),
        ]
    }
    assert len(hashes) == 4
    assert all(len(h) == 64 for h in hashes)


def test_a_changed_panel_file_is_refused() -> None:
    fields = PANEL.to_dict()
    with pytest.raises(PanelError, match="the file was changed"):
        GenePanel.from_dict({**fields, "means": [2.0, 3.5, 41.0]})
    with pytest.raises(PanelError, match="no field 'means'"):
        GenePanel.from_dict({"genes": ["A"]})
    with pytest.raises(PanelError, match="normalised as 'clr'"):
        GenePanel.from_dict({**fields, "normalisation": "clr"})


def test_fitting_finds_the_genes_that_vary_within_slides() -> None:
    rng = np.random.default_rng(0)
    genes = [f"FLAT{i}" for i in range(40)] + ["MARKER1", "MARKER2"]
    slides = []
    for slide_id, level in (("A", 5), ("B", 20)):  # FLAT genes differ between slides, not within
        counts = rng.poisson(level, (80, 42)).astype(np.float32)
        counts[:40, 40:] = rng.poisson(20 * level / 10, (40, 2))
        counts[40:, 40:] = 0
        slides.append(slide_of(counts, genes, slide_id))
    panel = GenePanel.fit(slides, 2)
    assert panel.genes == ("MARKER1", "MARKER2")
    assert GenePanel.fit(slides[::-1], 2) == panel


def test_fitted_means_are_those_of_non_zero_counts_per_10000() -> None:
    slides = [
        slide_of(np.array([[1.0, 3.0], [0.0, 2.0]]), ["A", "B"]),
        slide_of(np.array([[4.0, 0.0]]), ["A", "B"]),
    ]
    panel = GenePanel.fit(slides, None, min_spots=1)
    assert panel.genes == ("A", "B")
    assert panel.means == pytest.approx(((2500 + 10_000) / 2, (7500 + 10_000) / 2))


def test_genes_of_few_slides_or_few_spots_are_no_candidates() -> None:
    many = np.ones((10, 2))
    slides = [slide_of(many, ["A", "B"]), slide_of(many, ["A", "C"]), slide_of(many, ["A", "D"])]
    assert GenePanel.fit(slides, None, min_spots=5).genes == ("A",)
    with pytest.raises(
        PanelError, match="No gene is expressed in 31 spots and measured by half of the 3"
    ):
        GenePanel.fit(slides, None, min_spots=31)
    with pytest.raises(ValueError, match="at least one training slide"):
        GenePanel.fit([], 10)


def test_marker_genes_can_be_kept_however_little_they_vary() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(5, (60, 30)).astype(np.float32)
    genes = [f"G{i:02}" for i in range(30)]
    quiet = genes[int(np.argmin(residual_variance(csr_matrix(counts))))]
    slides = [slide_of(counts, genes)]
    assert quiet not in GenePanel.fit(slides, 5).genes
    assert quiet in GenePanel.fit(slides, 5, always=[quiet, "UNMEASURED"]).genes
    assert len(GenePanel.fit(slides, 5, always=[quiet])) == 5


@given(COUNTS)
def test_residual_variance_equals_the_formula_gene_by_gene(counts: np.ndarray) -> None:
    x = counts.astype(float)
    expected = []
    for g in range(x.shape[1]):
        mu = x.sum(axis=1) * x[:, g].sum() / max(x.sum(), 1)
        z = [
            (a - m) / math.sqrt(m + m * m / 100) if m else 0.0
            for a, m in zip(x[:, g], mu, strict=True)
        ]
        expected.append(np.var([max(-2.0, min(2.0, value)) for value in z]))  # 2 = sqrt(4 spots)
    np.testing.assert_allclose(residual_variance(csr_matrix(counts)), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("CD8X", "CD8A", id="one_letter_wrong"),
        pytest.param("cd8", "CD8A", id="begins_a_name"),
        pytest.param("EPCM", "EPCAM", id="one_letter_missing"),
        pytest.param("TRBC9", "TRBC2", id="other_digit"),
    ],
)
def test_close_names_offer_what_was_meant(name: str, near: str) -> None:
    assert near in close_names(name, ["CD8A", "EPCAM", "TRBC2", "COL1A1", "ACTB"])


def test_close_names_offer_nothing_where_nothing_is_near() -> None:
    assert close_names("QQQQQQ", ["CD8A", "EPCAM"]) == []
    assert close_names("  ", ["CD8A"]) == []


def test_genes_without_ids_are_not_known_by_an_empty_one():
    resolver = GeneResolver(["A", "B"], ["", ""])
    assert not resolver.knows("")
    assert resolver.resolve(["B"]) == {"B": "B"}
