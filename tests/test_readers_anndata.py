from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

from stamp_index.errors import MissingPixelSizeError
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.h5ad.labels import MAX_LABELS
from stamp_index.readers.h5ad.positions import visium_pitch_px
from tests.anndata_files import GENES, IDS, SIZE, cells, to_layout_of_0_7, visium, write_image

if TYPE_CHECKING:
    from pathlib import Path

LOG_NOTE = "The file holds no raw counts"


def save(adata: object, path: Path) -> Path:
    adata.write_h5ad(path)
    return path


def test_a_visium_section_is_read_whole(tmp_path: Path) -> None:
    adata = visium()
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    assert (slide.slide_id, slide.reader, slide.platform) == ("P1", "AnnData", "Visium")
    assert (slide.genes, slide.gene_ids, slide.species) == (tuple(GENES), tuple(IDS), "human")
    np.testing.assert_array_equal(slide.counts.toarray(), adata.X.toarray())
    assert slide.counts.dtype == np.float32
    # The hires image is used, so half the pixels and twice the microns of full resolution.
    assert (slide.image.size_px, slide.mpp, slide.spot_diameter_um) == (
        (300, 210),
        pytest.approx(4.0),
        55.0,
    )
    np.testing.assert_allclose(slide.xy_px, adata.obsm["spatial"] / 2)
    assert (slide.image.read(100, 100, 50, 50) == 204).all()
    assert list(slide.spots.columns) == [
        *("array_row", "array_col", "layer", "score"),
        *("x_px", "y_px"),
    ]
    assert slide.spots["layer"].tolist()[:4] == ["A", "B", None, "A"]
    assert slide.files == (tmp_path / "P1.h5ad",)
    assert any("the spots' pitch of 100 um, which agrees with spot_d" in n for n in slide.notes)


def test_files_of_older_releases_read_the_same(tmp_path: Path) -> None:
    new, old = (save(visium(), tmp_path / name) for name in ("a.h5ad", "b.h5ad"))
    to_layout_of_0_7(old)
    first, second = read(new), read(old, SlideOptions(slide_id="a"))
    assert first.counts_hash() == second.counts_hash()
    assert (first.genes, first.gene_ids, first.mpp) == (second.genes, second.gene_ids, second.mpp)
    assert first.notes == second.notes
    pd.testing.assert_frame_equal(first.spots, second.spots)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("X", id="X"),
        pytest.param("layers/counts", id="layer"),
        pytest.param("raw/X", id="raw"),
    ],
)
@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_counts_are_found_where_they_are_kept(tmp_path: Path, place: str, kind: object) -> None:
    adata = visium()
    dense = adata.X.toarray()
    matrix = kind(dense.astype(np.int64))
    if place == "raw/X":
        wide = visium()
        wide.X = matrix
        adata.raw = wide
        adata = adata[:, :2].copy()
    if place == "layers/counts":
        adata.layers["counts"] = matrix
    adata.X = matrix if place == "X" else np.log1p(adata.X.toarray())
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    np.testing.assert_array_equal(slide.counts.toarray(), dense)
    assert slide.genes == tuple(GENES)
    assert f"Counts: {place}." in slide.notes


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(np.log1p, id="logarithms"),
        pytest.param(lambda values: values - 1, id="negative"),
        pytest.param(lambda values: np.where(values == 1, np.nan, values), id="nan"),
    ],
)
def test_without_raw_counts_positions_and_labels_are_kept(tmp_path: Path, spoil: object) -> None:
    adata = visium()
    adata.X = csr_matrix(spoil(adata.X.toarray()))
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    assert not slide.has_counts
    assert (slide.n_spots, slide.counts.shape) == (40, (40, 0))
    assert slide.spots["layer"].iloc[1] == "B"
    assert any(LOG_NOTE in note and "layers['counts']" in note for note in slide.notes)


def test_symbols_are_taken_from_a_column_where_the_index_holds_ids(tmp_path: Path) -> None:
    adata = visium()
    adata.var_names = [f"{gene_id}.3" for gene_id in IDS]
    assert read(save(adata, tmp_path / "a.h5ad")).genes == tuple(IDS)
    adata.var["feature_name"] = pd.Categorical(["CD8A", "EPCAM", "TBCE", "TBCE"])
    slide = read(save(adata, tmp_path / "b.h5ad"))
    assert slide.genes == ("CD8A", "EPCAM", "TBCE")
    assert slide.gene_ids == tuple(IDS[:3])
    assert any("their counts were summed (TBCE)" in note for note in slide.notes)


