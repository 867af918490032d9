"""Slides that lie in object storage: read through a cache of bounded size, and known again."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stamp_index.embed.add import add_slides
from stamp_index.embed.manifest import entries_of
from stamp_index.errors import ImageFormatError, SlideError
from stamp_index.readers import read
from stamp_index.remote import slide_copies
from stamp_index.remote.objects import open_objects
from stamp_index.remote.slide_copies import SlideCopy, origin_of
from stamp_index.slides.stored import open_stored
from tests.public_files import write_encoder
from tests.s3_world import environment, make_bucket, s3_server
from tests.space_ranger_run import Run

obstore = pytest.importorskip("obstore", reason="object storage needs the package obstore")
pytest.importorskip("moto", reason="the S3 server of the tests is moto")


@pytest.fixture(scope="module")
def port():
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(port, tmp_path, monkeypatch, request):
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAMP_INDEX_CACHE_GB", raising=False)
    return make_bucket(port, f"s{abs(hash(request.node.name)) % 10**9}-{os.getpid()}")


def send(folder, address):
    """Send a folder, or bytes as one object."""
    parent, _, name = address.rpartition("/")
    objects = open_objects(parent)
    if isinstance(folder, bytes):
        obstore.put(objects, name, folder)
        return
    for path in folder.rglob("*"):
        if path.is_file():
            obstore.put(objects, f"{name}/{path.relative_to(folder).as_posix()}", path)


@pytest.fixture
def slide(tmp_path, bucket):
    run = Run(tmp_path / "run")
    run.write_h5()
    send(run.path, f"{bucket}/slides/S1")
    return run.path, f"{bucket}/slides/S1"


def copies(tmp_path):
    return sorted((tmp_path / "cache" / "slides").glob("*/.origin.json"))


def test_a_folder_is_copied_once_and_again_when_it_has_changed(slide, tmp_path):
    here, address = slide
    copy = SlideCopy.of(address)
    assert copy.path.name == "S1"
    for path in here.rglob("*"):
        if path.is_file():
            assert (copy.path / path.relative_to(here)).read_bytes() == path.read_bytes()
    inode = (copy.path / "spatial").stat().st_ino
    assert (SlideCopy.of(address).path / "spatial").stat().st_ino == inode
    assert len(copies(tmp_path)) == 1
    send(b"new", f"{address}/spatial/more.txt")
    assert (SlideCopy.of(address).path / "spatial" / "more.txt").read_bytes() == b"new"


def test_a_copy_is_named_by_where_it_came_from(slide, tmp_path):
    _, address = slide
    copy = SlideCopy.of(address)
    assert origin_of(copy.path) == address
    assert origin_of(copy.path / "spatial" / "x.json") == f"{address}/spatial/x.json"
    assert origin_of(tmp_path / "run") == str(tmp_path / "run")
    assert origin_of("") == ""


def test_a_slide_is_added_from_its_address_and_known_again(slide, tmp_path):
    here, address = slide
    encoder = write_encoder(tmp_path / "encoder", read(here).genes)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"path,organ\n{address},liver\n")
    store, (outcome,) = add_slides(tmp_path / "store", entries_of([manifest]), encoder_path=encoder)
    assert (outcome.state, outcome.reason) == ("added", "")
    row = store.slides().iloc[0]
    assert row["organ"] == "liver"
    assert row["source"].startswith(address)
    assert row["image_uri"].startswith(f"{address}/")
    assert "cache" not in row["provenance"]
    held = {path.name for path in copies(tmp_path)}
    _, (again,) = add_slides(store.path, entries_of([manifest]))
    assert (again.state, again.reason) == ("there", "its files have not changed")
    assert {path.name for path in copies(tmp_path)} == held
    send(b"{}", f"{address}/spatial/scalefactors_json.json")
    _, (changed,) = add_slides(store.path, entries_of([manifest]))
    assert changed.state == "failed"  # it was read again


def test_what_was_read_longest_ago_goes_when_the_cache_is_full(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(2500 / 1e9))
    for name in "abcd":
        send(name.encode() * 1000, f"{bucket}/{name}.svs")
    kept = SlideCopy.of(f"{bucket}/a.svs")
    for name in "bcd":
        path = SlideCopy.of(f"{bucket}/{name}.svs").path
        assert path.read_bytes() == name.encode() * 1000
        gc.collect()
    assert kept.path.is_file()  # somebody reads it
    assert not path.with_name("b.svs").exists()
    assert len(copies(tmp_path)) == 2


def test_a_slide_that_does_not_fit_beside_what_is_read_is_refused(bucket, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(1500 / 1e9))
    for name in "ab":
        send(name.encode() * 1000, f"{bucket}/{name}.svs")
    kept = SlideCopy.of(f"{bucket}/a.svs")
    with pytest.raises(SlideError, match=r"b\.svs has 1e-06 GB; the cache .* STAMP_INDEX_CACHE_GB"):
        SlideCopy.of(f"{bucket}/b.svs")
    assert kept.path.is_file()


# ---- several processes ---------------------------------------------------------------------------


def in_the_middle_of_a_copy(monkeypatch, do):
    """Have something done when the first copy has begun."""
    get, todo = obstore.get, [do]

    def get_late(*what):
        if todo:
            todo.pop()()
        return get(*what)

    monkeypatch.setattr(obstore, "get", get_late)


def test_of_two_who_copy_the_same_slide_the_first_keeps_what_it_reads(
    bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(2500 / 1e9))
    for name in "abc":
        send(name.encode() * 1000, f"{bucket}/{name}.svs")
    first = []
    in_the_middle_of_a_copy(monkeypatch, lambda: first.append(SlideCopy.of(f"{bucket}/a.svs")))
    second = SlideCopy.of(f"{bucket}/a.svs")
    assert second.path == first[0].path
    assert len(copies(tmp_path)) == 1
    del second
    gc.collect()
    for name in "bc":  # there is room for one of them
        SlideCopy.of(f"{bucket}/{name}.svs")
        gc.collect()
        assert first[0].path.read_bytes() == b"a" * 1000


def test_two_copies_at_once_pass_the_limit_no_more_than_one_after_the_other(bucket, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(1500 / 1e9))
    for name in "ab":
        send(name.encode() * 1000, f"{bucket}/{name}.svs")
    told = []

    def other():
        with pytest.raises(SlideError, match=r"b\.svs has 1e-06 GB; the cache") as error:
            SlideCopy.of(f"{bucket}/b.svs")
        told.append(str(error.value))

    in_the_middle_of_a_copy(monkeypatch, other)
    assert SlideCopy.of(f"{bucket}/a.svs").path.is_file()
    assert len(told) == 1


KILLED = """
import os, sys
import obstore
from stamp_index.remote.slide_copies import SlideCopy
obstore.get = lambda *_: os._exit(9)
SlideCopy.of(sys.argv[1])
"""


def drafts(tmp_path):
    return [path for path in (tmp_path / "cache" / "slides").glob(".*") if path.is_dir()]


def test_what_a_killed_process_was_copying_goes(bucket, tmp_path):
    send(b"a" * 1000, f"{bucket}/a.svs")
    address = f"{bucket}/a.svs"
    assert subprocess.run([sys.executable, "-c", KILLED, address], check=False).returncode == 9
    assert len(drafts(tmp_path)) == 1
    assert SlideCopy.of(address).path.read_bytes() == b"a" * 1000
    assert drafts(tmp_path) == []


def test_a_slide_that_does_not_fit_at_all_takes_no_other_ones_place(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(1500 / 1e9))
    for name, size in (("a", 1000), ("b", 2000)):
        send(b"x" * size, f"{bucket}/{name}.svs")
    SlideCopy.of(f"{bucket}/a.svs")
    gc.collect()
    with pytest.raises(SlideError, match=r"b\.svs has 2e-06 GB"):
        SlideCopy.of(f"{bucket}/b.svs")
    assert len(copies(tmp_path)) == 1


@pytest.mark.parametrize("now", [None, b"x" * 5000])
def test_an_object_that_changes_while_it_is_copied_is_refused(bucket, tmp_path, monkeypatch, now):
    address = f"{bucket}/a.svs"
    send(b"a" * 1000, address)
    listed = slide_copies._listed

    def change(where):
        found = listed(where)
        objects = open_objects(bucket)
        obstore.delete(objects, "a.svs") if now is None else obstore.put(objects, "a.svs", now)
        return found

    monkeypatch.setattr(slide_copies, "_listed", change)
    with pytest.raises(SlideError, match="changed while it was copied"):
        SlideCopy.of(address)
    assert list((tmp_path / "cache" / "slides").glob("*/*")) == []


PLAY = """
import random, sys
from stamp_index.remote.slide_copies import SlideCopy
from stamp_index.errors import SlideError
rng = random.Random(sys.argv[2])
for _ in range(12):
    name = rng.choice("abc")
    try:
        copy = SlideCopy.of(f"{sys.argv[1]}/{name}")
    except SlideError as exc:
        assert "being read" in str(exc), exc
        continue
    for part in range(3):
        assert (copy.path / f"{part}.bin").read_bytes() == name.encode() * 500
    del copy
