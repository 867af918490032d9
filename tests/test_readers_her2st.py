from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stamp_index.errors import (
    BarcodeMismatchError,
    DuplicateGenesError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from tests.her2st_files import FULL, GENES, write_section


def edit_counts(path: Path, change: object) -> None:
    with gzip.open(path, "rt") as stream:
        lines = stream.read().splitlines()
    with gzip.open(path, "wt") as stream:
        stream.write("\n".join(change(lines)) + "\n")


def edit_spots(path: Path, **columns: object) -> None:
    spotfile = path.parent.parent / "ST-spotfiles" / f"{path.name.split('.')[0]}_selection.tsv"
    pd.read_csv(spotfile, sep="\t").assign(**columns).to_csv(spotfile, sep="\t", index=False)


def test_a_section_is_read_whole(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    slide = read(path)
    assert (slide.slide_id, slide.patient_id, slide.organ) == ("C2", "C", "breast")
    assert (slide.platform, slide.species, slide.reader) == ("Legacy ST", "human", "HER2ST")
    assert slide.genes == tuple(GENES)
    assert slide.n_spots == 23
    assert slide.mpp == pytest.approx(10.0)
    assert slide.spots.loc["3x4", ["x_px", "y_px"]].tolist() == pytest.approx([2.1 * 20, 2.9 * 20])
    table = pd.read_csv(path, sep="\t", index_col=0)
    np.testing.assert_array_equal(slide.counts.toarray(), table.loc[slide.spots.index])
    assert any(
        "1 selected spots have no counts and were dropped (8x7)" in note for note in slide.notes
    )
    assert any("10 um/px, derived from the array's pitch of 200 um" in note for note in slide.notes)


def test_plain_text_counts_are_read_too(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    assert read(plain).n_spots == 23


def test_a_scaled_image_scales_the_positions(tmp_path: Path) -> None:
    slide = read(write_section(tmp_path, image=(160, 170)))
    assert slide.mpp == pytest.approx(40.0)
    assert slide.spots.loc["3x4", "x_px"] == pytest.approx(2.1 * 5)


def test_a_section_without_image_is_counts_only_and_says_so(tmp_path: Path) -> None:
    slide = read(write_section(tmp_path, image=None))
    assert slide.image is None
    assert slide.mpp == pytest.approx(10.0)
    assert "No image was found: counts only, so this section has no patches." in slide.notes


def test_a_given_image_and_pixel_size_win(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    Image.new("RGB", (320, 340)).save(tmp_path / "mine.png")
    slide = read(path, SlideOptions(image=tmp_path / "mine.png", mpp=20.4, patient_id="P7"))
    assert (slide.image.size_px, slide.mpp, slide.patient_id) == ((320, 340), 20.4, "P7")


def test_a_contradictory_pixel_size_names_both(tmp_path: Path) -> None:
    with pytest.raises(
        MissingPixelSizeError,
        match=r"given by option or slide\.toml is 0\.5 um/px, but the one derived from the array's pitch of 200 um is 10 um/px",
    ):
        read(write_section(tmp_path), SlideOptions(mpp=0.5))


def test_a_pitch_that_differs_between_axes_names_both(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_spots(path, pixel_y=lambda table: table["pixel_y"] * 1.2)
    with pytest.raises(MissingPixelSizeError, match=r"gives 10 um/px across but 8\.333 um/px down"):
        read(path)


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SlideError,
        match=r"HE\.jpg is 640 x 400 px, but the image of the positions is 640 x 680 px",
    ):
        read(write_section(tmp_path, image=(640, 400)))


def test_two_images_need_a_choice(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    Image.new("RGB", FULL).save(tmp_path / "ST-imgs/C/C2/second.jpg")
    with pytest.raises(SlideError, match=r"C2 has 2 images \(HE\.jpg, second\.jpg\)"):
        read(path)


def test_spots_of_another_section_are_a_barcode_mismatch(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_spots(path, x=lambda table: table["x"] + 100)
    with pytest.raises(
        BarcodeMismatchError,
        match=r"C2: 23 of the 23 spots with counts have no position \(such as 3x4, 3x5, 3x6\); the other file names 103x4",
    ):
        read(path)


def test_a_spot_named_twice_is_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_spots(path, selected=1, x=3, y=4)
    with pytest.raises(BarcodeMismatchError, match=r"name 1 spots twice \(3x4\)"):
        read(path)


def test_a_spot_with_counts_twice_is_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_counts(path, lambda lines: [*lines, lines[1]])
    with pytest.raises(
        BarcodeMismatchError, match=r"1 of the spots with counts stand more than once \(3x4\)"
    ):
        read(path)


def test_duplicate_genes_are_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_counts(path, lambda lines: ["\tERBB2\tERBB2\tCOL1A1", *lines[1:]])
    with pytest.raises(DuplicateGenesError, match=r"slide C2 \(ERBB2\)"):
        read(path)


def test_empty_spots_are_dropped_with_a_note(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_counts(path, lambda lines: [lines[0], "3x4\t0\t0\t0", *lines[2:]])
    slide = read(path)
    assert slide.n_spots == slide.counts.shape[0] == 22
    assert "1 of 23 spots have no counts and were dropped (3x4)." in slide.notes


def test_a_section_of_empty_spots_is_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_counts(
        path, lambda lines: [lines[0], *(line.split("\t")[0] + "\t0\t0\t0" for line in lines[1:])]
    )
    with pytest.raises(SlideError, match="C2: none of its 23 spots has any counts"):
        read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("3x4\t1\t2", r"line 2 \(3x4\) have 2 values for 3 genes", id="too_few"),
        pytest.param("3x4\t1\t2\tmany", r"line 2 \(3x4\): could not convert", id="not_a_number"),
        pytest.param(
            "3x4\t1\t2\t0.5",
            r"not whole numbers \(such as 0\.5\), as after a normalisation",
            id="normalised",
        ),
        pytest.param("3x4\t1\t2\t-3", r"below 0 \(the smallest is -3\)", id="negative"),
        pytest.param("3x4\t1\t2\tnan", "are not finite", id="nan"),
    ],
)
def test_counts_that_are_no_counts_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = write_section(tmp_path)
    edit_counts(path, lambda lines: [lines[0], line, *lines[2:]])
    with pytest.raises(SlideError, match=message):
        read(path)


def test_truncated_counts_are_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(SlideError, match=r"C2\.tsv\.gz cannot be read \(Compressed file ended"):
        read(path)


def test_missing_positions_are_named(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    spotfile = tmp_path / "ST-spotfiles/C2_selection.tsv"
    spotfile.write_text("x\ty\n1\t2\n")
    with pytest.raises(SlideError, match="have no columns new_x, new_y, pixel_x, pixel_y"):
        read(path)
    spotfile.unlink()
    with pytest.raises(SlideError, match=r"C2_selection\.tsv are missing"):
        read(path)


def test_a_spot_without_position_is_refused(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    edit_spots(path, pixel_x=lambda table: table["pixel_x"].where(table.index != 0))
    with pytest.raises(SpotOutsideImageError, match=r"1 spots have no position \(3x4\)"):
        read(path)


def test_a_truncated_jpeg_is_named_when_it_is_read(tmp_path: Path) -> None:
    slide = read(write_section(tmp_path))
    image = tmp_path / "ST-imgs/C/C2/HE.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(
        ImageFormatError, match=r"HE\.jpg is damaged: its 640 x 680 px cannot be decoded"
    ):
        slide.image.read(0, 0, 10, 10)


def test_an_app_image_loses_its_black_background_and_its_corner(tmp_path: Path) -> None:
    path = write_section(tmp_path, "A1", image=None)
    pixels = np.zeros((2125, 2000, 3), dtype=np.uint8)
    pixels[100:900, 100:900] = (180, 90, 160)
    pixels[:560, 1481:] = (230, 200, 220)  # the pasted overview
    Image.fromarray(pixels).save(tmp_path / "app-imgs/A1_HE_image_dark.png")
    slide = read(path)
    assert slide.image.size_px == (2000, 2125)
    assert (slide.image.read(1500, 100, 300, 30) == 255).all()
    assert (slide.image.read(1000, 1500, 300, 30) == 255).all()
    assert (slide.image.read(300, 300, 100, 100) == (180, 90, 160)).all()
    assert any("painted white" in note for note in slide.notes)
    assert not any("lie on tissue" in note for note in slide.notes)


def test_a_shifted_app_image_is_noticed(tmp_path: Path) -> None:
    path = write_section(tmp_path, "A2", image=None)
    pixels = np.zeros((2125, 2000, 3), dtype=np.uint8)
    pixels[200:900, 300:900] = (180, 90, 160)
    Image.fromarray(pixels).save(tmp_path / "app-imgs/A2_HE_image_dark.png")
    notes = read(path).notes
    assert any("of the spots lie on tissue" in note and "do not train" in note for note in notes)


def test_a_sidecar_lies_beside_the_counts(tmp_path: Path) -> None:
    path = write_section(tmp_path)
    (tmp_path / "ST-cnts/C2.slide.toml").write_text('patient_id = "P9"\norgan = "Brust"\n')
    slide = read(path, SlideOptions(organ="breast"))
    assert (slide.patient_id, slide.organ) == ("P9", "breast")


def test_all_sections_of_a_folder_are_found(tmp_path: Path) -> None:
    paths = [write_section(tmp_path, name) for name in ("C3", "C2")]
    (tmp_path / "ST-cnts/notes.tsv").write_text("x")
    assert find_slides(tmp_path) == sorted(paths)


def test_real_sections_are_read_with_their_pixel_size(shared_data: Path) -> None:
    expected = {"C2": (187, 15706, 0.6881), "C1": (176, 15557, 0.6882)}
    for section, (n_spots, n_genes, mpp) in expected.items():
        slide = read(shared_data / f"her2st/ST-cnts/{section}.tsv.gz")
        assert slide.counts.shape == (n_spots, n_genes)
        assert slide.mpp == pytest.approx(mpp, rel=1e-3)
        assert slide.patient_id == section[0]


def test_the_unregistered_real_section_is_noticed(shared_data: Path) -> None:
    shifted = read(shared_data / "her2st/ST-cnts/A2.tsv.gz").notes
    assert any("Only 82% of the spots lie on tissue" in note for note in shifted)
    registered = read(shared_data / "her2st/ST-cnts/A1.tsv.gz")
    assert not any("lie on tissue" in note for note in registered.notes)
    assert registered.mpp == pytest.approx(3.190, rel=1e-3)


def test_a_path_from_within_the_folder_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_section(tmp_path)
    monkeypatch.chdir(path.parent)
    slide = read("C2.tsv.gz")
    assert slide.slide_id == "C2"
    assert Path(slide.image.uri).is_absolute()
    assert find_slides("C2.tsv.gz") == [Path("C2.tsv.gz")]
