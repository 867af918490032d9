"""Hits as tables, GeoJSON and AnnData."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata.io import read_elem
from scipy.sparse import csr_matrix

from stamp_index.embed import ingest
from stamp_index.errors import MissingPixelSizeError, QueryError
from stamp_index.export import (
    geojson_bytes,
    hits_anndata,
    hits_csv,
    hits_geojson,
    hits_h5ad,
    hits_table,
    read_annotations,
    selection_geojson,
)
from stamp_index.search import Searcher
from stamp_index.store import EncoderCard, Store
from tests.plain_world import plain
from tests.support import TOY_GENES, TOY_MPP, ToyEncoder, toy_slide, toy_store

EVIL = '=HYPERLINK("//x/";"=1")'


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """S1 with all genes, S2 of a hostile name with some, S3 that is plain H&E."""
    encoder = ToyEncoder()
    store = Store.create(tmp_path_factory.mktemp("toy") / "store", EncoderCard.of(encoder))
    for slide in (
        toy_slide("S1", 40, 1, organ="@organ"),
        toy_slide(EVIL, 40, 2, genes=TOY_GENES[10:40], patient_id="-2+3"),
        plain(toy_slide("S3", 40, 3)),
    ):
        ingest(store, encoder, slide)
    return Searcher(store, ToyEncoder())


@pytest.fixture(scope="module")
def hits(searcher):
    return searcher.search_genes("CD8A high, IL7R high", k=60, genes=["EPCAM"])


def test_the_table_has_one_schema(hits):
    table = hits_table(hits, "image")
    assert list(table.columns) == [
        *("rank", "score", "z", "percentile", "spot_id", "slide_id", "barcode", "patient_id"),
        *("organ", "x_px", "y_px", "x_um", "y_um", "measured", "CD8A", "IL7R", "EPCAM"),
        *("query", "searched", "store_id", "store_version", "encoder"),
    ]
    assert (table["slide_id"] + ":" + table["barcode"]).tolist() == table["spot_id"].tolist()
    assert set(table["query"]) == {"CD8A high, IL7R high"}
    assert set(table["searched"]) == {"image"}
    assert set(table["store_id"]) == {hits.store.store_id}
    assert set(table["encoder"]) == {hits.fingerprint}
    assert "barcode" not in hits.table
    pd.testing.assert_frame_equal(table[hits.table.columns.tolist()], hits.table)


def test_weights_of_two_embeddings_are_one_cell(hits):
    both = hits_table(hits, {"image": 0.75, "gene": 0.25})
    assert set(both["searched"]) == {"gene 0.25, image 0.75"}


def test_csv_reads_back_as_the_table(hits):
    content = hits_csv(hits, "image")
    read = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values={"EPCAM": [""]})
    assert content.startswith(b"rank,score,")
    assert len(read) == 60
    assert read["rank"].tolist() == list(range(1, 61))
    np.testing.assert_allclose(read["score"], hits.scores, rtol=1e-6)
    assert read["EPCAM"].isna().sum() == hits.table["EPCAM"].isna().sum() > 0


def test_no_text_of_a_csv_starts_a_formula_and_numbers_stay_numbers(hits):
    read = pd.read_csv(io.BytesIO(hits_csv(hits)), dtype=str, keep_default_na=False)
    numbers = {"score", "z", "measured"}
    assert read["score"].str.startswith("-").any() or read["z"].str.startswith("-").any()
    for name in set(read.columns) - numbers:
        assert not read[name].str.startswith(("=", "+", "-", "@", "\t", "\r")).any(), name
    assert f"'{EVIL}" in set(read["slide_id"])
    assert "'@organ" in set(read["organ"])
    assert "'-2+3" in set(read["patient_id"])


def test_a_query_that_is_a_formula_is_text_in_a_csv(hits):
    for query in ("=1+1", "@x", "\tx", "\rx", "-x", "+x"):
        content = hits_csv(replace(hits, query=query)).decode()
        read = pd.read_csv(io.StringIO(content, newline=""), dtype=str)
        assert read["query"][0].startswith("'" + query[0]), query


def test_a_gene_with_the_name_of_a_column_of_the_export_does_not_replace_it(hits):
    named = replace(hits, table=hits.table.rename(columns={"EPCAM": "query"}))
    table = hits_table(named)
    assert set(table["query"]) == {hits.query}
    assert table["expr(query)"].equals(hits.table["EPCAM"])


def test_hits_of_a_slide_are_detections_of_the_spots_true_size(hits):
    made = json.loads(geojson_bytes(hits_geojson(hits, "S1")))
    here = hits.table[hits.table["slide_id"] == "S1"]
    assert len(made["features"]) == len(here) > 0
    for feature, (_, hit) in zip(made["features"], here.iterrows(), strict=True):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert len(shape.exterior.coords) == 25
        left, top, right, bottom = shape.bounds
        assert (left + right) / 2 == pytest.approx(hit["x_px"], abs=1e-3)
        assert (top + bottom) / 2 == pytest.approx(hit["y_px"], abs=1e-3)
        assert right - left == pytest.approx(55.0 / TOY_MPP, abs=2e-3)
        said = feature["properties"]
        assert said["objectType"] == "detection"
        assert said["classification"] == {"name": "stamp hit", "color": [0, 161, 255]}
        assert said["measurements"]["rank"] == hit["rank"]
        assert said["measurements"]["score"] == pytest.approx(hit["score"])
        assert said["measurements"]["EPCAM"] == pytest.approx(hit["EPCAM"])
        assert f"S1:{said['metadata']['barcode']}" == hit["spot_id"]


def test_what_was_not_measured_is_no_measurement(hits):
    features = hits_geojson(hits, "S3")["features"]
    assert features
    for feature in features:
        assert not {"EPCAM", "CD8A", "measured"} & set(feature["properties"]["measurements"])


def test_bins_are_squares(tmp_path):
    slide = replace(toy_slide("HD", 40, 1), platform="Visium HD", spot_diameter_um=8.0)
    searcher = Searcher(toy_store(tmp_path, slides=[slide]), ToyEncoder())
    made = hits_geojson(searcher.search_genes("CD8A high", k=3), "HD")
    ring = made["features"][0]["geometry"]["coordinates"][0]
    assert len(ring) == 5
    assert shapely.Polygon(ring).area == pytest.approx((8.0 / TOY_MPP) ** 2)


def test_slides_that_are_not_there_or_have_no_size_are_refused(hits, tmp_path):
    with pytest.raises(QueryError, match="no slide 'S9'"):
        hits_geojson(hits, "S9")
    slide = toy_slide("N", 40, 1, image=False)
    searcher = Searcher(toy_store(tmp_path, slides=[slide]), ToyEncoder())
    found = searcher.search_genes("CD8A high", against="gene", k=3)
    with pytest.raises(MissingPixelSizeError, match="Slide N has no microns per pixel"):
        hits_geojson(found, "N")


def test_a_selection_is_read_back_as_it_was_drawn():
    ring = shapely.Point(500, 400).buffer(100).difference(shapely.Point(500, 400).buffer(20))
    two = shapely.MultiPolygon([shapely.box(0, 0, 5, 5), shapely.box(9, 9, 12, 12)])
    square = [[10, 10], [60, 10], [60, 60.5], [10, 60]]
    made = selection_geojson([ring, two, square], ["ring", "two", '<b>"a"</b>'])
    read = read_annotations(geojson_bytes(made), (1000, 1000))
    assert [one.name for one in read.shapes] == ["ring", "two", '<b>"a"</b>']
    assert read.shapes[0].shape().equals(ring)
    assert read.shapes[1].shape().equals(two)
    assert len(read.shapes[1].polygons) == 2
    assert read.shapes[2].shape().equals(shapely.Polygon(square))
    assert read.notes == ()


@pytest.mark.parametrize(
    "outline", [[[0, 0], [4, 4], [4, 0], [0, 4]], [[0, 0], [1, 1], [2, 2]], shapely.Point(0, 0)]
)
def test_a_selection_without_an_area_is_refused(outline):
    with pytest.raises(QueryError, match="The outline 'a' has no area, or crosses itself"):
        selection_geojson([outline], ["a"])
    with pytest.raises(ValueError, match="1 polygons and 0 names"):
        selection_geojson([outline], [])


def test_anndata_has_places_embeddings_and_what_was_asked(hits):
    made = hits_anndata(hits, "image")
    assert made.obs_names.tolist() == list(hits.spot_ids)
    assert made.shape == (60, 0)
    for name in ("rank", "score", "barcode", "measured", "CD8A", "EPCAM"):
        assert name in made.obs
    np.testing.assert_array_equal(made.obsm["spatial"], hits.table[["x_px", "y_px"]].to_numpy())
    for slot, side in (("X_stamp", "gene"), ("X_stamp_image", "image")):
        has = hits.store.has_vector(side)[hits.rows]
        lengths = np.linalg.norm(made.obsm[slot][has], axis=1)
        np.testing.assert_allclose(lengths, 1.0, atol=1e-6)
        assert np.isnan(made.obsm[slot][~has]).all()
    said = made.uns["stamp"]
    assert (said["query"], said["searched"]) == (hits.query, "image")
    assert said["store_version"] == hits.store_version
    assert said["notes"].splitlines() == list(hits.notes)


def test_counts_are_of_the_genes_that_all_hit_slides_with_counts_measured(hits):
    made = hits_anndata(hits, counts=True)
    assert list(made.var_names) == list(TOY_GENES[10:40])
    has = made.obs["has_counts"].to_numpy()
    assert 0 < has.sum() < 60
    expected = hits.store.counts(list(made.var_names), hits.rows)
    assert isinstance(made.X, csr_matrix)
    np.testing.assert_array_equal(made.X.toarray()[has], expected[has])
    assert made.X[~has].nnz == 0
    assert set(made.obs["slide_id"][~has]) == {"S3"}
    made.X.data[:] = 0
    assert made.layers["counts"].sum() > 0


def test_an_h5ad_reads_back(hits):
    content = hits_h5ad(hits, "image", counts=True)
    with h5py.File(io.BytesIO(content)) as file:
        read = read_elem(file)
    assert isinstance(read, anndata.AnnData)
    expected = hits_anndata(hits, "image", counts=True)
    assert read.obs_names.tolist() == expected.obs_names.tolist()
    assert read.obs["slide_id"].tolist() == expected.obs["slide_id"].tolist()
    np.testing.assert_array_equal(read.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(read.obsm["X_stamp_image"], expected.obsm["X_stamp_image"])
    assert read.uns["stamp"]["query"] == hits.query


def test_too_many_hits_for_one_file_are_refused(hits):
    with pytest.raises(QueryError, match="10,001 hits are asked for in one file"):
        hits_anndata(replace(hits, rows=np.zeros(10_001, np.int64)))
