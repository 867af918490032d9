"""Indexes whose lists a crew fills: the same bytes as of one process, whoever dies meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.cli import main
from stamp_index.crew import open_crew
from stamp_index.errors import AnnIndexError, CrewError
from stamp_index.index import Fillers, Index, build_index, index_folder, read_card
from stamp_index.index.engine import Engine, Settings, build, building, crewed
from stamp_index.index.engine.adding import add_block
from stamp_index.index.engine.crewed import MappedRows, PartFiller
from stamp_index.index.engine.partial import Part, cut, fill_part, find_parts, merge_files
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.recipes import FlatRecipe
from stamp_index.store import Store
from tests.crew_index_world import CountingCrew, fill_in_small_blocks
from tests.engine_world import RECIPES, clustered
from tests.index_world import KINDS, QUERIES, world
from tests.ray_world import crew_on_ray

ROOT = Path(__file__).resolve().parents[1]
VECTORS = clustered().astype(np.float16)
LISTS = ["ivf_pq", "ivf_rabitq", "ivf_sq8"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    fill_in_small_blocks(monkeypatch.setattr)


@pytest.fixture(scope="module")
def on_ray():
    with crew_on_ray() as crew:
        yield crew


@pytest.fixture(params=["local", "ray"])
def crew(request):
    """Crew of each engine."""
    if request.param == "ray":
        yield request.getfixturevalue("on_ray")
    else:
        with open_crew() as crew:
            yield crew


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "v.npy"
    np.save(path, VECTORS)
    return np.load(path, mmap_mode="r")


# ---- parts ---------------------------------------------------------------------------------------


@given(
    n=st.integers(1, 3_000),
    shard_rows=st.integers(1, 1_500),
    block_rows=st.integers(1, 500),
    part_rows=st.integers(1, 2_000),
)
def test_parts_hold_every_row_once_in_the_blocks_of_a_single_process(
    n, shard_rows, block_rows, part_rows
):
    parts = cut(n, shard_rows=shard_rows, block_rows=block_rows, part_rows=part_rows)
    blocks = []
    for start in range(0, n, shard_rows):
        stop = min(start + shard_rows, n)
        blocks += [(at, min(at + block_rows, stop)) for at in range(start, stop, block_rows)]
    assert [block for part in parts for block in pairwise(part.edges)] == blocks
    assert all(part.stop - part.start <= max(part_rows, block_rows) for part in parts)


@pytest.mark.parametrize("n_parts", [None, 1, 3, 15, 999])
def test_parts_are_about_as_many_as_were_asked_for_and_bounded_by_memory(n_parts):
    layout = crewed.Layout(1_500, 100, 24, None)
    parts = crewed.parts_for(6_000, layout, n_parts)
    assert len(parts) <= (n_parts or 64)
    assert len(parts) >= min(n_parts or 60, 30) * 0.7
    tight = crewed.Layout(1_500, 100, 24, 2 * 24 * 250)
    assert max(part.stop - part.start for part in crewed.parts_for(6_000, tight, 1)) <= 250


def test_a_part_that_is_not_what_was_written_is_filled_again(tmp_path):
    build_trained(tmp_path)
    parts = [Part((0, 400, 800)), Part((800, 1_200))]
    paths = [fill_part(tmp_path / "trained.faiss", VECTORS, part, tmp_path) for part in parts]
    assert find_parts(parts, tmp_path) == dict(zip(parts, paths, strict=True))
    content = bytearray(paths[0].read_bytes())
    content[len(content) // 2] ^= 1
    paths[0].write_bytes(content)
    assert find_parts(parts, tmp_path) == {parts[1]: paths[1]}
    assert not paths[0].exists()
    assert fill_part(tmp_path / "trained.faiss", VECTORS, parts[0], tmp_path) == paths[0]
    assert find_parts(parts[:1], tmp_path) == {parts[0]: paths[0]}
    assert not paths[1].exists()  # of another division


def build_trained(work):
    index = building.train(VECTORS, RECIPES["ivf_sq8"], n_sample=6_000)
    building.write_index(index, work / "trained.faiss")


def test_a_damaged_part_is_named_when_parts_are_joined(tmp_path):
    build_trained(tmp_path)
    path = fill_part(tmp_path / "trained.faiss", VECTORS, Part((0, 400)), tmp_path)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(AnnIndexError, match=f"{path.name} cannot be read. Build the index again"):
        merge_files(tmp_path / "trained.faiss", [path])


def test_vectors_of_an_array_or_of_a_slice_cannot_be_shared(mapped):
    assert MappedRows.of(mapped).open().tobytes() == VECTORS.tobytes()
    for vectors in (VECTORS, mapped[1:]):
        with pytest.raises(TypeError, match="expected a whole memory map"):
            MappedRows.of(vectors)


def test_a_machine_that_does_not_see_the_folder_says_so(mapped, tmp_path):
    rows = MappedRows.of(mapped)
    gone = MappedRows(tmp_path / "none", rows.dtype, rows.offset, rows.shape)
    with pytest.raises(CrewError, match=r"does not see .*none as it was written\. All machines"):
        PartFiller(tmp_path / "trained.faiss", gone)


@pytest.mark.parametrize(
    ("n_parts", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_numbers_of_parts_that_are_none_are_refused(n_parts, error):
    with open_crew() as crew, pytest.raises(error, match=f"n_parts is {n_parts}; expected a whole"):
        Fillers(crew, n_parts)


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("n_parts", [None, 4])
def test_a_crew_and_a_single_process_write_the_same_bytes(crew, mapped, tmp_path, kind, n_parts):
    build(VECTORS, RECIPES[kind], tmp_path / "one")
    told = []
    build(
        mapped,
        RECIPES[kind],
        tmp_path / "crew",
        fillers=Fillers(crew, n_parts),
        progress=lambda *said: told.append(said),
    )
    one, other = ((tmp_path / name / "index.faiss").read_bytes() for name in ("one", "crew"))
    assert one == other
    assert sorted(path.name for path in (tmp_path / "crew").iterdir()) == [
        "index.faiss",
        "plan.json",
    ]
    filled = [done for stage, done, _ in told if stage == "fill"]
    assert filled == sorted(filled)
    assert (filled[0], filled[-1]) == (0, 6_000)


@pytest.mark.parametrize("kind", LISTS)
def test_more_cores_do_not_change_the_bytes(tmp_path, kind):
    """With FAISS's own `add` they do: BLAS rounds otherwise when it divides its work."""
    faiss = load_faiss()
    before, contents = faiss.omp_get_max_threads(), []
    vectors = clustered(20_000, dim=64).astype(np.float16)
    trained = building.train(vectors, RECIPES[kind], n_sample=6_000)
    building.write_index(trained, tmp_path / "trained.faiss")
    for n_threads in (1, 2, 3):
        faiss.omp_set_num_threads(n_threads)
        path = fill_part(tmp_path / "trained.faiss", vectors, Part((0, 20_000)), tmp_path)
        contents.append(path.read_bytes())
    faiss.omp_set_num_threads(before)
    assert contents[0] == contents[1] == contents[2]


