"""Spatial domains: clusters that find what was planted, smoothing on the own slide, and honest refusals."""

from __future__ import annotations

import importlib.util
import json
import random

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from stamp_index.errors import QueryError
from stamp_index.evaluate.domains import (
    evaluate_domains,
    find_surroundings,
    fuse,
    gaussian_mixture,
    gaussian_mixture_by_bic,
    kmeans,
    leiden,
)
from stamp_index.evaluate.domains.leiden import neighbour_weights
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.html import render_html
from stamp_index.genes import log1p_cp10k
from tests.plain_world import mixed_store
from tests.probe_world import CLASSES, grid_px, probe_slide, probe_store, random_world, unit
from tests.support import toy_store

METHODS = [kmeans, leiden, gaussian_mixture, gaussian_mixture_by_bic]
needs_igraph = pytest.mark.skipif(
    importlib.util.find_spec("igraph") is None, reason="igraph is not installed"
)
with_igraph = [
    pytest.param(one, marks=needs_igraph if one is leiden else (), id=one.__name__)
    for one in METHODS
]


def blobs(k=4, n=160, dim=12, seed=0):
    """Vectors around k far centres, and the centre of each."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % k
    return (8 * rng.normal(size=(k, dim)))[kind] + rng.normal(size=(n, dim)), kind


@pytest.mark.parametrize("cluster", with_igraph)
def test_planted_clusters_are_found_and_a_seed_gives_the_same_again(cluster):
    vectors, kind = blobs()
    found = cluster(vectors, 4, 3)
    assert found.dtype == np.int64
    assert adjusted_rand_score(kind, found) == 1.0
    noise = np.random.default_rng(1).normal(size=(150, 6))
    np.testing.assert_array_equal(cluster(noise, 5, 7), cluster(noise, 5, 7))


@pytest.mark.parametrize("cluster", with_igraph)
def test_more_clusters_than_vectors_and_numbers_that_are_not_finite_are_refused(cluster):
    vectors, _ = blobs(n=20)
    with pytest.raises(ValueError, match="n_clusters is 21; it must be from 1 to the 20"):
        cluster(vectors, 21, 0)
    vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        cluster(vectors, 2, 0)


@pytest.mark.parametrize("cluster", [kmeans, gaussian_mixture, gaussian_mixture_by_bic])
def test_equal_vectors_are_one_cluster_without_a_warning(cluster):
    assert set(cluster(np.ones((30, 5)), 3, 0)) == {0}


def test_kmeans_is_scikit_learns_best_of_ten():
    vectors, _ = blobs(seed=5)
    wanted = KMeans(3, n_init=10, random_state=11).fit_predict(vectors)
    np.testing.assert_array_equal(kmeans(vectors, 3, 11), wanted)


def test_bic_chooses_another_form_where_clusters_are_of_unlike_size():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(150, 4)) * 0.3 + 1.5, rng.normal(size=(150, 4)) * 3
    vectors, kind = np.concatenate([small, large]), np.repeat([0, 1], 150)
    tied = adjusted_rand_score(kind, gaussian_mixture(vectors, 2, 0))
    chosen = adjusted_rand_score(kind, gaussian_mixture_by_bic(vectors, 2, 0))
    assert chosen > 0.9 > tied


@needs_igraph
@pytest.mark.parametrize("wanted", [2, 3, 5, 8])
def test_leiden_finds_a_resolution_for_the_number_wanted(wanted):
    vectors = np.random.default_rng(0).normal(size=(300, 3))
    assert len(set(leiden(vectors, wanted, 0))) == wanted


@needs_igraph
def test_leiden_gives_the_nearest_number_where_parts_are_not_linked():
    vectors, kind = blobs(k=5, n=200)
    found = leiden(vectors, 2, 0)
    assert adjusted_rand_score(kind, found) == 1.0  # five islands cannot be two communities


@needs_igraph
def test_leiden_leaves_pythons_random_numbers_alone():
    random.seed(5)
    before = random.getstate()
    leiden(blobs()[0], 4, 0)
    assert random.getstate() == before


def test_edges_weigh_the_share_of_neighbours_in_common():
    vectors = np.random.default_rng(2).normal(size=(25, 3))
    found = neighbour_weights(vectors, k=4).toarray()
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    near = [set(np.argsort(line)[:5]) for line in distance]  # with itself
    for i in range(25):
        for j in range(25):
            linked = i < j and (j in near[i] or i in near[j])
            shared = len(near[i] & near[j]) / len(near[i] | near[j]) if linked else 0.0
            assert found[i, j] == pytest.approx(shared)


def test_leiden_without_igraph_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EvaluationError, match=r"igraph missing.*stamp-index\[domains\]"):
        leiden(blobs()[0], 4, 0)


def test_surroundings_are_the_spots_within_the_radius_on_the_own_slide():
    rng = np.random.default_rng(3)
    slide, xy = np.repeat([0, 1], 30), rng.random((60, 2)) * 500
    xy[31:33] = xy[30] + [[100.0, 0.0], [100.0 + 1e-6, 0.0]]  # just inside, just outside
    values = rng.normal(size=(60, 5))
    around = find_surroundings(slide, xy, 100.0)
    near = np.linalg.norm(xy[:, None] - xy[None], axis=2) <= 100.0
    near &= slide[:, None] == slide[None]
    wanted = np.stack([values[one].mean(axis=0) for one in near])
    np.testing.assert_allclose(fuse([values], around, unit=False), wanted, atol=1e-6)
    assert around.own_weight == pytest.approx(np.mean(1 / near.sum(axis=1)))
    assert near[30, 31]
    assert not near[30, 32]


def test_fused_vectors_are_two_unit_vectors_side_by_side():
    rng = np.random.default_rng(4)
    image, gene = rng.normal(size=(6, 3)), 100 * rng.normal(size=(6, 4))
    found = fuse([image, gene])
    assert found.shape == (6, 7)
    np.testing.assert_allclose(found[:, :3], unit(image), atol=1e-6)
    np.testing.assert_allclose(found[:, 3:], unit(gene), atol=1e-6)


@pytest.mark.parametrize(
    ("xy", "radius", "words"),
    [(np.zeros((2, 2)), 0.0, "radius_um is 0"), (np.full((2, 2), np.nan), 9.0, "pixel size")],
)
def test_surroundings_need_a_radius_and_positions(xy, radius, words):
    with pytest.raises(ValueError, match=words):
        find_surroundings(np.zeros(2, np.int64), xy, radius)


def rows_of(report, **asked):
    return [row for row in report.rows if all(row[name] == one for name, one in asked.items())]


def test_planted_domains_are_found_on_slides_and_pooled_over_patients(tmp_path):
    store = random_world(tmp_path, n_slides=4, n=90, n_patients=2, signal=6.0)
    report = evaluate_domains(store, "region", methods=("kmeans", "gmm"), seeds=(0, 1))
    for features in ("image", "gene", "both"):
        found = rows_of(report, features=features)
        # Four slides and two patients, whose slides do not follow each other in the store.
        assert [row["on"] for row in found[::2]] == ["S1", "S3", "S2", "S4", "P1", "P2"]
        assert min(row["ARI"] for row in found) > 0.9
        assert {row["N"] for row in found if row["scope"] == "patient"} == {180}
        assert {row["n_classes"] for row in found} == {3}
    for row in rows_of(report, features="random labels"):
        assert abs(row["ARI"]) < 0.06
        assert row["baseline"]
    assert not rows_of(report, features="coordinates", scope="patient")
    assert max(row["ARI"] for row in rows_of(report, features="coordinates")) < 0.1
    summary = {(row["features"], row["method"]): row for row in report.summary()}
    wanted = np.mean(
        [r["ARI"] for r in rows_of(report, features="image", scope="slide", method="gmm")]
    )
    assert summary["image", "gmm"]["ARI"] == pytest.approx(wanted)
    assert summary["image", "gmm"]["n_slides"] == 4


def test_a_report_is_plain_json_and_the_same_again(tmp_path):
    store = random_world(tmp_path, n_slides=1, n=50)
    asked = {"methods": ("kmeans",), "seeds": (0, 1), "smoothing_um": (None, 150)}
    first, again = (evaluate_domains(store, "region", **asked).to_dict() for _ in range(2))
    assert first == again
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["source"]["store_version"] == store.version
    other = evaluate_domains(store, "region", exclude=["fat"], **asked)
    assert other.source["spots_hash"] != first["source"]["spots_hash"]
    assert {row["n_classes"] for row in other.rows} == {2}
    assert "class 'fat' were left out, as asked" in " ".join(other.notes)


def test_a_report_is_a_section_of_a_page(tmp_path):
    store = random_world(tmp_path, n_slides=2, n=40)
    report = evaluate_domains(store, "region", methods=("kmeans", "gmm"), seeds=(0,))
    section = report.section()
    page = render_html({"title": "t", "notes": report.notes, "sections": [section]})
    assert page.count("<tr>") == 2 + len(report.rows) + len(report.summary())
    (plot,) = section["plots"]
    kinds = ("image", "gene", "both", "PCA of expression", "coordinates")
    assert plot["data"]["labels"] == [f"{kind}, 2 slides" for kind in kinds]
    both = plot["data"]["series"][1]["values"][2]
    found = rows_of(report, features="both", method="gmm")
    assert both == pytest.approx(np.mean([row["ARI"] for row in found]))


def test_means_and_deviations_are_over_seeds(tmp_path):
    store = random_world(tmp_path, n_slides=1, n=60, signal=0.6)
    seeds = (0, 1, 2, 3)
    asked = {"features": ("image",), "methods": ("gmm",)}
    single = [evaluate_domains(store, "region", seeds=[seed], **asked) for seed in seeds]
    values = [rows_of(one, features="image")[0]["ARI"] for one in single]
    together = rows_of(evaluate_domains(store, "region", seeds=seeds, **asked), features="image")[0]
    assert together["ARI"] == pytest.approx(np.mean(values))
    assert together["ARI_sd"] == pytest.approx(np.std(values, ddof=1))
    assert rows_of(single[0], features="image")[0]["ARI_sd"] is None


def noisy_regions(folder, **slide_settings):
    """One slide of two halves whose vectors hardly differ spot by spot."""
    rng = np.random.default_rng(0)
    xy = grid_px(196, columns=14)
    side = (xy[:, 0] > 700).astype(int)
    vectors = unit(rng.normal(size=(196, 12)) + 0.9 * np.eye(12)[side])
    labels = np.array(["left", "right"])[side].tolist()
    labels[::10] = [None] * len(labels[::10])
    slide = probe_slide("S1", labels, patient="P1", xy=xy, **slide_settings)
    return probe_store(folder, [slide], [vectors]), side


def test_smoothing_over_surroundings_finds_noisy_regions_and_is_named(tmp_path):
    store, side = noisy_regions(tmp_path)
    asked = {"features": ("image",), "methods": ("kmeans",), "seeds": (0,)}
    report = evaluate_domains(store, "region", smoothing_um=(None, 250.0), **asked)
    plain, smooth = rows_of(report, features="image")
    assert (plain["smoothing"], smooth["smoothing"]) == ("none", "mean within 250 um")
    assert smooth["ARI"] > plain["ARI"] + 0.3
    assert plain["own_weight"] == 1.0
    assert smooth["own_weight"] < 0.1
    # Spots without label are part of the surroundings, but are not compared.
    assert plain["N"] == 196 - 20
    around = find_surroundings(
        np.zeros(196, np.int64), store.spots(["x_um", "y_um"]).to_numpy(), 250.0
    )
    stored = unit(store.vectors("image").astype(np.float32))
    labelled = np.arange(196) % 10 != 0
    clusters = kmeans(fuse([stored], around)[labelled], 2, 0)
    assert smooth["ARI"] == pytest.approx(adjusted_rand_score(side[labelled], clusters))
    assert "20 of the 196 spots" in " ".join(report.notes)


def test_expression_is_compared_as_its_principal_components(tmp_path):
    store = toy_store(tmp_path, n_slides=1)
    asked = {"features": ("gene",), "methods": ("kmeans",), "seeds": (0,)}
    report = evaluate_domains(store, "domain", **asked)
    values = log1p_cp10k(store.sparse_counts()).toarray().astype(np.float64)
    clusters = kmeans(PCA(30, svd_solver="full").fit_transform(values), 4, 0)
    wanted = adjusted_rand_score(store.label("domain"), clusters)
    assert rows_of(report, features="PCA of expression")[0]["ARI"] == pytest.approx(wanted)
    assert wanted > 0.9


def test_slides_of_unknown_pixel_size_are_clustered_without_places(tmp_path):
    store, _ = noisy_regions(tmp_path, mpp=None)
    report = evaluate_domains(store, "region", methods=("kmeans",), smoothing_um=(None, 150.0))
    assert not rows_of(report, features="coordinates")
    assert {row["smoothing"] for row in report.rows} == {"none"}
    assert {row["coherence"] for row in report.rows} == {None}
    assert "Pixel size unknown" in " ".join(report.notes)


def test_slides_without_label_class_or_embedding_are_left_out_with_a_note(tmp_path):
    kinds = [["fat", "stroma"] * 15, ["fat"] * 30, [None] * 30, ["fat", "stroma"] * 15]
    slides = [probe_slide(f"S{at}", kind, patient="P1") for at, kind in enumerate(kinds)]
    rng = np.random.default_rng(0)
    vectors = [unit(rng.normal(size=(30, 4))) for _ in slides]
    store = probe_store(tmp_path, slides, vectors, image=[True, True, True, False])
    report = evaluate_domains(store, "region", methods=("kmeans",), seeds=(0,))
    notes = " ".join(report.notes)
    assert {row["on"] for row in rows_of(report, features="image")} == {"S0"}
    assert {row["on"] for row in rows_of(report, features="gene")} == {"S0", "S3", "P1"}
    assert "has no label 'region': S2." in notes
    assert "has one class of 'region' only: S1." in notes
    assert "No image embeddings: S3." in notes


def test_what_allows_no_comparison_is_refused(tmp_path):
    one_class = probe_slide("S1", ["fat"] * 30)
    only_genes = probe_slide("S2", ["fat", "stroma"] * 15)
    vectors = [unit(np.random.default_rng(at).normal(size=(30, 4))) for at in range(2)]
    store = probe_store(tmp_path, [one_class, only_genes], vectors, image=[True, False])
    with pytest.raises(EvaluationError, match="None of the 1 slides has spots of two classes"):
        evaluate_domains(store, "region", slides=["S1"])
    with pytest.raises(EvaluationError, match="None of the slides .* embeddings for image, both"):
        evaluate_domains(store, "region", features=("image", "both"))
    with pytest.raises(EvaluationError, match="no slide nowhere"):
        evaluate_domains(store, "region", slides=["nowhere"])
    with pytest.raises(EvaluationError, match=r"no class 'bone' .* 'fat', 'stroma'"):
        evaluate_domains(store, "region", exclude=["bone"])
    with pytest.raises(QueryError, match="no label 'layer'"):
        evaluate_domains(store, "layer")


def test_measurements_are_no_domains(tmp_path):
    slide = probe_slide("S1", np.arange(150) / 7)
    store = probe_store(tmp_path, [slide], [unit(np.random.default_rng(0).normal(size=(150, 4)))])
    with pytest.raises(EvaluationError, match="150 different values"):
        evaluate_domains(store, "region")


def test_plain_slides_beside_measured_ones_are_noted(tmp_path):
    store, _, _ = mixed_store(tmp_path, measured=1)
    report = evaluate_domains(store, "domain", methods=("kmeans",), seeds=(0,))
    assert {row["on"] for row in report.rows} == {"M0"}
    assert "no label 'domain': W." in " ".join(report.notes)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"features": ("picture",)}, "features is"),
        ({"methods": ()}, "methods is"),
        ({"seeds": ()}, "seeds is"),
        ({"seeds": (-1,)}, "seeds is"),
        ({"smoothing_um": (0.0,)}, "smoothing_um is"),
        ({"smoothing_um": (float("nan"),)}, "smoothing_um is"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, asked, words):
    store = random_world(tmp_path, n_slides=1, n=10)
    with pytest.raises(ValueError, match=words):
        evaluate_domains(store, "region", **asked)


@needs_igraph
def test_a_number_of_clusters_that_was_not_reached_is_noted(tmp_path):
    vectors, kind = blobs(k=6, n=180, dim=8)
    labels = [CLASSES[one % 2] for one in kind]
    store = probe_store(tmp_path, [probe_slide("S1", labels)], [unit(vectors)])
    report = evaluate_domains(store, "region", features=("gene",), methods=("leiden",), seeds=(0,))
    row = rows_of(report, features="gene")[0]
    assert (row["n_classes"], row["n_clusters"]) == (2, 6.0)
    assert "(leiden) the number of clusters found is not that of the classes" in " ".join(
        report.notes
    )
