"""The phantom's plan, counts and planted truth."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from stamp_index.errors import SlideError
from stamp_index.genes import parse_signature
from stamp_index.phantom import DOMAINS, PLANTED_QUERIES, load_truth, make_phantom
from stamp_index.phantom.cells import CELL_TYPES, relax, some_cells
from stamp_index.phantom.counts import _domain_shares, draw_counts, spot_truth
from stamp_index.phantom.ensembl import ENSEMBL_IDS
from stamp_index.phantom.layout import FINE_UM, PITCH_UM, SPOT_UM, make_layout, spot_array
from stamp_index.phantom.make import render_slide
from stamp_index.phantom.markers import MARKERS, PROGRAMME_GENES, genes, profiles
from stamp_index.phantom.materials import SEPTUM, make_materials
from stamp_index.phantom.place import _evenly, _z_order
from stamp_index.phantom.style import GLASS, MPP, STROMA, patient_style, scan_style

N_SPOTS = 80
OWN_CELLS = {
    "tumour": {"tumour"},
    "stroma": {"fibroblast"},
    "lymphoid": {"cd8_t", "cd4_t", "b_cell", "plasma"},
    "fat": {"adipocyte"},
    "necrosis": {"neutrophil", "debris"},
    "normal": {"luminal", "myoepithelial"},
}


@pytest.fixture(scope="module")
def planned():
    """One small slide: layout, materials, cells, picture."""
    return render_slide(3, 0, 0, n_spots=N_SPOTS)


@pytest.fixture(scope="module")
def truth(planned):
    layout, materials, cells, _ = planned
    return spot_truth(layout, materials, cells, [f"b{i}" for i in range(N_SPOTS)])


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_appears_even_on_a_small_slide(truth, domain):
    assert (truth.table["domain"] == domain).sum() >= 2


def test_domain_names_and_planted_queries_agree():
    assert set(PLANTED_QUERIES) == set(DOMAINS)
    assert PLANTED_QUERIES["lymphoid"] == "CD8A high, EPCAM low"


@pytest.mark.parametrize("domain", DOMAINS)
def test_planted_genes_are_markers_of_that_domain_only(domain):
    signature = parse_signature(PLANTED_QUERIES[domain])
    for gene in signature.high:
        owners = {kind for kind, text in MARKERS.items() if gene in text.split()}
        owners |= {
            kind
            for kinds, text in PROGRAMME_GENES.values()
            if gene in text.split()
            for kind in kinds
        }
        assert owners, gene
        assert owners <= OWN_CELLS[domain], gene
    for gene in signature.low:
        owners = {kind for kind, text in MARKERS.items() if gene in text.split()}
        assert not owners & OWN_CELLS[domain]


@pytest.mark.parametrize("domain", DOMAINS)
def test_planted_genes_are_highest_in_their_domain(truth, domain):
    shares = truth.expected / truth.expected.sum(axis=1, keepdims=True)
    names = genes()
    pure = (truth.table["purity"] > 0.7).to_numpy()
    for gene in parse_signature(PLANTED_QUERIES[domain]).high:
        column = shares[:, names.index(gene)]
        means = {d: column[pure & (truth.table["domain"] == d).to_numpy()].mean() for d in DOMAINS}
        rest = max(value for d, value in means.items() if d != domain)
        assert means[domain] > 1.5 * rest, (gene, means)


def test_cell_fractions_sum_to_one(truth):
    fractions = truth.table.filter(like="frac_")
    assert list(fractions.columns) == [f"frac_{kind}" for kind in CELL_TYPES]
    np.testing.assert_allclose(fractions.sum(axis=1), 1.0, atol=1e-9)
    assert (fractions >= 0).all(axis=None)


def test_fractions_count_the_cells_that_are_drawn(planned, truth):
    layout, _, cells, _ = planned
    x, y = layout.array.x_px[layout.in_tissue], layout.array.y_px[layout.in_tissue]
    for row in (0, 17, 43, N_SPOTS - 1):
        near = np.hypot(cells.x_px - x[row], cells.y_px - y[row]) <= SPOT_UM / 2 / MPP
        total = cells.weight[near].sum()
        assert truth.table["n_cells"][row] == pytest.approx(total, rel=1e-5)
        for code, kind in enumerate(CELL_TYPES):
            mine = cells.weight[near & (cells.kind == code)].sum()
            if total > 0:
                got = truth.table[f"frac_{kind}"][row]
                assert got == pytest.approx(mine / total, abs=1e-5)


def test_a_spot_takes_the_domain_that_covers_most_of_it_or_the_tumour_that_its_cells_are(
    planned, truth
):
    layout, materials, _, _ = planned
    x, y = layout.array.x_px[layout.in_tissue], layout.array.y_px[layout.in_tissue]
    cell = FINE_UM / MPP
    for row in range(0, N_SPOTS, 9):
        votes = dict.fromkeys(range(len(DOMAINS)), 0)
        for dy in np.arange(-27.0, 27.1, 2.0):
            for dx in np.arange(-27.0, 27.1, 2.0):
                if np.hypot(dx, dy) <= 27.5:
                    r, c = int((y[row] + dy / MPP) / cell), int((x[row] + dx / MPP) / cell)
                    label = int(layout.labels[r, c])
                    if materials.code[r, c] == SEPTUM:
                        label = STROMA
                    if label != GLASS:
                        votes[label] += 1
        best, second = sorted(votes.values())[-2:][::-1]
        if truth.table["frac_tumour"][row] >= 0.5 and votes[STROMA] == best:
            assert truth.table["domain"][row] == "tumour"
        elif best - second > 60:  # nearer ties may fall either way on the two grids
            assert truth.table["domain"][row] == DOMAINS[max(votes, key=votes.__getitem__)]


def test_programmes_raise_their_genes_in_the_tumour(truth):
    table = truth.table
    inside = ((table["domain"] == "tumour") & (table["frac_tumour"] > 0.6)).to_numpy()
    shares = truth.expected / truth.expected.sum(axis=1, keepdims=True)
    for programme, gene in (("proliferation", "MKI67"), ("hypoxia", "CA9"), ("gland", "MUC1")):
        column = shares[inside, genes().index(gene)]
        state = table[f"prog_{programme}"].to_numpy()[inside]
        assert np.corrcoef(column, state)[0, 1] > 0.6, programme


def test_hypoxia_is_highest_next_to_necrosis(planned):
    layout = planned[0]
    rows, cols = np.nonzero(layout.labels == DOMAINS.index("necrosis"))
    cell = FINE_UM / MPP
    inside = layout.programme("hypoxia", cols * cell, rows * cell).mean()
    rows, cols = np.nonzero(layout.labels == DOMAINS.index("fat"))
    outside = layout.programme("hypoxia", cols * cell, rows * cell).mean()
    assert inside > 0.7
    assert outside < 0.3


def test_counts_are_overdispersed_like_a_negative_binomial():
    expected = np.tile(profiles()[0], (600, 1))
    counts = draw_counts(expected, key=(1, 0, 0)).toarray().astype(float)
    depth = counts.sum(axis=1, keepdims=True)
    mean = depth * counts.sum(axis=0) / counts.sum()
    strong = mean.mean(axis=0) > 20
    counts, mean = counts[:, strong], mean[:, strong]
    excess = (((counts - mean) ** 2 - mean) / mean**2).mean(axis=0)
    assert strong.sum() > 30
    # Squared coefficient of variation beyond Poisson: near the 0.08 that is planted, plus dropout.
    assert 0.05 < np.median(excess) < 0.2


def test_ambient_rna_reaches_spots_whose_cells_lack_the_gene():
    base = profiles()
    tumour, fat = CELL_TYPES.index("tumour"), CELL_TYPES.index("adipocyte")
    expected = np.concatenate([np.tile(base[tumour], (100, 1)), np.tile(base[fat], (100, 1))])
    counts = draw_counts(expected, key=(1, 0, 0)).toarray()
    gene = genes().index("ADIPOQ")
    assert base[tumour, gene] == 0
    alien, own = counts[:100, gene].mean(), counts[100:, gene].mean()
    assert 0 < alien < 0.1 * own


def test_depth_varies_around_visium_like_totals(truth):
    counts = draw_counts(truth.expected, key=(3, 0, 0))
    depth = np.asarray(counts.sum(axis=1)).ravel()
    assert 3000 < np.median(depth) < 8000
    assert 0.2 < np.log(depth).std() < 1.0
    assert counts.dtype == np.int32
    assert 0.2 < (counts.toarray() == 0).mean() < 0.7


def test_batches_shift_genes_between_patients_more_than_between_slides():
    expected = np.tile(profiles().mean(axis=0), (400, 1))

    def means(patient, slide):
        counts = draw_counts(expected, key=(0, patient, slide)).toarray()
        mean = counts.mean(axis=0)
        return np.log((mean + 0.1) / mean.sum())

    first = means(0, 0)
    strong = first > np.quantile(first, 0.5)
    same = np.std((means(0, 1) - first)[strong])
    other = np.std((means(1, 0) - first)[strong])
    assert 0.05 < same < other < 0.5


def test_same_seed_gives_same_counts_and_cells_and_another_seed_does_not(planned, truth):
    layout, materials, cells, rgb = render_slide(3, 0, 0, n_spots=N_SPOTS)
    assert np.array_equal(rgb, planned[3])
    again = spot_truth(layout, materials, cells, [f"b{i}" for i in range(N_SPOTS)])
    first = draw_counts(truth.expected, key=(3, 0, 0))
    assert (first != draw_counts(again.expected, key=(3, 0, 0))).nnz == 0
    assert (first != draw_counts(again.expected, key=(4, 0, 0))).nnz > 0
    style = patient_style(4, 0)
    other = make_layout(4, 0, 0, n_spots=N_SPOTS, style=style)
    assert not np.array_equal(other.labels, layout.labels)


@settings(deadline=None, max_examples=20)
@given(st.integers(40, 5000))
def test_spots_lie_100_um_apart_and_inside_the_image(n_spots):
    array = spot_array(n_spots)
    centres = np.stack([array.x_px, array.y_px], axis=1)
    assert len(centres) >= n_spots
    assert centres.min() * MPP >= SPOT_UM
    assert (array.size_px - centres.max()) * MPP >= SPOT_UM
    gaps = cKDTree(centres).query(centres, k=2)[0][:, 1] * MPP
    np.testing.assert_allclose(gaps, PITCH_UM, rtol=1e-6)
    assert ((array.array_row + array.array_col) % 2 == 0).all()


@pytest.mark.parametrize("patient", [0, 1, 2])
def test_default_slides_hold_enough_spots_of_every_domain(patient):
    style = patient_style(0, patient)
    layout = make_layout(0, patient, 0, n_spots=1200, style=style)
    materials = make_materials(layout, style, key=(0, patient, 0))
    x, y = layout.array.x_px[layout.in_tissue], layout.array.y_px[layout.in_tissue]
    shares = _domain_shares(layout, materials.code, x, y)
    assert len(x) == 1200
    n_by_domain = np.bincount(shares.argmax(axis=1), minlength=len(DOMAINS))
    assert n_by_domain.min() >= 60
    assert (shares.max(axis=1) > 0.8).mean() > 0.7  # most spots lie in one domain


def test_patients_differ_more_than_slides_of_a_patient():
    assert patient_style(0, 0) != patient_style(0, 1)
    assert patient_style(0, 0) == patient_style(0, 0)
    first, sister, other = scan_style(0, 0, 0), scan_style(0, 0, 1), scan_style(0, 2, 0)
    assert first != sister

    def far(a, b):
        return np.linalg.norm(np.array(a.eosin) - b.eosin) + abs(np.log(a.h_gain / b.h_gain))

    assert far(first, sister) < far(first, other)


def test_panel_has_several_hundred_unique_genes_with_ensembl_ids():
    names = genes()
    assert 400 <= len(names) <= 700
    assert len(set(names)) == len(names)
    ids = [ENSEMBL_IDS[name] for name in names]
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("ENSG") and len(i) == 15 for i in ids)


def test_symbols_and_ids_are_those_of_the_human_reference(shared_data):
    path = shared_data / "gene_reference" / "features_GRCh38-2020-A.tsv.gz"
    with gzip.open(path, "rt") as lines:
        known = {tuple(line.split("\t")[:2]) for line in lines}
    wrong = [name for name in genes() if (ENSEMBL_IDS[name], name) not in known]
    assert wrong == []


def test_profiles_sum_to_the_rna_of_a_cell_and_hold_their_markers():
    table, names = profiles(), genes()
    for code, kind in enumerate(CELL_TYPES):
        first = MARKERS[kind].split()[0]
        share = table[code] / table[code].sum()
        assert share[names.index(first)] > 0.02, first
        assert share.sum() == pytest.approx(1.0)
    assert table.sum(axis=1).argmax() == CELL_TYPES.index("adipocyte")


def test_even_numbers_follow_the_density_everywhere():
    rows, cols = (g.ravel() for g in np.mgrid[:64, :64])
    mean = np.where(cols < 32, 0.9, 0.1).astype(np.float32)
    drawn = _evenly(np.random.default_rng(0), mean, _z_order(rows, cols))
    assert abs(drawn.sum() - mean.sum()) <= 1.5
    for top in range(0, 64, 16):
        for left in range(0, 64, 16):
            here = (rows // 16 == top // 16) & (cols // 16 == left // 16)
            assert abs(drawn[here].sum() - mean[here].sum()) <= 2


def test_relaxing_pushes_cells_apart_but_not_those_of_a_structure():
    rng = np.random.default_rng(0)
    cells = some_cells("tumour", "tumour", rng.uniform(0, 200, (80, 2)))
    ring = np.array([[100.0, 100.0], [104.0, 100.0]])
    cells.x_px[:2], cells.y_px[:2] = ring.T
    cells.fixed[:2] = True

    def nearest():
        points = np.stack([cells.x_px, cells.y_px], axis=1)
        gaps = np.hypot(*np.transpose(points[:, None] - points[None]))
        return np.min(gaps + 1e9 * np.eye(len(points)), axis=1)

    before = np.median(nearest())
    relax(cells, 8)
    assert np.median(nearest()) > 1.3 * before
    np.testing.assert_array_equal(np.stack([cells.x_px[:2], cells.y_px[:2]], axis=1), ring)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"spots_per_slide": 12}, "spots_per_slide is 12.* 40 to 5000", id="few spots"),
        pytest.param({"spots_per_slide": 9000}, "spots_per_slide is 9000", id="many spots"),
        pytest.param({"n_patients": 0}, "n_patients is 0; expected at least 1", id="no patient"),
        pytest.param({"slides_per_patient": -1}, "slides_per_patient is -1", id="no slide"),
        pytest.param({"seed": -5}, "seed is -5; expected at least 0", id="negative seed"),
        pytest.param({"workers": 0}, "workers is 0; expected at least 1", id="no worker"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name_and_value(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_loading_truth_from_a_folder_without_any_names_the_file(tmp_path):
    with pytest.raises(SlideError, match=r"truth\.parquet does not exist; only slides that"):
        load_truth(tmp_path)