def test_added_blocks_hold_what_faiss_adds(tmp_path):
    faiss = load_faiss()
    rows, ids = clustered(5_000), np.arange(5_000)[::-1].copy()
    for kind in LISTS:
        one, other = (building.train(VECTORS, RECIPES[kind], n_sample=6_000) for _ in range(2))
        one.add_with_ids(rows, ids)
        add_block(other, rows, ids)
        assert other.ntotal == 5_000
        found = [index.search(rows[:50], 1)[1] for index in (one, other)]
        np.testing.assert_array_equal(*found)
        assert faiss.serialize_index(one).size == faiss.serialize_index(other).size


def test_long_sub_vectors_are_encoded_alike_on_any_number_of_cores(tmp_path):
    faiss = load_faiss()
    vectors = clustered(20_000, dim=128).astype(np.float16)
    trained = faiss.index_factory(128, "OPQ4,IVF16,PQ4x6np", faiss.METRIC_INNER_PRODUCT)
    faiss.downcast_VectorTransform(trained.chain.at(0)).niter = 1
    trained.train(vectors[:3_000].astype(np.float32))
    assert inner_lists(trained).pq.dsub == 32
    building.write_index(trained, tmp_path / "trained.faiss")
    before, names = faiss.omp_get_max_threads(), set()
    for n_threads in (1, 2):
        faiss.omp_set_num_threads(n_threads)
        names.add(fill_part(tmp_path / "trained.faiss", vectors, Part((0, 20_000)), tmp_path))
    faiss.omp_set_num_threads(before)
    assert len(names) == 1  # the name is the checksum


def test_rows_and_scores_of_a_search_are_the_same(on_ray, mapped, tmp_path):
    found = []
    for name, fillers in (("one", None), ("ray", Fillers(on_ray))):
        index = build(mapped, RECIPES["ivf_pq"], tmp_path / name, fillers=fillers)
        engine = Engine(index, VECTORS, settings=Settings(8, 50))
        found.append(engine.search(clustered(50, seed=3), 10))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_graph_and_exact_search_are_built_without_the_crew(mapped, tmp_path):
    class NoCrew:
        engine = "ray"

        def run(self, *args, **kwargs):
            raise AssertionError

    fillers = Fillers(NoCrew())
    index = build(mapped, RECIPES["hnsw_sq8"], tmp_path / "graph", fillers=fillers)
    assert index.ntotal == len(VECTORS)
    assert build(mapped, FlatRecipe(), tmp_path / "flat", fillers=fillers) is None


# ---- indexes of stores ---------------------------------------------------------------------------


def faiss_file(store, kind):
    """Bytes of the index that counts, and its card."""
    card = read_card(store, "image")
    assert card.kind == kind
    paths = list(index_folder(store, "image").glob("g-*/index.faiss"))
    return paths[0].read_bytes() if paths else b"", card


