from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stamp_index.errors import (
    BarcodeMismatchError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.legacy.layers import read_layers
from tests.legacy_st_files import LAYERS, SYMBOLS, edit, write_counts, write_study

if TYPE_CHECKING:
    from pathlib import Path

COUNTED = "counts/MOB_REP4_stdata.tsv.gz"
MEASURED = "counts/Rep11_MOB_count_matrix-1.tsv.gz"
PLACES_ONLY = "annotations/01_01.tsv"


def test_every_replicate_is_found_once(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "annotations/notes.tsv").write_text("x")
    assert find_slides(root) == [root / PLACES_ONLY, root / COUNTED, root / MEASURED]
    slides = [read(path) for path in find_slides(root)]
    assert [slide.slide_id for slide in slides] == ["study_01", "study_04", "study_11"]
    (root / "images/01.jpg").unlink()
    assert root / PLACES_ONLY not in find_slides(root)


def test_annotated_spots_are_kept_with_their_layer(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    slide = read(root / COUNTED)
    assert (slide.reader, slide.platform, slide.species) == ("Annotated ST", "Legacy ST", "mouse")
    assert (slide.n_spots, slide.mpp) == (25, pytest.approx(10.0))
    assert slide.genes == slide.gene_ids
    assert slide.genes[1] == "ENSMUSG00000000028"
    assert any("28 of 53 spots with counts are not annotated, so off" in n for n in slide.notes)
    spot = slide.spots.loc["9x11"]
    assert spot[["x_px", "y_px"]].tolist() == [8 / 32 * 640, 10 / 34 * 680]
    assert spot["layer"] == LAYERS[7 % 3]
    assert slide.spots.loc["8x13", "layer"] == ""
    table = pd.read_csv(root / COUNTED, sep="\t", index_col=0)
    np.testing.assert_array_equal(slide.counts.toarray(), table.loc[slide.spots.index])
    assert [p.name for p in slide.files] == ["MOB_REP4_stdata.tsv.gz", "04_01.tsv"]


def test_a_replicate_without_counts_is_places_with_layers(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    slide = read(root / PLACES_ONLY)
    assert not slide.has_counts
    assert slide.counts.shape == (25, 0)
    assert (slide.genes, slide.gene_ids, slide.species) == ((), (), "")
    assert slide.spots.loc["8x10", "layer"] == LAYERS[1]
    assert any("Nothing was measured on this replicate" in note for note in slide.notes)
    assert slide.files == (root / PLACES_ONLY,)


def test_measured_places_join_by_rounding_and_stay_where_they_are(tmp_path: Path) -> None:
    slide = read(write_study(tmp_path / "study") / MEASURED)
    assert slide.genes == tuple(SYMBOLS)
    assert slide.gene_ids == ()
    spot = slide.spots.loc["8.92x11.015"]
    assert spot["layer"] == LAYERS[7 % 3]
    assert spot[["x_px", "y_px"]].tolist() == pytest.approx([7.92 * 20, 10.015 * 20])
    assert any("up to 0.08 of the pitch off the array's" in note for note in slide.notes)


def test_without_annotation_all_spots_stay(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "annotations/04_01.tsv").unlink()
    slide = read(root / COUNTED)
    assert slide.n_spots == 53
    assert "layer" not in slide.spots
    assert any("spots off tissue are not told from those on it" in note for note in slide.notes)


def test_without_image_positions_are_microns_on_the_array(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "images/04.jpg").unlink()
    slide = read(root / COUNTED)
    assert slide.image is None
    assert slide.xy_um[list(slide.spots.index).index("9x11")].tolist() == [8 * 200, 10 * 200]


def test_a_given_image_of_another_size_scales_the_positions(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    Image.new("RGB", (1280, 1360)).save(tmp_path / "large.png")
    slide = read(root / COUNTED, SlideOptions(image=tmp_path / "large.png", organ="bulb"))
    assert (slide.mpp, slide.organ) == (pytest.approx(5.0), "bulb")
    assert slide.spots.loc["9x11", "x_px"] == 8 * 40
    Image.new("RGB", (640, 640)).save(tmp_path / "square.png")
    with pytest.raises(SlideError, match=r"640 x 640 px, but the array's frame is 32 columns wide"):
        read(root / COUNTED, SlideOptions(image=tmp_path / "square.png"))
    with pytest.raises(MissingPixelSizeError, match=r"is 0\.5 um/px, but the one derived from"):
        read(root / COUNTED, SlideOptions(mpp=0.5))


def test_a_sidecar_lies_beside_the_file_that_names_the_slide(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "annotations/01_01.slide.toml").write_text('organ = "olfactory bulb"\n')
    assert read(root / PLACES_ONLY).organ == "olfactory bulb"


def test_two_files_of_one_replicate_are_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    write_counts(root / "counts/rep_4_again.tsv", ["8x9"])
    with pytest.raises(SlideError, match=r"Replicate 4 in .* has 2 counts \(MOB_REP4.*, rep_4_ag"):
        read(root / COUNTED)
    Image.new("RGB", (640, 680)).save(root / "images/1.png")
    with pytest.raises(SlideError, match=r"Replicate 1 in .* has 2 images \(01\.jpg, 1\.png\)"):
        read(root / PLACES_ONLY)


def test_a_link_out_of_the_study_is_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "images/01.jpg").rename(tmp_path / "01.jpg")
    (root / "images/01.jpg").symlink_to(tmp_path / "01.jpg")
    with pytest.raises(SlideError, match="is a link to .*outside the slide's folder"):
        read(root / PLACES_ONLY)


def test_counts_of_another_replicate_are_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    edit(root / COUNTED, "\n8x", "\n20x")
    edit(root / COUNTED, "\n9x", "\n21x")
    edit(root / COUNTED, "\n10x", "\n22x")
    with pytest.raises(BarcodeMismatchError, match="have no annotation"):
        read(root / COUNTED)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        pytest.param("8_10", "8_9", BarcodeMismatchError, "names 1 spots twice", id="twice"),
        pytest.param("8_10", "here", BarcodeMismatchError, "no array coordinates", id="no_place"),
        pytest.param("Nerve\t1", "Nerve\t2", SlideError, "not in one layer or none", id="two"),
        pytest.param("Nerve\t1", "Nerve\tyes", SlideError, "cannot be read", id="text"),
        pytest.param("Mitral\t0", "Mitral\t1", SlideError, "such as 8x9", id="two_layers"),
        pytest.param("Nerve\t1", "Nerve\t1\t1", SlideError, "cannot be read", id="ragged"),
    ],
)
def test_a_damaged_annotation_is_refused(
    tmp_path: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    root = write_study(tmp_path / "study")
    edit(root / PLACES_ONLY, old, new)
    with pytest.raises(error, match=message):
        read(root / PLACES_ONLY)


def test_an_empty_annotation_is_refused(tmp_path: Path) -> None:
    for text, message in (("", "cannot be read"), ("\t1_1\n", "no layers or no spots")):
        (tmp_path / "a.tsv").write_text(text)
        with pytest.raises(SlideError, match=message):
            read_layers(tmp_path / "a.tsv")


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    (root / "images/01.jpg").write_bytes(b"junk")
    with pytest.raises(ImageFormatError, match=r"01\.jpg is not an image"):
        read(root / PLACES_ONLY)


def test_the_real_replicates_are_read(shared_data: Path) -> None:
    slides = {s.slide_id: s for s in map(read, find_slides(shared_data / "mob_stahl"))}
    assert list(slides) == [f"mob_stahl_{i:02d}" for i in (1, 2, 3, 5, 6, 7, 8, 10, 4, 9, 11)]
    shapes = {name: slide.counts.shape for name, slide in slides.items() if slide.has_counts}
    assert shapes == {
        "mob_stahl_04": (264, 22635),
        "mob_stahl_09": (237, 21081),
        "mob_stahl_11": (262, 16218),
    }
    assert all(slide.mpp == pytest.approx(2.75, rel=2e-3) for slide in slides.values())
    totals = np.asarray(slides["mob_stahl_04"].counts.sum(axis=1))
    assert np.median(totals) == pytest.approx(11954, abs=1)
    # The granule cells' own gene, by its id and by its symbol.
    for name, gene in (("mob_stahl_04", "ENSMUSG00000045573"), ("mob_stahl_11", "Penk")):
        slide = slides[name]
        penk = slide.counts[:, slide.genes.index(gene)].toarray().ravel()
        granular = (slide.spots["layer"] == "Granular Cell Layer").to_numpy()
        assert penk[granular].mean() > 3 * penk[~granular].mean()
