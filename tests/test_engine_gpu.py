"""IVF-PQ on a GPU gives the answers of the CPU; without a GPU it is refused in words."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from threading import Lock

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import Engine, Settings, build, building, gpu, on_gpus_if_any
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.engine.training import train
from stamp_index.index.faiss_library import load_faiss
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


# ---- GPUs that fail: made of CPU indexes, so that no GPU is needed -----------------------------------


class Broken:
    """A copy of an index, or what fills one, that has no room."""

    def __init__(self, *_args):
        pass

    def _fail(self, *_args, **_more):
        msg = "Error: 'err == cudaSuccess' failed: out of memory"
        raise RuntimeError(msg)

    search = add_with_ids = _fail


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "n_gpus", lambda: 1)
    monkeypatch.setattr(gpu, "_copies", lambda index, shard: [index])


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    index = build(VECTORS, RECIPE, tmp_path_factory.mktemp("cpu"))
    return Engine(index, VECTORS, settings=Settings(32, 400))


def assert_same_answers(engine, other):
    mask = np.random.default_rng(0).random(len(VECTORS)) < 0.6
    for queries, k in ((QUERIES, 10), (QUERIES[:1], 3), (QUERIES, 700)):
        for allowed in (None, mask):
            found, wanted = (
                one.search(queries, k, allowed=None if allowed is None else one.prepare(allowed))
                for one in (engine, other)
            )
            np.testing.assert_array_equal(found[1], wanted[1])
            np.testing.assert_array_equal(found[0], wanted[0])


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_that_has_no_room_for_an_index_leaves_it_to_the_cpu(on_cpu, monkeypatch, caplog):
    assert isinstance(on_gpus_if_any(on_cpu).source, gpu.GpuLists)
    monkeypatch.setattr(gpu, "_copies", Broken()._fail)
    with pytest.raises(AnnIndexError, match="does not go to the GPU .*out of memory.* on the CPU"):
        on_cpu.on_gpus()
    assert on_gpus_if_any(on_cpu) is on_cpu
    assert "Opening an index failed on the GPU (" in caplog.text


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_that_fails_in_the_middle_leaves_the_search_to_the_cpu(on_cpu, caplog):
    other = on_gpus_if_any(on_cpu)
    assert_same_answers(other, on_cpu)
    assert caplog.text == ""
    other.source._on_gpu = [(Broken(), Lock()), *other.source._on_gpu]
    assert_same_answers(other, on_cpu)
    assert caplog.text.count("Searching failed on the GPU (") == 1
    assert "out of memory" in caplog.text


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("stage", ["none", "opening", "adding", "taking"])
def test_a_gpu_that_fails_while_an_index_is_filled_changes_nothing_of_it(
    tmp_path, on_cpu, monkeypatch, caplog, stage
):
    class Fills(Broken):
        def __init__(self, trained):
            if stage == "opening":
                self._fail()
            self.index, self.n_added = load_faiss().clone_index(trained), 0

        def add_with_ids(self, rows, ids):
            self.n_added += len(rows)
            if stage == "adding" and self.n_added > 9_000:
                self._fail()
            self.index.add_with_ids(rows, ids)

        def take(self):
            if stage == "taking":
                self._fail()
            taken = load_faiss().clone_index(self.index)
            self.index.reset()
            return taken

    monkeypatch.setattr(gpu, "Filler", Fills)
    monkeypatch.setattr(gpu, "clustering", lambda index: nullcontext())
    monkeypatch.setattr(building, "_SHARD_ROWS", 4_000)
    index = build(VECTORS, RECIPE, tmp_path)
    assert_same_answers(Engine(index, VECTORS, settings=Settings(32, 400)), on_cpu)
    assert caplog.text.count("Filling an index failed on the GPU") == (stage != "none")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_a_gpu_that_fails_in_training_leaves_it_to_the_cpu(monkeypatch, caplog, error):
    wanted = train(VECTORS[:3_000], RECIPES["ivf_sq8"], n_sample=3_000)

    @contextmanager
    def clustering(index):
        msg = "out of memory"
        raise error(msg)
        yield

    monkeypatch.setattr(gpu, "n_gpus", lambda: 1)
    monkeypatch.setattr(gpu, "clustering", clustering)
    found = train(VECTORS[:3_000], RECIPES["ivf_sq8"], n_sample=3_000)
    faiss = load_faiss()
    np.testing.assert_array_equal(faiss.serialize_index(found), faiss.serialize_index(wanted))
    assert "Training an index failed on the GPU (out of memory" in caplog.text
    monkeypatch.setattr(gpu, "n_gpus", lambda: 0)
    with pytest.raises(error, match="out of memory"):
        train(VECTORS[:3_000], RECIPES["ivf_sq8"], n_sample=3_000)


# ---- real GPUs -----------------------------------------------------------------------------------


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
