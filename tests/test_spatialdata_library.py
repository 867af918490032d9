"""Stores that the spatialdata library writes are read, and what is exported is read by it."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.sparse import csr_matrix

from stamp_index.cli import main
from stamp_index.errors import SlideError, StampIndexError
from stamp_index.export import to_spatialdata
from stamp_index.readers import SlideOptions, read
from tests.support import TOY_MPP, toy_slide, toy_store

HAS_LIBRARY = importlib.util.find_spec("spatialdata") is not None
needs_library = pytest.mark.skipif(not HAS_LIBRARY, reason="spatialdata is not installed")
# What it warns of concerns its own dependencies.
pytestmark = pytest.mark.filterwarnings("default")
N = 30


@pytest.mark.skipif(HAS_LIBRARY, reason="spatialdata is installed")
def test_without_the_library_the_extra_is_named(tmp_path):
    with pytest.raises(StampIndexError, match=r"pip install 'stamp-index\[spatialdata\]'"):
        to_spatialdata(toy_store(tmp_path, n_slides=1))


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata
        import spatialdata._io.format
    return spatialdata


def _table(library, n=N):
    from anndata import AnnData

    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"region": pd.Categorical(["spots"] * n), "instance": np.arange(n)},
        index=[f"B{i}" for i in range(n)],
    )
    counts = csr_matrix(rng.integers(1, 5, (n, 4)).astype(np.float32))
    made = AnnData(counts, obs, pd.DataFrame(index=["CD8A", "EPCAM", "KRT8", "VIM"]))
    return library.models.TableModel.parse(
        made, region="spots", region_key="region", instance_key="instance"
    )


def _written(library, path, *, old, squares=False):
    """A store whose image is turned and whose spots are shifted against a coordinate system."""
    from spatialdata.transformations import Affine, Scale, Sequence, Translation

    rng = np.random.default_rng(1)
    turn = Sequence([
        Affine([[0.8, -0.6, 30], [0.6, 0.8, -40], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y")),
        Scale([2.0, 2.0], axes=("x", "y")),
    ])  # fmt: skip
    pixels = rng.integers(0, 255, (3, 200, 260), np.uint8)
    image = library.models.Image2DModel.parse(
        pixels, dims=("c", "y", "x"), scale_factors=[2, 2], transformations={"S": turn}
    )
    at = rng.uniform([60, 60], [200, 140], (N, 2))
    in_system = (at @ np.array([[0.8, -0.6], [0.6, 0.8]]).T + [30, -40]) * 2
    shift = {"S": Translation([7.0, -9.0], axes=("x", "y"))}
    xy = in_system - [7, -9]
    if squares:
        import geopandas
        import shapely

        boxes = shapely.box(xy[:, 0] - 4, xy[:, 1] - 4, xy[:, 0] + 4, xy[:, 1] + 4)
        frame = geopandas.GeoDataFrame(geometry=boxes)
        shapes = library.models.ShapesModel.parse(frame, transformations=shift)
    else:
        shapes = library.models.ShapesModel.parse(xy, geometry=0, radius=4.0, transformations=shift)
    made = library.SpatialData(
        images={"he": image}, shapes={"spots": shapes}, tables={"table": _table(library)}
    )
    formats = library._io.format
    made.write(path, sdata_formats=[getattr(formats, name)() for name in old] or None)
    return at, pixels


@needs_library
@pytest.mark.parametrize(
    ("old", "squares"),
    [
        pytest.param((), False, id="newest"),
        pytest.param((), True, id="newest, squares"),
        pytest.param(("SpatialDataContainerFormatV01",), False, id="zarr 2"),
        pytest.param(
            ("SpatialDataContainerFormatV01", "ShapesFormatV01"), False, id="0.1, circles"
        ),
        pytest.param(("SpatialDataContainerFormatV01", "ShapesFormatV01"), True, id="0.1, squares"),
    ],
)
def test_spots_lie_where_the_library_puts_them(library, tmp_path, old, squares):
    at, pixels = _written(library, tmp_path / "s.zarr", old=old, squares=squares)
    slide = read(tmp_path / "s.zarr", SlideOptions(mpp=0.5))
    assert np.allclose(slide.xy_px, at)
    assert slide.spot_diameter_um == pytest.approx(8 / 2 * 0.5)
    assert len(slide.image.levels) == 3
    assert np.array_equal(slide.image.read(20, 30, 50, 50), pixels.transpose(1, 2, 0)[30:80, 20:70])
    back = library.read_zarr(tmp_path / "s.zarr")
    assert np.array_equal(slide.counts.toarray(), back["table"].X.toarray())
    moved = library.transform(back["spots"], to_coordinate_system="S").centroid
    between = library.transformations.get_transformation(back["he"], to_coordinate_system="S")
    matrix = np.linalg.inv(between.to_affine_matrix(("x", "y"), ("x", "y")))
    theirs = np.column_stack([moved.x, moved.y, np.ones(N)]) @ matrix.T
    assert np.allclose(slide.xy_px, theirs[:, :2])


@needs_library
def test_an_export_comes_back_through_the_library_and_through_the_reader(library, tmp_path):
    store = toy_store(tmp_path, slides=[toy_slide("A 1"), toy_slide("B", seed=1)])
    done = CliRunner().invoke(main, ["export", str(store.path), str(tmp_path / "all.zarr")])
    assert done.exit_code == 0, done.output
    back = library.read_zarr(tmp_path / "all.zarr")
    assert set(back.shapes) == {"A_1_spots", "B_spots"}
    assert set(back.images) == {"A_1_overview", "B_overview"}
    assert set(back.coordinate_systems) == {"A_1", "B"}
    assert back["table"].obsm["X_stamp"].shape == (80, 32)
    assert back["table"].uns["stamp"]["encoder"] == "toy"
    with pytest.raises(SlideError, match="A_1_spots, B_spots"):
        read(tmp_path / "all.zarr")
    slide = read(tmp_path / "all.zarr/shapes/A_1_spots", SlideOptions(mpp=TOY_MPP))
    source = toy_slide("A 1")
    assert np.allclose(slide.xy_px, source.xy_px)
    assert slide.spot_diameter_um == pytest.approx(55.0)
    assert np.array_equal(slide.counts.toarray(), source.counts.toarray())
    assert slide.image.size_px == source.image.size_px
    again = CliRunner().invoke(main, ["export", str(store.path), str(tmp_path / "all.zarr")])
    assert "already" in again.output
    done = CliRunner().invoke(
        main, ["export", str(store.path), str(tmp_path / "all.zarr"), "--overwrite", "--slide", "B"]
    )
    assert done.exit_code == 0, done.output
    assert set(library.read_zarr(tmp_path / "all.zarr").shapes) == {"B_spots"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.zarr", "store"]
