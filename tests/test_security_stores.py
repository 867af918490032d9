"""A store that a stranger made: what it names outside itself is not opened, shown or written."""

from __future__ import annotations

import io
import json
import os
import shutil
from typing import TYPE_CHECKING

import lance
import numpy as np
import pandas as pd
import pytest
from lance.blob import Blob, blob_array
from PIL import Image

from stamp_index.errors import ImageFormatError, QueryError, StoreError
from stamp_index.index import index_folder
from stamp_index.readers.common.text_numbers import to_numeric
from stamp_index.slides import ArrayImage, open_image
from stamp_index.slides.jpeg import jpeg_bytes
from stamp_index.slides.stored import FOLDERS, looks_like, open_stored
from stamp_index.store import Store
from stamp_index.view.pictures import is_whole, slide_picture
from tests.image_files import texture, write_pyramid
from tests.store_world import change, empty_store
from tests.support import toy_store

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (900, 700)


def picture(seed: int = 0) -> np.ndarray:
    return np.roll(texture(SIZE[1], SIZE[0]), 97 * seed, axis=(0, 1))


def overview(pixels: np.ndarray) -> bytes:
    return jpeg_bytes(Image.fromarray(ArrayImage(pixels, 0.5).overview(256)))


@pytest.fixture
def slide(tmp_path) -> Path:
    """Somebody's slide, outside any store."""
    (tmp_path / "private").mkdir()
    return write_pyramid(tmp_path / "private" / "a.tif", picture(), n=2)


# ---- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data/", "https://example.org/a.tif", "s3://bucket/a.tif", "file:///etc/shadow",
        "ftp://host/a", "gs://b/a", "\\\\host\\share\\a.svs", "//host/share/a.svs", "/vsicurl/http://169.254.169.254/",
        "/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/dev/zero", "/dev/stdin", "/sys/kernel",
        "a\0b", "../../../../etc/passwd", "/", "x" * 5000,
    ],
)  # fmt: skip
def test_what_a_store_names_is_never_fetched_and_never_a_file_of_the_system(uri, tmp_path) -> None:
    with pytest.raises(ImageFormatError):
        open_stored(uri, SIZE, overview(picture()), tmp_path)


def test_a_link_to_the_system_is_followed_before_it_is_refused(tmp_path) -> None:
    (tmp_path / "a.svs").symlink_to("/proc/self/environ")
    with pytest.raises(ImageFormatError, match="part of the system"):
        open_stored(str(tmp_path / "a.svs"), SIZE, None, tmp_path)
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(ImageFormatError):
        open_stored(str(tmp_path / "ring"), SIZE, None, tmp_path)


def test_the_slide_of_a_store_is_shown_wherever_it_lies(slide, tmp_path) -> None:
    image = open_stored(str(slide), SIZE, overview(picture()), tmp_path / "store")
    np.testing.assert_array_equal(image.read(0, 0, 64, 64), open_image(slide).read(0, 0, 64, 64))


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(picture(1), id="another slide"),
        pytest.param(np.full((700, 900, 3), 255, np.uint8), id="glass"),
        pytest.param(np.full((700, 900, 3), 128, np.uint8), id="grey"),
        pytest.param(np.broadcast_to(picture().mean((0, 1)), (700, 900, 3)).astype(np.uint8), id="its mean colour"),
    ],
)  # fmt: skip
def test_a_slide_that_whoever_made_the_store_has_not_seen_is_not_shown(
    known, slide, tmp_path
) -> None:
    with pytest.raises(ImageFormatError, match="another picture than the store's overview"):
        open_stored(str(slide), SIZE, overview(known), tmp_path / "store")


def test_without_an_overview_only_the_stores_own_folder_is_believed(
    slide, tmp_path, monkeypatch
) -> None:
    with pytest.raises(ImageFormatError, match="the store alone vouches for it"):
        open_stored(str(slide), SIZE, None, tmp_path / "store")
    assert open_stored(str(slide), SIZE, None, slide.parent).size_px == SIZE
    monkeypatch.setenv(FOLDERS, os.pathsep.join(["/nowhere", str(slide.parent)]))
    assert open_stored(str(slide), SIZE, None, tmp_path / "store").size_px == SIZE


def test_named_folders_confine_images_whatever_they_show(slide, tmp_path, monkeypatch) -> None:
    (tmp_path / "slides").mkdir()
    monkeypatch.setenv(FOLDERS, str(tmp_path / "slides"))
    with pytest.raises(ImageFormatError, match="does not lie in the folders of STAMP_INDEX_IMAGES"):
        open_stored(str(slide), SIZE, overview(picture()), tmp_path / "store")
    (tmp_path / "slides" / "b.tif").symlink_to(slide)
    with pytest.raises(ImageFormatError, match="does not lie in"):
        open_stored(
            str(tmp_path / "slides" / "b.tif"), SIZE, overview(picture()), tmp_path / "store"
        )


def test_an_image_of_another_size_is_not_shown(slide, tmp_path) -> None:
    with pytest.raises(ImageFormatError, match="is 900 x 700 px; the store says 900 x 701"):
        open_stored(str(slide), (900, 701), overview(picture()), tmp_path)


def test_likeness_bears_compression_and_another_scale(slide) -> None:
    stored = io.BytesIO()
    Image.fromarray(ArrayImage(picture(), 0.5).overview(200)).save(stored, "JPEG", quality=40)
    assert looks_like(open_image(slide), stored.getvalue())


