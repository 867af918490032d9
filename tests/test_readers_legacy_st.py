from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.legacy.arrays import SQUARE, STAGGERED, fitted_mpp, which_array
from tests.legacy_st_files import SYMBOLS, edit, write_counts, write_gene_table, write_pair

if TYPE_CHECKING:
    from pathlib import Path


def edit_spots(path: Path, **columns: object) -> None:
    table = path.with_name(f"alignment_table_{path.name.split('.')[0]}.tsv")
    pd.read_csv(table, sep="\t").assign(**columns).to_csv(table, sep="\t", index=False)


def test_counts_spots_and_image_make_a_slide(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    slide = read(path)
    assert (slide.slide_id, slide.reader, slide.platform) == ("MOB1", "Legacy ST", "Legacy ST")
    assert (slide.n_spots, slide.species, slide.organ) == (20, "mouse", "")
    assert slide.genes == slide.gene_ids
    assert slide.gene_ids[0] == "ENSMUSG00000000001"
    assert slide.mpp == pytest.approx(5.0)
    assert slide.image.uri.endswith("MOB1.jpg")
    assert [p.name for p in slide.files] == ["MOB1.tsv.gz", "alignment_table_MOB1.tsv"]
    table = pd.read_csv(path, sep="\t", index_col=0)
    np.testing.assert_array_equal(slide.counts.toarray(), table.loc[slide.spots.index])
    assert any(
        "5 of 25 spots with counts are not selected as under tissue" in n for n in slide.notes
    )
    assert any("the staggered 2k array's pitch of 141 um" in note for note in slide.notes)


def test_a_square_array_is_told_by_its_places(tmp_path: Path) -> None:
    slide = read(write_pair(tmp_path, staggered=False))
    assert slide.mpp == pytest.approx(10.0)
    assert dict(slide.parameters) == {"array": "1k"}
    assert any("the 1k array's pitch of 200 um" in note for note in slide.notes)
    first = slide.spots.loc["3x4"]
    assert first[["x_px", "y_px"]].tolist() == pytest.approx([40 + 3.02 * 20, 50 + 3.98 * 20])


def test_a_gene_table_beside_the_counts_names_the_genes(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    write_gene_table(tmp_path)
    slide = read(path)
    assert slide.genes == tuple(SYMBOLS)
    assert slide.gene_ids[2] == "ENSMUSG00000000037"
    assert "3 of 3 genes were named by mouse_genes.tsv.gz." in slide.notes
    assert [p.name for p in slide.files][-1] == "mouse_genes.tsv.gz"


def test_two_ids_of_one_symbol_are_summed(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    write_gene_table(tmp_path)
    edit(tmp_path / "mouse_genes.tsv.gz", "Scml2", "Gnai3")
    slide = read(path)
    assert slide.genes == ("Gnai3", "Cdc45")
    assert any("their counts were summed (Gnai3)" in note for note in slide.notes)


def test_two_gene_tables_are_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    write_gene_table(tmp_path)
    (tmp_path / "my_genes.tsv").write_text("gene_id\tgene_name\nENSG1\tA\n")
    with pytest.raises(SlideError, match=r"2 tables of gene names \(mouse_genes.*my_genes\.tsv\)"):
        read(path)


def test_every_section_of_a_folder_is_found_once(tmp_path: Path) -> None:
    paths = [write_pair(tmp_path, f"MOB{i}") for i in (1, 2, 11)]
    write_gene_table(tmp_path)
    assert find_slides(tmp_path) == sorted(paths)
    assert [read(p).image.uri.rsplit("/", 1)[1] for p in paths] == [
        "MOB1.jpg",
        "MOB2.jpg",
        "MOB11.jpg",
    ]


def test_a_lone_pair_needs_no_common_name(tmp_path: Path) -> None:
    path = write_pair(tmp_path, staggered=False)
    (tmp_path / "alignment_table_MOB1.tsv").rename(tmp_path / "spot_data-selection.tsv")
    path = path.rename(tmp_path / "P7_stdata.tsv.gz")
    (tmp_path / "MOB1.jpg").rename(tmp_path / "HE.jpg")
    assert find_slides(tmp_path) == [path]
    slide = read(path)
    assert (slide.slide_id, slide.n_spots) == ("P7", 20)
    assert any("Image: HE.jpg" in note for note in slide.notes)
    write_counts(tmp_path / "P8_stdata.tsv.gz", ["1x1"])
    assert find_slides(tmp_path) == []  # whose spots these are is not known


def test_measured_places_join_by_rounding(tmp_path: Path) -> None:
    path = write_pair(tmp_path, staggered=False)
    edit(path, "\n3x4\t", "\n3.12x3.9\t")
    assert "3.12x3.9" in read(path).spots.index


def test_several_images_need_a_choice(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    Image.new("RGB", (400, 420)).save(tmp_path / "MOB1_small.png")
    with pytest.raises(SlideError, match=r"MOB1 has 2 images \(MOB1\.jpg, MOB1_small\.png\)"):
        read(path)
    slide = read(path, SlideOptions(image=tmp_path / "MOB1.jpg", organ="olfactory bulb"))
    assert slide.organ == "olfactory bulb"
    (tmp_path / "MOB1.slide.toml").write_text('image = "MOB1_small.png"\n')
    assert read(path).image.uri.endswith("MOB1_small.png")


def test_without_image_the_positions_stay(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    (tmp_path / "MOB1.jpg").unlink()
    slide = read(path)
    assert slide.image is None
    assert slide.mpp == pytest.approx(5.0)
    assert "No image was found: counts only, so this section has no patches." in slide.notes


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path / "slide")
    for name in ("MOB1.jpg", "alignment_table_MOB1.tsv"):
        here, there = path.with_name(name), tmp_path / name
        here.rename(there)
        here.symlink_to(there)
        with pytest.raises(SlideError, match=rf"{name} is a link to .*outside the slide's folder"):
            read(path)
        here.unlink()
        there.rename(here)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            {"x": lambda t: t["x"] + 20},
            BarcodeMismatchError,
            r"25 of the 25 spots with counts have no position \(such as",
            id="other_section",
        ),
        pytest.param(
            {"pixel_y": lambda t: t["pixel_y"] * 1.2},
            MissingPixelSizeError,
            "neighbouring columns are .* differ by more than 3%",
            id="stretched",
        ),
        pytest.param(
            {"pixel_x": lambda t: 400 - t["pixel_x"]},
            MissingPixelSizeError,
            "neighbouring columns are -",
            id="mirrored",
        ),
        pytest.param(
            {"pixel_x": lambda t: t["pixel_x"] + 400},
            SpotOutsideImageError,
            r"20 of 20 spots \(100%\) lie outside the image",
            id="outside",
        ),
        pytest.param(
            {"pixel_x": lambda t: t["pixel_x"].where(t.index != 0)},
            SpotOutsideImageError,
            "1 spots have no position",
            id="lost",
        ),
        pytest.param(
            {"pixel_x": "many"}, SlideError, "something that is no number", id="not_a_number"
        ),
        pytest.param({"selected": 0}, BarcodeMismatchError, "have no position", id="none"),
    ],
)
def test_wrong_positions_are_refused(
    tmp_path: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    path = write_pair(tmp_path)
    edit_spots(path, **change)
    with pytest.raises(error, match=message):
        read(path)


def test_two_tables_of_spots_are_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    table = tmp_path / "alignment_table_MOB1.tsv"
    (tmp_path / "spots_MOB1.tsv").write_bytes(table.read_bytes())
    with pytest.raises(SlideError, match="2 tables of spots may belong to"):
        read(path)


def test_a_few_spots_give_no_pixel_size(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    edit_spots(path, selected=lambda t: (t.index < 12).astype(int))
    with pytest.raises(MissingPixelSizeError, match=r"MOB1\.jpg has no microns per pixel"):
        read(path)
    assert read(path, SlideOptions(mpp=5.0)).n_spots == 12


def test_truncated_counts_are_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SlideError, match=r"MOB1\.tsv\.gz cannot be read"):
        read(path)


@given(
    array=st.sampled_from([SQUARE, STAGGERED]),
    mpp=st.floats(0.2, 10),
    corner=st.tuples(st.floats(-50, 500), st.floats(-50, 500)),
)
def test_the_pixel_size_comes_back_from_the_array(
    array: object, mpp: float, corner: tuple[float, float]
) -> None:
    places = np.array([(x, y) for x in range(5, 15) for y in range(5, 12)], dtype=float)
    if array is STAGGERED:
        places = places[places.sum(axis=1) % 2 == 0]
    assert which_array(places) is array
    xy_px = corner + places * (array.across_um, array.down_um) / mpp
    assert fitted_mpp(array, places, xy_px, "S") == pytest.approx(mpp)


def test_neighbours_of_the_staggered_array_are_141_um_apart() -> None:
    assert np.hypot(STAGGERED.across_um, STAGGERED.down_um) == pytest.approx(141, abs=0.5)


def test_the_real_staggered_sections_are_read(shared_data: Path) -> None:
    paths = find_slides(shared_data / "mob_2k")
    assert [p.name for p in paths] == [f"MOB{i}.tsv.gz" for i in (1, 2, 3)]
    slides = [read(path) for path in paths]
    assert [slide.n_spots for slide in slides] == [379, 407, 438]
    assert [slide.mpp for slide in slides] == pytest.approx([4.35] * 3, rel=1e-3)
    assert all("mt-Rnr2" in s.genes and s.species == "mouse" for s in slides)
    medians = [np.median(np.asarray(slide.counts.sum(axis=1))) for slide in slides]
    assert all(2200 < median < 3400 for median in medians)
