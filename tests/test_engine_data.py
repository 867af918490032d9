"""The data of the search benchmark is what its description says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import search_data
from stamp_index.index.exact import exact_search


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(search_data, "BLOCK", 2_000)
    monkeypatch.setattr(search_data, "N_QUERIES", 200)
    yield search_data.load(folder, 5_000, 128)
    monkeypatch.undo()


def test_vectors_and_queries_have_unit_length(data):
    for rows in (np.asarray(data.vectors, np.float32), *data.queries.values()):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-3)
    assert data.vectors.dtype == np.float16
    assert {name: len(rows) for name, rows in data.queries.items()} == {"gene": 200, "image": 200}


def test_the_first_rows_do_not_depend_on_how_many_follow(data, tmp_path, monkeypatch):
    monkeypatch.setattr(search_data, "BLOCK", 2_000)
    monkeypatch.setattr(search_data, "N_QUERIES", 200)
    longer = search_data.load(tmp_path, 7_000, 128)
    np.testing.assert_array_equal(longer.vectors[:5_000], data.vectors)
    np.testing.assert_array_equal(longer.queries["gene"], data.queries["gene"])
    other = search_data.load(tmp_path, 5_000, 128, seed=1)
    assert not np.array_equal(other.vectors, data.vectors)


def test_gene_queries_lie_off_the_image_manifold(data):
    nearest = {
        name: exact_search(data.vectors, rows, 1)[0].mean() for name, rows in data.queries.items()
    }
    assert nearest["gene"] < nearest["image"] - 0.1


def test_attributes_leave_the_share_they_are_asked_for(data):
    for attribute in (data.independent, data.follows):
        for share in (0.5, 0.1):
            assert (attribute < share).mean() == pytest.approx(share, abs=0.03)


def test_one_attribute_follows_the_clusters_and_the_other_does_not(data):
    vectors = np.asarray(data.vectors[:2_000], np.float32)
    _, near = exact_search(data.vectors, vectors, 6)

    def agreement(attribute):
        allowed = attribute < 0.3
        return (allowed[near[:, 1:]] == allowed[:2_000, None]).mean()

    assert agreement(data.independent) < 0.65  # .58 by chance
    assert agreement(data.follows) > 0.75


def test_exact_answers_are_kept_by_filter(data):
    truth = data.truth("gene", 0.1, "follows")
    _, rows = exact_search(data.vectors, data.queries["gene"], 100, allowed=data.follows < 0.1)
    np.testing.assert_array_equal(truth, rows)
    assert (data.folder / "truth-gene-follows-0.1.npy").is_file()
    np.testing.assert_array_equal(data.truth("gene", 0.1, "follows"), rows)
    assert not np.array_equal(data.truth("gene")[:, :10], truth[:, :10])


def test_noise_has_no_structure(tmp_path, monkeypatch):
    monkeypatch.setattr(search_data, "N_QUERIES", 50)
    noise = search_data.load(tmp_path, 2_000, 64, noise=True)
    spread = np.linalg.eigvalsh(np.cov(np.asarray(noise.vectors, np.float32).T))
    assert spread[-1] < 3 * spread[0]
