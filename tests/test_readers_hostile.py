"""Files that a stranger made to read other files, fill the memory, never end, or pass for what they are not."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stamp_index.errors import SlideError, SpotOutsideImageError
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.build import validate
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.common.parquet import ParquetTable
from tests.anndata_files import visium
from tests.hest_files import Sample
from tests.legacy_st_files import write_pair
from tests.space_ranger_run import KINDS, Run
from tests.spatial_data_files import SpatialStore
from tests.trident_files import Job
from tests.visium_hd_files import HdRun
from tests.xenium_files import XeniumRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

MATRIX = "filtered_feature_bc_matrix"
HEAD = "%%MatrixMarket matrix coordinate integer general\n"


def external_link(file: h5py.File, name: str, other: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(other), name)


def external_storage(file: h5py.File, name: str, other: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    storage = [(str(other), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, shape=shape, dtype=dtype, external=storage)


def virtual(file: h5py.File, name: str, other: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(other), name, shape=shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def space_ranger(root: Path) -> tuple[Path, Path, str]:
    run = Run(root)
    return run.path, run.path / f"{MATRIX}.h5", "matrix/data"


def xenium(root: Path) -> tuple[Path, Path, str]:
    run = XeniumRun(root)
    return run.path, run.path / "cell_feature_matrix.h5", "matrix/data"


def trident(root: Path) -> tuple[Path, Path, str]:
    path = Job(root).write()
    return path, path, "features"


def h5ad(root: Path) -> tuple[Path, Path, str]:
    path = root / "a.h5ad"
    visium().write_h5ad(path)
    return path, path, "X/data"


def patches(root: Path) -> tuple[Path, Path, str]:
    sample = Sample(root)
    sample.write(wsi=False)
    sample.write_patches()
    return sample.path, sample.patches, "coords"


SOURCES = [space_ranger, xenium, trident, h5ad, patches]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", [external_link, external_storage, virtual])
def test_data_in_another_file_are_refused(
    tmp_path: Path,
    source: Callable[[Path], tuple[Path, Path, str]],
    way: Callable[[h5py.File, str, Path], None],
) -> None:
    path, file, name = source(tmp_path)
    other = tmp_path.parent / f"{tmp_path.name}_secret.h5"
    shutil.copy(file, other)
    with h5py.File(file, "r+") as opened:
        way(opened, name, other)
    with pytest.raises(SlideError, match=f"{name} lies in another file"):
        read(path)


@pytest.mark.parametrize("source", SOURCES)
def test_an_array_larger_than_its_file_can_hold_is_refused_before_it_is_read(
    tmp_path: Path, source: Callable[[Path], tuple[Path, Path, str]]
) -> None:
    path, file, name = source(tmp_path)
    with h5py.File(file, "r+") as opened:
        dtype = opened[name].dtype
        shape = (10**13, *opened[name].shape[1:])
        del opened[name]
        chunks = (1000, *shape[1:])
        opened.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks)
    with pytest.raises(SlideError, match=r"says that it holds [\d,]+ bytes, but the file has 0"):
        read(path)


def test_well_packed_zeros_and_a_group_in_itself_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "a", data=np.zeros(70 << 20, np.uint8), compression="gzip", chunks=(1 << 20,)
        )
        file["self"] = h5py.SoftLink("/")
        file["g/back"] = file["/"]
    with open_h5(path) as file:
        assert not file["a"][:100].any()


def rewrite(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(HEAD + "5 2000000000 1\n1 1 1\n", "2000000000 x 5 numbers", id="columns"),
        pytest.param(HEAD + "5 63 1000000000000\n1 1 1\n", "cannot hold", id="entries"),
        pytest.param(HEAD + "5 63 -1\n", "cannot hold", id="entries below 0"),
        pytest.param(HEAD + "5 63\n", "no line with its rows", id="two sizes"),
        pytest.param(HEAD + "%\n" * 2000, "no line with its rows", id="comments alone"),
        pytest.param(HEAD.replace("coordinate", "array") + "9 9\n1\n", "begins with", id="dense"),
        pytest.param(HEAD.replace("integer", "pattern") + "5 63 1\n1 1\n", "type pattern", id="pattern"),
        pytest.param(HEAD.replace("integer", "complex") + "5 63 1\n1 1 3 4\n", "type complex", id="complex"),
        pytest.param("", "begins with ''", id="empty"),
    ],
)  # fmt: skip
def test_a_matrix_market_head_is_held_against_names_and_file(
    tmp_path: Path, text: str, message: str
) -> None:
    run = Run(tmp_path, mtx=True)
    rewrite(run.path / MATRIX, "matrix.mtx", text)
    with pytest.raises(SlideError, match=message):
        read(run.path)


def test_a_parquet_table_of_more_rows_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000_000, np.int8)), ["a"])
    pq.write_table(pa.table({"a": column}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(SlideError, match="says that it holds 80,000,000 bytes"):
        ParquetTable(tmp_path / "a.parquet", ["a"], what="positions")


def test_an_array_of_a_zarr_table_larger_than_the_table_is_refused(tmp_path: Path) -> None:
    store = SpatialStore(tmp_path)
    metadata = next((store.path / "tables").glob("*/X/data/zarr.json"))
    content = json.loads(metadata.read_text())
    content["shape"] = [10**12]
    metadata.write_text(json.dumps(content))
    with pytest.raises(SlideError, match="says that it holds"):
        read(store.path)


def test_a_scaled_image_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path, *_ = h5ad(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["uns/spatial/P1/images/hires"]
        images = file["uns/spatial/P1/images"]
        data = np.zeros((9000, 9000, 3), np.uint8)
        images.create_dataset("hires", data=data, compression="gzip", chunks=(1000, 1000, 3))
    with pytest.raises(SlideError, match="image hires is 9000 x 9000 px"):
        read(path)


@pytest.mark.parametrize("bin_um", [0.5, 5001, 1e20])
def test_bins_of_a_xenium_section_have_a_width_that_makes_sense(
    tmp_path: Path, bin_um: float
) -> None:
    with pytest.raises(SlideError, match="expected 1 to 5,000 microns"):
        read(XeniumRun(tmp_path).path, SlideOptions(bin_um=bin_um))


def test_bins_wider_than_a_visium_hd_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="20 mm at most"):
        read(HdRun(tmp_path).path, SlideOptions(bin_um=20_008))


NAMES = ("x.tif", "x.jpg", "x.svs", "x.dcm", "a.tsv", "b.csv", "c.tsv.gz", "d.h5ad", "MOB1_genes.tsv", "features_u/x.h5")  # fmt: skip


def test_pipes_and_devices_are_never_opened(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    (tmp_path / "z.png").symlink_to("/dev/zero")
    assert find_slides(tmp_path) == []
    for name in (*NAMES, "z.png"):
        with pytest.raises(SlideError, match="is a pipe or a device"):
            read(tmp_path / name)


def test_a_pipe_among_a_slides_files_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for file in (run.spatial / "scalefactors_json.json", run.path / "slide.toml"):
        content = file.read_bytes() if file.exists() else b""
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        with pytest.raises(SlideError, match="neither a file nor a folder"):
            read(run.path)
        file.unlink()
        file.write_bytes(content)
    with pytest.raises(SlideError, match="is a pipe or a device"):
        read(run.path, SlideOptions(image="/dev/zero"))


def test_a_pipe_beside_a_legacy_section_is_passed_over(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    for name in ("MOB1_spots.tsv", "genes.tsv"):
        os.mkfifo(tmp_path / name)
    assert find_slides(tmp_path) == [path]
    assert read(path).n_spots == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a=" + "[" * 100_000, "cannot be read as TOML", id="deep"),
        pytest.param("mpp=" + "9" * 400, "mpp is 9", id="huge"),
        pytest.param('organ="' + "a" * 2_000_000 + '"', "more than 1000000 bytes", id="large"),
        pytest.param('organ="' + "a" * 1001 + '"', "has 1001 characters", id="long"),
        pytest.param('image="a\\u0000b"', "without the character NUL", id="nul"),
    ],
)
def test_a_hostile_slide_toml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    run = Run(tmp_path)
    (run.path / "slide.toml").write_text(text)
    with pytest.raises(SlideError, match=message):
        read(run.path)


DEEP, HUGE = "[" * 200_000, "9" * 400


@pytest.mark.parametrize("value", [DEEP, HUGE], ids=["deep", "huge"])
def test_json_nested_too_deep_or_with_huge_numbers_is_refused(tmp_path: Path, value: str) -> None:
    run, section, sample = Run(tmp_path / "a"), XeniumRun(tmp_path / "b"), Sample(tmp_path / "c")
    sample.write()
    files = {
        run.path: (run.spatial / "scalefactors_json.json", "tissue_hires_scalef"),
        section.path: (section.path / "experiment.xenium", "pixel_size"),
        sample.path: (next(tmp_path.rglob("metadata/*.json")), "pixel_size_um_embedded"),
    }
    for path, (file, key) in files.items():
        file.write_text(f'{{"{key}": {value}' + ("}" if value == HUGE else ""))
        with pytest.raises(SlideError):
            read(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mpp": "0.5"}, TypeError, "mpp is '0.5', a str; expected microns"),
        ({"mpp": True}, TypeError, "mpp is True, a bool"),
        ({"mpp": 1 + 2j}, TypeError, "a complex"),
        ({"mpp": 0.0005}, ValueError, r"mpp is 0\.0005; expected .* Is it in mm\?"),
        ({"mpp": 250}, ValueError, r"mpp is 250; expected .* Is it in nm\?"),
        ({"mpp": 10**400}, ValueError, "mpp is 1000"),
        ({"bin_um": "8"}, TypeError, "bin_um is '8'"),
        ({"slide_id": 5}, TypeError, "slide_id is 5, a int; expected text"),
        ({"slide_id": b"x"}, TypeError, "slide_id is b'x'"),
        ({"image": 5}, TypeError, "image is 5"),
        ({"organ": ["x"]}, TypeError, r"organ is \['x'\], a list"),
    ],
)  # fmt: skip
def test_options_of_a_wrong_type_or_unit_name_the_field(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SlideOptions(**options)


def test_options_may_be_numbers_of_numpy() -> None:
    assert SlideOptions(mpp=np.float32(0.5), bin_um=np.int64(8)).mpp == 0.5


@pytest.mark.parametrize(
    "slide_id", ["", "a:b", "a\nb", " a", "a\u200b", "a\u202eb", "\ud800", "\u00e9" * 201, "a\u2028b"]
)  # fmt: skip
def test_a_slide_id_that_cannot_be_told_by_sight_is_refused(tmp_path: Path, slide_id: str) -> None:
    with pytest.raises(SlideError, match="slide_id is"):
        read(Run(tmp_path).path, SlideOptions(slide_id=slide_id))


def test_genes_and_labels_without_a_name_are_refused(tmp_path: Path) -> None:
    slide = read(Run(tmp_path).path)
    with pytest.raises(SlideError, match="1 of its 3 genes have no name"):
        validate(replace(slide, genes=(" ", *slide.genes[1:])))
    with pytest.raises(SlideError, match="columns of spots have no name"):
        validate(replace(slide, spots=slide.spots.assign(**{"": 1})))


def test_a_binarised_matrix_is_no_counts(tmp_path: Path) -> None:
    adata = visium()
    adata.X = adata.X.astype(bool)
    adata.write_h5ad(tmp_path / "a.h5ad")
    slide = read(tmp_path / "a.h5ad")
    assert (slide.genes, slide.has_counts) == ((), False)
    assert any("holds no raw counts (looked at: X" in note for note in slide.notes)


@pytest.mark.parametrize("mtx", [False, True])
def test_a_matrix_without_genes_is_refused(tmp_path: Path, *, mtx: bool) -> None:
    run = Run(tmp_path, mtx=mtx)
    if mtx:
        rows = "".join(f"id{i}\tname{i}\tAntibody Capture\n" for i in range(5))
        rewrite(run.path / MATRIX, "features.tsv", rows)
    else:
        with h5py.File(run.path / f"{MATRIX}.h5", "r+") as file:
            file["matrix/features/feature_type"][:] = np.array([KINDS[-1]] * 5, "S")
    with pytest.raises(SlideError, match="no features of the type 'Gene Expression', but Antibody"):
        read(run.path)


@pytest.mark.parametrize("count", ["1_000", "\u0663", " 7", "7 "])
def test_legacy_counts_are_plain_digits(tmp_path: Path, count: str) -> None:
    path = write_pair(tmp_path)
    lines = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().split("\n")]
    lines[1][1] = count
    path.write_bytes(gzip.compress("\n".join(map("\t".join, lines)).encode()))
    with pytest.raises(SlideError, match="could not convert"):
        read(path)


@pytest.mark.parametrize("corner", [(-1, 0), (0, 1537)])
def test_tiles_outside_the_image_that_was_tiled_are_refused(
    tmp_path: Path, corner: tuple[int, int]
) -> None:
    job = Job(tmp_path)
    job.coords[3] = corner
    with pytest.raises(
        SpotOutsideImageError, match="1 of 12 tiles lie outside the image of 2048 x"
    ):
        read(job.write())


@pytest.mark.parametrize("size", [0.5, 100_001, True])
def test_a_tile_has_a_width_that_makes_sense(tmp_path: Path, size: float) -> None:
    job = Job(tmp_path)
    job.attributes = {"patch_size_level0": size}
    with pytest.raises(SlideError, match="how wide its tiles are|level-0 pixels wide"):
        read(job.write())


@pytest.mark.parametrize("table", ["cells", "transcripts"])
def test_pixels_taken_for_microns_show_between_cells_and_transcripts(
    tmp_path: Path, table: str
) -> None:
    run = XeniumRun(tmp_path)
    columns = {"cells": ["x_centroid", "y_centroid"], "transcripts": ["x_location", "y_location"]}
    frame: pd.DataFrame = getattr(run, table)
    frame[columns[table]] /= 0.2125
    run.write_cells()
    run.write_transcripts()
    with pytest.raises(SlideError, match="One of the two is in pixels"):
        read(run.path)


@pytest.mark.parametrize("value", [True, "0.2125"])
def test_a_pixel_size_is_a_number(tmp_path: Path, value: object) -> None:
    run = XeniumRun(tmp_path)
    run.experiment["pixel_size"] = value
    run.write_experiment()
    with pytest.raises(SlideError, match="says pixel_size ="):
        read(run.path)


@pytest.mark.parametrize("species", ["mouse", "Mus musculus"])
def test_ids_of_another_species_than_said_are_refused(tmp_path: Path, species: str) -> None:
    run = Run(tmp_path)
    with pytest.raises(
        SlideError, match="Ensembl ids are human, but its species is said to be mouse"
    ):
        read(run.path, SlideOptions(species=species))
    assert read(run.path, SlideOptions(species="Homo sapiens")).species == "Homo sapiens"
