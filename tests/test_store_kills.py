"""Writers that are killed at random moments, and readers while others write."""

import multiprocessing
import time

import numpy as np
import pytest

from stamp_index.store import Store
from stamp_index.store.doctor import examine, mend
from tests.store_world import after, assert_is, change, empty_store, random_step

KILLS = 100
# Processes are forked from one that has imported everything, but has not opened a store: a start costs little.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lance", "pandas", "scipy.sparse", "tests.store_world"])


def write(path, seed, number, told):
    """Change a store until killed; tell each step before and after."""
    store = Store.open(path)
    held = dict.fromkeys(store.slides()["slide_id"])
    rng = np.random.default_rng(seed)
    while True:
        step = random_step(rng, held, number)
        told.send(step)
        change(store, step)
        told.send("done")
        held = after(held, step)
        number += 1


def read(path, done, told):
    """Open a store again and again, and look whether what is seen is whole."""
    seen = 0
    while not done.is_set():
        store = Store.open(path)
        said = dict(zip(store.slides()["slide_id"], store.slides()["notes"], strict=True))
        n_spots = store.slides()["n_spots"].sum()
        if not len(store.spots()) == len(store.vectors("image")) == n_spots == store.n_spots:
            told.send(f"version {store.version} is not whole: {said}")
            return
        store.expression(store.genes)
        seen += 1
    told.send(seen)


def heard(pipe, held):
    """What the store holds by the steps that were told as done, and the step that may be done as well."""
    step = None
    while pipe.poll():
        try:
            said = pipe.recv()
        except EOFError:
            break
        if said == "done":
            held, step = after(held, step), None
        else:
            step = said
    return held, step


def held_by(store, held, step):
    """Which of both the store shows: without the last step or with it."""
    both = [held, held if step is None else after(held, step)]
    slides = store.slides()["slide_id"].tolist()
    counts = dict(zip(slides, store.slides()["content_hash"], strict=True))
    assert slides in [list(one) for one in both], (slides, both)
    fits = [one for one in both if list(one) == slides]
    if len(fits) == 2 and fits[0] != fits[1]:  # the same slides, one of them perhaps replaced
        return fits[0] if counts == contents(fits[0]) else fits[1]
    return fits[0]


def contents(held):
    from stamp_index.store.rows import content_hash
    from tests.store_world import made

    return {slide: content_hash(made(slide, seed).slide) for slide, seed in held.items()}


@pytest.mark.slow
def test_no_kill_loses_what_was_acknowledged_or_shows_a_half(tmp_path):
    path = empty_store(tmp_path).path
    held, interrupted = {}, 0
    rng = np.random.default_rng(0)
    for kill in range(KILLS):
        ours, theirs = FORKS.Pipe()
        writer = FORKS.Process(target=write, args=(path, kill, 100 * (kill + 1), theirs))
        writer.start()
        theirs.close()
        assert ours.poll(60)  # it has begun
        time.sleep(rng.uniform(0, 0.4))
        writer.kill()
        writer.join()
        held, step = heard(ours, held)
        interrupted += step is not None
        store = Store.open(path)
        held = held_by(store, held, step)
        assert_is(store, held)
        if kill % 20 == 19:
            mend(path)
            assert examine(path) == []
            assert_is(Store.open(path), held)
        if len(held) > 12:  # keep the comparison short
            store.delete(*list(held)[:6])
            held = dict(list(held.items())[6:])
    assert interrupted > KILLS // 2


@pytest.mark.slow
def test_a_reader_sees_whole_versions_only_while_others_change_the_store(tmp_path):
    store = empty_store(tmp_path)
    done = FORKS.Event()
    ours, theirs = FORKS.Pipe()
    reader = FORKS.Process(target=read, args=(store.path, done, theirs))
    reader.start()
    rng, held = np.random.default_rng(1), {}
    for number in range(60):
        step = random_step(rng, held, number)
        change(store, step)
        held = after(held, step)
    done.set()
    seen = ours.recv()
    reader.join()
    assert isinstance(seen, int), seen
    assert seen > 10
    assert_is(store, held)
