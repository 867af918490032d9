from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import (
    BarcodeMismatchError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.stimage_1k4m.count_csv import read_count_csv
from tests.stimage_files import GENES, StSlide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("technology", "platform", "mpp", "spot_um"),
    [
        ("ST", "Legacy ST", 2.0, 100.0),
        ("Visium", "Visium", 2.0, 55.0),
        ("VisiumHD", "Visium HD", 0.5, 8.0),
    ],
)
def test_a_slide_is_read_whole(
    tmp_path: Path, technology: str, platform: str, mpp: float, spot_um: float
) -> None:
    made = StSlide(tmp_path, technology)
    slide = read(made.write())
    assert (slide.reader, slide.slide_id) == ("STimage-1K4M", "Human_Breast_A1")
    assert (slide.platform, slide.organ, slide.species) == (platform, "breast", "human")
    assert slide.mpp == pytest.approx(mpp)
    assert slide.spot_diameter_um == spot_um
    assert slide.spots.index.tolist() == made.local
    np.testing.assert_array_equal(slide.xy_px, made.xy)
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.to_numpy())
    assert slide.genes == tuple(GENES)
    assert slide.image is not None
    assert slide.files == (made.path, made.coord_path, tmp_path / "meta/meta_all_gene.csv")
    assert re.search(r"pitch of \d+ um, which agrees with the radius r", " ".join(slide.notes))


def test_every_slide_of_every_technology_is_found(tmp_path: Path) -> None:
    paths = [StSlide(tmp_path, name).write(image=False) for name in ("ST", "Visium", "VisiumHD")]
    assert find_slides(tmp_path) == sorted(paths)