def test_features_that_are_no_genes_are_left_out(tmp_path: Path) -> None:
    adata = visium()
    adata.var["feature_types"] = ["Gene Expression"] * 3 + ["Antibody Capture"]
    adata.var_names = ["CD8A", "BLANK_0001", "TBCE", "CD8A-protein"]
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    assert (slide.genes, slide.gene_ids) == (("CD8A", "TBCE"), (IDS[0], IDS[2]))
    assert "2 features that are not genes were left out." in slide.notes


def test_spots_off_tissue_are_dropped(tmp_path: Path) -> None:
    adata = visium()
    adata.obs["in_tissue"] = [0, 1] * 20
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    assert list(slide.spots.index) == [f"B{i}" for i in range(1, 40, 2)]
    np.testing.assert_array_equal(slide.counts.toarray(), adata.X.toarray()[1::2])
    assert "20 of 40 spots are not under tissue: dropped." in slide.notes


def test_labels_are_bounded_and_ids_are_none(tmp_path: Path) -> None:
    adata = visium()
    adata.obs["cell_id"] = [f"id{i}" for i in range(40)]
    adata.obs["area"] = pd.array([1, None] * 20, dtype="Int64")
    adata.obs["good"] = pd.array([True, None] * 20, dtype="boolean")
    for i in range(MAX_LABELS):
        adata.obs[f"n{i}"] = float(i)
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    labels = [name for name in slide.spots.columns if name not in ("x_px", "y_px")]
    assert len(labels) == MAX_LABELS
    assert labels[:6] == ["array_row", "array_col", "layer", "score", "area", "good"]
    assert slide.spots["area"].isna().tolist() == [False, True] * 20
    assert any("cell_id" in note and "are no labels" in note for note in slide.notes)


@pytest.mark.parametrize("name", ["P1.png", "he_scan.png", "anything.png"])
def test_the_full_image_beside_the_file_is_taken(tmp_path: Path, name: str) -> None:
    path = save(visium(), tmp_path / "P1.h5ad")
    write_image(tmp_path / name)
    slide = read(path)
    assert (slide.image.size_px, slide.mpp) == (SIZE, pytest.approx(2.0))
    np.testing.assert_allclose(slide.xy_px[0], [100, 100])
    assert f"Image: {name}, beside the file." in slide.notes


def test_an_image_that_cannot_be_told_apart_is_not_taken(tmp_path: Path) -> None:
    path = save(visium(), tmp_path / "P1.h5ad")
    write_image(tmp_path / "one.png")
    save(visium(), tmp_path / "P2.h5ad")
    assert any("Image: hires inside the file" in note for note in read(path).notes)
    (tmp_path / "P2.h5ad").unlink()
    write_image(tmp_path / "two.png")
    assert any("Image: hires inside the file" in note for note in read(path).notes)
    assert read(path, SlideOptions(image=tmp_path / "two.png")).mpp == pytest.approx(2.0)


def test_a_scaled_image_is_placed_by_the_size_of_the_one_inside(tmp_path: Path) -> None:
    path = save(visium(), tmp_path / "P1.h5ad")
    large = write_image(tmp_path / "large.tif", (SIZE[0] * 2, SIZE[1] * 2))
    slide = read(path, SlideOptions(image=large))
    assert slide.mpp == pytest.approx(1.0)
    np.testing.assert_allclose(slide.xy_px[0], [200, 200])


def test_images_inside_that_are_cut_or_no_colours_are_not_used(tmp_path: Path) -> None:
    adata = visium()
    images = adata.uns["spatial"]["P1"]["images"]
    images["hires"] = images["hires"][:50, :50]
    images["lowres"] = images["lowres"] * 9 - 4
    slide = read(save(adata, tmp_path / "P1.h5ad"))
    assert slide.image is None
    assert (slide.mpp, slide.n_spots) == (pytest.approx(2.0), 40)
    text = " ".join(slide.notes)
    assert "hires inside the file does not hold the positions at its scale of 0.5" in text
    assert "lowres inside the file holds no colours" in text
    assert "No image was found" in text


