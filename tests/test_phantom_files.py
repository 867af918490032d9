"""The files that make_phantom writes, and the pictures in them."""

from __future__ import annotations

import json
import tomllib

import h5py
import numpy as np
import openslide
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

from stamp_index.phantom import DOMAINS, load_truth, make_phantom, make_phantom_slide
from stamp_index.phantom.layout import spot_array
from stamp_index.phantom.nuclei import LOOK_NAMES, make_banks
from stamp_index.phantom.stain import E_FULL, H_FULL, colour_table
from stamp_index.phantom.style import scan_style
from stamp_index.phantom.write import barcodes
from stamp_index.readers import read

N_SPOTS, SEED = 80, 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_phantom_slide(tmp_path_factory.mktemp("phantom"), spots_per_slide=N_SPOTS)


@pytest.fixture(scope="module")
def dyes(folder):
    """Haematoxylin and eosin of the picture, unmixed with the slide's own vectors."""
    with openslide.OpenSlide(folder / "image.tif") as slide:
        rgb = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    style = scan_style(SEED, 0, 0)
    density = -np.log10((rgb.astype(np.float32) + 1) / (np.array(style.white) + 1))
    vectors = np.array([style.haematoxylin, style.eosin])
    return density @ np.linalg.pinv(vectors), rgb


def read_matrix(folder):
    with h5py.File(folder / "filtered_feature_bc_matrix.h5") as file:
        matrix = file["matrix"]
        shape = tuple(matrix["shape"][:][::-1])
        counts = csr_matrix((matrix["data"], matrix["indices"], matrix["indptr"]), shape=shape)
        names = [b.decode() for b in matrix["barcodes"][:]]
        kinds = {b.decode() for b in matrix["features/feature_type"][:]}
        symbols = [b.decode() for b in matrix["features/name"][:]]
    return counts, names, symbols, kinds


def positions(folder):
    return pd.read_csv(folder / "spatial" / "tissue_positions.csv")


def test_openslide_reads_a_tiled_pyramid_at_half_a_micron(folder):
    with openslide.OpenSlide(folder / "image.tif") as slide:
        assert slide.level_downsamples == pytest.approx((1, 4, 16), rel=0.01)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
        assert slide.properties["openslide.level[0].tile-width"] == "256"
        assert slide.dimensions == (spot_array(N_SPOTS).size_px,) * 2


def test_pyramid_levels_show_the_same_picture(folder):
    with openslide.OpenSlide(folder / "image.tif") as slide:
        full = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")
        small = slide.read_region((0, 0), 2, slide.level_dimensions[2]).convert("RGB")
    shrunk = np.asarray(full.reduce(16), dtype=float)[:140, :140]
    level = np.asarray(small, dtype=float)[:140, :140]
    aligned = np.abs(shrunk - level).mean()
    shifted = np.abs(shrunk[:, 1:] - level[:, :-1]).mean()
    assert aligned < 6  # JPEG compresses either level on its own
    assert aligned < 0.5 * shifted


def test_counts_positions_and_truth_name_the_same_spots(folder):
    counts, names, symbols, kinds = read_matrix(folder)
    table = positions(folder)
    assert counts.shape == (N_SPOTS, len(symbols))
    assert kinds == {"Gene Expression"}
    assert names == table.loc[table["in_tissue"] == 1, "barcode"].tolist()
    assert names == load_truth(folder)["barcode"].tolist()
    assert table["barcode"].is_unique
    assert table["barcode"].str.fullmatch("[ACGT]{16}-1").all()


def test_scale_factors_fit_the_preview_images(folder):
    factors = json.loads((folder / "spatial" / "scalefactors_json.json").read_text())
    side = spot_array(N_SPOTS).size_px
    for name in ("hires", "lowres"):
        with Image.open(folder / "spatial" / f"tissue_{name}_image.png") as image:
            assert image.width == round(side * factors[f"tissue_{name}_scalef"])
    assert factors["spot_diameter_fullres"] == pytest.approx(110.0)


def test_the_sidecar_names_slide_patient_and_image(folder):
    sidecar = tomllib.loads((folder / "slide.toml").read_text())
    assert sidecar["slide_id"] == "P1_A"
    assert sidecar["patient_id"] == "P1"
    assert sidecar["platform"] == "phantom"
    assert sidecar["mpp"] == 0.5
    assert (folder / sidecar["image"]).is_file()


def test_the_reader_takes_the_folder_as_any_space_ranger_output(folder):
    slide = read(folder)
    assert (slide.slide_id, slide.patient_id, slide.n_spots) == ("P1_A", "P1", N_SPOTS)
    assert slide.mpp == pytest.approx(0.5, rel=0.01)
    table = positions(folder).set_index("barcode").loc[slide.spots.index]
    np.testing.assert_allclose(slide.spots["x_px"], table["pxl_col_in_fullres"], atol=1)
    np.testing.assert_allclose(slide.spots["y_px"], table["pxl_row_in_fullres"], atol=1)
    counts, _, _, _ = read_matrix(folder)
    assert slide.counts.sum() == counts.sum()


