"""Writers that do not see each other's locks: what holds is the version that is created once."""

from __future__ import annotations

import json
import pickle
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from lance.commit import CommitConflictError

from stamp_index.errors import DuplicateSlideError, StoreBusyError, StoreError
from stamp_index.store import Store
from stamp_index.store.adding import _append
from stamp_index.store.housekeeping import _compact
from stamp_index.store.local_place import LocalPlace
from stamp_index.store.schema import TABLES
from stamp_index.store.transaction import OvertakenError, Transaction, transact
from tests.store_world import CARD, assert_is, empty_store, made


class Unlocked(LocalPlace):
    """A folder whose writers do not wait for each other, as on machines whose locks fail."""

    @contextmanager
    def writing(self, timeout_s):
        yield


@pytest.fixture
def store(tmp_path):
    store = empty_store(tmp_path)
    store.add(made("S0", 0))
    return store


def drafted(store, *names):
    return [store.draft(made(name, int(name[1:]))) for name in names]


def test_a_writer_that_was_overtaken_on_a_table_is_told_and_leaves_the_other_whole(store):
    one, other = drafted(store, "S1", "S2")
    slow = Transaction(store.place)
    slow.append("spots", one.fragments("spots"))
    store.add_draft(other)  # takes back what the slow one wrote, and goes on
    with pytest.raises((OvertakenError, CommitConflictError)):
        slow.append("spots", one.fragments("spots"))
    assert_is(store, {"S0": 0, "S2": 2})


def test_of_two_that_get_through_one_creates_the_version_and_the_other_is_told(store):
    one, other = drafted(store, "S1", "S2")
    slow = Transaction(store.place)
    slow.commit = lambda *args, **kwargs: None  # everything but the version
    _append(slow, one, instead=False)
    del slow.commit
    store.add_draft(other)
    with pytest.raises(OvertakenError, match="Version 3 .* written by another process"):
        slow.commit("added S1", n_slides=2)
    assert_is(store, {"S0": 0, "S2": 2})
    store.add_draft(one)  # its files are still there
    assert_is(store, {"S0": 0, "S2": 2, "S1": 1})


def before_and_after(store, step):
    """Begin a compaction, have somebody else take a step, and go on."""
    slow = Transaction(store.place)
    for name in TABLES:
        slow.table(name)
    step()
    for name in TABLES:
        slow.rewrite_table(name, lambda table: table.optimize.compact_files())


def half_added(store, draft):
    """Another writer that has got as far as the spots."""
    Transaction(store.place).append("spots", draft.fragments("spots"))


def half_filled(store):
    """Another writer that has got as far as the columns of another encoder."""
    table = Transaction(store.place).table("spots")
    table.add_columns(pa.schema([pa.field("other", pa.float32())]))


@pytest.mark.parametrize("step", ["added", "half added", "half filled", "deleted"])
def test_a_compaction_beside_which_somebody_wrote_is_taken_back(store, step):
    store.add(made("S1", 1))
    (draft,) = drafted(store, "S2")
    steps = {
        "added": lambda: store.add_draft(draft),
        "half added": lambda: half_added(store, draft),
        "half filled": lambda: half_filled(store),
        "deleted": lambda: store.delete("S1"),
    }
    with pytest.raises((OvertakenError, OSError), match="wrote to table|commit conflict"):
        before_and_after(store, steps[step])
    there = {"S0": 0, "S1": 1, "S2": 2}
    there = {name: there[name] for name in store.slides()["slide_id"]}
    assert_is(store, there)
    store.compact()
    if "S2" not in there:
        store.add_draft(draft)
        there["S2"] = 2
    assert_is(store, there)


def test_a_writer_that_a_compaction_overtook_adds_its_slide_once(store):
    """The compaction takes what is half written for rows of the store, if it does not look."""
    store.add(made("S1", 1))
    (draft,) = drafted(store, "S2")
    compaction = Transaction(store.place)
    for name in TABLES:
        compaction.table(name)
    other = Transaction(store.place)
    other.append("spots", draft.fragments("spots"))
    with pytest.raises(OvertakenError, match="wrote to table 'spots'"):
        _compact(compaction)
    Store.open(Unlocked(store.path)).compact()  # as who is overtaken does
    other.append("expression", draft.fragments("expression"))
    with pytest.raises(OvertakenError, match="written by another process"):
        other.commit("added S2")
    store.add_draft(draft)
    assert_is(store, {"S0": 0, "S1": 1, "S2": 2})


