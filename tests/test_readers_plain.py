from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from stamp_index.errors import ImageFormatError, MissingPixelSizeError, SlideError
from stamp_index.readers import READERS, SlideOptions, find_slides, read
from stamp_index.readers.legacy.her2st import Her2stReader
from stamp_index.readers.plain import PlainReader
from stamp_index.slides import PatchSpec, TissueSettings, read_patches
from tests.image_files import write_pyramid
from tests.tissue_files import MPP, slide

if TYPE_CHECKING:
    from pathlib import Path

PIXELS, INSIDE = slide()


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("plain") / "block7.ome.tif", PIXELS, mpp=MPP)


def test_a_plain_slide_is_a_grid_of_places_over_its_tissue(pyramid: Path) -> None:
    slide = read(pyramid)
    assert (slide.slide_id, slide.platform, slide.reader) == ("block7", "H&E", "H&E image")
    assert slide.genes == ()
    assert slide.counts.shape == (slide.n_spots, 0)
    assert not slide.has_counts
    assert slide.mpp == pytest.approx(MPP)
    assert slide.spot_diameter_um == 112.0
    known = INSIDE.sum() * MPP**2 / 112.0**2
    assert known < slide.n_spots < 1.4 * known  # places on the tissue's edge count too
    named = {"tissue_fraction", "pen_fraction", "fold_fraction", "blur_fraction"}
    assert set(slide.quality) == named
    assert all(len(values) == slide.n_spots for values in slide.quality.values())
    assert slide.quality["tissue_fraction"].min() >= 0.25
    assert slide.parameters["tissue_min_tissue"] == 0.25
    assert slide.parameters["grid_um"] == 112.0
    assert slide.files == ()


def test_barcodes_name_column_and_row_of_the_grid(pyramid: Path) -> None:
    spots = read(pyramid, SlideOptions(grid_um=80.0)).spots
    column = spots.index.str[1:6].astype(int)
    row = spots.index.str[8:].astype(int)
    np.testing.assert_allclose(spots["x_px"], (column + 0.5) * 80 / MPP)
    np.testing.assert_allclose(spots["y_px"], (row + 0.5) * 80 / MPP)
    assert spots.index[0] == f"x{column[0]:05d}_y{row[0]:05d}"


def test_patches_of_neighbouring_places_touch_and_do_not_overlap(pyramid: Path) -> None:
    slide = read(pyramid)
    left, right = "x00007_y00007", "x00008_y00007"
    rows = [slide.spots.index.get_loc(name) for name in (left, right)]
    pair = read_patches(slide, PatchSpec(112.0, 56), rows=rows)
    x = slide.xy_px[rows[0]] - 28
    wide = slide.image.read_box(*x, (112, 56), (112, 56))
    np.testing.assert_array_equal(np.concatenate(pair, axis=1), wide)


def test_what_was_dropped_is_counted(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[420:480, 300:900] = (20, 60, 190)
    path = tmp_path / "inked.png"
    Image.fromarray(pixels).save(path)
    slide = read(path, SlideOptions(mpp=MPP))
    note = next(note for note in slide.notes if "places of 112 um" in note)
    total, glass, pen, blur, kept = numbers(note)
    assert total == 22 * 17
    assert pen > 5
    assert total - glass - pen - blur == kept == slide.n_spots
    assert slide.quality["pen_fraction"].max() <= 0.1
    assert "Of note: pen." in slide.notes


def numbers(note: str) -> list[int]:
    words = note.replace(",", "").replace("of 112 um", "").split()
    return [int(word) for word in words if word.isdigit()]


def test_thresholds_decide_what_is_kept(pyramid: Path) -> None:
    few = PlainReader(TissueSettings(min_tissue=0.9)).read(pyramid, SlideOptions())
    many = PlainReader(TissueSettings(min_tissue=0.05)).read(pyramid, SlideOptions())
    assert few.n_spots < read(pyramid).n_spots < many.n_spots
    assert few.parameters["tissue_min_tissue"] == 0.9


def test_a_slide_without_a_pixel_size_says_how_to_give_one(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(MissingPixelSizeError, match=r"photo\.jpg has no microns per pixel.*--mpp"):
        read(path)
    (tmp_path / "photo.slide.toml").write_text('mpp = 2.0\norgan = "kidney"\n')
    assert read(path).organ == "kidney"
    assert read(path, SlideOptions(slide_id="S9")).slide_id == "S9"


def test_a_given_pixel_size_must_agree_with_the_files(pyramid: Path) -> None:
    with pytest.raises(MissingPixelSizeError, match="metadata is 2 um/px"):
        read(pyramid, SlideOptions(mpp=0.5))


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        pytest.param(
            np.full((600, 600, 3), 240, np.uint8), {}, "No place of .* 0 mm2 of stained", id="glass"
        ),
        pytest.param(PIXELS[:20, :20], {}, "is 40 x 40 um, less than one place", id="tiny"),
        pytest.param(PIXELS, {"grid_um": 0.5}, "A grid of 0.5 um has 17,280,000", id="fine_grid"),
    ],
)
def test_a_slide_without_places_is_refused(
    tmp_path: Path, pixels: np.ndarray, options: dict, message: str
) -> None:
    path = tmp_path / "slide.png"
    Image.fromarray(pixels).save(path)
    with pytest.raises(SlideError, match=message):
        read(path, SlideOptions(mpp=MPP, **options))


