from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.trident import TridentReader
from tests.space_ranger_run import Run
from tests.trident_files import SIZE, Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_embeddings_are_read_with_their_places_and_image(tmp_path: Path) -> None:
    job = Job(tmp_path)
    image = job.write_image(tmp_path)
    slide = read(job.write())
    assert (slide.reader, slide.slide_id, slide.n_spots) == ("TRIDENT", "TCGA-A1.uuid", 12)
    assert (slide.genes, slide.counts.shape, slide.has_counts) == ((), (12, 0), False)
    assert slide.embeddings is not None
    assert slide.embeddings.encoder == "uni_v1"
    assert slide.embeddings.image.dtype == np.float32
    np.testing.assert_array_equal(slide.embeddings.image, job.features)
    np.testing.assert_array_equal(slide.xy_px, job.coords + 256.0)
    assert slide.spots.index[5] == "512_512"
    assert slide.image is not None
    assert slide.image.uri == str(image)
    assert (slide.mpp, slide.spot_diameter_um) == (pytest.approx(0.25), pytest.approx(128.0))
    assert slide.files == (job.path,)
    assert slide.parameters["patch_size"] == 256
    assert "savetodir" not in slide.parameters


def test_without_an_image_places_stay_in_pixels(tmp_path: Path) -> None:
    slide = read(Job(tmp_path).write())
    assert (slide.image, slide.mpp) == (None, None)
    assert slide.spot_diameter_um == 128.0
    notes = " ".join(slide.notes)
    assert "No image was found" in notes
    assert "took the slide for 40x" in notes
    with pytest.raises(MissingPixelSizeError):
        _ = slide.xy_um


def test_a_given_pixel_size_serves_without_an_image(tmp_path: Path) -> None:
    slide = read(Job(tmp_path).write(), SlideOptions(mpp=0.24))
    assert (slide.mpp, slide.spot_diameter_um) == (0.24, pytest.approx(122.88))


def test_a_given_image_is_used(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (tmp_path / "wsi").mkdir()
    image = job.write_image(tmp_path / "wsi")
    slide = read(job.write(), SlideOptions(image=image))
    assert slide.image is not None
    assert slide.width_px == SIZE[0]


@pytest.mark.parametrize("folder", ["trident", "."])
def test_an_image_in_or_beside_the_job_is_found(tmp_path: Path, folder: str) -> None:
    job = Job(tmp_path)
    job.write()
    job.write_image(tmp_path / folder)
    assert read(job.path).image is not None


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write()
    job.write_image(tmp_path)
    job.write_image(tmp_path / "trident")
    with pytest.raises(SlideError, match="has 2 images"):
        read(job.path)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write_image(tmp_path, (2048, 1024))
    with pytest.raises(SlideError, match="was made of an image of 2048 x 1536 px"):
        read(job.write())


def test_an_image_without_a_pixel_size_needs_one(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write_image(tmp_path, mpp=None)
    with pytest.raises(MissingPixelSizeError, match="Give mpp"):
        read(job.write())
    assert read(job.path, SlideOptions(mpp=0.25)).mpp == 0.25


def test_a_link_to_an_image_elsewhere_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "project")
    job.write()
    (tmp_path / "wsi").mkdir()
    image = job.write_image(tmp_path / "wsi")
    (tmp_path / "project" / image.name).symlink_to(image)
    with pytest.raises(SlideError, match="outside the slide's folder"):
        read(job.path)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [("conch_v15", "conch_v15"), (b"conch_v15", "conch_v15"), (None, "uni_v1")],
)
def test_the_encoder_is_the_files_word_else_the_folders(
    tmp_path: Path, attribute: str | bytes | None, expected: str
) -> None:
    job = Job(tmp_path)
    job.encoder = attribute
    slide = read(job.write())
    assert slide.embeddings is not None
    assert slide.embeddings.encoder == expected


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.features = job.features.astype(np.float16)
    slide = read(job.write())
    assert slide.embeddings is not None
    assert slide.embeddings.image.dtype == np.float32
    np.testing.assert_array_equal(slide.embeddings.image, job.features)


def test_slides_are_found_by_their_tile_embeddings_alone(tmp_path: Path) -> None:
    paths = [Job(tmp_path, name).write() for name in ("a", "b")]
    folder = Job(tmp_path).folder
    for other in ("patches/a_patches.h5", "slide_features_titan/a.h5"):
        (folder / other).parent.mkdir(exist_ok=True)
        with h5py.File(folder / other, "w") as file:
            file["features"], file["coords"] = np.zeros((2, 4)), np.zeros((2, 2))
    (folder / "features_uni_v1/a.pt").touch()
    assert find_slides(tmp_path) == paths


