"""What every reader promises, checked on a small slide of each."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from stamp_index.errors import SlideError, StampIndexError
from stamp_index.readers import find_slides, read
from stamp_index.readers.registry import READERS
from tests.anndata_files import cells, visium, write_image
from tests.her2st_files import write_section
from tests.hest_files import Sample
from tests.legacy_st_files import write_gene_table, write_pair, write_study
from tests.space_ranger_run import Run
from tests.spatial_data_files import SpatialStore
from tests.stimage_files import StSlide
from tests.tissue_files import stained
from tests.trident_files import Job
from tests.visium_hd_files import HdRun
from tests.xenium_files import XeniumRun, alignment, write_alignment, write_he

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stamp_index.slides import Slide


def space_ranger(root: Path, *, mtx: bool = False) -> Path:
    return Run(root, mtx=mtx).path


def xenium(root: Path, *, csv: bool = False) -> Path:
    run = XeniumRun(root, mtx=csv)
    if csv:
        run.write_cells(csv=True)
        (run.path / "transcripts.parquet").unlink()
    write_alignment(run.path / "he_imagealignment.csv", alignment(20))
    write_he(run.path / "he_image.ome.tif", alignment(20))
    return run.path


def her2st(root: Path) -> Path:
    return write_section(root)


def hest(root: Path) -> Path:
    return Sample(root).write()


def patches(root: Path) -> Path:
    sample = Sample(root, mpp=0.5)
    sample.write(wsi=False)
    sample.write_patches()
    return sample.path


def stimage(root: Path) -> Path:
    slide = StSlide(root)
    slide.write()
    slide.write_annotation({slide.local[0]: "tumour", slide.local[1]: "stroma"})
    return slide.path


def trident(root: Path) -> Path:
    job = Job(root)
    path = job.write()
    job.write_image(root)
    return path


def legacy(root: Path) -> Path:
    path = write_pair(root)
    write_gene_table(root)
    return path


def study(root: Path) -> Path:
    write_study(root)
    for name in ("annotations/01_01.tsv", "annotations/11_01.tsv", "images/01.jpg"):
        (root / name).unlink()
    (root / "counts/Rep11_MOB_count_matrix-1.tsv.gz").unlink()
    return root / "counts/MOB_REP4_stdata.tsv.gz"


def h5ad_of_visium(root: Path) -> Path:
    visium().write_h5ad(root / "P1.h5ad")
    return root / "P1.h5ad"


def h5ad_of_cells(root: Path) -> Path:
    cells().write_h5ad(root / "core.h5ad")
    write_image(root / "core.png")
    (root / "core.json").write_text('{"cell_diameter": 8}')
    (root / "core.slide.toml").write_text("mpp = 0.5\n")
    return root / "core.h5ad"


def plain(root: Path) -> Path:
    pixels = stained(1024, 1024).astype(np.uint8)
    tifffile.imwrite(
        root / "HE.tif",
        pixels,
        tile=(256, 256),
        photometric="rgb",
        resolution=(1e4, 1e4),
        resolutionunit="CENTIMETER",
    )
    return root / "HE.tif"


BUILT: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "Space Ranger": ("Space Ranger", space_ranger),
    "Space Ranger, text": ("Space Ranger", lambda root: space_ranger(root, mtx=True)),
    "Visium HD": ("Visium HD", lambda root: HdRun(root).path),
    "Visium HD, text": ("Visium HD", lambda root: HdRun(root, mtx=True).path),
    "Xenium": ("Xenium", xenium),
    "Xenium, text": ("Xenium", lambda root: xenium(root, csv=True)),
    "SpatialData": ("SpatialData", lambda root: SpatialStore(root).path),
    "HER2ST": ("HER2ST", her2st),
    "HEST-1k": ("HEST-1k", hest),
    "HEST-1k, patches": ("HEST-1k", patches),
    "STimage-1K4M": ("STimage-1K4M", stimage),
    "TRIDENT": ("TRIDENT", trident),
    "Annotated ST": ("Annotated ST", study),
    "Legacy ST": ("Legacy ST", legacy),
    "AnnData, Visium": ("AnnData", h5ad_of_visium),
    "AnnData, cells": ("AnnData", h5ad_of_cells),
    "H&E image": ("H&E image", plain),
}


@dataclass(frozen=True)
class Built:
    """A slide on disk, and what its reader makes of it."""

    root: Path
    path: Path
    reader: str
    slide: Slide

    @property
    def files(self) -> list[Path]:
        """Files that the reader found by itself, from `root`: of a store's many, some of each folder."""
        found = [file.relative_to(self.root) for file in self.slide.files if file != self.path]
        if self.path.suffix != ".zarr":
            return found
        firsts = {(file.parent.parts[:4], file.suffix): file for file in found}
        return sorted(firsts.values())

    def copy(self, to: Path) -> Path:
        """Copy all of it; return the slide's path there."""
        shutil.copytree(self.root, to / "data", symlinks=True)
        return to / "data" / self.path.relative_to(self.root)


