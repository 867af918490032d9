"""Ridge probes of many genes: one factorisation gives each gene's own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.evaluate import ProbeCancelled, ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.probe import run_gene_probes
from stamp_index.evaluate.probe.ridge import RidgePath
from tests.probe_world import GENES, probe_slide, probe_store, random_world, unit


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("genes"))


def _mixed(folder, **more):
    """Slides that measured different genes; ACTB is the same everywhere."""
    rng = np.random.default_rng(0)
    panels = [
        ("CD8A", "ACTB"),
        ("CD8A", "ACTB"),
        ("CD8A", "ACTB", "KRT7"),
        ("CD8A", "ACTB", "KRT7"),
    ]
    slides = []
    for at, panel in enumerate(panels):
        counts = rng.poisson(5.0, (30, len(panel)))
        counts[:, 1] = 0
        kinds = ["a", "b"] * 15
        slides.append(probe_slide(f"S{at}", kinds, patient=f"P{at}", genes=panel, counts=counts))
    return probe_store(folder, slides, [unit(rng.normal(size=(30, 6))) for _ in slides], **more)


@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 40),
    d=st.integers(1, 12),
    alpha=st.floats(0.1, 1e6),
)
def test_every_target_and_penalty_equals_scikit_learns_ridge(seed, n, d, alpha):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    x[:, -1] = x[:, 0]  # a repeated feature
    y, other = rng.normal(size=(n, 3)), rng.normal(size=(7, d)).astype(np.float32)
    path = RidgePath(x)
    said = path.targets(y).predict(path.turned(other), alpha)
    plain = Ridge(alpha=alpha).fit(x.astype(np.float64), y).predict(other.astype(np.float64))
    np.testing.assert_allclose(said, plain, atol=1e-6)
    each = path.targets(y).predict(path.turned(other), np.array([alpha, 1.0, alpha]))
    np.testing.assert_allclose(each[:, [0, 2]], said[:, [0, 2]])


@pytest.mark.parametrize("asked", [{}, {"C": 0.01}, {"split": "block", "block_um": 300.0}])
def test_each_gene_has_the_numbers_of_its_own_probe(world, asked):
    found = run_gene_probes(world, GENES, ProbeSettings(gene="CD8A", **asked)).set_index("gene")
    assert list(found.index) == list(GENES)
    for gene in GENES:
        alone = run_probe(world, ProbeSettings(gene=gene, **asked))
        row = found.loc[gene]
        for score in ("pearson", "r2"):
            assert row[f"{score}_mean"] == pytest.approx(alone.level.mean[score], abs=1e-6)
            assert row[f"{score}_sd"] == pytest.approx(alone.level.sd[score], abs=1e-6)
        level = alone.levels["random_features"]
        assert row["random_features_pearson_mean"] == pytest.approx(level.mean["pearson"], abs=1e-6)
        assert row["C"] == np.median([fold.C for fold in alone.folds])
        assert (row["n_spots"], row["n_folds"]) == (alone.counts.spots, len(alone.folds))
    assert found.loc["CD8A", "pearson_mean"] > 0.8
    assert abs(found.loc["EPCAM", "random_features_pearson_mean"]) < 0.2
    assert set(found["chance"]) == {0.0}


def test_genes_of_other_slides_have_their_own_spots_and_a_flat_one_a_note(tmp_path):
    store = _mixed(tmp_path)
    settings = ProbeSettings(gene="KRT7", C=0.01)
    found = run_gene_probes(store, ["KRT7", "ACTB", "CD8A"], settings).set_index("gene")
    assert found["n_spots"].tolist() == [60, 120, 120]
    assert np.isnan(found.loc["ACTB", "pearson_mean"])
    assert found["note"].tolist() == ["", "the same expression (0) at all spots", ""]
    alone = run_probe(store, settings)
    assert found.loc["KRT7", "pearson_mean"] == pytest.approx(alone.level.mean["pearson"], abs=1e-6)


@pytest.mark.parametrize(
    ("genes", "asked", "words"),
    [
        ([], {"gene": "CD8A"}, "at least one"),
        ("CD8A", {"gene": "CD8A"}, "at least one"),
        (["CD8A", "CD8A"], {"gene": "CD8A"}, "CD8A are named twice"),
        (["CD8A"], {"label": "region"}, "for label 'region'"),
    ],
)
def test_genes_and_settings_that_make_no_sense_are_refused(world, genes, asked, words):
    with pytest.raises(ValueError, match=words):
        run_gene_probes(world, genes, ProbeSettings(**asked))


def test_genes_and_slides_that_are_not_there_are_refused(world):
    with pytest.raises(MissingGenesError, match="CD9X"):
        run_gene_probes(world, ["CD8A", "CD9X"], ProbeSettings(gene="CD8A"))
    with pytest.raises(QueryError, match="no slide 'S9'"):
        run_gene_probes(world, ["CD8A"], ProbeSettings(gene="CD8A", slides=("S9",)))


def test_spots_without_the_embedding_and_single_slides_are_refused(tmp_path):
    store = _mixed(tmp_path, image=False)
    with pytest.raises(ProbeError, match="none with image embeddings"):
        run_gene_probes(store, ["CD8A"], ProbeSettings(gene="CD8A"))
    one = ProbeSettings(gene="CD8A", features="gene", slides=("S1",))
    with pytest.raises(ProbeError, match="of one slide"):
        run_gene_probes(store, ["CD8A"], one)


def test_raising_in_progress_stops_it(world):
    seen = []

    def stop(at):
        seen.append(at)
        if len(seen) == 6:
            raise ProbeCancelled

    with pytest.raises(ProbeCancelled):
        run_gene_probes(world, GENES, ProbeSettings(gene="CD8A"), progress=stop)
    assert [one.step for one in seen[3:]] == ["fold 1 of 4: choosing C"] * 3
    shares = []
    run_gene_probes(
        world, GENES, ProbeSettings(gene="CD8A"), progress=lambda at: shares.append(at.share)
    )
    assert shares == sorted(shares)
