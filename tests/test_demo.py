"""The whole chain at the demo's size: what `make demo` built answers planted queries on the held-out patient."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stamp_index.demo import HELD_OUT, read_evaluation
from stamp_index.phantom import PLANTED_QUERIES, load_truth

FOLDER = Path(
    os.environ.get("STAMP_INDEX_DEMO", Path(__file__).resolve().parent.parent / "stamp-demo")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FOLDER / "run" / "evaluation.json").exists(),
        reason="no demo was built: run `make demo ARGS=--no-serve` first",
    ),
]


@pytest.fixture(scope="module")
def report():
    return read_evaluation(FOLDER)


@pytest.fixture(scope="module")
def searcher():
    from stamp_index.search import Searcher

    return Searcher.open(FOLDER / "store")


@pytest.fixture(scope="module")
def domain_of():
    found = {}
    for folder in (FOLDER / "slides").glob("P*_*"):
        truth = load_truth(folder)
        found |= {
            f"{folder.name}:{b}": d for b, d in zip(truth["barcode"], truth["domain"], strict=True)
        }
    return found


def test_planted_queries_find_their_domain_on_the_held_out_patient(searcher, domain_of):
    share = {}
    for domain, text in PLANTED_QUERIES.items():
        hits = searcher.search_genes(text, k=20, filters=f'patient == "{HELD_OUT}"')
        assert {spot.split("_")[0] for spot in hits.spot_ids} == {HELD_OUT}
        share[domain] = np.mean([domain_of[spot] == domain for spot in hits.spot_ids])
    # At least .9 each as measured (benchmarks/RESULTS.md); one hit more or less is left to rounding that differs
    # between processors.
    assert min(share.values()) >= 0.85, share
    assert np.mean(list(share.values())) >= 0.9, share


def test_a_planted_query_also_finds_its_domain_among_gene_profiles(searcher, domain_of):
    hits = searcher.search_genes(PLANTED_QUERIES["fat"], against="gene", k=20)
    assert np.mean([domain_of[spot] == "fat" for spot in hits.spot_ids]) >= 0.85


def test_recall_is_ten_times_chance_in_both_directions_with_its_interval(report):
    rows = [
        row
        for row in report["retrieval"]
        if (row["gallery"], row["encoder"]) == ("all held out by patient", "trained")
    ]
    assert {row["direction"] for row in rows} == {"image_to_gene", "gene_to_image"}
    for row in rows:
        assert row["N"] == 2400
        assert row["R@1%"] >= 10 * row["chance R@1%"]
        low = float(row["R@1% 95% CI"].split("-")[0])
        assert low >= 10 * row["chance R@1%"]


def test_the_split_is_by_patient(report):
    assert report["split"]["by"] == "patient"
    assert all(name.startswith(HELD_OUT) for name in report["split"]["held_out"])


def test_predicted_markers_correlate_with_the_truth(report):
    rows = [row for row in report["prediction"] if row["encoder"] == "trained"]
    assert len(rows) == 2
    assert all(row["mean Pearson"] >= 0.5 for row in rows)


def test_baselines_that_look_at_nothing_are_at_chance(report):
    for name in ("random", "mean expression"):
        row = next(row for row in report["retrieval"] if row["encoder"] == name)
        assert row["R@5%"] == pytest.approx(0.05, abs=0.02)


def test_flat_search_returns_the_ids_of_exact_numpy(searcher):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(20, searcher.encoder.dim)).astype(np.float32)
    for modality in ("image", "gene"):
        vectors = searcher.store.vectors(modality).astype(np.float32)
        for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
            hits = searcher.search_vector(query, against=modality, k=25)
            exact = np.argsort(-(vectors @ query), kind="stable")[:25]
            assert list(hits.rows) == exact.tolist()


def test_a_crop_of_the_slide_finds_its_own_spot_first(searcher):
    from stamp_index.readers import read

    slide = read(FOLDER / "slides" / "P3_A")
    side_px = searcher.encoder.region.width_um / slide.mpp
    for row in (100, 500, 900):
        x, y = slide.xy_px[row]
        crop = slide.image.read(x - side_px / 2, y - side_px / 2, side_px, round(side_px))
        hits = searcher.search_image(crop, mpp=slide.mpp, against="image", k=5)
        assert slide.spot_ids[row] in hits.spot_ids[:2]
