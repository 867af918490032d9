"""Stores in object storage: as in a folder, with several writers, with kills, and with nothing secret in what is said."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import threading
import time
import traceback
from datetime import timedelta

import numpy as np
import pytest

from stamp_index.errors import DuplicateSlideError, StoreBusyError, StoreError
from stamp_index.remote.addresses import address_of, is_address
from stamp_index.remote.redacted import redacted
from stamp_index.store import Store
from stamp_index.store.doctor import examine
from stamp_index.store.places import place_of
from stamp_index.store.reading import open_table
from tests.s3_world import SECRET, environment, make_bucket, s3_server
from tests.store_world import CARD, after, assert_is, change, made, random_step

obstore = pytest.importorskip("obstore", reason="object storage needs the package obstore")
pytest.importorskip("moto", reason="the S3 server of the tests is moto")

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lance", "pandas", "scipy.sparse", "obstore", "tests.store_world"])


@pytest.fixture(scope="module")
def port():
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(port, tmp_path, monkeypatch, request):
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "cache"))
    digest = abs(hash(request.node.name)) % 10**9
    return make_bucket(port, f"b{digest}-{os.getpid()}")


@pytest.fixture
def store(bucket):
    return Store.create(f"{bucket}/a/store", CARD)


def test_every_change_is_as_in_a_folder(store):
    rng, held = np.random.default_rng(5), {}
    for number in range(9):
        step = random_step(rng, held, number)
        change(store, step)
        held = after(held, step)
        assert_is(store, held)
    assert_is(Store.open(store.place), held)
    assert_is(Store.open(store.path), held)  # its local copy leads there
    assert examine(store.place) == []


def test_there_is_one_store_at_an_address(store, bucket):
    with pytest.raises(StoreError, match=r"something at s3://.*/a/store already"):
        Store.create(f"{bucket}/a/store", CARD)
    with pytest.raises(StoreError, match=r"There is no store at s3://.*/nowhere"):
        Store.open(f"{bucket}/nowhere")


def test_a_making_that_was_killed_leaves_no_place_that_can_be_neither_made_nor_opened(
    bucket, monkeypatch, tmp_path
):
    from stamp_index.store import creating, remote_lock

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr(remote_lock, "LEASE_S", 0.5)
    address = f"{bucket}/a/store"
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.json").write_text("{}")
    for last in (creating.write_manifest, creating.copy_checkpoint):
        with monkeypatch.context() as patch:
            patch.setattr(creating, last.__name__, die)
            patch.setattr(remote_lock._Lease, "give_back", lambda *_: None)
            with pytest.raises(Killed):
                Store.create(address, CARD, checkpoint=checkpoint)
        with pytest.raises(StoreError, match="There is no store at"):
            Store.open(address)
    store = Store.create(address, CARD, checkpoint=checkpoint)
    store.add(made("S1", 1))
    assert_is(Store.open(address), {"S1": 1})
    assert (store.encoder_path / "model.json").read_text() == "{}"
    assert examine(store.place) == []


def test_of_two_who_make_a_store_at_once_one_does(bucket):
    address, outcomes = f"{bucket}/a/store", []

    def create():
        try:
            outcomes.append(Store.create(address, CARD))
        except StoreError as exc:
            outcomes.append(str(exc))

    threads = [threading.Thread(target=create) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    said = [one for one in outcomes if isinstance(one, str)]
    assert len(outcomes) == 3
    assert len(said) == 2
    assert all("something at" in one for one in said)
    store = Store.open(address)
    store.add(made("S1", 1))
    assert_is(Store.open(address), {"S1": 1})


@pytest.mark.parametrize("first", ["awake", "asleep"])
def test_a_maker_that_slept_through_its_lease_harms_no_store(bucket, monkeypatch, first):
    """Another makes one meanwhile, with another encoder; whichever creates version 1 has the store."""
    from dataclasses import replace

    from stamp_index.store import creating, remote_lock

    monkeypatch.setattr(remote_lock, "LEASE_S", 0.4)
    monkeypatch.setattr(remote_lock._Lease, "keep", lambda *_: None)  # nothing beats
    address, told = f"{bucket}/a/store", {}
    pause = {name: (threading.Event(), threading.Event()) for name in ("asleep", "awake")}
    write = creating.write_manifest

    def sleepy(*what):
        reached, go_on = pause[threading.current_thread().name]
        reached.set()
        assert go_on.wait(30)
        write(*what)

    monkeypatch.setattr(creating, "write_manifest", sleepy)

    def create(card):
        try:
            told[threading.current_thread().name] = Store.create(address, card)
        except StoreError as exc:
            told[threading.current_thread().name] = str(exc)

    other = replace(CARD, name="other", dim=2 * CARD.dim, fingerprint="f" * 12)
    cards = {"asleep": other, "awake": other, first: CARD}
    threads = {
        name: threading.Thread(target=create, args=(cards[name],), name=name)
        for name in ("asleep", "awake")
    }
    for name, thread in threads.items():
        thread.start()
        assert pause[name][0].wait(30)
    for name in (first, "awake" if first == "asleep" else "asleep"):
        pause[name][1].set()
        threads[name].join(60)
    second = told["awake" if first == "asleep" else "asleep"]
    assert "Somebody else made a store at" in second
    store = Store.open(address)
    assert list(store.encoders) == [CARD.name]
    store.add(made("S1", 1))
    assert_is(Store.open(address), {"S1": 1})
    assert examine(store.place) == []


def test_a_prefix_with_something_else_is_left_alone(bucket):
    obstore.put(place_of(f"{bucket}/a/store")._objects, "slides.csv", b"mine")
    with pytest.raises(StoreError, match="something at"):
        Store.create(f"{bucket}/a/store", CARD)


def test_a_version_is_created_once_also_where_an_answer_was_lost(store):
    place = store.place
    place.create_version(7, "seven")
    place.create_version(7, "seven")  # the request was repeated
    with pytest.raises(FileExistsError):
        place.create_version(7, "another seven")


def test_young_versions_stay_as_nobody_knows_who_reads_them(store):
    for number in range(3):
        store.add(made(f"S{number}", number))
    assert store.clean_up(keep=1) == 0
    assert Store.open(store.place, version=2).n_spots == made("S0", 0).slide.n_spots


def test_a_connection_that_breaks_as_a_version_is_created_is_told_as_what_it_is(store, monkeypatch):
    put = obstore.put

    def broken(objects, path, text, *, mode):
        if path.startswith("versions/"):
            put(objects, path, text, mode=mode)
            raise obstore.exceptions.GenericError("connection reset")
        return put(objects, path, text, mode=mode)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", broken)
        with pytest.raises(StoreError, match=r"Whether version 2 .* written is not known.*reset"):
            store.add(made("S1", 1))
    assert_is(Store.open(store.place), {"S1": 1})


def test_a_version_stays_for_its_time_after_another_took_its_place_however_old_it_is(
    store, monkeypatch
):
    from stamp_index.store import remote_place

    store.add(made("S1", 1))
    time.sleep(2.1)  # S3 tells times to the second
    store.add(made("S2", 2))
    monkeypatch.setattr(remote_place, "RETAINED", timedelta(seconds=2))
    assert store.clean_up(keep=1) == 1  # the empty one; the next was the newest until just now
    assert store.versions == [2, 3]
    assert_is(Store.open(store.place, version=2), {"S1": 1})


def test_what_a_writer_left_in_a_table_stays_for_as_long(store, monkeypatch):
    from stamp_index.store import remote_place
    from stamp_index.store.transaction import Transaction

    def table_versions():
        return [one["version"] for one in open_table(store.place, "spots").versions()]

    draft = store.draft(made("S1", 1))
    Transaction(store.place).append("spots", draft.fragments("spots"))
    store.add(made("S2", 2))
    before = table_versions()
    store.clean_up()
    assert table_versions() == before
    store.add_draft(draft)  # its files are there
    monkeypatch.setattr(remote_place, "RETAINED", timedelta(0))
    store.clean_up()
    assert len(table_versions()) == 1
    assert_is(Store.open(store.place), {"S2": 2, "S1": 1})


# ---- several writers ---------------------------------------------------------------------------


def write(address, names, told, variables):
    """Add slides, some of which others add too; tell of each that was acknowledged."""
    os.environ.update(variables)
    store = Store.open(address)
    for name in names:
        try:
            store.add(made(name, int(name[1:])))
            told.send(name)
        except DuplicateSlideError:
            continue
    told.send("end")


def heard(pipe):
    said = []
    while pipe.poll():
        try:
            said.append(pipe.recv())
        except EOFError:
            break
    return said


@pytest.mark.slow
def test_four_writers_of_which_some_are_killed_lose_nothing_and_double_nothing(
    store, port, tmp_path
):
    variables = environment(port) | {"STAMP_INDEX_CACHE": str(tmp_path / "cache")}
    names = [f"S{number}" for number in range(24)]
    rng = np.random.default_rng(0)
    acknowledged: list[str] = []

    def start(at):
        ours, theirs = FORKS.Pipe()
        mine = [*names[at::4], *names[at::3]]  # half of them are offered by another too
        process = FORKS.Process(target=write, args=(str(store.place), mine, theirs, variables))
        process.start()
        theirs.close()
        return ours, process

    running = {at: start(at) for at in range(4)}
    for kill in range(3):
        time.sleep(rng.uniform(0.5, 2.0))
        pipe, process = running[kill]
        process.kill()
        process.join()
        acknowledged += heard(pipe)
        running[kill] = start(kill)  # goes on with what is not there
    for pipe, process in running.values():
        process.join(120)
        assert process.exitcode == 0
        said = heard(pipe)
        assert said[-1] == "end"
        acknowledged += said[:-1]
    left = Store.open(store.place)
    order = left.slides()["slide_id"].tolist()
    assert sorted(order) == sorted(names)  # nothing lost, nothing doubled
    assert len(acknowledged) == len(set(acknowledged))  # nobody was told twice
    assert_is(left, {name: int(name[1:]) for name in order})


def test_a_writer_that_is_gone_keeps_the_others_waiting_for_the_lease_only(store, monkeypatch):
    from stamp_index.store import remote_lock

    monkeypatch.setattr(remote_lock, "LEASE_S", 0.5)
    gone = remote_lock._Lease(store.place._objects, store.place.name)
    gone.take(0)  # and never keeps it alive
    store.add(made("S1", 1), lock_timeout_s=20)
    assert_is(store, {"S1": 1})
    gone.give_back()  # it is not its own any more
    store.add(made("S2", 2))


@pytest.mark.parametrize("when", ["it is taken", "it is kept alive"])
def test_a_lease_outlives_an_answer_that_was_lost(store, monkeypatch, when):
    """The request arrived, and whoever sent it does not know."""
    from stamp_index.store import remote_lock

    monkeypatch.setattr(remote_lock, "LEASE_S", 0.4)
    put, lost = obstore.put, []

    def lossy(objects, path, text, *, mode):
        done = put(objects, path, text, mode=mode)
        if path == "writer.json" and not lost and (mode == "create") == (when == "it is taken"):
            lost.append(path)
            return put(objects, path, text, mode=mode)  # as clients repeat what was not answered
        return done

    monkeypatch.setattr(obstore, "put", lossy)
    with store.place.writing(0.3):
        time.sleep(1.2)
        assert lost
        with pytest.raises(StoreBusyError), store.place.writing(0.3):
            pass


def test_a_writer_that_is_there_is_named_to_who_waits(store):
    with (
        store.place.writing(1.0),
        pytest.raises(StoreBusyError, match=rf"written by process {os.getpid()} on"),
    ):
        store.add(made("S1", 1), lock_timeout_s=0.2)
    store.add(made("S1", 1))


def test_a_writer_that_slept_through_its_lease_neither_loses_nor_doubles(store, monkeypatch):
    """It wakes after another took the lease over, in the middle of its step."""
    from stamp_index.store import remote_lock, transaction

    monkeypatch.setattr(remote_lock, "LEASE_S", 0.4)
    monkeypatch.setattr(remote_lock._Lease, "keep", lambda *_: None)  # nothing beats
    asleep, awake = threading.Event(), threading.Event()
    append = transaction.Transaction.append

    def sleepy(change, name, part):
        if (
            threading.current_thread().name == "sleeper"
            and name == "labels"
            and not asleep.is_set()
        ):
            asleep.set()
            awake.wait(30)
        return append(change, name, part)

    monkeypatch.setattr(transaction.Transaction, "append", sleepy)
    other = Store.open(store.place)
    sleeper = threading.Thread(target=store.add, args=(made("S1", 1),), name="sleeper")
    sleeper.start()
    assert asleep.wait(30)
    other.add(made("S2", 2))
    other.add(made("S3", 3))
    awake.set()
    sleeper.join(60)
    left = Store.open(store.place)
    order = left.slides()["slide_id"].tolist()
    assert order == ["S2", "S3", "S1"]
    assert_is(left, {name: int(name[1:]) for name in order})


# ---- folders -----------------------------------------------------------------------------------


def push(store, files):
    folder = store.path / "indexes" / "x"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    store.place.push("indexes/x")
    return folder


def read(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def elsewhere(store, monkeypatch, tmp_path):
    """The same store as another machine sees it, with a cache of its own."""
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "other"))
    return Store.open(str(store.place))


def test_a_folder_arrives_as_it_was_written_and_again_after_a_change(store, monkeypatch, tmp_path):
    files = {"CURRENT": "g-1", "g-1/card.json": "{}", "vectors.f16": "v" * 1000}
    push(store, files)
    other = elsewhere(store, monkeypatch, tmp_path)
    assert read(other.place.fetch("indexes/x")) == files
    before = {p.name: p.stat().st_ino for p in other.path.rglob("*") if p.is_file()}
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "cache"))
    changed = {"CURRENT": "g-2", "g-2/card.json": "{2}", "vectors.f16": "v" * 1000}
    push(store, changed)
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "other"))
    assert read(other.place.fetch("indexes/x")) == changed
    kept = {p.name: p.stat().st_ino for p in other.path.rglob("*") if p.is_file()}
    assert kept["vectors.f16"] == before["vectors.f16"]  # it was not fetched again


def test_a_local_file_that_somebody_changed_is_fetched_again(store, monkeypatch, tmp_path):
    push(store, {"a.txt": "as written"})
    other = elsewhere(store, monkeypatch, tmp_path)
    folder = other.place.fetch("indexes/x")
    (folder / "a.txt").write_text("as somebody left it")
    assert read(other.place.fetch("indexes/x")) == {"a.txt": "as written"}


def test_clean_up_removes_old_objects_that_no_folder_has(store, monkeypatch):
    from stamp_index.store import remote_place

    def objects():
        listed = obstore.list(store.place._objects, prefix="objects").collect()
        return {one["path"] for one in listed}

    push(store, {"a.txt": "first", "b.txt": "stays"})
    before = objects()
    push(store, {"a.txt": "second", "b.txt": "stays"})
    store.clean_up()
    assert len(objects()) == 3  # somebody may be fetching the first still
    monkeypatch.setattr(remote_place, "RETAINED", timedelta(seconds=-1))
    store.add(made("S1", 1))
    store.clean_up()
    assert len(objects()) == 2
    assert len(objects() & before) == 1
    assert Store.open(store.place).n_spots == made("S1", 1).slide.n_spots


def objects_of(store):
    listed = obstore.list(store.place._objects, prefix="objects").collect()
    return {one["path"]: one["last_modified"] for one in listed}


def test_an_object_that_was_dropped_just_now_stays_however_old_it_is(store, monkeypatch):
    from stamp_index.store import remote_folders

    age, aged = remote_folders._age, set()
    monkeypatch.setattr(
        remote_folders, "_age", lambda one: age(one) + timedelta(days=8 * (one["path"] in aged))
    )

    def sweep():
        remote_folders.sweep_objects(store.place._objects, timedelta(days=7))
        return set(objects_of(store))

    push(store, {"a.txt": "first"})
    (old,) = objects_of(store)
    aged.add(old)
    push(store, {"a.txt": "second"})
    assert old in sweep()  # who read the listing before is fetching it
    aged.add(old.replace("objects", "dropped"))
    assert len(sweep()) == 1
    assert old not in sweep()
    assert obstore.list(store.place._objects, prefix="dropped").collect() == []


def test_an_object_that_nobody_names_is_written_anew_before_it_is_named(store, monkeypatch):
    from stamp_index.store import remote_folders

    push(store, {"a.txt": "first", "b.txt": "stays"})
    before = objects_of(store)
    push(store, {"b.txt": "stays"})
    monkeypatch.setattr(remote_folders, "_YOUNG", timedelta(0))
    time.sleep(1.1)  # times of the storage are in seconds
    push(store, {"a.txt": "first", "b.txt": "stays"})
    after = objects_of(store)
    assert (
        sum(before[one] < after[one] for one in before) == 1
    )  # what its listing names is not sent again


def test_a_sweep_in_the_middle_of_a_push_takes_nothing_that_is_named_after_it(
    store, monkeypatch, tmp_path
):
    from stamp_index.store import remote_folders

    files = {"CURRENT": "g-1", "vectors.f16": "v" * 100}
    put = obstore.put

    def put_late(objects, path, *rest, **more):
        if path.startswith("folders/"):
            remote_folders.sweep_objects(objects, timedelta(seconds=-1))
        return put(objects, path, *rest, **more)

    monkeypatch.setattr(obstore, "put", put_late)
    push(store, files)
    other = elsewhere(store, monkeypatch, tmp_path)
    assert read(other.place.fetch("indexes/x")) == files


def test_who_fetches_what_another_process_fetches_waits_for_it(store, monkeypatch, tmp_path):
    from stamp_index.store import remote_folders

    files = {"CURRENT": "g-1", "vectors.f16": "v" * 100}
    push(store, files)
    other = elsewhere(store, monkeypatch, tmp_path)
    begun, go_on = threading.Event(), threading.Event()
    fetch = remote_folders._fetch

    def slowly(*what):
        begun.set()
        assert go_on.wait(30)
        fetch(*what)

    monkeypatch.setattr(remote_folders, "_fetch", slowly)
    first = threading.Thread(target=other.place.fetch, args=("indexes/x",))
    first.start()
    assert begun.wait(30)
    monkeypatch.setattr(remote_folders, "_FETCH_WAIT_S", 0.2)
    with pytest.raises(StoreBusyError, match=r"local copy .* waited 0\.2 s"):
        other.place.fetch("indexes/x")
    monkeypatch.setattr(remote_folders, "_FETCH_WAIT_S", 30.0)
    threading.Timer(0.3, go_on.set).start()
    assert read(other.place.fetch("indexes/x")) == files
    first.join(30)


def test_a_folder_that_somebody_builds_in_is_not_touched(store, monkeypatch, tmp_path):
    from stamp_index.index.folder import builder

    push(store, {"CURRENT": "g-1"})
    other = elsewhere(store, monkeypatch, tmp_path)
    with builder(other.path / "indexes" / "x"):
        assert read(other.place.fetch("indexes/x")) == {}
    assert read(other.place.fetch("indexes/x")) == {"CURRENT": "g-1"}


def test_an_object_that_is_gone_is_named(store, monkeypatch, tmp_path):
    push(store, {"a.txt": "as written"})
    (gone,) = objects_of(store)
    obstore.delete(store.place._objects, gone)
    other = elsewhere(store, monkeypatch, tmp_path)
    with pytest.raises(StoreError, match=r"a\.txt of x is not in the storage any more"):
        other.place.fetch("indexes/x")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda objects, one: obstore.delete(objects, one), r"a.txt of folders/indexes/x.json is gone"),
        (lambda objects, one: obstore.put(objects, one, b"as"), r"a.txt .* has 2 bytes instead of 10"),
        (lambda objects, _: obstore.put(objects, "folders/indexes/x.json", b"[" * 200_000), "is no listing of a folder"),
    ],
)  # fmt: skip
def test_the_doctor_tells_of_folders_that_cannot_be_fetched(store, damage, said):
    push(store, {"a.txt": "as written"})
    (one,) = [one["path"] for one in obstore.list(store.place._objects, prefix="objects").collect()]
    assert examine(store.place) == []
    damage(store.place._objects, one)
    (found,) = examine(store.place)
    assert found.kind == "damage"
    assert re.search(said, found.text)


@pytest.mark.parametrize("cache", ["a file", "/proc/nope", "/dev/null", "x" * 300])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(
    store, cache, monkeypatch, tmp_path
):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / cache))
    with pytest.raises(StoreError, match=r"cannot be written .* Set STAMP_INDEX_CACHE to a folder"):
        Store.open(str(store.place)).place.fetch("indexes/x")


def test_a_store_that_lost_its_versions_is_not_written_over(store):
    store.add(made("S1", 1))
    for one in obstore.list(store.place._objects, prefix="versions").collect():
        obstore.delete(store.place._objects, one["path"])
    with pytest.raises(StoreError, match="There is something at"):
        Store.create(str(store.place), CARD)


def test_an_object_that_is_not_what_its_listing_says_is_refused(store, monkeypatch, tmp_path):
    push(store, {"a.txt": "as written"})
    objects = [
        one["path"] for one in obstore.list(store.place._objects, prefix="objects").collect()
    ]
    obstore.put(store.place._objects, objects[0], b"damaged!!!")
    other = elsewhere(store, monkeypatch, tmp_path)
    with pytest.raises(StoreError, match=r"a.txt of x arrived with 10 bytes and checksum"):
        other.place.fetch("indexes/x")
    assert read(other.path / "indexes" / "x") == {}


@pytest.mark.parametrize(
    "listing",
    [
        {"files": {"../../evil": [1, "00" * 32]}},
        {"files": {"/etc/evil": [1, "00" * 32]}},
        {"files": {"a\\b": [1, "00" * 32]}},
        {"files": {"": [1, "00" * 32]}},
        {"files": {"a" * 3000: [1, "00" * 32]}},
        {"files": {"\ud800": [1, "00" * 32]}},
        {"files": {"a": [1, "00" * 32], "a/b": [1, "00" * 32]}},
        {"files": {"a": [-1, "00" * 32]}},
        {"files": {"a": [1, "../secret"]}},
        {"files": {"a": [1]}},
        {"files": ["a"]},
        {},
        [],
    ],
)
def test_a_listing_that_was_made_by_a_stranger_is_refused(store, listing, tmp_path):
    obstore.put(store.place._objects, "folders/indexes/x.json", json.dumps(listing).encode())
    with pytest.raises(StoreError, match=r"folders/indexes/x\.json (names a file|is no listing)"):
        store.place.fetch("indexes/x")
    assert list(tmp_path.rglob("evil")) == []


# ---- addresses and secrets ---------------------------------------------------------------------


def test_an_address_survives_a_path_and_a_folder_is_no_address(tmp_path):
    from pathlib import Path

    assert address_of(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert is_address(Path("gs://bucket/a"))
    assert not is_address(tmp_path)
    assert not is_address("s3")
    assert place_of(str(tmp_path)).name == str(tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        f"s3://key:{SECRET}@bucket/a",
        f"s3://bucket/a?X-Amz-Signature={SECRET}",
        "s3://bucket/a#part",
        "s3://bucket/a b",
    ],
)
def test_an_address_with_more_than_bucket_and_prefix_is_refused_and_not_repeated(
    address, monkeypatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(StoreError, match="is no address of a store") as error:
        place_of(address)
    assert SECRET not in str(error.value)


def test_a_storage_that_cannot_be_reached_says_so_without_secrets(bucket, monkeypatch):
    with pytest.raises(
        StoreError, match=r"object storage of s3://no-such-bucket/a could not be used"
    ) as error:
        Store.open("s3://no-such-bucket/a")
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "error", [OSError("PUT {url} refused"), ValueError("LanceError(IO): PUT {url} refused")]
)
def test_what_lance_says_of_a_refusal_is_told_without_secrets(store, error, monkeypatch):
    import lance.fragment

    def refuse(*_, **__):
        url = f"https://s3/x?X-Amz-Signature={SECRET}"
        raise type(error)(str(error).format(url=url))

    monkeypatch.setattr(lance.fragment, "write_fragments", refuse)
    with pytest.raises(StoreError, match=r"could not be written \(.*refused\)") as caught:
        store.add(made("S1", 1))
    shown = "".join(traceback.format_exception(caught.value))
    assert "X-Amz-Signature" not in shown
    monkeypatch.setattr(lance, "write_dataset", refuse)
    with pytest.raises(StoreError, match="No store can be made") as caught:
        Store.create(f"{store.place}-2", CARD)
    assert "X-Amz-Signature" not in "".join(traceback.format_exception(caught.value))


def test_secrets_are_taken_out_of_messages(monkeypatch):
    monkeypatch.setenv("AZURE_SAS_TOKEN", "sv=1&sig=abcdef")
    text = "PUT https://u:p@host/x?X-Amz-Signature=12 with sv=1&sig=abcdef failed"
    assert redacted(text) == "PUT https://...@host/x?... with ... failed"


def test_a_folder_of_a_stranger_does_not_lead_elsewhere(tmp_path):
    (tmp_path / "ADDRESS").write_text("s3://somebody/else\n")
    assert place_of(tmp_path).name == str(tmp_path)
