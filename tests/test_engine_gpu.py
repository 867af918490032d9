"""IVF-PQ on a GPU gives the answers of the CPU; without a GPU it is refused in words."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import Engine, Settings, build, gpu
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.recipes import IvfPqRecipe
from tests.engine_world import RECIPES, clustered, engine_of, share_found, slow_search

# 16 sub-quantisers of 8 bits over 64 dimensions: a shape that FAISS has on GPUs
VECTORS = clustered(20_000, dim=64).astype(np.float16)
QUERIES = clustered(50, seed=5, dim=64)
RECIPE = IvfPqRecipe(opq_rounds=1, nlist=128, dims_per_byte=4)


def test_without_a_gpu_everything_works_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "n_gpus", lambda: 0)
    engine = engine_of("ivf_pq", tmp_path, VECTORS)
    with pytest.raises(AnnIndexError, match="FAISS sees 0 of them.*Search on the CPU"):
        engine.on_gpus()
    with pytest.raises(AnnIndexError, match="build with the recipe 'ivf_pq'"):
        Engine(None, VECTORS).on_gpus()


def test_only_eight_bit_codes_go_to_a_gpu(tmp_path, monkeypatch):
    eight = build(VECTORS, RECIPES["ivf_pq"], tmp_path / "eight")
    others = [build(VECTORS[:3_000], RECIPES[kind], tmp_path / kind) for kind in RECIPES]
    assert inner_lists(others[0]).pq.nbits == 6  # too few rows to train more
    assert not gpu.supports(eight) or gpu.n_gpus()
    monkeypatch.setattr(gpu, "n_gpus", lambda: 1)
    assert gpu.supports(eight)
    assert not any(gpu.supports(index) for index in others)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    if gpu.n_gpus() == 0:
        pytest.skip("FAISS sees no GPU")
    index = build(VECTORS, RECIPE, tmp_path_factory.mktemp("gpu"))
    engine = Engine(index, VECTORS, settings=Settings(32, 400))
    return engine, [engine.on_gpus(), engine.on_gpus(shard=True)]


@pytest.mark.gpu
def test_an_index_filled_on_the_gpu_is_one_of_the_cpu(engines):
    engine, _ = engines
    lists = inner_lists(engine.source.index)
    assert type(lists).__name__ == "IndexIVFPQ"
    assert lists.ntotal == len(VECTORS)
    np.testing.assert_array_equal(
        np.bincount(engine.source.list_of, minlength=lists.nlist),
        [lists.invlists.list_size(number) for number in range(lists.nlist)],
    )


@pytest.mark.gpu
def test_gpu_and_cpu_find_the_same(engines):
    engine, others = engines
    slow, _ = slow_search(VECTORS, QUERIES, 10)
    scores, rows = engine.search(QUERIES, 10)
    for other in others:
        near, found = other.search(QUERIES, 10)
        assert share_found(found, slow) >= 0.97
        same = rows == found
        assert same.mean() > 0.97  # tables of float16 may swap candidates at the edge
        np.testing.assert_array_equal(near[same], scores[same])


@pytest.mark.gpu
def test_filters_and_deep_searches_work_beside_the_gpu(engines):
    _, others = engines
    mask = np.random.default_rng(0).random(len(VECTORS)) < 0.3
    for other in others:
        _, rows = other.search(QUERIES, 10, allowed=other.prepare(mask))
        assert mask[rows].all()
        slow, _ = slow_search(VECTORS, QUERIES, 10, mask)
        assert share_found(rows, slow) >= 0.95
        assert other.search(QUERIES, 3_000)[1].shape == (50, 3_000)
