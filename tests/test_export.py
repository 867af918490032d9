"""A store's slides for scanpy, squidpy, data frames and QuPath."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from anndata import read_h5ad
from click.testing import CliRunner
from scipy.sparse import csr_matrix

from stamp_index.cli import main
from stamp_index.errors import MissingGenesError, MissingPixelSizeError, QueryError
from stamp_index.export import qupath, to_anndata, to_geojson, to_parquet, write_h5ad
from stamp_index.search.regions.geojson import read_shape
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.support import (
    TOY_DOMAINS,
    TOY_GENES,
    TOY_MPP,
    ToyEncoder,
    random_store,
    toy_domains,
    toy_rows,
    toy_slide,
    toy_store,
)
from tests.test_damaged_files import no_file_above

N = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """S1 and S2 with all genes, S3 without an image and with half of the genes."""
    slides = [
        toy_slide("S1", N, 1),
        toy_slide("S2", N, 2, patient_id="P2"),
        toy_slide("S3", N, 3, image=False, genes=TOY_GENES[10:40]),
    ]
    made = toy_store(tmp_path_factory.mktemp("toy"), slides=slides)
    made.annotate("S1", "grade", [float(i) for i in range(N)], author="me")
    made.annotate("S2", "n_counts", ["high", None] * (N // 2), author="me")
    return made


def test_counts_positions_and_embeddings_come_as_they_are_in_the_store(store):
    made = store.to_anndata(["S2", "S1"])
    assert made.shape == (2 * N, len(TOY_GENES))
    assert isinstance(made.X, csr_matrix)
    assert made.X.dtype == made.layers["counts"].dtype == np.float32
    rows = np.r_[N : 2 * N, :N]
    assert list(made.obs_names) == list(store.spots(["spot_id"], rows)["spot_id"])
    assert np.array_equal(made.X.toarray(), store.counts(list(made.var_names), rows))
    assert np.array_equal(made.obsm["spatial"], store.spots(["x_px", "y_px"], rows).to_numpy())
    assert made.obsm["spatial"].dtype == np.float64
    for slot, side in (("X_stamp", "gene"), ("X_stamp_image", "image")):
        vectors = made.obsm[slot]
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
        assert np.allclose(vectors, store.vectors(side, rows), atol=1e-3)
        assert made.obs[f"has_{slot}"].all()
    assert list(made.var["gene_ids"])[0] == "ENSG00000000000"


def test_x_can_be_normalised_without_touching_the_raw_counts(store):
    made = to_anndata(store, "S1")
    made.X.data[:] = 0
    assert made.layers["counts"].sum() > 0


def test_genes_that_a_slide_did_not_measure_are_left_out_and_said(store):
    made = to_anndata(store)
    assert list(made.var_names) == list(TOY_GENES[10:40])
    said = made.uns["stamp"]
    assert said["n_genes_left_out"] == len(TOY_GENES) - 30
    assert said["genes_left_out"].startswith("EPCAM, KRT8")
    assert not made.obs.loc[made.obs["slide_id"] == "S3", "has_X_stamp_image"].any()
    assert np.isnan(made.obsm["X_stamp_image"][2 * N :]).all()
    assert np.isfinite(made.obsm["X_stamp"]).all()


def test_whole_transcriptomes_take_no_longer_than_reading_them(tmp_path):
    names = [f"G{i}" for i in range(20_000)]
    slides = [toy_slide(f"S{i}", N, genes=(), image=False) for i in range(2)]
    wide = [
        type(slide)(**{
            **vars(slide), "mpp": 1.0, "genes": tuple(names[i:]), "gene_ids": (),
            "counts": csr_matrix(np.eye(N, len(names) - i, k=i, dtype=np.float32) + np.eye(N, len(names) - i, dtype=np.float32)),
        })
        for i, slide in enumerate(slides)
    ]  # fmt: skip
    vectors = np.eye(8, dtype=np.float32)[np.arange(N) % 8]
    card = EncoderCard("vec", "0f0f", 8, 112.0, 224, 336.0, "none")
    made = Store.create(tmp_path / "store", card)
    for slide in wide:
        made.add(SlideRows(slide, None, vectors, None, None, made.card.fingerprint))
    start = time.perf_counter()
    table = to_anndata(made)
    assert time.perf_counter() - start < 10
    assert table.n_vars == 19_999
    assert table.uns["stamp"]["genes_left_out"] == "G0"


def test_uns_says_where_it_came_from_and_how_large_spots_are(store):
    made = to_anndata(store, "S1", images=True)
    said = made.uns["stamp"]
    assert said["encoder"] == "toy"
    assert said["encoder_fingerprint"] == ToyEncoder().fingerprint
    assert said["store_version"] == store.version
    assert said["mpp"] == {"S1": TOY_MPP}
    assert said["patch_width_um"] == 112.0
    held = made.uns["spatial"]["S1"]
    assert held["scalefactors"]["spot_diameter_fullres"] == 55.0 / TOY_MPP
    height, width, _ = held["images"]["hires"].shape
    assert (width, height) == (550, 250)
    assert held["scalefactors"]["tissue_hires_scalef"] == 1.0


def test_labels_stand_beside_the_columns_of_a_spot(store):
    one, two = to_anndata(store, "S1").obs, to_anndata(store, "S2").obs
    assert list(one["grade"]) == [float(i) for i in range(N)]
    assert list(one["domain"]) == [TOY_DOMAINS[d] for d in toy_domains(N)]
    assert one["domain"].dtype == "category"
    assert "grade" not in two  # nobody graded this slide
    assert two["label_n_counts"].isna().sum() == N // 2
    assert two["n_counts"].dtype == np.float64


def test_an_h5ad_file_comes_back_the_same(store, tmp_path):
    write_h5ad(store, tmp_path / "toy.h5ad", images=True)
    made, back = to_anndata(store, images=True), read_h5ad(tmp_path / "toy.h5ad")
    assert np.array_equal(back.X.toarray(), made.X.toarray())
    assert np.array_equal(back.obsm["X_stamp_image"], made.obsm["X_stamp_image"], equal_nan=True)
    pd.testing.assert_frame_equal(
        back.obs, made.obs, check_categorical=False, check_index_type=False
    )
    assert back.uns["stamp"]["mpp"]["S2"] == TOY_MPP
    assert np.array_equal(
        back.uns["spatial"]["S1"]["images"]["hires"], made.uns["spatial"]["S1"]["images"]["hires"]
    )


def test_names_with_a_slash_can_be_written(tmp_path):
    made = toy_store(tmp_path, slides=[toy_slide("A/1", N)])
    made.annotate("A/1", "T/N", ["t", "n"] * (N // 2), author="me")
    write_h5ad(made, tmp_path / "toy.h5ad")
    back = read_h5ad(tmp_path / "toy.h5ad")
    assert list(back.uns["spatial"]) == ["A_1"]
    assert list(back.obs["T_N"][:2]) == ["t", "n"]
    assert set(back.obs["slide_id"]) == {"A/1"}


def test_a_slide_without_counts_has_empty_rows_and_says_so(tmp_path):
    plain = toy_slide("H", N, genes=())
    rows = toy_rows(toy_slide("H", N))
    rows = type(rows)(
        plain, rows.image, rows.gene, rows.thumbnails, rows.overview, rows.fingerprint
    )
    made = toy_store(tmp_path, slides=[toy_slide("S1", N)])
    try:
        made.add(rows)
    except ValueError as exc:
        pytest.skip(f"this store takes no slide without counts: {exc}")
    table = to_anndata(made)
    assert table.n_vars == len(TOY_GENES)
    assert list(table.obs.groupby("slide_id", observed=True)["has_counts"].all()) == [False, True]
    assert table.uns["stamp"]["slides_without_counts"] == "H"


def test_a_parquet_file_has_a_row_group_per_slide(store, tmp_path):
    to_parquet(store, tmp_path / "spots.parquet")
    file = pq.ParquetFile(tmp_path / "spots.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [N, N, N]
    table = file.read()
    whole = store.spots()
    for name in whole:
        values = table.column(name).to_pandas()
        assert values.isna().equals(whole[name].isna()), name
        assert (values.dropna() == whole[name].dropna()).all(), name
    vectors = np.stack(table.column("X_stamp").to_pylist())
    assert np.array_equal(vectors, to_anndata(store).obsm["X_stamp"])
    assert table.column("X_stamp_image").null_count == N
    assert table.column("label_grade").to_pylist()[:2] == [0.0, 1.0]
    assert table.column("label_domain").to_pylist()[0] == "tumour"
    assert json.loads(table.schema.metadata[b"stamp"])["encoder"] == "toy"


def test_a_label_that_is_text_on_one_slide_is_text_on_all(tmp_path):
    made = toy_store(tmp_path, n_slides=2)
    made.annotate("S1", "stage", [2.0] * N, author="me")
    made.annotate("S2", "stage", ["IIb"] * N, author="me")
    to_parquet(made, tmp_path / "spots.parquet")
    column = pq.read_table(tmp_path / "spots.parquet").column("label_stage").to_pylist()
    assert (column[0], column[-1]) == ("2", "IIb")


def _features(path):
    return json.loads(path.read_text())["features"]


def test_spots_become_detections_at_their_place_and_size(store, tmp_path):
    path = tmp_path / "S1.geojson"
    to_geojson(store, "S1", path, label="domain", genes=["ENSG00000000000", "her2"])
    features = _features(path)
    spots = store.spots(rows=np.arange(N))
    expression = store.expression(["EPCAM", "ERBB2"], np.arange(N))
    for i, one in enumerate(features):
        shape = shapely.from_geojson(json.dumps(one["geometry"]))
        said = one["properties"]
        assert shape.is_valid
        ring = one["geometry"]["coordinates"][0]
        assert len(ring) == 25
        assert ring[0] == ring[-1]
        assert shape.centroid.coords[0] == pytest.approx(
            (spots["x_px"][i], spots["y_px"][i]), abs=0.01
        )
        # all corners of 24 lie on the circle, so the area is 1.1 % smaller
        assert shape.area == pytest.approx(np.pi * (55 / TOY_MPP / 2) ** 2, rel=0.012)
        assert said["objectType"] == "detection"
        assert said["name"] == spots["barcode"][i]
        assert said["measurements"]["n_counts"] == spots["n_counts"][i]
        assert said["measurements"]["EPCAM"] == pytest.approx(expression[i, 0])
        assert said["measurements"]["ERBB2"] == pytest.approx(expression[i, 1])
        domain = TOY_DOMAINS[toy_domains(N)[i]]
        colour = qupath.COLOURS[sorted(TOY_DOMAINS).index(domain)]
        assert said["classification"] == {"name": domain, "color": list(colour)}
    assert read_shape(path, "S1").area == pytest.approx(sum(
        shapely.from_geojson(json.dumps(one["geometry"])).area for one in features))  # fmt: skip


def test_a_number_is_measured_and_a_missing_value_is_left_out(tmp_path):
    made = toy_store(tmp_path, n_slides=1)
    made.annotate("S1", "grade", [None, *range(1, N)], author="me")
    to_geojson(made, "S1", tmp_path / "a.geojson", label="grade")
    made.annotate("S1", "kind", [None, *["x"] * (N - 1)], author="me")
    to_geojson(made, "S1", tmp_path / "b.geojson", label="kind")
    first, second = (_features(tmp_path / "a.geojson")[i]["properties"] for i in (0, 1))
    assert "grade" not in first["measurements"]
    assert second["measurements"]["grade"] == 1.0
    first, second = (_features(tmp_path / "b.geojson")[i]["properties"] for i in (0, 1))
    assert "classification" not in first
    assert second["classification"]["name"] == "x"


def test_a_label_of_text_is_text_in_every_part_of_a_large_slide(tmp_path, monkeypatch):
    monkeypatch.setattr("stamp_index.export.qupath._PART", 5)
    made = toy_store(tmp_path, n_slides=1)
    made.annotate("S1", "kind", ["1"] * 5 + [None] * 5 + ["none"] * (N - 10), author="me")
    to_geojson(made, "S1", tmp_path / "c.geojson", label="kind")
    found = [f["properties"].get("classification", {}) for f in _features(tmp_path / "c.geojson")]
    assert [one.get("name") for one in found[:11]] == ["1"] * 5 + [None] * 5 + ["none"]


def test_bins_become_squares_that_touch(tmp_path):
    slide = toy_slide("S1", N)
    slide = type(slide)(**{**vars(slide), "platform": "Visium HD", "spot_diameter_um": 100.0})
    to_geojson(toy_store(tmp_path, slides=[slide]), "S1", tmp_path / "S1.geojson")
    shapes = [
        shapely.from_geojson(json.dumps(f["geometry"])) for f in _features(tmp_path / "S1.geojson")
    ]
    assert all(len(shape.exterior.coords) == 5 and shape.is_valid for shape in shapes)
    assert shapely.union_all(shapes).area == pytest.approx(N * 50**2)


def test_5000_spots_are_written_quickly(tmp_path):
    vectors = np.eye(8, dtype=np.float32)[np.arange(5000) % 8]
    made = random_store(tmp_path, vectors, vectors, n_slides=1)
    made.annotate("S1", "domain", ["a", "b"] * 2500, author="me")
    start = time.perf_counter()
    to_geojson(made, "S1", tmp_path / "S1.geojson", label="domain", genes=["EPCAM"])
    assert time.perf_counter() - start < 5
    features = _features(tmp_path / "S1.geojson")
    assert len(features) == 5000
    shapes = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
    assert shapely.is_valid(shapes).all()


EXPORTS = {
    "a.h5ad": lambda store, path, **said: write_h5ad(store, path, **said),
    "a.parquet": lambda store, path, **said: to_parquet(store, path, **said),
    "a.geojson": lambda store, path, **said: to_geojson(store, "S1", path, **said),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_existing_file_is_replaced_only_on_demand(store, tmp_path, name):
    path = tmp_path / name
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="already"):
        EXPORTS[name](store, path)
    assert path.read_text() == "mine"
    EXPORTS[name](store, path, overwrite=True)
    assert path.stat().st_size > 4
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", EXPORTS)
def test_a_full_disk_leaves_nothing_behind(store, tmp_path, name):
    path = tmp_path / name
    path.write_text("mine")
    with no_file_above(2000), pytest.raises(OSError, match="was not written"):
        EXPORTS[name](store, path, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", EXPORTS)
def test_a_folder_that_is_not_there_is_named(store, tmp_path, name):
    with pytest.raises(OSError, match="none"):
        EXPORTS[name](store, tmp_path / "none" / name)


def test_unknown_slides_labels_and_genes_are_refused_with_close_names(store, tmp_path):
    path = tmp_path / "a.geojson"
    with pytest.raises(QueryError, match="no slide 'S9'.*S1"):
        to_anndata(store, ["S1", "S9"])
    with pytest.raises(QueryError, match="no slide 's1'.*S1"):
        to_parquet(store, tmp_path / "a.parquet", "s1")
    with pytest.raises(QueryError, match="no label 'domainn'.*domain"):
        to_geojson(store, "S1", path, label="domainn")
    with pytest.raises(MissingGenesError, match="EPCAM"):
        to_geojson(store, "S1", path, genes=["EPCAN"])
    with pytest.raises(QueryError, match="No slide was named"):
        to_anndata(store, [])
    with pytest.raises(ValueError, match="'circle' or 'square'"):
        to_geojson(store, "S1", path, outline="star")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_and_spots_without_a_size_are_refused(store, tmp_path):
    with pytest.raises(QueryError, match="no slides yet"):
        to_anndata(toy_store(tmp_path / "empty", slides=[]))
    with pytest.raises(MissingPixelSizeError, match="no microns per pixel"):
        to_geojson(store, "S3", tmp_path / "a.geojson")
    assert "S3" in to_anndata(store, "S3").uns["spatial"]
    assert to_anndata(store, "S3").uns["spatial"]["S3"]["scalefactors"] == {}


def _run(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_the_command_line_writes_what_the_ending_names(store, tmp_path):
    for name in ("a.h5ad", "a.parquet"):
        done = _run(store.path, tmp_path / name, "--slide", "S1", "--slide", "S2")
        assert done.exit_code == 0, done.output
    assert read_h5ad(tmp_path / "a.h5ad").n_obs == 2 * N
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2 * N
    done = _run(
        store.path,
        tmp_path / "a.geojson",
        "--slide",
        "S1",
        "--genes",
        "EPCAM, KRT8",
        "--label",
        "domain",
    )
    assert done.exit_code == 0, done.output
    assert {"EPCAM", "KRT8"} <= set(
        _features(tmp_path / "a.geojson")[0]["properties"]["measurements"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["a.csv"], "expected a name that ends in .h5ad", id="unknown ending"),
        pytest.param(["a.geojson"], "Give --slide once", id="three slides in one picture"),
        pytest.param(
            ["a.h5ad", "--label", "domain"], "--label goes with .geojson", id="no detections"
        ),
        pytest.param(["a.h5ad", "--slide", "S7"], "no slide 'S7'", id="unknown slide"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_write(store, tmp_path, arguments, said):
    done = _run(store.path, tmp_path / arguments[0], *arguments[1:])
    assert done.exit_code != 0
    assert said in done.output
    assert list(tmp_path.iterdir()) == []