def row(store: Store, **values: object) -> pd.Series:
    return store.slides().set_index("slide_id", drop=False).iloc[0].copy().pipe(lambda one: one.where(~one.index.isin(values), pd.Series(values, dtype=object)))  # fmt: skip


def test_a_store_that_names_a_strangers_slide_shows_its_overview_instead(slide, tmp_path) -> None:
    store = toy_store(tmp_path, n_slides=1)
    named = row(store, image_uri=str(slide), width_px=SIZE[0], height_px=SIZE[1])
    if store.overview(named["slide_id"]) is None:
        with pytest.raises(QueryError, match="no overview of it is stored"):
            slide_picture(store, named)
    else:
        assert not is_whole(slide_picture(store, named))


def test_an_overview_that_is_a_bomb_is_refused(tmp_path, monkeypatch) -> None:
    store = toy_store(tmp_path, n_slides=1)
    big = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(big, "JPEG")
    monkeypatch.setattr(Store, "overview", lambda *_: big.getvalue())
    with pytest.raises(QueryError, match="20000 x 20000 px; at most"):
        slide_picture(store, row(store, image_uri=""))


# ---- tables --------------------------------------------------------------------------------------


def with_thumbnails(store: Store, blobs: list[Blob | bytes]) -> None:
    """Replace a store's spots by the same with other thumbnails, as a stranger could write them."""
    path = store.path / "spots.lance"
    table = store._tables.table("spots").to_table().drop_columns("thumbnail")
    column = blob_array([one if isinstance(one, Blob) else Blob.from_bytes(one) for one in blobs])
    shutil.rmtree(path)
    made = lance.write_dataset(
        table.append_column("thumbnail", column),
        str(path),
        enable_stable_row_ids=True,
        data_storage_version="2.2",
        allow_external_blob_outside_bases=True,
    )
    newest = sorted((store.path / "versions").glob("*.json"))[-1]
    values = json.loads(newest.read_text())
    values["tables"]["spots"] = made.version
    newest.write_text(json.dumps(values))


def test_a_thumbnail_that_is_a_file_of_this_machine_is_not_read(tmp_path) -> None:
    store = toy_store(tmp_path, n_slides=1, n_spots=10)
    secret = tmp_path / "secret.txt"
    secret.write_text("top secret")
    with_thumbnails(store, [*[b"\xff\xd8"] * 9, Blob.from_uri(secret.as_uri())])
    opened = Store.open(store.path)
    assert lance.dataset(store.path / "spots.lance").read_blobs("thumbnail", indices=[9])[0][1] == b"top secret"  # fmt: skip
    assert opened.thumbnails(opened.rows()[:9]) == [b"\xff\xd8"] * 9
    with pytest.raises(StoreError, match=r"lies outside it, at 'file://.*secret.txt'"):
        opened.thumbnails(opened.rows())


def test_a_table_with_files_elsewhere_is_not_opened(tmp_path) -> None:
    store = toy_store(tmp_path, n_slides=1, n_spots=10)
    other = toy_store(tmp_path / "private", n_slides=1, n_spots=10)
    version = json.loads(sorted((store.path / "versions").glob("*.json"))[-1].read_text())["tables"]["labels"]  # fmt: skip
    shutil.rmtree(store.path / "labels.lance")
    lance.dataset(other.path / "labels.lance").shallow_clone(str(store.path / "labels.lance"), version)  # fmt: skip
    versions = [one["version"] for one in lance.dataset(store.path / "labels.lance").versions()]
    newest = sorted((store.path / "versions").glob("*.json"))[-1]
    values = json.loads(newest.read_text())
    values["tables"]["labels"] = versions[-1]
    newest.write_text(json.dumps(values))
    with pytest.raises(StoreError, match="has files outside the store"):
        Store.open(store.path)


@pytest.mark.parametrize("name", ["../../private", "/etc", "a/b", "..", "", "a\\b", "C:x", "a\0b"])
def test_an_encoder_whose_name_is_a_path_is_refused(name, tmp_path) -> None:
    store = empty_store(tmp_path)
    newest = sorted((store.path / "versions").glob("*.json"))[-1]
    values = json.loads(newest.read_text())
    values["encoders"] = {name: next(iter(values["encoders"].values()))}
    newest.write_text(json.dumps(values))
    with pytest.raises(StoreError, match="which is no name of a folder"):
        Store.open(store.path)


def test_a_damaged_table_is_a_store_error_and_not_lances(tmp_path) -> None:
    store = empty_store(tmp_path)
    change(store, ("add", "S1", 1))
    for path in (store.path / "spots.lance" / "data").rglob("*.lance"):
        path.write_bytes(path.read_bytes()[:-40] + b"LANC" + bytes(36))
    with pytest.raises(StoreError, match="Table 'spots' of the store cannot be read"):
        Store.open(store.path).vectors("image")


def test_an_index_lies_below_its_store(tmp_path) -> None:
    store = empty_store(tmp_path)
    assert index_folder(store, "image").is_relative_to(store.path)


# ---- numbers as text -----------------------------------------------------------------------------


def test_a_number_that_ends_pandas_is_none() -> None:
    values = pd.Series(["1e2147483648", "2.5", "x", None, "1e-99999", "3e8"], dtype=object)
    np.testing.assert_array_equal(to_numeric(values), [np.nan, 2.5, np.nan, np.nan, np.nan, 3e8])
    assert to_numeric(pd.Series([1, 2])).tolist() == [1, 2]
    assert to_numeric(pd.Series(["1", "2"])).dtype == np.int64