"""


def test_processes_that_share_a_cache_that_is_too_small_read_whole_slides(bucket, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", str(3100 / 1e9))  # of 4500
    for name in "abc":
        for part in range(3):
            send(name.encode() * 500, f"{bucket}/{name}/{part}.bin")
    players = [subprocess.Popen([sys.executable, "-c", PLAY, bucket, str(n)]) for n in range(3)]
    assert [player.wait(60) for player in players] == [0, 0, 0]


@pytest.mark.parametrize("limit", ["many", "5 GB", "nan", "inf", "-1"])
def test_a_limit_that_is_no_number_is_refused(bucket, monkeypatch, limit):
    monkeypatch.setenv("STAMP_INDEX_CACHE_GB", limit)
    send(b"x", f"{bucket}/a.svs")
    with pytest.raises(SlideError, match="expected a number of gigabytes"):
        SlideCopy.of(f"{bucket}/a.svs")


def test_nothing_at_an_address_is_told_as_that_slides_failure(bucket, tmp_path, slide):
    here, _ = slide
    encoder = write_encoder(tmp_path / "encoder", read(here).genes)
    entries = entries_of([f"{bucket}/missing", here])
    _, outcomes = add_slides(tmp_path / "store", entries, encoder_path=encoder)
    assert [one.state for one in outcomes] == ["failed", "added"]
    assert f"{bucket}/missing has no objects" in outcomes[0].reason
    assert outcomes[0].path == f"{bucket}/missing"


def test_objects_that_would_lie_outside_of_the_copy_are_refused(bucket, tmp_path):
    client = pytest.importorskip("boto3").client("s3")
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="s/../../evil", Body=b"x")
    with pytest.raises(Exception, match=r"no name of a file|could not be used|no objects"):
        SlideCopy.of(f"{bucket}/s")
    assert list(tmp_path.rglob("evil")) == []


def test_an_image_is_opened_from_the_stores_own_bucket_and_no_other(
    bucket, port, tmp_path, monkeypatch
):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    other = make_bucket(port, f"other-{os.getpid()}")
    for place in (bucket, other):
        send(buffer.getvalue(), f"{place}/slides/a.png")
    seen = open_stored(f"{bucket}/slides/a.png", (48, 64), None, f"{bucket}/store")
    np.testing.assert_array_equal(seen.read_box(0, 0, (48, 64), (48, 64)), np.asarray(image))
    for store in (f"{bucket}/store", str(tmp_path)):
        with pytest.raises(ImageFormatError, match="neither in the store's own bucket nor below"):
            open_stored(f"{other}/slides/a.png", (48, 64), None, store)
    monkeypatch.setenv("STAMP_INDEX_IMAGE_ADDRESSES", f"s3://x, {other}/slides")
    assert open_stored(f"{other}/slides/a.png", (48, 64), None, str(tmp_path)).size_px == (48, 64)
    with pytest.raises(ImageFormatError, match="the store says 50 x 64"):
        open_stored(f"{other}/slides/a.png", (50, 64), None, str(tmp_path))