@pytest.mark.parametrize("recipe", KINDS, ids=lambda recipe: recipe.kind)
def test_a_store_gets_the_same_index_and_answers(on_ray, tmp_path, recipe):
    store = world(tmp_path / "one", 2_000)
    shutil.copytree(store.path, tmp_path / "two")
    other = Store.open(tmp_path / "two")
    build_index(store, "image", recipe, seed=3)
    build_index(other, "image", recipe, seed=3, fillers=Fillers(on_ray, 3))
    (one, card), (two, card_of_two) = faiss_file(store, recipe.kind), faiss_file(other, recipe.kind)
    assert one == two
    assert card.engine == "local"
    assert card_of_two.engine == ("ray" if recipe.kind in LISTS else "local")
    # All of a card that is not a time, a random name, or chosen by times
    timed = {"build_seconds", "calibration", "sidecar", "files", "engine", "ann_recall_at_10"}
    for name, value in card.to_dict().items():
        assert name in timed or card_of_two.to_dict()[name] == value, name
    settings = Settings(8, 100)
    answers = [
        Index.open(one, "image").search(QUERIES, 10, settings=settings) for one in (store, other)
    ]
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])


def test_a_card_of_before_is_read_and_says_local(tmp_path):
    store = world(tmp_path, 200)
    card = build_index(store, "image", FlatRecipe())
    values = json.loads(json.dumps(card.to_dict()))
    held = type(card).from_dict(values)
    assert held.engine == "local"
    del values["engine"]
    assert type(card).from_dict(values) == held


# ---- killed --------------------------------------------------------------------------------------

# Builds on Ray; is killed when so many rows are filled.
DRIVER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from stamp_index.crew import open_crew
from stamp_index.index.engine import Fillers, build
from tests.crew_index_world import fill_in_small_blocks
from tests.engine_world import RECIPES

def kill(stage, done, total):
    if stage == "fill" and done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

fill_in_small_blocks()
with open_crew("ray", n_workers=1) as crew:
    build(np.load(sys.argv[1], mmap_mode="r"), RECIPES["ivf_sq8"], Path(sys.argv[2]),
          fillers=Fillers(crew, 12), progress=kill)
"""


def rows_in(paths):
    edges = [path.name.split("-")[1:3] for path in paths]
    return sum(int(stop) - int(start) for start, stop in edges)


@pytest.mark.slow
def test_a_killed_driver_goes_on_without_filling_parts_again(mapped, tmp_path):
    pytest.importorskip("ray")
    work = tmp_path / "work"
    command = [sys.executable, "-c", DRIVER, str(mapped.filename), str(work), "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = {path: path.stat().st_mtime_ns for path in work.glob("part-*.faiss")}
    n_kept = rows_in(kept)
    assert 2_000 <= n_kept < 6_000
    seen = []

    def watch(stage, n_done, total):
        del total
        seen.append((stage, n_done))
        if stage == "fill":
            assert {path: path.stat().st_mtime_ns for path in kept} == kept

    with open_crew() as crew:
        counting = CountingCrew(crew)
        build(mapped, RECIPES["ivf_sq8"], work, fillers=Fillers(counting, 12), progress=watch)
    assert "train" not in dict(seen)
    assert ("fill", n_kept) in seen
    assert sum(part.stop - part.start for part in counting.jobs) == 6_000 - n_kept
    build(VECTORS, RECIPES["ivf_sq8"], tmp_path / "one")
    assert (work / "index.faiss").read_bytes() == (tmp_path / "one" / "index.faiss").read_bytes()


# ---- the command line ----------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


@pytest.fixture
def small_recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('kind = "ivf_pq"\nnlist = 16\nopq_rounds = 1\nn_queries = 32\n')
    return path


def test_the_command_line_builds_on_ray(on_ray, tmp_path, small_recipe):
    store = world(tmp_path, 1_000)
    options = ["--engine", "ray", "--parts", 3, "--modality", "image", "--recipe"]
    done = run(store.path, *options, small_recipe)
    assert done.exit_code == 0, done.output
    assert "image: ivf_pq, 1000 vectors" in done.stdout
    assert read_card(store, "image").engine == "ray"
    done = run(store.path, *options, "flat")
    assert done.exit_code == 0, done.output
    assert "image: flat was built without the workers: there is nothing to fill." in done.stderr


def test_the_command_line_estimates_and_refuses(tmp_path):
    store = world(tmp_path, 300)
    estimates = [run(store.path, "--estimate", *more).stdout for more in ([], ["--engine", "ray"])]
    assert estimates[0] == estimates[1]
    assert estimates[0].startswith("image: 300 vectors; index ")
    for options in (["--parts", "3"], ["--address", "auto"]):
        done = run(store.path, *options)
        assert done.exit_code == 2
        assert "--address and --parts belong to --engine ray." in done.output
    done = run(store.path, "--engine", "ray", "--fold")
    assert done.exit_code == 2
    assert "--fold adds to an index as it is" in done.output


def test_another_cluster_than_that_of_the_process_is_one_sentence(on_ray, tmp_path):
    done = run(world(tmp_path, 300).path, "--engine", "ray", "--address", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "is connected to the Ray cluster at" in done.output
    assert "not to '127.0.0.1:1'. Leave the address out" in done.output
