"""Writers that are killed, and writers that meet."""

import signal
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pytest

from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("spots", "expression", "labels", "slides")  # in the order of writing

# Adds a slide and kills itself after `sys.argv[2]` tables; 4 is before the version file.
KILLED = """
import os, signal, sys
from stamp_index.store import Store, transaction
from tests.support import toy_rows, toy_slide

written, append = 0, transaction.Transaction.append

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(*args):
    global written
    if written == int(sys.argv[2]):
        die()
    written += 1
    return append(*args)

transaction.Transaction.append = counted
transaction.write_manifest = lambda *args: die()
Store.open(sys.argv[1]).add(toy_rows(toy_slide("killed", 15, 50)))
"""

# Adds one slide as soon as the file `sys.argv[3]` is there.
ADDER = """
import sys, time
from pathlib import Path
from stamp_index.store import Store
from tests.support import toy_rows, toy_slide

store = Store.open(sys.argv[1])
rows = toy_rows(toy_slide(sys.argv[2], 10, int(sys.argv[4])))
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
store.add(rows)
"""


def child(code, *arguments):
    """Start a Python process that can import the tests."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    """Exit status and what it wrote to stderr."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


def assert_holds(store, slides):
    """Check that the store's rows are those of `slides` and no others, in every table."""
    assert store.slides()["slide_id"].tolist() == [slide.slide_id for slide in slides]
    assert store.spots()["spot_id"].tolist() == [spot for s in slides for spot in s.spot_ids]
    gene = np.concatenate([toy_rows(slide).gene for slide in slides]).astype(np.float16)
    np.testing.assert_array_equal(store.vectors("gene"), gene)
    dense = np.concatenate([slide.counts.toarray() for slide in slides])
    np.testing.assert_array_equal(store.counts(slides[0].genes), dense)
    np.testing.assert_array_equal(store.sparse_counts().toarray(), dense)
    thumbnails = [jpeg for slide in slides for jpeg in toy_rows(slide).thumbnails]
    assert store.thumbnails(store.rows()) == thumbnails


def newest_rows(path):
    """Rows of each Lance table at its newest version, whether the store shows it or not."""
    return [lance.dataset(str(path / f"{name}.lance")).count_rows() for name in TABLES]


@pytest.mark.parametrize("tables_written", [0, 1, 2, 3, 4])
def test_a_killed_writer_leaves_the_old_version_and_the_next_add_is_right(tmp_path, tables_written):
    first, second = toy_slide("S1", 10, 0), toy_slide("S2", 12, 1)
    reader = toy_store(tmp_path, slides=[first])
    status, errors = finish(child(KILLED, reader.path, tables_written))
    assert status == -signal.SIGKILL, errors
    orphans = [10 + 15, 60 + 60, 1 + 1, 1 + 1]
    clean = [10, 60, 1, 1]
    assert newest_rows(reader.path) == orphans[:tables_written] + clean[tables_written:]

    store = Store.open(reader.path)
    assert store.version == 2
    assert_holds(store, [first])
    assert store.add(toy_rows(second)) == 3
    assert_holds(store, [first, second])
    assert_holds(Store.open(store.path), [first, second])
    assert_holds(Store.open(store.path, version=2), [first])
    assert_holds(reader, [first])
    assert newest_rows(store.path) == [22, 120, 2, 2]
    # the killed slide was never added, so it can be
    killed = toy_slide("killed", 15, 50)
    store.add(toy_rows(killed))
    assert_holds(store, [first, second, killed])


def test_two_processes_that_add_at_the_same_time_both_land(tmp_path):
    store = Store.create(tmp_path / "store", EncoderCard.of(ToyEncoder()))
    start = tmp_path / "start"
    writers = [child(ADDER, store.path, f"S{seed}", start, seed) for seed in (1, 2)]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    start.touch()
    assert [finish(writer) for writer in writers] == [(0, ""), (0, "")]
    assert store.refresh() == 3
    order = store.slides()["slide_id"].tolist()
    assert sorted(order) == ["S1", "S2"]
    assert_holds(store, [toy_slide(name, 10, int(name[1:])) for name in order])


def test_a_store_object_that_lags_behind_adds_to_the_newest_version(tmp_path):
    one = toy_store(tmp_path, slides=[toy_slide("S1", 10, 0)])
    other = Store.open(one.path)
    assert one.add(toy_rows(toy_slide("S2", 10, 1))) == 3
    assert other.version == 2
    assert other.add(toy_rows(toy_slide("S3", 10, 2))) == 4
    assert_holds(other, [toy_slide(f"S{i + 1}", 10, i) for i in range(3)])