def test_only_whole_slides_are_found_in_a_folder(tmp_path: Path, pyramid: Path) -> None:
    shutil.copy(pyramid, tmp_path / "slide.tif")
    Image.fromarray(PIXELS).save(tmp_path / "figure.png")
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg")
    tifffile.imwrite(tmp_path / "strips.tif", PIXELS)
    (tmp_path / "notes.tif").write_text("no image")
    (tmp_path / ".hidden.svs").write_bytes(b"II*\0")
    assert find_slides(tmp_path) == [tmp_path / "slide.tif"]
    for name in ("figure.png", "photo.jpg", "strips.tif"):
        assert find_slides(tmp_path / name) == [tmp_path / name]


def test_an_image_that_another_slide_uses_is_no_slide_of_its_own(
    tmp_path: Path, pyramid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "ST-cnts"
    counts.mkdir()
    (counts / "C2.tsv.gz").write_bytes(b"")
    for name in ("named.tif", "owned.tif", "free.tif"):
        shutil.copy(pyramid, tmp_path / name)
    (counts / "C2.slide.toml").write_text('image = "../named.tif"')
    section = counts / "C2.tsv.gz"
    assert find_slides(tmp_path) == [section, tmp_path / "free.tif", tmp_path / "owned.tif"]

    class Owner(Her2stReader):
        def owns(self, path: Path) -> list[Path]:
            return [path.parent.parent / "owned.tif", path.parent / "nowhere.tif"]

    readers = (Owner(), READERS[-1])
    monkeypatch.setattr("stamp_index.readers.registry.READERS", readers)
    assert find_slides(tmp_path) == [section, tmp_path / "free.tif"]


def test_images_come_last_in_the_registry_and_leave_other_formats_alone(shared_data: Path) -> None:
    assert isinstance(READERS[-1], PlainReader)
    found = find_slides(shared_data)
    plain = [path.relative_to(shared_data).as_posix() for path in found if READERS[-1].detect(path)]
    assert plain == [
        "wsi/boxes.tiff",
        "wsi/boxes_dicom",
        "wsi/broken.svs",
        "wsi/cmu-1-small-region.svs",
        "wsi/small.svs",
        "wsi/tcga-cr-7395-01a-01-ts1.svs",
        "wsi/unopenable.tiff",
        "wsi/unreadable.svs",
    ]


@pytest.mark.parametrize(
    ("name", "options", "n_spots"),
    [
        pytest.param("cmu-1-small-region.svs", {}, 61, id="aperio"),
        pytest.param("tcga-cr-7395-01a-01-ts1.svs", {"mpp": 0.5}, 222, id="aperio_without_mpp"),
        pytest.param("boxes_dicom", {"grid_um": 2.0, "mpp": 0.499}, None, id="dicom_folder"),
    ],
)
def test_real_slides_become_grids(
    shared_data: Path, name: str, options: dict, n_spots: int | None
) -> None:
    path = shared_data / "wsi" / name
    if n_spots is None:
        with pytest.raises(SlideError, match=r"boxes_0\.dcm shows tissue"):  # a drawing of 8 x 8 um
            read(path, SlideOptions(**options))
        return
    slide = read(path, SlideOptions(**options))
    assert abs(slide.n_spots - n_spots) <= 0.05 * n_spots


@pytest.mark.parametrize("name", ["broken.svs", "unreadable.svs", "unopenable.tiff"])
def test_broken_slides_give_one_clear_error(shared_data: Path, name: str) -> None:
    with pytest.raises(ImageFormatError, match=name):
        read(shared_data / "wsi" / name, SlideOptions(mpp=0.5))


def test_a_folder_of_two_dicom_series_is_refused(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "wsi/boxes_dicom"
    old, new = b"1689669825649.4.0", b"1689669825649.4.9"
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        data = (source / name).read_bytes()
        assert data.count(old) == 1
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"other_{name}").write_bytes(data.replace(old, new))
    message = r"holds 2 DICOM series.*boxes_0\.dcm, other_boxes_0\.dcm"
    with pytest.raises(SlideError, match=message):
        read(tmp_path)
    assert PlainReader().detect(tmp_path / "boxes_0.dcm")


def test_dicom_beside_other_slides_is_not_one_slide(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "wsi/boxes_dicom", tmp_path / "series")
    shutil.copy(shared_data / "wsi/small.svs", tmp_path / "small.svs")
    shutil.copy(shared_data / "wsi/boxes_dicom/boxes_0.dcm", tmp_path / "loose.dcm")
    assert find_slides(tmp_path) == [tmp_path / "series", tmp_path / "small.svs"]


def test_a_mirax_slide_without_its_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slide.mrxs"
    Image.fromarray(PIXELS[:40, :40]).save(path, format="JPEG")  # as its named file is
    with pytest.raises(ImageFormatError, match=r"Expected the folder slide with Slidedat\.ini"):
        read(path)
