from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.hest_1k.reader import HestReader
from tests.hest_files import GENES, Sample, picture
from tests.stimage_files import square

if TYPE_CHECKING:
    from collections.abc import Callable

CROP = Path(__file__).parents[2] / "shared/data/xenium_lung_crop"


def notes_of(sample: Sample, **options: object) -> str:
    return " ".join(read(sample.path, SlideOptions(**options)).notes)


@pytest.mark.parametrize("matrix", ["csr", "csc", "dense"])
def test_a_sample_is_read_whole(tmp_path: Path, matrix: str) -> None:
    sample = Sample(tmp_path)
    slide = read(sample.write(matrix=matrix))
    assert (slide.reader, slide.slide_id, slide.platform) == ("HEST-1k", "TENX1", "Visium")
    assert (slide.organ, slide.species, slide.disease) == ("breast", "human", "Cancer (IDC)")
    assert slide.patient_id == "Patient 1 of A study of the breast"
    assert (slide.mpp, slide.spot_diameter_um) == (pytest.approx(1.0), 55.0)
    assert slide.genes == tuple(GENES)
    assert slide.gene_ids[0] == "ENSG00000000000"
    np.testing.assert_array_equal(slide.counts.toarray(), sample.x)
    np.testing.assert_array_equal(slide.xy_px, sample.xy)
    assert list(slide.spots.columns) == ["x_px", "y_px", "array_row", "array_col"]
    assert slide.files == (sample.path, tmp_path / "metadata/TENX1.json")
    assert slide.image is not None
    assert slide.image.size_px == sample.size
    notes = " ".join(slide.notes)
    assert "CC BY 4.0" in notes
    assert "CC BY-NC-SA" in notes
    assert (
        "agrees with the metadata's pixel_size_um_estimated and the spots' pitch of 100 um" in notes
    )


def test_every_sample_is_found_once_and_pickles_are_never_opened(tmp_path: Path) -> None:
    paths = [Sample(tmp_path, name).write() for name in ("TENX1", "TENX2")]
    Sample(tmp_path, "TENX1").write_patches()
    (tmp_path / "tissue_seg").mkdir()
    pickle = tmp_path / "tissue_seg/TENX1_mask.pkl"
    pickle.write_bytes(b"\x80\x04cos\nsystem\n")
    (tmp_path / "HEST_v1_1_0.csv").write_text("id,organ\nTENX1,Breast\n")
    assert find_slides(tmp_path) == paths
    assert pickle not in read(paths[0]).files


@pytest.mark.skipif(not CROP.is_dir(), reason="shared/data/xenium_lung_crop is not there")
def test_an_h5ad_of_another_layout_is_not_claimed() -> None:
    assert not HestReader().detect(CROP / "NCBI858.h5ad")
    assert all(path.suffix != ".h5ad" or not HestReader().detect(path) for path in CROP.iterdir())


@pytest.mark.parametrize(
    "name", ["x/TENX1.h5ad", "st/TENX1.h5", "st/._TENX1.h5ad", "metadata/TENX1.json"]
)
def test_other_files_of_the_layout_are_no_slides(tmp_path: Path, name: str) -> None:
    Sample(tmp_path).write(wsi=False)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert not HestReader().detect(path)


def test_an_h5ad_in_st_without_siblings_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "st").mkdir()
    (tmp_path / "st/TENX1.h5ad").touch()
    assert not HestReader().detect(tmp_path / "st/TENX1.h5ad")


