"""Building: resumed after a kill, bounded memory, the same index however it was filled."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import Engine, Settings, build, building, files, read_index
from stamp_index.index.engine.memory import share_out
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.engine.training import sample_rows, train
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import as_float32
from stamp_index.index.recipes import FlatRecipe, IvfPqRecipe
from tests.engine_world import RECIPES, ROOT, clustered

VECTORS = clustered().astype(np.float16)
KINDS = pytest.mark.parametrize("kind", RECIPES)

# Builds, and kills itself before the write number `sys.argv[4]` is renamed into place.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from stamp_index.index.engine import build, building, files
from stamp_index.index.faiss_library import load_faiss
from tests.engine_world import RECIPES

load_faiss().omp_set_num_threads(1)
building._SHARD_ROWS, building._MOST_SHARDS, building._GRAPH_ROWS = 1_500, 99, 500
written, flush = 0, files.flush

def counted(path):
    global written
    if path.suffix == ".new":
        if written == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
        written += 1
    flush(path)

files.flush = counted
build(np.load(sys.argv[1], mmap_mode="r"), RECIPES[sys.argv[2]], Path(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(building, "_SHARD_ROWS", 1_500)
    monkeypatch.setattr(building, "_MOST_SHARDS", 99)
    monkeypatch.setattr(building, "_GRAPH_ROWS", 500)
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # a graph depends on the order of threads
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "v.npy"
    np.save(path, VECTORS)
    return path


def lists_of(index):
    """Ids and codes of every inverted list."""
    faiss, lists = load_faiss(), inner_lists(index)
    out = []
    for number in range(lists.nlist):
        size = lists.invlists.list_size(number)
        ids = faiss.rev_swig_ptr(lists.invlists.get_ids(number), size).copy()
        codes = faiss.rev_swig_ptr(lists.invlists.get_codes(number), size * lists.code_size).copy()
        out.append((ids, codes))
    return out


@KINDS
def test_what_is_left_in_the_end_is_the_index_and_its_plan(tmp_path, kind):
    index = build(VECTORS, RECIPES[kind], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "plan.json"]
    assert index.ntotal == len(VECTORS)
    assert read_index(tmp_path / "index.faiss").ntotal == len(VECTORS)


@pytest.mark.parametrize("kind", ["ivf_pq", "ivf_sq8"])
def test_joined_shards_hold_what_a_single_fill_holds(tmp_path, kind):
    joined = build(VECTORS, RECIPES[kind], tmp_path)
    single = train(VECTORS, RECIPES[kind], n_sample=len(VECTORS))
    single.add(as_float32(VECTORS))
    for (ids, codes), (wanted_ids, wanted_codes) in zip(
        lists_of(joined), lists_of(single), strict=True
    ):
        np.testing.assert_array_equal(ids, wanted_ids)
        np.testing.assert_array_equal(codes, wanted_codes)


def test_packed_codes_give_the_scores_of_a_single_fill(tmp_path):
    packed = build(VECTORS, RECIPES["ivf_rabitq"], tmp_path)
    single = train(VECTORS, RECIPES["ivf_rabitq"], n_sample=len(VECTORS))
    single.add(as_float32(VECTORS))
    queries = clustered(20, seed=4)
    settings = Settings(64, 5_000)
    for mine, other in zip(
        Engine(packed, VECTORS).search(queries, 50, settings=settings),
        Engine(single, VECTORS).search(queries, 50, settings=settings),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    ("kind", "writes"),
    [
        *[("ivf_pq", writes) for writes in (0, 1, 3, 5)],
        *[("ivf_rabitq", writes) for writes in (2, 5)],
        ("ivf_sq8", 4),
        *[("hnsw_sq8", writes) for writes in (1, 2, 3)],
    ],
)
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path, mapped, kind, writes):
    build(np.load(mapped, mmap_mode="r"), RECIPES[kind], tmp_path / "whole")
    work = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(mapped), kind, str(work), str(writes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (work / "index.faiss").exists()
    kept = {path.name for path in work.glob("[!.]*.faiss")}
    assert len(kept) == (writes if kind != "hnsw_sq8" else min(writes, 2))
    untouched = {path: path.stat().st_mtime_ns for path in work.glob("[!.]*.faiss")}
    seen = []

    def watch(stage, done, total):
        del done, total
        seen.append(stage)
        for path, when in untouched.items():
            if path.exists():
                assert path.stat().st_mtime_ns == when  # used, not made again

    build(np.load(mapped, mmap_mode="r"), RECIPES[kind], work, progress=watch)
    assert ("train" in seen) == (writes == 0)
    whole = (tmp_path / "whole" / "index.faiss").read_bytes()
    assert (work / "index.faiss").read_bytes() == whole
    assert sorted(path.name for path in work.iterdir()) == ["index.faiss", "plan.json"]


@pytest.mark.slow
def test_a_build_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, mapped):
    rng = np.random.default_rng(0)
    build(np.load(mapped, mmap_mode="r"), RECIPES["ivf_sq8"], tmp_path / "whole")
    whole = (tmp_path / "whole" / "index.faiss").read_bytes()
    command = [sys.executable, "-c", KILLED, str(mapped), "ivf_sq8", str(tmp_path / "w"), "99"]
    n_kills = 0
    while n_kills < 12:
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=rng.uniform(0.3, 1.5))
        except subprocess.TimeoutExpired:
            n_kills += 1
            process.kill()
        process.communicate()
        if process.returncode == 0:
            assert (tmp_path / "w" / "index.faiss").read_bytes() == whole
            for path in (tmp_path / "w").iterdir():
                path.unlink()
    build(np.load(mapped, mmap_mode="r"), RECIPES["ivf_sq8"], tmp_path / "w")
    assert (tmp_path / "w" / "index.faiss").read_bytes() == whole


def test_a_finished_build_is_read_not_made_again(tmp_path):
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path)
    before = (tmp_path / "index.faiss").stat().st_mtime_ns
    stages = []
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path, progress=lambda *said: stages.append(said))
    assert stages == []
    assert (tmp_path / "index.faiss").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["rows", "recipe", "seed", "leave_out", "half a plan"])
def test_another_build_in_the_same_folder_starts_over(tmp_path, change):
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path)
    rest = {"seed": 1} if change == "seed" else {}
    if change == "leave_out":
        rest = {"leave_out": np.arange(9)}
    if change == "half a plan":
        (tmp_path / "plan.json").write_text('{"recipe": ')
    vectors = clustered(seed=1).astype(np.float16) if change == "rows" else VECTORS
    recipe = RECIPES["ivf_pq" if change == "recipe" else "ivf_sq8"]
    stages = []
    build(vectors, recipe, tmp_path, progress=lambda *said: stages.append(said[0]), **rest)
    assert stages[0] == "train"


def test_progress_counts_every_row(tmp_path):
    said = []
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path, progress=lambda *args: said.append(args))
    assert said[0] == ("train", 0, 6_000)
    assert said[1] == ("train", 6_000, 6_000)
    assert [args for args in said if args[0] == "fill"] == [
        ("fill", stop, 6_000) for stop in (1_500, 3_000, 4_500, 6_000)
    ]
    assert said[-1] == ("write", 6_000, 6_000)


def test_flat_needs_no_files(tmp_path):
    assert build(VECTORS, FlatRecipe(), tmp_path / "w") is None
    assert not (tmp_path / "w").exists()


# ---- memory --------------------------------------------------------------------------------------


def test_memory_bounds_the_sample_and_the_blocks():
    recipe = IvfPqRecipe()
    free = share_out(recipe, 10**6, 512, None)
    assert free.sample_rows == 160_000
    bound = share_out(recipe, 10**6, 512, 1_230 * 2**20)
    assert 39 * 4_000 <= bound.sample_rows < free.sample_rows
    assert 4 * 4 * 512 * bound.sample_rows <= 1_230 * 2**20
    tight = share_out(recipe, 10**6, 32, 90 * 2**20)
    assert tight.block_rows < free.block_rows * 512 // 32


def test_what_cannot_fit_is_refused_with_numbers():
    with pytest.raises(
        AnnIndexError, match=r"1,000,000 vectors of 512 .* 1,219 MiB .*; 300 MiB are"
    ):
        share_out(IvfPqRecipe(), 10**6, 512, 300 * 2**20)


def test_a_bounded_build_gives_an_index_as_good(tmp_path):
    recipe = IvfPqRecipe(opq_rounds=1, nlist=32)
    index = build(VECTORS, recipe, tmp_path, max_memory_bytes=2 * 2**20)
    assert index.ntotal == len(VECTORS)


# ---- training ------------------------------------------------------------------------------------


def test_training_rows_are_sorted_distinct_and_leave_out_the_queries():
    queries = np.array([5, 17, 900, -1, 17])
    rows = sample_rows(1_000, 300, seed=3, leave_out=queries)
    assert len(rows) == 300
    assert np.array_equal(rows, np.unique(rows))
    assert not np.isin(rows, queries).any()
    assert np.array_equal(rows, sample_rows(1_000, 300, seed=3, leave_out=queries))
    assert not np.array_equal(rows, sample_rows(1_000, 300, seed=4, leave_out=queries))
    assert len(sample_rows(1_000, 5_000, seed=0, leave_out=queries)) == 997


def test_training_is_the_same_for_the_same_seed():
    faiss = load_faiss()
    one, two, other = (
        faiss.serialize_index(train(VECTORS, RECIPES["ivf_pq"], n_sample=4_000, seed=seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


# ---- files ---------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path, monkeypatch):
    index = build(VECTORS, RECIPES["ivf_sq8"], tmp_path)
    before = (tmp_path / "index.faiss").read_bytes()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(AnnIndexError, match="No space left on device.*Free disk space"):
        files.write_index(index, tmp_path / "index.faiss")
    assert (tmp_path / "index.faiss").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "plan.json"]


# Writes an index where a file may have a few bytes less than it needs: what is left in a buffer finds no room.
CUT_SHORT = """
import resource, sys
from pathlib import Path
from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import read_index
from stamp_index.index.engine.files import write_index

