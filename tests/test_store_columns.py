"""Columns and counts of a few spots: the same however they are read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stamp_index.errors import QueryError
from stamp_index.store import Store, reading
from tests.support import TOY_GENES, toy_rows, toy_slide, toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Slides moved by a compaction, one gone, one replaced, one without a pixel size, and two panels."""
    fewer = tuple(gene for gene in TOY_GENES if gene not in ("CD8A", "ACTB"))
    slides = [
        toy_slide("A", 20, 1, patient_id="P1", organ="breast"),
        toy_slide("B", 15, 2),
        toy_slide("C", 12, 3, genes=fewer, image=False, organ="skin"),
        toy_slide("D", 18, 4, patient_id=""),
    ]
    made = toy_store(tmp_path_factory.mktemp("columns"), slides=slides)
    made.delete("B")
    made.compact()
    made.add(toy_rows(toy_slide("A", 9, 6, genes=fewer[::-1])), replace=True)
    return made


@pytest.fixture
def rows(store):
    """Every spot once or twice, in no order."""
    rng = np.random.default_rng(0)
    return rng.permutation(np.concatenate([store.rows(), store.rows()[::3]]))


@pytest.mark.parametrize("kept", [0, 10**6])
def test_columns_of_some_spots_are_those_of_the_whole_table(store, rows, kept, monkeypatch):
    monkeypatch.setattr(reading, "_KEPT_SPOTS", kept)
    again = Store.open(store.path)
    whole = again.spots().set_index(again.rows())
    expected = whole.loc[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.spots(None, rows), expected)
    few = ["y_um", "spot_id", "n_genes"]
    pd.testing.assert_frame_equal(again.spots(few, rows), expected[few])
    pd.testing.assert_frame_equal(again.spots(["organ"], rows), expected[["organ"]])
    assert len(again.spots(few, [])) == 0


@pytest.mark.parametrize("kept", [0, 10**6])
def test_spots_are_found_by_their_ids(store, kept, monkeypatch):
    monkeypatch.setattr(reading, "_KEPT_SPOTS", kept)
    again = Store.open(store.path)
    for row, spot_id in zip(again.rows(), again.spots()["spot_id"], strict=True):
        assert again.row_of(spot_id) == row
    with pytest.raises(QueryError, match="A:B0015-1"):
        again.row_of("A:B0015-1")  # of the slide that was replaced


@pytest.mark.parametrize("n", [1, 5, 40])
def test_counts_read_spot_by_spot_are_those_read_gene_by_gene(store, rows, n, monkeypatch):
    genes = ("ACTB", "EPCAM", "CD8A", "KRT8", "B2M", "GAPDH", "VIM") * 8  # more than spots
    monkeypatch.setattr(reading, "_BY_SPOT", 0)
    by_gene = store.counts(genes, rows[:n])
    monkeypatch.setattr(reading, "_BY_SPOT", 10**6)
    np.testing.assert_array_equal(store.counts(genes, rows[:n]), by_gene)
    assert n < 40 or np.isnan(by_gene).any()


def test_equal_gene_lists_are_read_once(tmp_path):
    genes = TOY_GENES[:8]
    slides = [toy_slide(f"S{i}", 5, i, genes=genes, image=False) for i in range(3)]
    slides.append(toy_slide("S9", 5, 9, genes=genes[::-1], image=False))
    lists = toy_store(tmp_path, slides=slides)._tables.gene_lists
    assert lists[0] is lists[1] is lists[2]
    assert [list(one) for one in lists] == [list(genes)] * 3 + [list(genes[::-1])]