@pytest.fixture(scope="module", params=list(BUILT))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A slide, written and read once for all tests."""
    reader, build = BUILT[request.param]
    root = tmp_path_factory.mktemp("contract") / "data"
    root.mkdir()
    path = build(root)
    return Built(root, path, reader, read(path))


def test_every_reader_has_a_sample() -> None:
    assert {reader for reader, _ in BUILT.values()} == {reader.name for reader in READERS}


def test_the_first_reader_that_knows_a_slide_is_its_own(sample: Built) -> None:
    knowing = [reader.name for reader in READERS if reader.detect(sample.path)]
    assert knowing[0] == sample.slide.reader == sample.reader
    # An h5ad of HEST-1k is one of AnnData too; nothing else is known to two readers.
    assert knowing[1:] == (["AnnData"] if sample.reader == "HEST-1k" else [])
    assert sample.slide.reader_version == next(r for r in READERS if r.name == knowing[0]).version


def test_what_a_slide_was_read_from_is_there_and_can_be_written_down(sample: Built) -> None:
    slide = sample.slide
    assert len(set(slide.files)) == len(slide.files)
    assert all(file.is_file() and file.stat().st_size for file in slide.files)
    assert all(file.resolve().is_relative_to(sample.root.resolve()) for file in slide.files)
    assert bool(slide.files) == (sample.reader != "H&E image")
    assert json.loads(json.dumps(dict(slide.parameters))) == dict(slide.parameters)
    assert all(note.endswith((".", "?")) and "\n" not in note for note in slide.notes)


def test_spots_lie_on_the_image_and_have_names_of_their_own(sample: Built) -> None:
    slide = sample.slide
    assert slide.image is not None
    assert slide.mpp is not None
    reach = slide.spot_diameter_um / 2 / slide.mpp
    assert (slide.xy_px >= -reach).all()
    assert (slide.xy_px <= np.array(slide.image.size_px) + reach).all()
    assert slide.xy_px.dtype == np.float64
    assert slide.spots.index.is_unique
    assert slide.counts.dtype == np.float32
    assert slide.counts.shape == (slide.n_spots, len(slide.genes))


def test_a_folder_holds_the_slide_once(sample: Built) -> None:
    assert find_slides(sample.root) == [sample.path]
    assert find_slides(sample.path) == [sample.path]


def test_reading_again_gives_the_same(sample: Built) -> None:
    again = read(sample.path)
    assert again.counts_hash() == sample.slide.counts_hash()
    assert (again.notes, again.files) == (sample.slide.notes, sample.slide.files)


def test_a_file_that_is_a_link_out_of_the_folder_is_refused(sample: Built, tmp_path: Path) -> None:
    path = sample.copy(tmp_path)
    for name in sample.files:
        file, outside = tmp_path / "data" / name, tmp_path / f"outside_{name.name}"
        if name.name.endswith("slide.toml"):
            continue  # what the user says, wherever it is kept
        file.rename(outside)
        file.symlink_to(outside)
        with pytest.raises(SlideError, match=r"lies outside the slide's folder|leads out of"):
            read(path)
        file.unlink()
        outside.rename(file)
    assert read(path).counts_hash() == sample.slide.counts_hash()


def outcome(path: Path, whole: Slide) -> str:
    """Read a damaged slide: an error of the library, or fewer spots or genes, or other notes; nothing else."""
    try:
        slide = read(path)
    except StampIndexError:
        return "refused"
    # A lost chunk of a label in zarr is zeros by that format's rule; counts and places are held together.
    same = slide.counts_hash() == whole.counts_hash() and np.array_equal(slide.xy_px, whole.xy_px)
    told = slide.notes != whole.notes or slide.reader != whole.reader
    assert same or told, "another slide without a word"
    return "same" if same else "told"


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_file_is_refused_or_said(sample: Built, tmp_path: Path, damage: str) -> None:
    path = sample.copy(tmp_path)
    for name in [*sample.files, path.relative_to(tmp_path / "data")]:
        file = tmp_path / "data" / name
        if file.is_dir():
            continue
        content = file.read_bytes()
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        found = outcome(path, sample.slide)
        if file == path and path.suffix != ".tif":
            assert found == "refused" or (damage == "cut" and found == "told"), name
        file.write_bytes(content)