@pytest.mark.parametrize(
    "name",
    ["ST/coord/a_coord.csv", "ST/gene_exp/a.csv", "Other/gene_exp/a_count.csv", "ST/a_count.csv"],
)
def test_other_files_are_no_slides(tmp_path: Path, name: str) -> None:
    for folder in ("ST/coord", "ST/gene_exp", "Other/gene_exp", "Other/coord"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert find_slides(tmp_path) == []


def test_shuffled_positions_are_joined_by_barcode(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.coord = made.coord.sample(frac=1, random_state=4)
    slide = read(made.write(image=False))
    np.testing.assert_array_equal(slide.xy_px, made.xy)
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.to_numpy())


def test_barcodes_with_and_without_the_slides_name_are_joined(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.counts.index = pd.Index(made.local)
    assert read(made.write(image=False)).n_spots == 36


def test_spots_of_one_file_only_are_dropped(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.coord, made.counts = made.coord.iloc[2:], made.counts.iloc[:-3]
    slide = read(made.write())
    assert slide.n_spots == 31
    notes = " ".join(slide.notes)
    assert "spots with counts have no position: dropped" in notes
    assert "3 spots with a position have no counts" in notes


@pytest.mark.parametrize("separator", [",", "\t"])
def test_annotations_are_joined_by_barcode(tmp_path: Path, separator: str) -> None:
    made = StSlide(tmp_path)
    made.write(image=False)
    made.write_meta(separator)
    labels = {name: f"layer {i % 3}" for i, name in enumerate(made.local[4:])}
    made.write_annotation(dict(reversed(labels.items())), separator)
    slide = read(made.path)
    assert slide.spots["annotation"].tolist() == ["", "", "", "", *labels.values()]
    assert slide.organ == "breast"
    assert "4 of 36 spots have no annotation" in " ".join(slide.notes)


def test_annotations_of_another_slide_are_left_out(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.write(image=False)
    made.write_annotation({"99x99": "tumour"})
    slide = read(made.path)
    assert "annotation" not in slide.spots
    assert "names none of the slide's spots" in " ".join(slide.notes)


def test_without_meta_organ_and_species_are_unknown(tmp_path: Path) -> None:
    slide = read(StSlide(tmp_path).write(meta=False))
    assert (slide.organ, slide.species) == ("", "")
    assert "no meta/meta_all_gene.csv" in " ".join(slide.notes)


@pytest.mark.parametrize("radius", [13.75, 16.25], ids=["55 um", "65 um"])
def test_both_circles_of_visium_are_understood(tmp_path: Path, radius: float) -> None:
    made = StSlide(tmp_path, "Visium")
    made.coord["r"] = radius
    slide = read(made.write())
    assert (slide.mpp, slide.spot_diameter_um) == (pytest.approx(2.0), 55.0)


def test_the_radius_alone_gives_a_pixel_size_only_where_it_is_sure(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.coord = made.coord.iloc[[0, 9, 20]]
    made.counts = made.counts.iloc[[0, 9, 20]]
    slide = read(made.write())
    assert slide.mpp == pytest.approx(2.0)
    assert "radius r of 50 um" in " ".join(slide.notes)
    few = StSlide(tmp_path, "Visium")
    few.coord, few.counts = few.coord.iloc[:3], few.counts.iloc[:3]
    with pytest.raises(MissingPixelSizeError, match="Give mpp"):
        read(few.write())


def test_another_array_needs_a_pixel_size(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.coord["r"] = 36.7  # 110 um at 150 um
    path = made.write()
    with pytest.raises(MissingPixelSizeError, match="another array"):
        read(path)
    slide = read(path, SlideOptions(mpp=1.5))
    assert slide.spot_diameter_um == pytest.approx(110.1)
    assert "not those of a known array" in " ".join(slide.notes)


def test_a_staggered_array_of_legacy_st_needs_a_pixel_size(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    x, y = made.coord["xaxis"].copy(), made.coord["yaxis"].copy()
    made.coord["xaxis"], made.coord["yaxis"] = (x - y) / 2**0.5 + 500, (x + y) / 2**0.5
    path = made.write(image=False)
    with pytest.raises(MissingPixelSizeError, match="staggered array"):
        read(path)
    assert read(path, SlideOptions(mpp=3.4)).mpp == 3.4


def test_squares_whose_width_no_barcode_tells_need_a_pixel_size(tmp_path: Path) -> None:
    made = StSlide(tmp_path, "VisiumHD")
    names = pd.Index([f"{made.name}_bin{i}" for i in range(36)])
    made.coord.index = made.counts.index = names
    path = made.write()
    with pytest.raises(MissingPixelSizeError, match="Give mpp"):
        read(path)
    assert read(path, SlideOptions(mpp=0.5)).spot_diameter_um == pytest.approx(8.0)


def foreign(made: StSlide) -> None:
    made.counts.index = pd.Index([f"Other_{name}" for name in made.local])


def twice(made: StSlide) -> None:
    made.coord = pd.concat([made.coord, made.coord.iloc[:1]])


def no_radius(made: StSlide) -> None:
    made.coord = made.coord.drop(columns="r")


def two_radii(made: StSlide) -> None:
    made.coord.loc[made.coord.index[3], "r"] = 40.0


def text_position(made: StSlide) -> None:
    made.coord = made.coord.astype(object)
    made.coord.iloc[3, 0] = "left"


def missing_position(made: StSlide) -> None:
    made.coord.iloc[3, 0] = np.nan


def outside(made: StSlide) -> None:
    made.coord["xaxis"] += 900


def normalised(made: StSlide) -> None:
    made.counts = made.counts / 7


def text_count(made: StSlide) -> None:
    made.counts = made.counts.astype(object)
    made.counts.iloc[3, 2] = "many"


def missing_count(made: StSlide) -> None:
    made.counts = made.counts.astype(object)
    made.counts.iloc[3, 2] = None


def no_spots(made: StSlide) -> None:
    made.counts = made.counts.iloc[:0]


def no_positions(made: StSlide) -> None:
    made.coord = made.coord.iloc[:0]


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        pytest.param(foreign, BarcodeMismatchError, "different slides", id="foreign barcodes"),
        pytest.param(twice, BarcodeMismatchError, "twice", id="spot twice"),
        pytest.param(no_radius, SlideError, "no columns r", id="no radius"),
        pytest.param(two_radii, SlideError, "from 25 to 40 px", id="two radii"),
        pytest.param(text_position, SlideError, "not a number", id="text position"),
        pytest.param(missing_position, SlideError, "not a number", id="missing position"),
        pytest.param(outside, SpotOutsideImageError, "outside the image", id="outside"),
        pytest.param(normalised, SlideError, "raw UMI counts", id="normalised"),
        pytest.param(text_count, SlideError, "many", id="text count"),
        pytest.param(missing_count, SlideError, "Expected whole numbers", id="missing count"),
        pytest.param(no_spots, SlideError, "no spots", id="no spots"),
        pytest.param(no_positions, SlideError, "name no spots", id="no positions"),
    ],
)
def test_wrong_contents_are_refused(
    tmp_path: Path, damage: Callable[[StSlide], None], error: type[SlideError], match: str
) -> None:
    made = StSlide(tmp_path)
    damage(made)
    with pytest.raises(error, match=match):
        read(made.write())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_counts_are_refused(tmp_path: Path, share: float) -> None:
    path = StSlide(tmp_path).write()
    text = path.read_text()
    path.write_text(text[: text.rindex(",", 0, int(len(text) * share) + 1) if share else 0])
    with pytest.raises(SlideError, match=r"values for 4 genes|no line of gene names"):
        read(path)


def test_a_missing_positions_file_is_refused(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.write()
    made.coord_path.unlink()
    with pytest.raises(SlideError, match="no place on the image"):
        read(made.path)


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    made = StSlide(tmp_path)
    made.write()
    (made.folder / "image/Human_Breast_A1.png").write_bytes(b"no picture")
    with pytest.raises(ImageFormatError):
        read(made.path)


def test_a_link_that_leads_out_of_the_dataset_is_refused(tmp_path: Path) -> None:
    made = StSlide(tmp_path / "data")
    made.write()
    made.coord_path.rename(tmp_path / "elsewhere.csv")
    made.coord_path.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(SlideError, match="outside the slide's folder"):
        read(made.path)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), quoted=st.booleans(), chunk=st.integers(1, 40), crlf=st.booleans())
def test_any_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    *,
    quoted: bool,
    chunk: int,
    crlf: bool,
) -> None:
    n, g = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    values = np.array(
        data.draw(
            st.lists(st.sampled_from([0, 0, 0, 1, 7, 123456]), min_size=n * g, max_size=n * g)
        )
    ).reshape(n, g)
    table = pd.DataFrame(values, [f"b{i}" for i in range(n)], [f"G,{i}" for i in range(g)])
    path = tmp_path_factory.mktemp("csv") / "a_count.csv"
    table.to_csv(path, quoting=2 if quoted else 0, lineterminator="\r\n" if crlf else "\n")
    barcodes, genes, counts = read_count_csv(path, chunk_values=chunk)
    assert barcodes == table.index.tolist()
    assert genes == table.columns.tolist()
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), values)