index = read_index(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_index(index, Path(sys.argv[2]))
except AnnIndexError as exc:
    print(exc)
"""


@pytest.mark.parametrize("missing", [1, 100, 50_000])
def test_bytes_that_find_no_room_when_a_file_is_closed_are_told(tmp_path, missing):
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path)
    path = tmp_path / "index.faiss"
    limit = str(path.stat().st_size - missing)
    command = [sys.executable, "-c", CUT_SHORT, str(path), str(tmp_path / "copy"), limit]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "copy cannot be written ([Errno 27] File too large). Put right what" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "plan.json"]


def test_written_bytes_are_those_of_faiss(tmp_path):
    faiss = load_faiss()
    for kind, recipe in RECIPES.items():
        index = build(VECTORS, recipe, tmp_path / kind)
        faiss.write_index(index, str(tmp_path / "plain"))
        mine = (tmp_path / kind / "index.faiss").read_bytes()
        assert mine == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left"), r"left\)\. Free disk space and try again"),
        (OSError(errno.EDQUOT, "Quota exceeded"), r"exceeded\)\. Free disk space and try again"),
        (
            PermissionError(errno.EACCES, "denied", "/a/b"),
            r"denied: '/a/b'\)\. Put right what this",
        ),
        (OSError(errno.EROFS, "Read-only"), r"Read-only\)\. Put right what this says and try"),
        (RuntimeError("Error: 'x' failed: Error: no codes"), r"\(no codes\)\. Put right what"),
    ],
    ids=["full", "quota", "permission", "read-only", "faiss"],
)
def test_only_a_full_disk_is_told_to_be_full(error, said):
    with pytest.raises(AnnIndexError, match=f"^x cannot be written .*{said}"):
        raise AnnIndexError(files.cannot_write("x", error))


def test_a_truncated_file_is_refused(tmp_path):
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path)
    path = tmp_path / "index.faiss"
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(
        AnnIndexError, match=r"index\.faiss cannot be read .* Build the index again"
    ):
        read_index(path)
    with pytest.raises(AnnIndexError, match=r"none\.faiss cannot be read"):
        read_index(tmp_path / "none.faiss")