def test_options_win_over_the_metadata(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.write(wsi=False)
    slide = read(sample.path, SlideOptions(organ="lung", patient_id="P7", mpp=1.01))
    assert (slide.organ, slide.patient_id, slide.mpp) == ("lung", "P7", 1.01)
    assert slide.image is None
    assert "counts only" in " ".join(slide.notes)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_positions_follow_a_scaled_image(tmp_path: Path, scale: float) -> None:
    sample = Sample(tmp_path)
    sample.write(wsi=False)
    small = sample.write_wsi((round(760 * scale), round(680 * scale)), mpp=1 / scale)
    moved = small.rename(tmp_path / "small.tif")
    slide = read(sample.path, SlideOptions(image=moved))
    assert slide.mpp == pytest.approx(1 / scale)
    np.testing.assert_allclose(slide.xy_px, sample.xy * scale)
    assert slide.spot_diameter_um == 55.0
    sample.metadata["st_technology"] = "Xenium"
    sample.write_metadata()
    assert read(sample.path, SlideOptions(image=moved)).spot_diameter_um == pytest.approx(100.0)


def test_squares_of_pooled_technologies_are_as_wide_as_their_distance(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    # The release gives 2 um for Visium HD, though its squares come pooled.
    sample.metadata |= {"st_technology": "Visium HD", "inter_spot_dist": 2, "spot_diameter": 2}
    slide = read(sample.write())
    assert slide.spot_diameter_um == pytest.approx(100.0)
    assert "pooled to squares of 100.0 um" in " ".join(slide.notes)
    assert "array_row" not in slide.spots


def test_control_probes_are_left_out(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.var.index = pd.Index(["EPCAM", "NegControlProbe_00042", "BLANK_0069", "TBCE"])
    slide = read(sample.write(wsi=False))
    assert slide.genes == ("EPCAM", "TBCE")
    np.testing.assert_array_equal(slide.counts.toarray(), sample.x[:, [0, 3]])
    assert len(slide.gene_ids) == 2


def test_spots_off_tissue_are_dropped(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.obs["in_tissue"] = [i > 2 for i in range(30)]
    slide = read(sample.write(wsi=False))
    assert slide.n_spots == 27
    np.testing.assert_array_equal(slide.counts.toarray(), sample.x[3:])
    assert "3 of 30 spots are not under tissue" in " ".join(slide.notes)


def test_a_vendors_pixel_size_that_contradicts_is_told_and_not_used(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.metadata["pixel_size_um_embedded"] = 2540.0001  # as of NCBI715
    slide = read(sample.write())
    assert slide.mpp == pytest.approx(1.0)
    assert "pixel_size_um_embedded is 2540" in " ".join(slide.notes)


def test_spots_wider_than_their_distance_are_told(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.metadata |= {"spot_diameter": 150.0}
    sample.write(wsi=False)
    assert "would overlap" in notes_of(sample)


def test_a_staggered_array_of_legacy_st_is_told(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.metadata["st_technology"] = "Spatial Transcriptomics"
    x, y = square(100.0, 5, 6).T
    sample.xy = np.column_stack(((x - y) / 2**0.5 + 400, (x + y) / 2**0.5 - 60))
    sample.write(wsi=False)
    assert "staggered array" in notes_of(sample)
    sample.xy = np.column_stack((x, y))
    sample.write(wsi=False)
    assert "staggered array" not in notes_of(sample)


def test_positions_that_obs_contradicts_are_told(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.obs["pxl_col_in_fullres"] += 40
    sample.write(wsi=False)
    assert "by 40 px at the median" in notes_of(sample)


def test_without_metadata_the_image_and_the_scale_factors_serve(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    slide = read(sample.write(metadata=False))
    assert (slide.mpp, slide.spot_diameter_um) == (pytest.approx(1.0), pytest.approx(55.0))
    assert (slide.organ, slide.platform) == ("", "")
    assert "no metadata" in " ".join(slide.notes)


def test_a_few_spots_beyond_the_image_are_dropped(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.xy[7] = (9000, 9000)
    slide = read(sample.write())
    assert slide.n_spots == 29
    assert "lie off the image" in " ".join(slide.notes)


def test_many_spots_beyond_the_image_are_refused(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.xy[:4, 0] += 9000
    with pytest.raises(SpotOutsideImageError, match="lie outside the image"):
        read(sample.write())


def set_estimated(sample: Sample) -> None:
    sample.metadata["pixel_size_um_estimated"] = 1.2


def set_distance(sample: Sample) -> None:
    sample.metadata["inter_spot_dist"] = 200.0


def set_text(sample: Sample) -> None:
    sample.metadata["spot_diameter"] = "wide"


def set_true(sample: Sample) -> None:
    sample.metadata["spot_diameter"] = True


def set_negative(sample: Sample) -> None:
    sample.metadata["pixel_size_um_estimated"] = -0.5


def drop_sizes(sample: Sample) -> None:
    for name in ("pixel_size_um_estimated", "inter_spot_dist"):
        sample.metadata[name] = None


def logarithms(sample: Sample) -> None:
    sample.x = np.log1p(sample.x)


def repeat_barcode(sample: Sample) -> None:
    names = sample.obs.index.tolist()
    sample.obs.index = pd.Index([names[0], names[0], *names[2:]])


def lose_position(sample: Sample) -> None:
    sample.xy[3] = np.nan


def no_counts(sample: Sample) -> None:
    sample.x = np.zeros((30, 4))


def all_off_tissue(sample: Sample) -> None:
    sample.obs["in_tissue"] = 0


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        pytest.param(set_estimated, MissingPixelSizeError, "may differ by 3%", id="estimated"),
        pytest.param(set_distance, MissingPixelSizeError, "pitch of 200 um", id="distance"),
        pytest.param(set_text, SlideError, "spot_diameter as 'wide'", id="text"),
        pytest.param(set_true, SlideError, "spot_diameter as True", id="true"),
        pytest.param(set_negative, SlideError, "as -0.5; expected a number above 0", id="negative"),
        pytest.param(drop_sizes, MissingPixelSizeError, "Give mpp", id="no pixel size"),
        pytest.param(logarithms, SlideError, "raw UMI counts", id="logarithms"),
        pytest.param(repeat_barcode, BarcodeMismatchError, "more than once", id="barcode twice"),
        pytest.param(lose_position, SpotOutsideImageError, "no position", id="NaN position"),
        pytest.param(no_counts, SlideError, "has any counts", id="no counts"),
        pytest.param(
            all_off_tissue, SlideError, "none of the 30 spots is under tissue", id="off tissue"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_wrong_contents_are_refused(
    tmp_path: Path, damage: Callable[[Sample], None], error: type[SlideError], match: str
) -> None:
    sample = Sample(tmp_path)
    damage(sample)
    with pytest.raises(error, match=match):
        read(sample.write(wsi=False))


@pytest.mark.parametrize("keep", [0, 100, 5000], ids=["empty", "head", "middle"])
def test_a_truncated_h5ad_is_refused(tmp_path: Path, keep: int) -> None:
    path = Sample(tmp_path).write()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SlideError, match=r"cannot be read as \.h5ad"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"], ids=["empty", "cut", "list", "latin"])
def test_damaged_metadata_are_refused(tmp_path: Path, text: str) -> None:
    sample = Sample(tmp_path)
    sample.write(wsi=False)
    (tmp_path / "metadata/TENX1.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SlideError, match="metadata .*TENX1.json"):
        read(sample.path)


@pytest.mark.parametrize("name", ["X", "obs", "var", "obsm/spatial"])
def test_an_h5ad_without_a_part_is_refused(tmp_path: Path, name: str) -> None:
    import h5py

    path = Sample(tmp_path).write()
    with h5py.File(path, "a") as file:
        del file[name]
    with pytest.raises(SlideError, match=r"has no groups obs and var|Copy the file again"):
        read(path)


def test_positions_of_another_length_are_refused(tmp_path: Path) -> None:
    import h5py

    path = Sample(tmp_path).write()
    with h5py.File(path, "a") as file:
        del file["obsm/spatial"]
        file["obsm/spatial"] = np.zeros((29, 2))
    with pytest.raises(SlideError, match=r"positions of shape \(29, 2\) for 30 spots"):
        read(path)


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.write(wsi=False)
    sample.write_wsi((760, 400))
    with pytest.raises(SlideError, match="their shapes differ"):
        read(sample.path)


@pytest.mark.parametrize("file", ["wsis/TENX1.tif", "metadata/TENX1.json"])
def test_a_link_that_leads_out_of_the_dataset_is_refused(tmp_path: Path, file: str) -> None:
    sample = Sample(tmp_path / "hest")
    sample.write()
    inside = tmp_path / "hest" / file
    outside = inside.rename(tmp_path / "elsewhere")
    inside.symlink_to(outside)
    with pytest.raises(SlideError, match=r"elsewhere.*outside the slide's folder"):
        read(sample.path)


def test_a_picture_of_the_sample_lies_under_its_spots(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    slide = read(sample.write())
    assert slide.image is not None
    x, y = slide.xy_px[11]
    seen = slide.image.read(x - 1, y - 1, 2, 2)[1, 1]
    np.testing.assert_allclose(seen, picture(sample.size)[int(y), int(x)], atol=1)