def test_writers_without_any_lock_lose_nothing_and_double_nothing(tmp_path):
    """Threads that never wait for each other; each slide is also offered by a second thread."""
    path = empty_store(tmp_path).path
    names = [f"S{number}" for number in range(1, 13)]
    refused: list[str] = []

    def write(mine):
        store = Store.open(Unlocked(path))
        for name in mine:
            try:
                store.add(made(name, int(name[1:])))
            except DuplicateSlideError:
                refused.append(name)

    threads = [
        threading.Thread(target=write, args=(names[at::3] + names[at::4],)) for at in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store.open(path)
    order = store.slides()["slide_id"].tolist()
    assert sorted(order) == sorted(names)
    assert_is(store, {name: int(name[1:]) for name in order})
    offered = [name for at in range(4) for name in names[at::3] + names[at::4]]
    assert sorted([*refused, *names]) == sorted(offered)


def test_a_step_that_is_always_overtaken_ends_and_says_so(store, monkeypatch):
    monkeypatch.setattr("stamp_index.store.transaction._ATTEMPTS", 3)
    monkeypatch.setattr("stamp_index.store.transaction._PAUSE_S", 0.0)
    tried = []

    def step(change):
        tried.append(change.before.version)
        raise OvertakenError("somebody was quicker")

    with pytest.raises(StoreBusyError, match=r"wrote to the store .* 3 times"):
        transact(store.place, 1.0, step)
    assert tried == [2, 2, 2]


# ---- drafts ------------------------------------------------------------------------------------


def test_a_draft_is_seen_by_nobody_and_can_be_added_elsewhere(store):
    draft = store.draft(made("S1", 1))
    assert_is(Store.open(store.path), {"S0": 0})
    elsewhere = Store.open(store.path)
    elsewhere.add_draft(pickle.loads(pickle.dumps(draft)))
    assert_is(elsewhere, {"S0": 0, "S1": 1})


def test_a_draft_is_added_once(store):
    draft = store.draft(made("S1", 1))
    store.add_draft(draft)
    with pytest.raises(DuplicateSlideError, match="'S1' is in the store"):
        store.add_draft(draft)
    assert_is(store, {"S0": 0, "S1": 1})


def test_clean_up_leaves_drafts_alone_while_somebody_says_that_there_are_some(store):
    with store.drafting():
        draft = store.draft(made("S1", 1))
        Store.open(store.path).clean_up()
        store.add_draft(draft)
    assert_is(store, {"S0": 0, "S1": 1})


def test_a_draft_whose_files_were_cleaned_up_is_refused_by_name(store):
    draft = store.draft(made("S1", 1))
    store.clean_up()
    with pytest.raises(
        StoreError, match=r"draft of slide 'S1' cannot be added: its file .*\.lance is gone"
    ):
        store.add_draft(draft)
    assert_is(store, {"S0": 0})


def test_a_draft_from_before_another_encoder_came_is_added_without_its_vectors(store):
    draft = store.draft(made("S1", 1))
    name = store.add_encoder(replace(CARD, name="later", fingerprint="1111", dim=4))
    store.add_draft(draft)
    assert_is(store, {"S0": 0, "S1": 1})
    later = Store.open(store.path, encoder=name)
    assert not later.has_vector("image").any()


def test_a_slide_that_is_refused_leaves_no_files(store):
    def files():
        return sorted(path.name for path in store.path.rglob("data/*.lance"))

    before = files()
    with pytest.raises(DuplicateSlideError):
        store.add(made("S0", 0))
    assert files() == before


def test_a_draft_replaces_a_slide_and_keeps_what_people_said(store):
    store.annotate("S0", "region", ["a"] * store.n_spots, author="Ana")
    again = made("S0", 0)
    draft = store.draft(again, replace=True)
    store.add_draft(draft, replace=True)
    assert store.label("region").tolist() == ["a"] * again.slide.n_spots
    np.testing.assert_array_equal(store.vectors("gene"), again.gene.astype(np.float16))


def test_a_draft_whose_file_was_cut_off_is_refused_and_the_store_stays_whole(store):
    draft = store.draft(made("S1", 1))
    (store.path / "spots.lance" / "data" / draft.fragments("spots")[0].files[0].path).write_bytes(
        b"x"
    )
    with pytest.raises(
        StoreError, match=r"has 1 bytes instead of \d+ in the store.*Embed the slide"
    ):
        store.add_draft(draft)
    assert_is(Store.open(store.path), {"S0": 0})


@pytest.mark.parametrize("address", ["S3://bucket/a", "s3:///a", "s3:bucket/a", "http://h/a", "file:///a", "s3://"])  # fmt: skip
def test_an_address_that_is_none_becomes_no_folder(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"is no address of a store; expected s3://BUCKET"):
        Store.create(address, CARD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": float("inf")},
        {"n_rows": 10**30},
        {"tables": {"slides": 10**30, "spots": 1, "expression": 1, "labels": 1}},
        {"encoders": {"vec": CARD.to_dict() | {"dim": 800_000_000}}},
        {"encoders": {"vec": CARD.to_dict() | {"dim": None}}},
    ],
)
def test_a_version_with_numbers_that_no_store_has_is_refused(store, change):
    path = store.path / "versions" / "00000002.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match="is not a readable store version"):
        Store.open(store.path)