def test_cells_with_x_and_y_swapped_are_put_right_and_it_is_said(tmp_path: Path) -> None:
    adata = cells()
    write_image(tmp_path / "core.jpg")
    (tmp_path / "core.json").write_text('{"cell_diameter": 12}')
    right = read(save(adata, tmp_path / "core.h5ad"), SlideOptions(mpp=0.5))
    assert not any("swapped" in note for note in right.notes)
    adata.obs = adata.obs.rename(columns={"x_pixel": "y_pixel", "y_pixel": "x_pixel"})
    swapped = read(save(adata, tmp_path / "core.h5ad"), SlideOptions(mpp=0.5))
    np.testing.assert_array_equal(swapped.xy_px, right.xy_px)
    assert any("with x and y swapped all lie inside. They were swap" in n for n in swapped.notes)
    assert dict(swapped.parameters) == {"counts": "X", "xy_swapped": True}
    assert (swapped.spot_diameter_um, swapped.platform) == (12.0, "")
    assert [p.name for p in swapped.files] == ["core.h5ad", "core.json"]


def test_cells_with_an_image_need_a_pixel_size(tmp_path: Path) -> None:
    write_image(tmp_path / "core.jpg")
    path = save(cells(), tmp_path / "core.h5ad")
    with pytest.raises(MissingPixelSizeError, match=r"core\.jpg has no microns per pixel"):
        read(path)
    (tmp_path / "core.slide.toml").write_text("mpp = 0.5\n")
    slide = read(path)
    assert any("how wide a spot is: 10 um, a usual cell" in note for note in slide.notes)


def test_microns_by_name_become_pixels(tmp_path: Path) -> None:
    adata = cells()
    adata.obs = adata.obs.rename(columns={"x_pixel": "x_centroid", "y_pixel": "y_centroid"}) * 0.5
    alone = read(save(adata, tmp_path / "core.h5ad"))
    assert (alone.mpp, alone.image) == (1.0, None)
    np.testing.assert_array_equal(alone.xy_um, adata.obs)
    write_image(tmp_path / "core.jpg")
    slide = read(tmp_path / "core.h5ad", SlideOptions(mpp=0.5))
    np.testing.assert_allclose(slide.xy_px, adata.obs.to_numpy() * 2)


