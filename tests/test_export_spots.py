"""Chosen spots as CSV, GeoJSON and AnnData."""

from __future__ import annotations

import io

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata.io import read_elem

from stamp_index.embed import ingest
from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.export import (
    geojson_bytes,
    read_annotations,
    spots_anndata,
    spots_csv,
    spots_geojson,
    spots_h5ad,
    spots_table,
    to_anndata,
)
from stamp_index.export.chosen_spots import MAX_SHAPES, MAX_SPOTS
from stamp_index.store import EncoderCard, Store
from tests.plain_world import plain
from tests.support import TOY_GENES, ToyEncoder, toy_slide

EVIL = '=HYPERLINK("//x/";"=1")'


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """S1 with all genes, a slide of a hostile name with some, S3 that is plain H&E."""
    encoder = ToyEncoder()
    store = Store.create(tmp_path_factory.mktemp("toy") / "store", EncoderCard.of(encoder))
    for slide in (
        toy_slide("S1", 40, 1),
        toy_slide(EVIL, 40, 2, genes=TOY_GENES[10:40]),
        plain(toy_slide("S3", 40, 3)),
    ):
        ingest(store, encoder, slide)
    return store


def test_the_table_says_where_each_spot_is_and_what_was_measured_there(store):
    rows = [3, 50, 90]
    table = spots_table(store, rows, ["CD8A"])
    ids = store.spots(["spot_id"], rows)["spot_id"].tolist()
    assert table["spot_id"].tolist() == ids
    assert [f"{s}:{b}" for s, b in zip(table["slide_id"], table["barcode"], strict=True)] == ids
    np.testing.assert_array_equal(
        table["expr(CD8A)"], store.expression(["CD8A"], np.array(rows))[:, 0]
    )
    assert np.isfinite(table["expr(CD8A)"]).tolist() == [True, "CD8A" in TOY_GENES[10:40], False]
    assert set(table["store_version"]) == {store.version}
    assert set(table["encoder"]) == {store.card.fingerprint}


def test_a_csv_comes_back_and_runs_no_formula(store):
    content = spots_csv(store, [41, 3])
    table = pd.read_csv(io.BytesIO(content))
    assert table["slide_id"].tolist() == [f"'{EVIL}", "S1"]
    np.testing.assert_array_equal(table["x_px"], store.spots(["x_px"], [41, 3])["x_px"])


def test_spots_are_shapes_of_their_true_size_that_are_read_again(store):
    rows = np.arange(4, 9)
    collection = spots_geojson(store, "S1", rows, ["CD8A"])
    found = read_annotations(geojson_bytes(collection)).shapes
    slide = store.slides().set_index("slide_id").loc["S1"]
    centres = store.spots(["x_px", "y_px"], rows).to_numpy()
    radius = slide["spot_diameter_um"] / slide["mpp"] / 2
    for one, (x, y) in zip(found, centres, strict=True):
        assert shapely.Point(x, y).within(one.shape())
        assert one.shape().area == pytest.approx(np.pi * radius**2, rel=0.03)
    values = store.expression(["CD8A"], rows)[:, 0]
    measured = [f["properties"]["measurements"]["CD8A"] for f in collection["features"]]
    np.testing.assert_allclose(measured, values)
    assert spots_geojson(store, "S1", np.empty(0, int))["features"] == []


def test_spots_as_anndata_are_rows_of_their_slide(store):
    rows = np.array([7, 2, 30])
    made, whole = spots_anndata(store, rows), to_anndata(store, "S1")
    assert made.obs_names.tolist() == whole.obs_names[rows].tolist()
    np.testing.assert_array_equal(made.X.toarray(), whole.X[rows].toarray())
    assert made.var_names.tolist() == whole.var_names.tolist()
    for slot in ("spatial", "X_stamp", "X_stamp_image"):
        np.testing.assert_array_equal(made.obsm[slot], whole.obsm[slot][rows])
    assert made.obs["has_counts"].all()
    assert set(whole.obs) == set(made.obs)


def test_spots_of_several_slides_have_the_genes_in_common(store):
    made = spots_anndata(store, [1, 41, 81])
    assert made.var_names.tolist() == [gene for gene in store.genes if gene in TOY_GENES[10:40]]
    assert made.obs["has_counts"].tolist() == [True, True, False]
    assert made.X[2].nnz == 0


def test_an_h5ad_file_is_read_by_anndata(store):
    with h5py.File(io.BytesIO(spots_h5ad(store, [1, 2]))) as file:
        again = read_elem(file)
    assert isinstance(again, anndata.AnnData)
    assert again.n_obs == 2


def test_what_cannot_be_written_is_refused(store):
    with pytest.raises(QueryError, match="0 spots are asked for"):
        spots_anndata(store, [])
    with pytest.raises(QueryError, match="50,001 spots are asked for"):
        spots_anndata(store, np.zeros(MAX_SPOTS + 1, int))
    with pytest.raises(QueryError, match="10,001 spots are asked for as shapes"):
        spots_geojson(store, "S1", np.zeros(MAX_SHAPES + 1, int))
    with pytest.raises(QueryError, match="not of slide 'S1'"):
        spots_geojson(store, "S1", [3, 41])
    with pytest.raises(MissingGenesError, match="NOSUCH"):
        spots_table(store, [1], ["NOSUCH"])
