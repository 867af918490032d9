from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, read
from tests.anndata_files import SIZE, cells, visium, write_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData


def write(path: Path, change: Callable[[AnnData], object] = lambda _: None) -> Path:
    adata = visium()
    change(adata)
    adata.write_h5ad(path)
    return path


def two_sections(adata: AnnData) -> None:
    adata.obs["library_id"] = ["P1", "P2"] * 20
    adata.uns["spatial"]["P2"] = adata.uns["spatial"]["P1"]


def two_entries(adata: AnnData) -> None:
    adata.uns["spatial"]["P2"] = adata.uns["spatial"]["P1"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        pytest.param(two_sections, "library_id", id="by_column"),
        pytest.param(two_entries, "<column of obs", id="by_entries"),
    ],
)
def test_several_sections_are_refused_with_the_way_to_split_them(
    tmp_path: Path, change: Callable[[AnnData], object], key: str
) -> None:
    path = write(tmp_path / "two.h5ad", change)
    with pytest.raises(SlideError, match=rf"holds 2 sections \(P1, P2\).*adata\.obs\['{key}") as e:
        read(path)
    assert "write_h5ad" in str(e.value)


def test_the_way_to_split_that_is_told_works(tmp_path: Path) -> None:
    adata = visium()
    two_sections(adata)
    for name in adata.obs["library_id"].unique():
        part = adata[adata.obs["library_id"] == name].copy()
        part.uns["spatial"] = {name: adata.uns["spatial"][name]}
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    assert [read(tmp_path / f"{name}.h5ad").n_spots for name in ("P1", "P2")] == [20, 20]


