"""Processes that are killed while they change a store or its index, readers meanwhile, and small disks."""

import multiprocessing
import shutil
import subprocess
import time
from functools import partial

import numpy as np
import pytest

from stamp_index.errors import StampIndexError
from stamp_index.index import Index, build_index, doctor, fold_index, has_index
from stamp_index.store import Store
from stamp_index.store.doctor import mend
from tests.index_world import (
    RECIPES,
    THOROUGH,
    assert_answers,
    assert_same_hits,
    change,
    made,
    random_step,
    slow_search,
    unit,
)
from tests.store_world import after, empty_store

KILLS = 110
# Processes are forked from one that has imported everything, but has not opened a store: a start costs little.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lance", "pandas", "scipy.sparse", "faiss", "tests.index_world"])
STORE_STEPS = ("add", "replace", "delete")


def held_after(held, step):
    return after(held, step) if step[0] in STORE_STEPS else held


def write(path, seed, number, told):
    """Change a store and its index until killed; tell each step before and after."""
    store = Store.open(path)
    held = dict.fromkeys(store.slides()["slide_id"])
    rng = np.random.default_rng(seed)
    while True:
        step = random_step(rng, held, number)
        told.send(step)
        change(store, step)
        told.send("done")
        held = held_after(held, step)
        number += 1


def heard(pipe, held):
    """What the store holds by the steps that were told as done, and the step that may be done as well."""
    step = None
    while pipe.poll():
        try:
            said = pipe.recv()
        except EOFError:
            break
        if said == "done":
            held, step = held_after(held, step), None
        else:
            step = said
    return held, step


def vectors_of(held):
    parts = [np.zeros((0, 8), np.float32), *(made(*one).image for one in held.items())]
    return np.concatenate(parts).astype(np.float16)


@pytest.mark.slow
def test_no_kill_loses_what_was_acknowledged_or_makes_an_answer_wrong(tmp_path):
    path = empty_store(tmp_path).path
    held, interrupted = {}, []
    rng = np.random.default_rng(0)
    for kill in range(KILLS):
        ours, theirs = FORKS.Pipe()
        writer = FORKS.Process(target=write, args=(path, kill, 100 * (kill + 1), theirs))
        writer.start()
        theirs.close()
        assert ours.poll(60)  # it has begun
        time.sleep(rng.uniform(0, 0.7))
        writer.kill()
        writer.join()
        held, step = heard(ours, held)
        interrupted += [] if step is None else [step[0]]
        store = Store.open(path)
        possible = [held] if step is None else [held, held_after(held, step)]
        found = store.vectors("image")
        fits = [one for one in possible if np.array_equal(vectors_of(one), found)]
        assert fits, (store.slides()["slide_id"].tolist(), held, step)
        held = fits[0]
        assert_answers(store, kill)
        if kill % 25 == 24:
            mend(path)
            doctor.mend(path)
            assert doctor.examine(path) == []
            assert_answers(Store.open(path), kill)
    assert len(interrupted) > KILLS // 2
    assert {"build", "fold", "add"} <= set(interrupted), interrupted


def read(path, done, told):
    """Search again and again, by an index that is kept open and by one that is opened anew."""
    kept, n_seen, generations = None, 0, set()
    while not done.is_set():
        store = Store.open(path)
        if not has_index(store, "image"):
            continue
        queries = unit(2, n_seen)
        fresh = Index.open(store, "image")
        kept = fresh if kept is None else kept
        for index in (fresh, kept):
            index.store.refresh()
            index.refresh()
            found = index.search(queries, 8, settings=THOROUGH)
            try:
                assert_same_hits(found, slow_search(index.store, queries, 8))
            except AssertionError as exc:
                told.send(f"version {index.store.version}: {exc}")
                return
        generations.add(kept._state.generation.folder.name)
        n_seen += 1
    told.send((n_seen, len(generations)))


@pytest.mark.slow
def test_readers_go_over_to_new_indexes_without_an_error_or_a_wrong_answer(tmp_path):
    store = empty_store(tmp_path)
    done = FORKS.Event()
    ours, theirs = FORKS.Pipe()
    reader = FORKS.Process(target=read, args=(store.path, done, theirs))
    reader.start()
    theirs.close()
    rng, held = np.random.default_rng(1), {}
    for number in range(60):
        step = random_step(rng, held, number)
        change(store, step)
        held = held_after(held, step)
    done.set()
    assert ours.poll(60)
    seen = ours.recv()
    reader.join()
    assert isinstance(seen, tuple), seen
    assert seen[0] > 10
    assert seen[1] > 3


def add_and_fold(path, name, told):
    store = Store.open(path)
    for number in range(6):
        change(store, ("add", f"{name}{number}", 10 * number + ord(name)))
        change(store, ("build", "ivf_sq8") if number == 3 else ("fold",))
    told.send("done")


@pytest.mark.slow
def test_two_writers_at_once_lose_nothing(tmp_path):
    store = empty_store(tmp_path)
    change(store, ("add", "S", 1))
    build_index(store, "image", RECIPES["flat"])
    ours, theirs = FORKS.Pipe()
    writers = [FORKS.Process(target=add_and_fold, args=(store.path, name, theirs)) for name in "AB"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    store.refresh()
    names = {"S", *(f"{name}{number}" for name in "AB" for number in range(6))}
    assert set(store.slides()["slide_id"]) == names
    assert_answers(store, 0)
    assert doctor.examine(store.path) == []


# ---- small disks ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own of one and a half megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    size = "size=1536k"
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: that takes the rights of root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)  # maps of it may be open still


def refusal_of(work):
    """Words of the error that some work ends with, or nothing."""
    try:
        work()
    except StampIndexError as exc:
        return [str(exc)]
    return []


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_everything_goes_on_when_there_is_room(small_disk):
    store = empty_store(small_disk)
    held = {"S0": 0, "S1": 1, "S2": 2}
    for slide, seed in held.items():
        change(store, ("add", slide, seed))
    build_index(store, "image", RECIPES["ivf_sq8"])
    ballast, refused = small_disk / "ballast", []
    for number, left in enumerate((0, 2_000, 8_000, 16_000, 30_000, 60_000, 100_000)):
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(free - left, 0)))
        slide, seed = f"N{number}", 100 + number
        refused += refusal_of(partial(change, store, ("add", slide, seed)))
        refused += refusal_of(partial(fold_index, store, "image"))
        refused += refusal_of(partial(build_index, store, "image", RECIPES["ivf_sq8"]))
        ballast.unlink()
        store = Store.open(store.path)
        there = store.slides()["slide_id"].tolist()
        held |= {slide: seed} if slide in there else {}
        assert there == list(held)
        np.testing.assert_array_equal(store.vectors("image"), vectors_of(held))
        assert_answers(store, number)
    assert len(refused) > 6
    assert all("cannot be written" in text or "No space left" in text for text in refused), refused
    fold_index(store, "image")
    build_index(store, "image", RECIPES["ivf_sq8"])
    mend(store.path)
    doctor.mend(store.path)
    assert_answers(Store.open(store.path), 99)
    assert doctor.examine(store.path) == []