def test_barcodes_are_unique_and_belong_to_a_place_not_to_a_slide():
    small, large = spot_array(60), spot_array(4900)
    names = barcodes(large)
    assert len(set(names)) == len(names)
    place = dict(zip(zip(large.array_row, large.array_col, strict=True), names, strict=True))
    mine = [place[p] for p in zip(small.array_row, small.array_col, strict=True)]
    assert mine == barcodes(small)


def spot_means(folder, image, domain):
    truth, table = load_truth(folder), positions(folder).set_index("barcode")
    chosen = truth[(truth["domain"] == domain) & (truth["purity"] > 0.7)]["barcode"]
    means = []
    for _, spot in table.loc[chosen].iterrows():
        x, y = int(spot["pxl_col_in_fullres"]), int(spot["pxl_row_in_fullres"])
        means.append(image[y - 55 : y + 55, x - 55 : x + 55].mean(axis=(0, 1)))
    return np.mean(means, axis=0)


def test_each_tissue_takes_the_dyes_that_a_pathologist_expects(folder, dyes):
    unmixed, rgb = dyes
    h = {d: spot_means(folder, unmixed, d)[0] for d in DOMAINS}
    e = {d: spot_means(folder, unmixed, d)[1] for d in DOMAINS}
    assert h["lymphoid"] == max(h.values())
    assert h["lymphoid"] > 4 * h["fat"]
    assert h["tumour"] > 1.5 * h["stroma"]
    assert e["necrosis"] / h["necrosis"] > 1.5 * e["tumour"] / h["tumour"]
    assert e["stroma"] > 1.6 * h["stroma"]
    assert spot_means(folder, rgb, "fat").min() > 215
    assert spot_means(folder, rgb, "lymphoid").max() < 200


def test_glass_is_even_and_nearly_white(folder, dyes):
    _, rgb = dyes
    corner = rgb[:60, :60].astype(float)
    assert corner.mean() > 230
    assert corner.std(axis=(0, 1)).max() < 4


def test_more_lymphocytes_make_a_darker_spot(folder, dyes):
    unmixed, _ = dyes
    truth, table = load_truth(folder), positions(folder).set_index("barcode")
    truth = truth[truth["domain"].isin(["stroma", "lymphoid", "fat"])]
    truth = truth[truth["frac_tumour"] + truth["frac_luminal"] == 0]
    table = table.loc[truth["barcode"]]
    h = [
        unmixed[y - 55 : y + 55, x - 55 : x + 55, 0].mean()
        for x, y in zip(table["pxl_col_in_fullres"], table["pxl_row_in_fullres"], strict=True)
    ]
    lymph = truth.filter(items=["frac_cd8_t", "frac_cd4_t", "frac_b_cell"]).sum(axis=1)
    assert len(h) >= 10
    assert np.corrcoef(h, lymph * truth["n_cells"])[0, 1] > 0.8


def test_colours_follow_beer_and_lambert():
    style = scan_style(0, 0, 0)
    table = colour_table(style)
    np.testing.assert_allclose(table[0], style.white, atol=1)
    for h, e in ((30, 0), (0, 100), (120, 60), (255, 10)):
        for channel in range(3):
            density = h / 255 * H_FULL * style.h_gain * style.haematoxylin[channel]
            density += e / 255 * E_FULL * style.e_gain * style.eosin[channel]
            seen = style.white[channel] * 10 ** (-density * style.gamma)
            assert table[256 * h + e][channel] == pytest.approx(seen, abs=0.51)


def test_nuclei_differ_by_cell_type_as_in_tissue():
    banks = dict(zip(LOOK_NAMES, make_banks(np.random.default_rng(0), spread=1.0), strict=True))

    def area(name):
        return np.mean([(s.nucleus > 40).sum() for s in banks[name]]) * 0.25  # um2

    def darkness(name):
        return np.mean([s.nucleus[s.nucleus > 40].mean() for s in banks[name]])

    assert 25 < area("lymphocyte") < 45
    assert area("tumour") > 1.5 * area("lymphocyte")
    assert area("tumour_dividing") > area("tumour")
    assert darkness("lymphocyte") > darkness("tumour")
    assert np.std([(s.nucleus > 40).sum() for s in banks["tumour"]]) > 2 * np.std(
        [(s.nucleus > 40).sum() for s in banks["lymphocyte"]]
    )
    upright = banks["fibroblast"][0].nucleus > 40  # angle 0: along x
    assert upright.any(axis=0).sum() > 2 * upright.any(axis=1).sum()


@pytest.mark.slow  # starts two processes
def test_files_are_the_same_for_the_same_seed_with_any_number_of_workers(tmp_path):
    seen = []
    shared = {"n_patients": 1, "slides_per_patient": 2, "spots_per_slide": 40, "seed": 5}
    two = make_phantom(
        tmp_path / "two", workers=2, progress=lambda *step: seen.append(step), **shared
    )
    assert [p.name for p in two] == ["P1_A", "P1_B"]
    assert seen == [(1, 2), (2, 2)]
    one = make_phantom_slide(tmp_path / "one", slide=1, spots_per_slide=40, seed=5)
    for name in ("image.tif", "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"):
        assert (one / name).read_bytes() == (two[1] / name).read_bytes(), name
    assert (two[0] / "image.tif").read_bytes() != (two[1] / "image.tif").read_bytes()
