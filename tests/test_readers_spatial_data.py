"""SpatialData stores, laid out as the library's versions 0.1 to 0.7 do."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from scipy.sparse import csr_matrix

from stamp_index.errors import (
    BarcodeMismatchError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from tests.spatial_data_files import (
    GENES,
    PITCH,
    SCALE,
    SpatialStore,
    scaling,
    transformation,
)

MPP = 100 / PITCH / SCALE  # of the hires image


@pytest.fixture
def store(tmp_path):
    return SpatialStore(tmp_path)


@pytest.mark.parametrize(
    ("zarr_format", "tables"),
    [
        pytest.param(3, "tables", id="zarr 3, as 0.5 to 0.7 write"),
        pytest.param(2, "tables", id="zarr 2, as 0.1 to 0.4 write"),
        pytest.param(2, "table", id="one table, as before 0.1"),
    ],
)
def test_a_visium_store_becomes_a_slide(tmp_path, zarr_format, tables):
    store = SpatialStore(tmp_path, zarr_format=zarr_format, tables=tables)
    slide = read(store.path)
    assert slide.slide_id == "P1"
    assert slide.platform == "Visium"
    assert slide.species == "human"
    assert slide.spot_diameter_um == 55.0
    assert slide.mpp == pytest.approx(MPP)
    assert slide.genes == tuple(GENES[:3])
    assert slide.gene_ids == ("ENSG00000000000", "ENSG00000000001", "ENSG00000000002")
    assert np.array_equal(slide.counts.toarray(), store.counts[:, :3])
    assert np.allclose(slide.xy_px, store.xy * SCALE)
    assert list(slide.spots.index) == list(store.obs.index)
    assert list(slide.spots["zone"]) == list(store.obs["zone"])
    assert set(slide.spots) == {"x_px", "y_px", "array_row", "array_col", "zone"}
    assert np.array_equal(slide.image.read(10, 20, 30, 30), store.pixels[20:50, 10:40])
    assert any("Pixel size" in note and "pitch of 100 um" in note for note in slide.notes)
    assert any("not genes" in note for note in slide.notes)
    assert all(path.is_file() for path in slide.files)


def test_a_store_is_found_below_a_folder_and_nothing_inside_it(store):
    assert find_slides(store.path.parent) == [store.path]


def test_other_zarr_folders_are_not_taken_for_spatialdata(store):
    store.drop("shapes")
    assert find_slides(store.path) == []


def test_spots_off_tissue_and_shapes_without_counts_are_dropped_and_said(store):
    store.obs.iloc[0, store.obs.columns.get_loc("in_tissue")] = 0
    store.counts = store.counts[:-1]
    store.obs = store.obs.iloc[:-1]
    store.write_table()
    slide = read(store.path)
    assert slide.n_spots == len(store.xy) - 2
    assert any("spots are not under tissue: dropped" in note for note in slide.notes)
    assert any("1 shapes have no counts and were dropped" in note for note in slide.notes)


def test_text_ids_join_by_their_text(store):
    store.write_shapes(index=[f"id{i}" for i in store.obs["spot_id"]])
    store.write_table(obs=store.obs.assign(spot_id=[f"id{i}" for i in store.obs["spot_id"]]))
    assert np.allclose(read(store.path).xy_px, store.xy * SCALE)


def test_a_transformation_with_turn_flip_and_shift_lays_spots_where_the_image_shows_them(store):
    # x and y change places and the image is moved: (x, y) of the image is (y - 5, x + 3) of the shapes
    affine = [[1, 0, 0, 0], [0, 0, 1, -3], [0, 1, 0, 5]]  # rows c, y, x; columns c, y, x, 1
    pixels = store.pixels.repeat(3, axis=0).repeat(3, axis=1)
    store.write_image("turned", pixels, [transformation("affine", "P1", affine=affine)])
    slide = read(store.path, SlideOptions(image="turned"))
    expected = np.stack([store.xy[:, 1] + 3, store.xy[:, 0] - 5], axis=1)
    assert np.allclose(slide.xy_px, expected)
    assert slide.mpp == pytest.approx(100 / PITCH)


def test_the_largest_image_of_a_common_coordinate_system_is_used(store):
    big = store.pixels.repeat(2, axis=0).repeat(2, axis=1)
    store.write_image("P1_full_image", big, [transformation("identity", "P1")])
    huge = big.repeat(2, axis=0).repeat(2, axis=1)
    store.write_image("elsewhere", huge, [transformation("identity", "other")])
    store.write_image("P1_cytassist_image", huge, [transformation("identity", "P1")])
    store.write_image("dapi", huge[..., :1].astype(np.uint16), [transformation("identity", "P1")])
    slide = read(store.path)
    assert slide.image.uri.endswith("P1_full_image")
    assert np.allclose(slide.xy_px, store.xy)
    skipped = next(note for note in slide.notes if "not used" in note)
    assert "elsewhere (no coordinate system" in skipped
    assert "CytAssist" in skipped
    assert "uint16" in skipped
    small = read(store.path, SlideOptions(image="P1_hires_image"))
    assert small.image.uri.endswith("P1_hires_image")


def test_an_image_file_beside_the_store_is_scaled_by_its_size(store, tmp_path):
    full = store.pixels.repeat(2, axis=0).repeat(2, axis=1)
    tifffile.imwrite(tmp_path / "full.tif", full)
    slide = read(store.path, SlideOptions(image=tmp_path / "full.tif"))
    assert np.allclose(slide.xy_px, store.xy)
    assert slide.mpp == pytest.approx(100 / PITCH)
    tifffile.imwrite(tmp_path / "cropped.tif", full[:, :100])
    with pytest.raises(SlideError, match="their shapes differ"):
        read(store.path, SlideOptions(image=tmp_path / "cropped.tif"))


def test_a_store_without_images_gives_counts_and_positions(store):
    store.drop("images/P1_hires_image")
    slide = read(store.path)
    assert slide.image is None
    assert np.allclose(slide.xy_px, store.xy)
    assert slide.mpp == pytest.approx(100 / PITCH)


def _hd(store, name="P1_square_008um", width=16.0):
    store.obs["region"] = pd.Categorical([name] * len(store.obs))
    store.write_shapes(name, squares=width)
    store.write_table(f"t_{name}", region=name)


def test_squares_of_visium_hd_become_spots_at_their_centres(store):
    store.drop("tables/table")
    _hd(store)
    slide = read(store.path)
    assert slide.platform == "Visium HD"
    assert slide.spot_diameter_um == pytest.approx(8.0)
    assert slide.mpp == pytest.approx(0.5 / SCALE)
    assert np.allclose(slide.xy_px, store.xy * SCALE)
    assert slide.slide_id == "P1"


def test_one_of_several_annotated_shapes_is_named_by_its_folder_or_by_the_width_of_bins(store):
    store.drop("tables/table")
    _hd(store)
    _hd(store, "P1_square_016um", 32.0)
    with pytest.raises(
        SlideError, match=r"2 annotated shapes .*Name the shapes: .*P1_square_008um"
    ):
        read(store.path)
    by_path = read(store.path / "shapes" / "P1_square_016um")
    by_width = read(store.path, SlideOptions(bin_um=16))
    assert by_path.slide_id == by_width.slide_id == "P1_P1_square_016um"
    assert by_path.spot_diameter_um == by_width.spot_diameter_um == pytest.approx(16.0)
    with pytest.raises(SlideError, match="annotates squares of 4 um"):
        read(store.path, SlideOptions(bin_um=4))


def test_one_table_of_several_regions_gives_the_rows_of_the_named_one(store):
    half = len(store.obs) // 2
    names = np.array(["P1"] * half + ["P2"] * (len(store.obs) - half))
    store.write_shapes("P2")
    store.write_table(region=["P1", "P2"], obs=store.obs.assign(region=pd.Categorical(names)))
    with pytest.raises(SlideError, match="P1, P2"):
        read(store.path)
    slide = read(store.path / "shapes" / "P2")
    assert list(slide.spots.index) == list(store.obs.index[half:])


def test_units_of_a_coordinate_system_give_the_pixel_size_and_are_checked(store):
    store.obs = store.obs.drop(columns=["array_row", "array_col"])
    store.write_table()
    with pytest.raises(MissingPixelSizeError, match="has no microns per pixel"):
        read(store.path)
    assert read(store.path, SlideOptions(mpp=MPP)).spot_diameter_um == pytest.approx(65.0)
    places = [scaling("P1", 1 / SCALE), scaling("um", MPP, unit="micrometer")]
    store.write_image("in_um", store.pixels, places)
    slide = read(store.path, SlideOptions(image="in_um"))
    assert slide.mpp == pytest.approx(MPP)
    assert slide.platform == ""
    with pytest.raises(MissingPixelSizeError, match="given by option"):
        read(store.path, SlideOptions(image="in_um", mpp=2 * MPP))


def test_units_of_the_axes_are_the_pixel_size_of_the_image(store):
    store.write_image("with_units", store.pixels, None, unit="micrometer", mpp=MPP)
    slide = read(store.path, SlideOptions(image="with_units"))
    assert slide.image.mpp == pytest.approx(MPP)
    store.write_image("wrong_units", store.pixels, None, unit="micrometer", mpp=2 * MPP)
    with pytest.raises(MissingPixelSizeError, match="pitch of 100 um"):
        read(store.path, SlideOptions(image="wrong_units"))


def test_a_square_array_is_not_taken_for_visium(store):
    store.xy[:, 1] = 30 + store.cells[:, 0] * PITCH  # rows a whole pitch apart
    store.write_shapes()
    with pytest.raises(MissingPixelSizeError):
        read(store.path)


def test_raw_counts_are_taken_from_a_layer_where_x_is_normalised(store):
    logs = csr_matrix(np.log1p(store.counts))
    store.write_table(X=logs, layers={"counts": csr_matrix(store.counts)})
    slide = read(store.path)
    assert np.array_equal(slide.counts.toarray(), store.counts[:, :3])
    assert any("Counts: layers/counts" in note for note in slide.notes)
    store.write_table(X=logs)
    with pytest.raises(SlideError, match="not whole numbers"):
        read(store.path)


def test_a_dense_matrix_named_by_ensembl_ids_gives_symbols(store):
    var = pd.DataFrame(
        {"feature_name": ["CD8A", "TBCE", "TBCE", "ISO"]},
        index=[f"ENSMUSG{i:011d}.1" for i in range(4)],
    )
    store.write_table(X=store.counts.astype(np.int32), var=var)
    slide = read(store.path)
    assert slide.genes == ("CD8A", "TBCE", "ISO")
    assert slide.gene_ids == ("ENSMUSG00000000000", "ENSMUSG00000000001", "ENSMUSG00000000003")
    assert slide.species == "mouse"
    assert slide.counts[:, 1].sum() == store.counts[:, 1:3].sum()


def test_the_table_may_not_overwrite_what_a_store_says_itself(store):
    store.write_table(obs=store.obs.assign(n_counts=1.0, organ="moon", qc=True))
    slide = read(store.path)
    assert set(slide.spots) & {"n_counts", "organ"} == set()
    assert set(slide.spots["qc"]) == {"True"}
    assert any("n_counts, organ" in note for note in slide.notes)


def _cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _json(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


DAMAGE = {
    "no table annotates shapes": (
        lambda s: s.drop("tables/table"), SlideError, "no table that annotates shapes"),
    "the table annotates labels": (
        lambda s: (s.root.require_group("labels/L"), s.write_table(region="L"), s.drop("shapes/P1")), SlideError,
        "annotate the labels 'L'"),
    "two tables of one region": (lambda s: s.write_table("second"), SlideError, r"2 tables \(second, table\)"),
    "cut parquet": (lambda s: _cut(s.path / "shapes/P1/shapes.parquet"), SlideError, "cannot be read"),
    "no radius": (lambda s: _no_radius(s), SlideError, "no column `radius`"),
    "cells of many sizes": (
        lambda s: s.write_shapes(radius=np.linspace(5, 9, len(s.xy))), SlideError, "as cells have"),
    "radius below 0": (lambda s: s.write_shapes(radius=-1.0), SlideError, "numbers above 0"),
    "shape ids twice": (lambda s: s.write_shapes(index=[0] * len(s.xy)), BarcodeMismatchError, "twice"),
    "foreign shape ids": (
        lambda s: s.write_shapes(index=np.arange(len(s.xy)) + 1000), BarcodeMismatchError, "have no shape"),
    "a shape with two rows": (
        lambda s: s.write_table(obs=s.obs.assign(spot_id=0)), BarcodeMismatchError, "rows of the table stand more than once"),
    "no instance column": (lambda s: s.write_table(obs=s.obs.drop(columns="spot_id")), SlideError, "no column spot_id"),
    "no row of the region": (
        lambda s: s.write_table(obs=s.obs.assign(region="x")), SlideError, "No row of the table"),
    "barcodes twice": (
        lambda s: s.write_table(obs=s.obs.set_axis(["B"] * len(s.obs))), BarcodeMismatchError, "more than once"),
    "cut table metadata": (lambda s: _cut(s.path / "tables/table/zarr.json"), SlideError, "cannot be read as JSON"),
    "cut counts": (lambda s: _cut(s.path / "tables/table/X/data/c/0"), SlideError, "cannot be read"),
    "no counts": (lambda s: s.drop("tables/table/X"), SlideError, "neither X nor"),
    "metadata that are a list": (
        lambda s: (s.path / "shapes/P1/zarr.json").write_text("[]"), SlideError, "expected a JSON object"),
    "an unknown transformation": (
        lambda s: s.write_shapes(transformations=[transformation("rotation", "P1", "xy")]), SlideError, "'rotation'"),
    "a transformation onto a line": (
        lambda s: s.write_shapes(transformations=[scaling("P1", 0.0, "xy")]), SlideError, "onto itself"),
    "a stretched image": (
        lambda s: s.write_shapes(transformations=[transformation("scale", "P1", "xy", scale=[1.0, 1.1])]), SlideError,
        "stretches by"),
    "coordinate systems that contradict": (
        lambda s: s.write_shapes(transformations=[transformation("identity", n, "xy") for n in
                                                  ("P1", "P1_downscaled_hires")]), SlideError, "px apart"),
    "a wrong scale": (
        lambda s: s.write_shapes(transformations=[scaling("P1", 5.0, "xy")]), SlideError, "outside the image"),
}  # fmt: skip


def _no_radius(store):
    path = store.path / "shapes/P1/shapes.parquet"
    frame = pd.read_parquet(path).drop(columns="radius")
    frame.to_parquet(path)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_store_is_refused_in_one_sentence(store, name):
    damage, error, said = DAMAGE[name]
    damage(store)
    with pytest.raises(error, match=said):
        read(store.path)


def test_outlines_of_cells_are_refused(store):
    outlines = shapely.buffer(shapely.points(store.xy), 5.0)
    frame = pd.DataFrame({"geometry": shapely.to_wkb(outlines)}, index=store.obs["spot_id"])
    frame.to_parquet(store.path / "shapes/P1/shapes.parquet")
    with pytest.raises(SlideError, match="outlines of cells"):
        read(store.path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda p: (p / "s0").rename(p / "gone"), "cannot be opened", id="no level 0"),
        pytest.param(
            lambda p: _json(p / "zarr.json", lambda held: held["attributes"].clear()),
            "`multiscales` are missing", id="no multiscales"),
    ],
)  # fmt: skip
def test_a_damaged_image_is_refused_where_it_is_named_and_skipped_where_not(store, change, said):
    change(store.path / "images/P1_hires_image")
    with pytest.raises(ImageFormatError, match=said):
        read(store.path, SlideOptions(image="P1_hires_image"))
    assert any(said in note for note in read(store.path).notes)


def test_a_link_that_leads_out_of_the_store_is_refused(store, tmp_path):
    path = store.path / "shapes/P1/shapes.parquet"
    path.rename(tmp_path / "outside.parquet")
    path.symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(SlideError, match="leads out of"):
        read(store.path)


def test_a_linked_element_that_leads_out_of_the_store_is_refused(store, tmp_path):
    (store.path / "images/P1_hires_image").rename(tmp_path / "image")
    (store.path / "images/P1_hires_image").symlink_to(tmp_path / "image")
    with pytest.raises(SlideError, match="outside the slide's folder"):
        read(store.path)


def test_links_that_lead_to_each_other_are_refused(store):
    path = store.path / "tables/table/X/data/c/0"
    path.unlink()
    path.symlink_to("1")
    path.with_name("1").symlink_to("0")
    with pytest.raises(SlideError, match="cannot be followed"):
        read(store.path)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def test_a_pickle_in_a_table_is_never_opened(tmp_path):
    store = SpatialStore(tmp_path, zarr_format=2)
    folder = store.path / "tables/table/obs/spot_id"
    n = len(store.obs)
    held = {
        "chunks": [n], "shape": [n], "dtype": "|O", "fill_value": None, "order": "C", "zarr_format": 2,
        "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(held))
    (folder / "0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(SlideError, match="pickle"):
        read(store.path)


def test_a_sidecar_beside_the_store_says_what_the_store_does_not(store):
    (store.path.parent / "P1.slide.toml").write_text('organ = "lung"\nslide_id = "L1"\n')
    slide = read(store.path)
    assert (slide.organ, slide.slide_id) == ("lung", "L1")
