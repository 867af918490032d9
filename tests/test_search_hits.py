"""Hits: their table, exports and picture."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest

from stamp_index.search import Searcher
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store

COLUMNS = [
    *("rank", "score", "z", "percentile", "spot_id", "slide_id", "patient_id", "organ"),
    *("x_px", "y_px", "x_um", "y_um", "measured", "CD8A", "EPCAM"),
]


@pytest.fixture(scope="module")
def hits(tmp_path_factory):
    """All 40 spots of two slides; the second has no picture and did not measure CD8A."""
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    slides = [
        toy_slide("S1", 20, 0),
        toy_slide("S<2>", 20, 1, genes=fewer, image=False, organ="skin", patient_id="P2"),
    ]
    store = toy_store(tmp_path_factory.mktemp("hits"), slides=slides)
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    return searcher.search_genes("CD8A high, EPCAM low", against="gene", k=40)


def test_table_says_where_every_hit_lies_and_what_was_measured(hits):
    table = hits.to_pandas()
    assert list(table.columns) == COLUMNS
    assert table["rank"].tolist() == list(range(1, 41))
    assert (np.diff(table["score"]) <= 0).all()
    spots = hits.store.spots()
    values = hits.store.expression(["CD8A", "EPCAM"])
    for row, hit in zip(hits.rows, table.to_dict("records"), strict=True):
        for column in COLUMNS[4:10]:
            assert hit[column] == spots[column].iloc[row]
        np.testing.assert_array_equal([hit["CD8A"], hit["EPCAM"]], values[row])


def test_gene_that_a_slide_did_not_measure_is_nan_and_noted(hits):
    table = hits.table
    assert table.loc[table["slide_id"] == "S<2>", "CD8A"].isna().all()
    assert table.loc[table["slide_id"] == "S1", "CD8A"].notna().all()
    assert hits.notes == ("CD8A was not measured on 1 of the 2 slides of these hits (S<2>).",)


def test_genes_that_the_same_slides_lack_share_a_note(tmp_path):
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, genes=TOY_GENES[20:])]
    slides += [toy_slide("S3", 20, 2, genes=TOY_GENES[:30])]
    searcher = Searcher(toy_store(tmp_path, slides=slides), ToyEncoder())
    hits = searcher.search_vector(np.ones(32), against="gene", k=60, genes=TOY_GENES[8:32])
    assert hits.notes == (
        f"{', '.join(TOY_GENES[8:18])}, ... were not measured on 1 of the 3 slides of these hits (S2).",
        f"{', '.join(TOY_GENES[30:32])} were not measured on 1 of the 3 slides of these hits (S3).",
    )


def test_hits_are_read_without_the_table(hits):
    assert len(hits) == 40
    assert hits.spot_ids == tuple(hits.table["spot_id"])
    assert hits.scores.dtype == np.float32
    assert hits.rows.dtype == np.int64
    assert hits.store_version == 3
    assert hits.fingerprint == ToyEncoder().fingerprint


def test_hits_cannot_be_changed_by_what_they_hand_out(hits):
    with pytest.raises(FrozenInstanceError):
        hits.query = "another"
    hits.to_pandas()["score"] = 0.0
    assert hits.scores[0] > 0


def test_arrow_table_carries_the_same_and_its_origin(hits):
    table = hits.to_arrow()
    pd.testing.assert_frame_equal(table.to_pandas(), hits.table)
    origin = json.loads(table.schema.metadata[b"stamp_index"])
    assert origin["query"] == "CD8A high, EPCAM low"
    assert origin["store_version"] == 3


def test_anndata_carries_expression_places_and_origin(hits, tmp_path):
    data = hits.to_anndata()
    assert data.shape == (40, 2)
    assert data.obs_names.tolist() == list(hits.spot_ids)
    assert data.var_names.tolist() == ["CD8A", "EPCAM"]
    np.testing.assert_array_equal(data.X, hits.table[["CD8A", "EPCAM"]].to_numpy())
    np.testing.assert_array_equal(data.obsm["spatial"], hits.table[["x_px", "y_px"]].to_numpy())
    assert data.uns["stamp_index"] == {
        "query": "CD8A high, EPCAM low",
        "notes": list(hits.notes),
        "store_version": 3,
        "fingerprint": hits.fingerprint,
    }
    data.write_h5ad(tmp_path / "hits.h5ad")


def test_hits_without_genes_are_exported_too(hits):
    searcher = Searcher(hits.store, ToyEncoder())
    plain = searcher.search_vector(np.ones(32), against="gene", k=3)
    assert list(plain.table.columns) == COLUMNS[:12]
    assert plain.to_anndata().shape == (3, 0)
    assert plain.to_arrow().num_rows == 3


def test_notebook_view_shows_pictures_and_escapes_text(hits):
    html = replace(hits, query="<script>alert(1)</script>", notes=("a < b",))._repr_html_()
    n_pictured = int((hits.table["slide_id"] == "S1").sum())
    assert html.count("data:image/jpeg;base64,") == n_pictured
    assert html.count("no picture") == 40 - n_pictured
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "a &lt; b" in html
    assert "S&lt;2&gt;:" in html
    assert "S<2>" not in html
    assert "http" not in html
    assert "CD8A not measured" in html


def test_gene_with_the_name_of_a_column_leaves_that_column_alone(tmp_path):
    slide = replace(toy_slide("S1", 20, 0), genes=("z", "rank", *TOY_GENES[2:]), gene_ids=())
    store = toy_store(tmp_path, slides=[slide])
    hits = Searcher(store, ToyEncoder()).search_vector(
        np.ones(32), against="gene", k=6, genes=("z", "rank", TOY_GENES[2])
    )
    assert list(hits.table.columns) == [*COLUMNS[:12], "expr(z)", "expr(rank)", TOY_GENES[2]]
    assert hits.table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    measured = store.expression(["z", "rank"], hits.rows)
    np.testing.assert_array_equal(hits.table[["expr(z)", "expr(rank)"]], measured)
    plain = Searcher(store, ToyEncoder()).search_vector(np.ones(32), against="gene", k=6)
    pd.testing.assert_series_equal(hits.table["z"], plain.table["z"])
    data = hits.to_anndata()
    assert data.var_names.tolist() == ["z", "rank", TOY_GENES[2]]
    np.testing.assert_array_equal(data.X[:, :2], measured)
    assert hits.to_arrow().column_names == list(hits.table.columns)
    assert f"z {measured[0, 0]:.2f}" in hits._repr_html_()


# ---- a signature as it was measured ------------------------------------------------------------


def test_measured_score_is_the_weighted_mean_of_the_signature_at_each_hit(hits):
    searcher = Searcher(hits.store, ToyEncoder())
    found = searcher.search_genes("CD8A 2, EPCAM -0.5, KRT8 high", against="gene", k=12)
    for hit in found.table.to_dict("records"):
        slow = (2 * hit["CD8A"] - 0.5 * hit["EPCAM"] + hit["KRT8"]) / 3.5
        np.testing.assert_allclose(hit["measured"], slow, rtol=1e-6)


def test_hits_can_be_put_in_the_order_of_what_was_measured(hits):
    searcher = Searcher(hits.store, ToyEncoder())
    asked = {"against": "gene", "k": 40}
    by_score = searcher.search_genes("CD8A high, EPCAM low", **asked)
    by_measured = searcher.search_genes("CD8A high, EPCAM low", rank_by="measured", **asked)
    expected = by_score.table.assign(row=by_score.rows)
    expected = expected.sort_values(["measured", "score"], ascending=False, na_position="last")
    assert by_measured.rows.tolist() == expected["row"].tolist()
    assert by_measured.table["rank"].tolist() == list(range(1, 41))
    assert by_measured.scores.tolist() == expected["score"].tolist()
    assert set(by_measured.table["slide_id"].iloc[-20:]) == {"S<2>"}
    assert (by_score.ranked_by, by_measured.ranked_by) == ("score", "measured")
    assert by_measured.notes[0] == (
        "20 of 40 hits lie where not every gene was measured: they come last, by score."
    )
    assert "hits by measured expression" in by_measured._repr_html_()


def test_order_that_is_none_is_refused(hits):
    with pytest.raises(ValueError, match="rank_by is 'expression'; expected 'score' or 'measured'"):
        Searcher(hits.store, ToyEncoder()).search_genes("CD8A high", rank_by="expression")