def test_outside_of_a_job_the_datasets_tell(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write()
    folder = tmp_path / "features_uni"
    folder.mkdir()
    moved = job.path.rename(folder / "a.h5")
    assert TridentReader().detect(moved)
    matrix = Run(tmp_path).path / "filtered_feature_bc_matrix.h5"
    foreign = matrix.rename(folder / "filtered_feature_bc_matrix.h5")
    assert not TridentReader().detect(foreign)
    (folder / "broken.h5").write_bytes(b"\x89HDF")
    assert not TridentReader().detect(folder / "broken.h5")


def test_a_tile_width_follows_from_both_magnifications(tmp_path: Path) -> None:
    job = Job(tmp_path)
    del job.attributes["patch_size_level0"]
    np.testing.assert_array_equal(read(job.write()).xy_px, job.coords + 256.0)


def test_tiles_of_clam_are_as_wide_as_they_were_cut(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.attributes = {"patch_size": 256, "patch_level": 0, "custom_downsample": 2}
    slide = read(job.write(), SlideOptions(mpp=0.25))
    np.testing.assert_array_equal(slide.xy_px, job.coords + 256.0)


def no_tiles(job: Job) -> None:
    job.coords, job.features = job.coords[:0], job.features[:0]


def no_tiles_flat(job: Job) -> None:
    job.coords, job.features = job.coords[:0], np.empty((0,), dtype=np.float32)


def whole_slide(job: Job) -> None:
    job.features = job.features[0]


def packed(job: Job) -> None:
    job.features = job.features[None]


def one_short(job: Job) -> None:
    job.features = job.features[1:]


def three_columns(job: Job) -> None:
    job.coords = np.column_stack((job.coords, job.coords[:, 0]))


def no_width(job: Job) -> None:
    job.attributes = {"name": "a", "overlap": 0}


def zero_width(job: Job) -> None:
    job.attributes |= {"patch_size_level0": 0, "level0_magnification": 0}


def lower_level(job: Job) -> None:
    job.attributes = {"patch_size": 256, "patch_level": 1}


def text_features(job: Job) -> None:
    job.features = np.array([[b"x"]] * 12)


def not_finite(job: Job) -> None:
    job.features[4, 2] = np.nan


def all_zero(job: Job) -> None:
    job.features[4] = 0


def tile_twice(job: Job) -> None:
    job.coords[3] = job.coords[2]


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        pytest.param(no_tiles, SlideError, "No tiles were found on this slide", id="no tiles"),
        pytest.param(
            no_tiles_flat, SlideError, "No tiles were found on this slide", id="no tiles, flat"
        ),
        pytest.param(
            whole_slide, SlideError, "one embedding for the whole slide", id="whole slide"
        ),
        pytest.param(packed, SlideError, "packed for a slide encoder", id="packed"),
        pytest.param(
            one_short, SlideError, r"\(11, 16\) and coords of shape \(12, 2\)", id="short"
        ),
        pytest.param(three_columns, SlideError, r"\(12, 3\)", id="three columns"),
        pytest.param(no_width, SlideError, "how wide its tiles are", id="no width"),
        pytest.param(zero_width, SlideError, "how wide its tiles are", id="width 0"),
        pytest.param(lower_level, SlideError, "how wide its tiles are", id="another level"),
        pytest.param(text_features, SlideError, "cannot be read", id="text"),
        pytest.param(not_finite, SlideError, "not finite or all 0", id="NaN"),
        pytest.param(all_zero, SlideError, "not finite or all 0", id="zeros"),
        pytest.param(tile_twice, BarcodeMismatchError, "more than once", id="tile twice"),
    ],
)
def test_wrong_contents_are_refused(
    tmp_path: Path, damage: Callable[[Job], None], error: type[SlideError], match: str
) -> None:
    job = Job(tmp_path)
    damage(job)
    with pytest.raises(error, match=match):
        read(job.write())


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = Job(tmp_path).write()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SlideError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["features", "coords"])
def test_a_file_without_a_dataset_is_refused(tmp_path: Path, name: str) -> None:
    path = Job(tmp_path).write()
    with h5py.File(path, "a") as file:
        del file[name]
    with pytest.raises(SlideError, match="Expected the datasets features and coords"):
        read(path)


@settings(max_examples=30, deadline=None)
@given(
    corners=st.lists(
        st.tuples(st.integers(0, 90_000), st.integers(0, 90_000)),
        min_size=1,
        max_size=20,
        unique=True,
    ),
    patch=st.sampled_from([224, 256, 512]),
    magnifications=st.sampled_from([(40, 20), (20, 20), (40, 10), (80, 20)]),
)
def test_every_centre_lies_half_a_tile_from_its_corner(
    tmp_path_factory: pytest.TempPathFactory,
    corners: list[tuple[int, int]],
    patch: int,
    magnifications: tuple[int, int],
) -> None:
    job = Job(tmp_path_factory.mktemp("job"))
    level0, target = magnifications
    job.coords = np.array(corners, dtype=np.int64)
    job.features = np.ones((len(corners), 4), dtype=np.float32)
    width = patch * level0 // target
    job.attributes = {
        "patch_size": patch,
        "patch_size_level0": width,
        "level0_magnification": level0,
        "target_magnification": target,
    }
    slide = read(job.write())
    np.testing.assert_array_equal(slide.xy_px - width / 2, job.coords)
    assert slide.spot_diameter_um == pytest.approx(patch * 10 / target)
