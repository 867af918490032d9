"""Every conversion of coordinates against slow, obvious arithmetic, and a painted landmark on every route."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stamp_index.readers import SlideOptions, read
from stamp_index.readers.common.binning import pool
from stamp_index.readers.common.image_scale import same_shape_scale
from stamp_index.readers.spatialdata_zarr.ngff import apply, coordinate_systems, scale_of
from stamp_index.readers.tenx.hd_grid import HdGrid
from stamp_index.readers.tenx.xenium_image import place_image
from stamp_index.slides import ArrayImage
from stamp_index.slides.patches import PatchSpec, read_patches
from tests.anndata_files import cells, visium
from tests.her2st_files import write_section
from tests.hest_files import Sample
from tests.legacy_st_files import write_pair, write_study
from tests.space_ranger_run import Run
from tests.spatial_data_files import SpatialStore, transformation
from tests.stimage_files import StSlide
from tests.support import toy_slide
from tests.tissue_files import stained
from tests.trident_files import TILE, Job
from tests.visium_hd_files import HdRun
from tests.xenium_files import HE_SIZE, PIXEL, XeniumRun, alignment, write_alignment

places = st.floats(-5000, 5000, allow_nan=False)
points = st.lists(st.tuples(places, places), min_size=1, max_size=5).map(np.array)
degrees = st.floats(-180, 180)


def turned(x: float, y: float, by: float, *, mirrored: bool) -> tuple[float, float]:
    """Turn a point by degrees, after a flip of x where `mirrored`; one number at a time."""
    x = -x if mirrored else x
    cos, sin = math.cos(math.radians(by)), math.sin(math.radians(by))
    return x * cos - y * sin, x * sin + y * cos


@settings(max_examples=30)
@given(points, st.floats(0.05, 20))
def test_microns_are_pixels_times_the_pixel_size_and_back(xy, mpp):
    slide = toy_slide(n_spots=len(xy), image=False)
    spots = slide.spots.assign(x_px=xy[:, 0], y_px=xy[:, 1])
    moved = type(slide)(**{**vars(slide), "spots": spots, "mpp": mpp})
    for (x, y), (x_um, y_um) in zip(xy, moved.xy_um, strict=True):
        assert (x_um, y_um) == (x * mpp, y * mpp)
    assert np.allclose(moved.xy_um / mpp, xy, rtol=1e-12, atol=1e-12)


@given(st.integers(400, 9000), st.integers(400, 9000), st.floats(0.05, 1), st.floats(0, 1))
def test_a_place_on_the_full_image_is_the_same_share_of_a_scaled_one(width, height, factor, share):
    small = max(round(width * factor), 20), max(round(height * factor), 20)
    scale = same_shape_scale(small, (width, height))
    if scale is None:  # so small that its sides are rounded to another shape
        assert min(small) < 60
        return
    # A scaled image's size is whole pixels, so that a place is known to the pixel.
    assert abs(share * width * scale - share * small[0]) <= 0.02 * small[0] + 1
    assert scale == pytest.approx(factor, rel=0.03) or min(small) < 40


@given(degrees, st.booleans(), st.floats(0.2, 2), st.integers(1, 30), st.integers(0, 9))
def test_the_centre_of_a_bin_is_the_mean_of_its_squares(by, mirrored, mpp, squares, row):
    axes = [turned(1, 0, by, mirrored=mirrored), turned(0, 1, by, mirrored=mirrored)]
    linear = np.array(axes).T * 2 / mpp
    grid = HdGrid(
        2, np.full((9, 9), 2, np.uint8), np.column_stack([linear, np.array([700.0, 300.0])])
    )
    assert grid.mpp == pytest.approx(mpp)
    column = 2 * row + 1
    members = [
        (
            700 + linear[0, 0] * c + linear[0, 1] * r,
            300 + linear[1, 0] * c + linear[1, 1] * r,
        )
        for r in range(row * squares, (row + 1) * squares)
        for c in range(column * squares, (column + 1) * squares)
    ]
    (centre,) = grid.centres_px(np.array([row]), np.array([column]), squares)
    assert centre == pytest.approx(np.mean(members, axis=0), abs=1e-6)


@pytest.fixture(scope="module")
def xenium(tmp_path_factory):
    run = XeniumRun(tmp_path_factory.mktemp("xenium"))
    white(run.path / "he_image.tif", HE_SIZE)
    return run.path


@settings(max_examples=40)
@given(points, degrees, st.booleans(), st.floats(0.2, 1.0), places, places)
def test_microns_on_a_xenium_section_come_back_through_the_alignment(
    xenium, um, by, mirrored, he_mpp, dx, dy
):
    matrix = alignment(by, mirrored=mirrored, he_mpp=he_mpp)
    matrix[:2, 2] += dx, dy
    write_alignment(xenium / "he_imagealignment.csv", matrix)
    placed = place_image(xenium, PIXEL, SlideOptions())
    assert placed.mpp == pytest.approx(he_mpp)
    for (x_um, y_um), (x, y) in zip(um, placed.place(um), strict=True):
        there = turned(x * he_mpp / PIXEL, y * he_mpp / PIXEL, by, mirrored=mirrored)
        back = [(there[axis] + matrix[axis, 2]) * PIXEL for axis in (0, 1)]
        assert back == pytest.approx([x_um, y_um], abs=1e-5)


@given(points, degrees, st.booleans(), st.floats(0.1, 10), places, places)
def test_a_sequence_of_an_affine_and_a_scale_moves_points_step_by_step(
    xy, by, mirrored, factor, dx, dy
):
    axes = [turned(1, 0, by, mirrored=mirrored), turned(0, 1, by, mirrored=mirrored)]
    (xx, yx), (xy_, yy) = axes
    steps = [
        transformation("affine", "S", "xy", affine=[[xx, xy_, dx], [yx, yy, dy], [0, 0, 1]]),
        transformation("scale", "S", "xy", scale=[factor, factor]),
    ]
    whole = transformation("sequence", "S", "xy", transformations=steps)
    matrix = coordinate_systems([whole], ["x", "y"], "a test")["S"].matrix
    for point, found in zip(xy, apply(matrix, xy), strict=True):
        x, y = turned(*point, by, mirrored=mirrored)
        assert found == pytest.approx([(x + dx) * factor, (y + dy) * factor], rel=1e-9, abs=1e-6)
    assert scale_of(matrix, "a test") == pytest.approx(factor)


@settings(max_examples=10)
@given(
    st.integers(1, 700), st.lists(st.tuples(*[st.integers(0, 800)] * 2), min_size=1, unique=True)
)
def test_a_tile_of_trident_lies_half_its_width_from_its_corner(width, corners):
    with TemporaryDirectory() as folder:
        job = Job(Path(folder))
        job.coords = np.array(corners)
        job.features = job.features[:1].repeat(len(corners), axis=0)
        job.attributes["patch_size_level0"] = width
        slide = read(job.write())
    assert slide.xy_px.tolist() == [[x + width / 2, y + width / 2] for x, y in corners]


@settings(max_examples=5)
@given(st.sampled_from([0.25, 0.3, 0.5, 0.7, 1.0]))
def test_the_patches_of_hest_lie_half_their_width_before_their_spots(mpp):
    with TemporaryDirectory() as folder:
        sample = Sample(Path(folder), mpp=mpp)
        sample.write(wsi=False)
        sample.write_patches()
        slide = read(sample.path)
    assert slide.image is not None
    corners = slide.xy_px - 112 / mpp / 2
    assert np.abs(corners - (sample.xy - 112 / mpp // 2)).max() <= 1.0
    assert slide.image.size_px == sample.size


@given(points, st.floats(1, 200))
def test_a_point_lies_in_the_bin_whose_centre_is_within_half_a_width(um, width):
    from scipy.sparse import csr_matrix

    pooled = pool(um, csr_matrix(np.ones((len(um), 1))), width)
    for (x, y), bin_ in zip(um, pooled.bins.of, strict=True):
        row, col = math.floor(y / width), math.floor(x / width)
        assert (pooled.bins.row[bin_], pooled.bins.col[bin_]) == (row, col)
        assert pooled.xy_um[bin_] == pytest.approx([(col + 0.5) * width, (row + 0.5) * width])


@given(st.integers(0, 59), st.integers(0, 49), st.integers(2, 40))
def test_a_pixel_is_found_at_its_own_middle(x, y, out):
    """Pixel (i, j) covers [i, i + 1): its middle is at i + 0.5."""
    pixels = np.full((50, 60, 3), 255, np.uint8)
    pixels[y, x] = 0
    patch = ArrayImage(pixels).read(x + 0.5 - 4, y + 0.5 - 4, 8.0, 8 * out)
    dark = 255.0 - patch[:, :, 0]
    at = [
        float((dark.sum(axis) * (np.arange(8 * out) + 0.5)).sum() / dark.sum()) for axis in (0, 1)
    ]
    assert at == pytest.approx([4 * out, 4 * out], abs=0.51 * out)


def white(path: Path, size: tuple[int, int]) -> None:
    write(path, np.full((size[1], size[0], 3), 255, np.uint8))


def write(path: Path, pixels: np.ndarray, mpp: float | None = None) -> None:
    if path.suffix != ".tif":
        Image.fromarray(pixels).save(path, **({"quality": 97} if path.suffix == ".jpg" else {}))
        return
    tags = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **tags)


def disc(pixels: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """Paint a black disc around a place in pixels."""
    height, width = pixels.shape[:2]
    away = np.hypot(np.arange(width) + 0.5 - x, np.arange(height)[:, None] + 0.5 - y)
    light = np.clip(away - radius + 0.5, 0, 1)[:, :, None]
    return (pixels * light).astype(np.uint8)


def paint(path: Path, um: tuple[float, float], mpp: float, *, tagged: bool = False) -> None:
    """Write an image of the same size anew: white, with a black disc at a place in microns."""
    with Image.open(path) as image:
        size = image.size
    blank = np.full((size[1], size[0], 3), 255, np.uint8)
    write(path, disc(blank, um[0] / mpp, um[1] / mpp, 4.0), mpp if tagged else None)


def hires_of_space_ranger(root):
    run = Run(root)
    um = (1200 * 0.5, (500 + 4 * 200 * 0.75**0.5) * 0.5)
    paint(run.spatial / "tissue_hires_image.png", um, 1.0)
    return run.path, "B4-6", um, {}


def full_image_of_space_ranger(root):
    run = Run(root)
    um = (1200 * 0.5, (500 + 4 * 200 * 0.75**0.5) * 0.5)
    image = run.write_tiff()
    paint(image, um, 0.5, tagged=True)
    return run.path, "B4-6", um, {"image": image}


def turned_visium_hd(root):
    run = HdRun(root, degrees=33, mirrored=True)
    um = tuple(run.centre_px(2, 3) * 0.5)
    paint(run.folder(16) / "spatial/tissue_hires_image.png", um, 1.0)
    return run.path, "b48um_00002_00003", um, {}


def turned_xenium(root):
    run, matrix = XeniumRun(root), alignment(40, mirrored=True)
    at = np.array([4.5, 3.5]) * 48 / PIXEL
    um = tuple(np.linalg.solve(matrix[:2, :2], at - matrix[:2, 2]) * 0.5)
    write_alignment(run.path / "he_imagealignment.csv", matrix)
    white(run.path / "he_image.tif", HE_SIZE)
    paint(run.path / "he_image.tif", um, 0.5, tagged=True)
    return run.path, "b48um_00003_00004", um, {}


def spatial_data(root):
    store = SpatialStore(root)
    um = tuple(store.xy[8] * 2.5)
    blank = np.full_like(store.pixels, 255)
    store.drop("images/P1_hires_image")
    store.write_image("P1_hires_image", disc(blank, um[0] / 5, um[1] / 5, 4.0))
    return store.path, store.obs.index[8], um, {}


def her2st(root):
    path = write_section(root)
    um = ((5.1 - 1) * 200, (5.9 - 1) * 200)
    paint(root / "ST-imgs/C/C2/HE.jpg", um, 10.0)
    return path, "5x6", um, {}


def hest(root):
    sample = Sample(root, mpp=0.5)
    sample.write()
    um = tuple(sample.xy[12] * 0.5)
    paint(root / "wsis/TENX1.tif", um, 0.5, tagged=True)
    return sample.path, sample.obs.index[12], um, {}


def patches_of_hest(root):
    sample = Sample(root, mpp=0.7)
    sample.write(wsi=False)
    sample.write_patches()
    with h5py.File(sample.patches, "r+") as file:
        corner, side = file["coords"][12], 224
        at = (sample.xy[12] - corner) * 0.7 / 0.5
        file["img"][12] = disc(np.full((side, side, 3), 255, np.uint8), *at, 8.0)
    return sample.path, sample.obs.index[12], tuple(sample.xy[12] * 0.7), {}


def stimage(root):
    slide = StSlide(root)
    path = slide.write()
    um = tuple(slide.xy[15] * 2.0)
    paint(slide.folder / "image" / f"{slide.name}.png", um, 2.0)
    return path, slide.local[15], um, {}


def trident(root):
    job = Job(root)
    path = job.write()
    corner = job.coords[6]
    um = tuple((corner + TILE / 2) * 0.25)
    paint(job.write_image(root), um, 0.25, tagged=True)
    return path, f"{corner[0]}_{corner[1]}", um, {}


def annotated(root):
    study = write_study(root / "study")
    um = (8 * 200.0, 10 * 200.0)
    paint(study / "images/04.jpg", um, 10.0)
    return study / "counts/MOB_REP4_stdata.tsv.gz", "9x11", um, {}


def legacy(root):
    path = write_pair(root, staggered=False)
    um = ((40 + 4.02 * 20) * 10, (50 + 5.98 * 20) * 10)
    paint(root / "MOB1.jpg", um, 10.0)
    return path, "4x6", um, {}


def visium_in_h5ad(root):
    adata = visium()
    adata.write_h5ad(root / "P1.h5ad")
    um = tuple(adata.obsm["spatial"][13] * 2)
    white(root / "he_scan.png", (600, 420))
    paint(root / "he_scan.png", um, 2.0)
    return root / "P1.h5ad", "B13", um, {}


def cells_in_h5ad(root):
    adata = cells()
    adata.obs.loc["c7", ["x_pixel", "y_pixel"]] = 300.25, 200.75
    adata.write_h5ad(root / "core.h5ad")
    white(root / "core.png", (600, 420))
    paint(root / "core.png", (150.125, 100.375), 0.5)
    return root / "core.h5ad", "c7", (150.125, 100.375), {"mpp": 0.5}


def plain(root):
    um = (5.5 * 112, 3.5 * 112)
    pixels = disc(stained(1024, 1024), um[0] / 2, um[1] / 2, 4.0)
    write(root / "HE.tif", pixels, 2.0)
    return root / "HE.tif", "x00005_y00003", um, {}


ROUTES = (
    *(hires_of_space_ranger, full_image_of_space_ranger, turned_visium_hd, turned_xenium),
    *(spatial_data, her2st, hest, patches_of_hest, stimage, trident, annotated, legacy),
    *(visium_in_h5ad, cells_in_h5ad, plain),
)


def found_um(patch: np.ndarray, width_um: float) -> list[float]:
    """Middle of what is black, in microns from the patch's corner."""
    dark = np.clip(100.0 - patch.mean(axis=2), 0, None)
    middle = (np.arange(len(patch)) + 0.5) * width_um / len(patch)
    return [float((dark.sum(axis) * middle).sum() / dark.sum()) for axis in (0, 1)]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)
def test_a_landmark_at_a_known_place_in_microns_is_found_at_its_spot(tmp_path, route):
    path, barcode, um, options = route(tmp_path)
    slide = read(path, SlideOptions(**options))
    row = slide.spots.index.get_loc(barcode)
    assert slide.mpp is not None
    assert slide.xy_um[row] == pytest.approx(um, abs=0.01 * slide.mpp)
    width = max(48.0, 24 * slide.mpp)
    moved = np.array([[0.0, 0.0], [width / 8, -width / 6]])
    both = read_patches(slide, PatchSpec(width, 224), rows=[row, row], offsets_um=moved)
    # HEST-1k rounds the corners of its patches down to whole pixels, once for half the width and once for the spot.
    off = (1.5 if route is patches_of_hest else 0.5) * slide.mpp
    for patch, (dx, dy) in zip(both, moved, strict=True):
        expected = [width / 2 - dx, width / 2 - dy]
        assert found_um(patch, width) == pytest.approx(expected, abs=off)