def test_positions_that_could_be_microns_are_told(tmp_path: Path) -> None:
    adata = cells()
    adata.obsm["spatial"] = adata.obs[["x_pixel", "y_pixel"]].to_numpy() * 0.3
    image = write_image(tmp_path / "he.png")
    path = save(adata, tmp_path / "c.h5ad")
    notes = read(path, SlideOptions(image=image, mpp=0.5)).notes
    assert any("As microns they would lie on the image too: look at them." in n for n in notes)
    adata.obsm["spatial"] = adata.obsm["spatial"] * 3
    notes = read(save(adata, path), SlideOptions(image=image, mpp=0.5)).notes
    assert not any("As microns" in note for note in notes)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"spots": "bins", "bin_um": 100.0}, id="by_name_and_width"),
        pytest.param({"bin_um": 100.0}, id="by_width"),
    ],
)
def test_cells_are_pooled_into_bins_where_asked(tmp_path: Path, asked: dict) -> None:
    path = save(cells(), tmp_path / "core.h5ad")
    alone = read(path, SlideOptions(mpp=0.5))
    slide = read(path, SlideOptions(mpp=0.5, **asked))
    assert (alone.n_spots, alone.parameters.get("spots")) == (60, None)
    assert slide.parameters["spots"] == "bins"
    assert slide.spot_diameter_um == 100.0
    found = {}  # by obvious arithmetic: a bin of 100 um is 200 px wide
    for (x, y), counts in zip(alone.xy_px, alone.counts.toarray(), strict=True):
        found.setdefault((int(y // 200), int(x // 200)), []).append(counts)
    assert slide.n_spots == len(found)
    for (row, col), members in found.items():
        bin_ = slide.spots.loc[f"b100um_{row:05d}_{col:05d}"]
        assert bin_[["x_px", "y_px"]].tolist() == [200 * col + 100, 200 * row + 100]
        assert bin_["n_cells"] == len(members)
        at = slide.spots.index.get_loc(bin_.name)
        np.testing.assert_array_equal(slide.counts[at].toarray()[0], np.sum(members, axis=0))
    assert any(f"60 cells were pooled into {len(found)} bins of 100 um" in n for n in slide.notes)


def test_cells_stay_where_asked_and_spots_of_visium_always(tmp_path: Path) -> None:
    path = save(cells(), tmp_path / "core.h5ad")
    assert read(path, SlideOptions(mpp=0.5, spots="cells", bin_um=100.0)).n_spots == 60
    slide = read(save(visium(), tmp_path / "P1.h5ad"), SlideOptions(spots="bins"))
    assert slide.n_spots == 40
    assert "Spots of Visium are not pooled into bins: each is a spot." in slide.notes


def test_bins_need_a_pixel_size(tmp_path: Path) -> None:
    path = save(cells(), tmp_path / "core.h5ad")
    with pytest.raises(MissingPixelSizeError, match=r"cannot be pooled into bins\. Give mpp"):
        read(path, SlideOptions(spots="bins"))


def test_pixel_size_of_visium_hd_comes_from_its_scale_factors(tmp_path: Path) -> None:
    adata = cells()
    adata.obsm["spatial"] = adata.obs[["x_pixel", "y_pixel"]].to_numpy()
    factors = {"microns_per_pixel": 0.25, "bin_size_um": 8.0, "spot_diameter_fullres": 32.0}
    adata.uns["spatial"] = {"square_008um": {"scalefactors": factors}}
    write_image(tmp_path / "hd.png")
    slide = read(save(adata, tmp_path / "hd.h5ad"))
    assert (slide.mpp, slide.spot_diameter_um, slide.platform) == (0.25, 8.0, "")


@given(
    pitch=st.floats(5, 500),
    angle=st.floats(0, 2 * np.pi),
    flip=st.booleans(),
    gaps=st.sets(st.integers(0, 79), max_size=30),
)
def test_the_pitch_is_found_however_the_array_lies(
    pitch: float, angle: float, flip: bool, gaps: set[int]
) -> None:
    array = np.array([(r, 2 * c + r % 2) for r in range(8) for c in range(10)])
    kept = [i for i in range(80) if i not in gaps]
    xy = array[:, ::-1] * (0.5, 0.75**0.5) * pitch * (1, -1 if flip else 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = xy @ turn.T + 1000
    assert visium_pitch_px(xy[kept], array[kept], None) == pytest.approx(pitch)
    assert visium_pitch_px(xy, None, 0.65 * pitch) == pytest.approx(pitch)
    assert visium_pitch_px(xy, None, 0.55 * pitch) == pytest.approx(pitch)
    assert visium_pitch_px(xy, None, 0.5 * pitch) is None
    assert visium_pitch_px(xy, None, None) is None


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 2))
def test_cells_are_never_taken_for_an_array(seed: int, share: float) -> None:
    xy = np.random.default_rng(seed).uniform(0, 1000, (100, 2))
    assert visium_pitch_px(xy, None, share * 50) is None


def test_the_real_visium_crop_is_read_without_counts(shared_data: Path) -> None:
    assert len(find_slides(shared_data / "visium_brain_crop")) == 1
    slide = read(shared_data / "visium_brain_crop/test_data.h5ad")
    assert (slide.counts.shape, slide.platform) == ((49, 0), "Visium")
    assert slide.mpp == pytest.approx(0.7246, rel=1e-3)
    assert slide.image.size_px == (950, 1717)
    assert slide.spots["leiden"].nunique() == 5
    assert any(LOG_NOTE in note for note in slide.notes)


def test_the_real_swapped_cells_are_put_right(shared_data: Path) -> None:
    path = shared_data / "xenium_lung_crop/NCBI858.h5ad"
    slide = read(path, SlideOptions(mpp=2.0))
    assert (slide.counts.shape, slide.spot_diameter_um) == ((200, 338), 20.0)
    assert np.median(np.asarray(slide.counts.sum(axis=1))) == 195
    assert any("7.5% of the positions lie outside" in note for note in slide.notes)
    boxes = [slide.image.read(x - 5, y - 5, 10, 10) for x, y in slide.xy_px]
    on_tissue = np.mean([box.mean(axis=(0, 1)).min() < 225 for box in boxes])
    assert on_tissue > 0.9