def test_a_part_of_a_larger_object_uses_its_own_entry(tmp_path: Path) -> None:
    def one_of_two(adata: AnnData) -> None:
        two_sections(adata)
        adata.uns["spatial"]["P1"] = {"scalefactors": {"spot_diameter_fullres": 5.0}}
        adata.obs["library_id"] = "P2"

    slide = read(write(tmp_path / "part.h5ad", one_of_two))
    assert any("hires inside the file" in note for note in slide.notes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            lambda a: a.obsm.pop("spatial"),
            SlideError,
            r"has no positions: neither obsm\['spatial'\]",
            id="no_positions",
        ),
        pytest.param(
            lambda a: a.obsm.update(spatial=a.obsm["spatial"][:, :1]),
            BarcodeMismatchError,
            r"obsm\['spatial'\] has shape \(40, 1\) for 40 observations",
            id="x_only",
        ),
        pytest.param(
            lambda a: a.obsm.update(spatial=np.where(np.eye(40, 2), np.nan, a.obsm["spatial"])),
            SpotOutsideImageError,
            r"2 spots have no position \(B0, B1\)",
            id="lost",
        ),
        pytest.param(
            lambda a: a.obs.rename(index={"B1": "B0"}, inplace=True),
            BarcodeMismatchError,
            r"1 barcodes stand more than once \(B0\)",
            id="barcode_twice",
        ),
        pytest.param(
            lambda a: a.obs.insert(0, "in_tissue", a.obs.pop("in_tissue") * 0),
            SlideError,
            "none of the 40 spots is under tissue",
            id="nothing_on_tissue",
        ),
        pytest.param(
            lambda a: a.uns["spatial"]["P1"]["scalefactors"].update(spot_diameter_fullres=50.0),
            MissingPixelSizeError,
            "spots' pitch of 100 um is 4 um/px, but the one derived from spot_diameter_fullres",
            id="wrong_diameter",
        ),
        pytest.param(
            lambda a: setattr(a, "X", a.X * 0), SlideError, "none of its 40 spots", id="all_zero"
        ),
    ],
)
def test_what_cannot_be_a_slide_is_refused(
    tmp_path: Path, change: Callable[[AnnData], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(write(tmp_path / "P1.h5ad", change))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def edit(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def replaced(name: str, data: object) -> Callable[[Path], None]:
    def apply(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=data).attrs.update(attributes)

    return edit(apply)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(cut, "cannot be read as .h5ad", id="cut_short"),
        pytest.param(lambda p: p.write_bytes(b"junk"), "cannot be read as .h5ad", id="junk"),
        pytest.param(lambda p: p.write_bytes(b""), "cannot be read as .h5ad", id="empty"),
        pytest.param(
            edit(lambda f: f.__delitem__("obs")), "has no groups obs and var", id="no_obs"
        ),
        pytest.param(edit(lambda f: f["obs"].attrs.pop("_index")), "cannot be read", id="no_index"),
        pytest.param(edit(lambda f: f.__delitem__("X/indptr")), "cannot be read", id="no_indptr"),
        pytest.param(
            edit(lambda f: f["X/indices"].__setitem__(0, 9)), "cannot be read", id="far_genes"
        ),
        pytest.param(
            edit(lambda f: f["X"].attrs.update({"shape": (39, 4)})),
            r"/X has shape \(39, 4\), but there are 40 obs",
            id="wrong_shape",
        ),
        pytest.param(
            replaced("X/indices", np.zeros(9, dtype="i4")),
            "or more values than places",
            id="few_indices",
        ),
        pytest.param(
            edit(lambda f: f["X"].attrs.update({"encoding-type": "dense_matrix"})),
            "has the encoding dense_matrix",
            id="unknown_encoding",
        ),
        pytest.param(
            replaced("obs/layer/codes", np.full(40, 7, dtype="i1")),
            "codes of /obs/layer reach 7",
            id="codes",
        ),
        pytest.param(
            replaced("obsm/spatial", np.array([b"a"] * 40)), "cannot be read", id="text_positions"
        ),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = write(tmp_path / "P1.h5ad")
    damage(path)
    with pytest.raises(SlideError, match=message):
        read(path)


def test_counts_of_another_shape_are_refused(tmp_path: Path) -> None:
    adata = cells()
    adata.write_h5ad(tmp_path / "c.h5ad")
    with h5py.File(tmp_path / "c.h5ad", "r+") as file:
        rows = file["X"][:50]
        del file["X"]
        file["X"] = rows
    with pytest.raises(BarcodeMismatchError, match=r"/X has shape \(50, 4\), but there are 60 obs"):
        read(tmp_path / "c.h5ad", SlideOptions(mpp=0.5))


def test_positions_that_fit_as_microns_only_are_told(tmp_path: Path) -> None:
    adata = cells()
    image = write_image(tmp_path / "he.png")
    adata.obsm["spatial"] = adata.obs[["x_pixel", "y_pixel"]].to_numpy() * 2.0
    adata.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(SpotOutsideImageError, match="do as microns at 2 um/px. Put them into col"):
        read(tmp_path / "c.h5ad", SlideOptions(image=image, mpp=2.0))


def test_a_foreign_image_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "P1.h5ad")
    square = write_image(tmp_path / "square.png", (600, 600))
    with pytest.raises(SlideError, match="another shape than the image hires inside"):
        read(path, SlideOptions(image=square))
    adata = cells()
    adata.write_h5ad(tmp_path / "c.h5ad")
    small = write_image(tmp_path / "small.png", (200, 140))
    with pytest.raises(SpotOutsideImageError, match="lie outside the image of 200 x 140 px"):
        read(tmp_path / "c.h5ad", SlideOptions(image=small, mpp=0.5))


def test_a_wrong_pixel_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPixelSizeError, match=r"is 0\.5 um/px, but the one derived from"):
        read(write(tmp_path / "P1.h5ad"), SlideOptions(mpp=0.5))


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    path = write(folder / "P1.h5ad")
    (folder / "P1.png").symlink_to(write_image(tmp_path / "P1.png", SIZE))
    with pytest.raises(SlideError, match=r"P1\.png is a link to .*outside the slide's folder"):
        read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "cannot be read as JSON", id="no_json"),
        pytest.param('{"cell_diameter": "wide"}', "cell_diameter is 'wide'", id="text"),
        pytest.param('{"cell_diameter": -1}', "cell_diameter is -1", id="negative"),
        pytest.param('{"cell_diameter": true}', "cell_diameter is True", id="boolean"),
    ],
)
def test_a_wrong_cell_diameter_is_refused(tmp_path: Path, text: str, message: str) -> None:
    cells().write_h5ad(tmp_path / "c.h5ad")
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(SlideError, match=message):
        read(tmp_path / "c.h5ad")


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_data_in_another_file_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "P1.h5ad")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["spatial"] = np.ones((40, 2))
    with h5py.File(path, "r+") as file:
        del file["obsm/spatial"]
        if kind == "link":
            file["obsm/spatial"] = h5py.ExternalLink("other.h5", "/spatial")
        elif kind == "external":
            raw = [(str(tmp_path / "other.h5"), 0, 640)]
            file["obsm"].create_dataset("spatial", (40, 2), "f8", external=raw)
        else:
            layout = h5py.VirtualLayout((40, 2), "f8")
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "spatial", (40, 2))
            file["obsm"].create_virtual_dataset("spatial", layout)
    with pytest.raises(SlideError, match="obsm/spatial lies in another file"):
        read(path)


def test_no_pickle_is_ever_opened(tmp_path: Path) -> None:
    """Bytes in uns, where a pickle could hide, stay where they are."""
    path = write(tmp_path / "P1.h5ad")
    with h5py.File(path, "r+") as file:
        file["uns/evil"] = np.void(b"cos\nsystem\n(S'touch /tmp/evil'\ntR.")
    assert read(path).n_spots == 40
