"""The search benchmark compares like with like: same rows, same settings, turns in the same round."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import search_data
from benchmarks.vector_search_parts import growth, peers, report, timing, unfiltered
from benchmarks.vector_search_parts.ours import N_HELD_OUT, Ours, OursFlat, RawFaiss
from stamp_index.index.exact import ann_recall_at_k

N, DIM = 4_000, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def data(folder):
    patch = pytest.MonkeyPatch()
    patch.setattr(search_data, "BLOCK", 2_000)
    yield search_data.load(folder / "data", N, DIM)
    patch.undo()


@pytest.fixture(scope="module")
def ours(folder, data):
    return Ours(folder, data, "ivf_pq")


# ---- timing --------------------------------------------------------------------------------------


def test_a_ratio_is_the_median_of_the_ratios_of_the_same_round():
    disturbed = timing.Cost(cpu=[2.0, 200.0, 3.0])
    steady = timing.Cost(cpu=[1.0, 100.0, 1.0])
    assert disturbed.ratio(steady) == 2.0
    assert disturbed.cpu_ms == 3.0


def test_every_search_gets_whole_batches_of_the_same_queries_in_every_round():
    queries = np.arange(40, dtype=np.float32).reshape(20, 2)
    seen = {"a": [], "b": []}
    searches = {
        name: lambda q, calls=calls: calls.append(q.copy()) or np.zeros((len(q), 1), np.int64)
        for name, calls in seen.items()
    }
    costs = timing.in_turns(searches, queries, 8, rounds=3)
    assert {len(cost.cpu) for cost in costs.values()} == {3}
    for calls in seen.values():
        assert {len(call) for call in calls} == {8}  # 2 batches of 8 fit into 20 queries
        np.testing.assert_array_equal(np.concatenate(calls[-2:]), queries[:16])


def test_rounds_begin_with_another_search_each_time():
    order = []
    searches = {
        name: lambda q, name=name: order.append(name) or np.zeros((len(q), 1), np.int64)
        for name in "abc"
    }
    timing.in_turns(searches, np.zeros((1, 2), np.float32), 1, rounds=3)
    assert "".join(order[-9:]) == "abcbcacab"


# ---- contenders ----------------------------------------------------------------------------------


def test_ours_and_raw_faiss_find_the_same_at_the_same_setting(data, ours):
    raw = RawFaiss(ours, data)
    queries = data.queries["gene"][:100]
    for setting in ((4, 50), (8, 200)):
        mine, theirs = ours.search(queries, 10, setting), raw.search(queries, 10, setting)
        assert (np.sort(mine, axis=1) == np.sort(theirs, axis=1)).mean() > 0.99  # ties


@pytest.mark.parametrize("half", [True, False])
def test_exact_contenders_find_the_truth(data, half):
    queries, truth = data.queries["image"][:50], data.truth("image")[:50]
    assert ann_recall_at_k(peers.FaissFlat(data, half=half).search(queries, 10, ()), truth) > 0.99
    assert ann_recall_at_k(OursFlat(data).search(queries, 10), truth) == 1


def test_centres_are_turned_back_to_where_the_vectors_are(data, ours):
    centres = peers.centres_of(ours.engine.source.index)
    nearest = (np.asarray(data.vectors, np.float32) @ centres.T).argmax(axis=1)
    assert (nearest == ours.engine.source.list_of).mean() > 0.99


def test_settings_of_the_card_come_from_queries_that_do_not_report(data, ours, folder):
    note = json.loads((folder / "built" / str(N) / "ivf_pq.json").read_text("utf-8"))
    assert note["calibration"]["n_queries"] == {"gene": N_HELD_OUT, "image": N_HELD_OUT}
    assert len(data.queries["gene"]) > N_HELD_OUT
    assert set(note["stages"]) == {"train", "fill", "write", "calibrate"}
    assert note["peak_resident_mib"] >= max(s["anonymous_mib"] for s in note["stages"].values())
    assert ours.bytes_per_vector == note["bytes_per_vector"] > 16


class Graded:
    """A peer that finds as much as its setting says."""

    name = "graded"
    bytes_per_vector = build_cpu_s = 0.0

    def __init__(self, truth, ladders):
        self.truth, self.ladders = truth, ladders

    def search(self, queries, k, setting, where=None):
        rows = self.truth[: len(queries), :k].copy()
        rows[:, setting[0] :] = -1
        return rows


@pytest.mark.parametrize(
    ("ladders", "setting", "recall"),
    [
        ([[(2,), (5,), (10,), (11,)]], (10,), 1.0),
        ([[(2,), (5,)], [(3,), (7,)]], (7,), 0.7),
    ],
    ids=["first_of_its_ladder_that_reaches", "nearest_where_none_reaches"],
)
def test_a_peer_is_entered_at_its_best_setting(data, tmp_path, ladders, setting, recall):
    peer = Graded(data.truth("gene"), ladders)
    for _ in range(2):  # the second time from the file
        found = unfiltered.best_setting(peer, data, tmp_path, "gene")
        assert found == (setting, pytest.approx(recall))


@pytest.mark.slow
def test_lancedb_with_all_lists_and_deep_ranking_finds_the_truth_under_filters_too(data, tmp_path):
    pytest.importorskip("lancedb")
    peer = peers.LanceDb(data, tmp_path, "IVF_RQ", num_bits=1)
    queries, everything = data.queries["gene"][:20], (peer.n_lists, 80)
    together = peer.search(queries, 10, everything)
    assert ann_recall_at_k(together, data.truth("gene")[:20]) > 0.99
    alone = np.concatenate([peer.search(queries[i : i + 1], 10, everything) for i in range(20)])
    np.testing.assert_array_equal(together, alone)
    found = peer.search(queries, 10, everything, "follows < 0.1")
    assert ann_recall_at_k(found, data.truth("gene", 0.1, "follows")[:20]) > 0.99
    assert (data.follows[found] < 0.1).all()


@pytest.mark.parametrize(("package", "peer"), [("hnswlib", "HnswLib"), ("usearch", "USearch")])
def test_graphs_searched_widely_find_the_truth(data, tmp_path, package, peer):
    pytest.importorskip(package)
    graph = getattr(peers, peer)(data, tmp_path)
    found = graph.search(data.queries["image"][:50], 10, (512,))
    assert ann_recall_at_k(found, data.truth("image")[:50]) > 0.98


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_growth_tells_build_search_and_memory_of_every_size_and_draws_them(folder, data, ours):
    figure = folder / "figures" / "growth.png"
    text = growth.run(folder, [2_000, N], DIM, figure)
    builds, searches = text.split("\n\n")
    for table in (builds, searches):
        lines = table.splitlines()
        assert len(lines) == 4
        assert [line.split("|")[1].strip() for line in lines[2:]] == ["2,000", "4,000"]
        assert len({line.count("|") for line in lines}) == 1
    assert figure.stat().st_size > 10_000


def test_tables_say_where_their_figures_come_from():
    text = report.origin()
    assert "Commit " in text
    assert "faiss-cpu " in text
    assert "cores of an" in text
