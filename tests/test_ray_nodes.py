"""Two machines of Ray, one of which is lost in the middle."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.crew import open_crew
from stamp_index.index.engine import Fillers, build
from tests.crew_index_world import SlowCrew, fill_in_small_blocks
from tests.engine_world import RECIPES, clustered
from tests.ray_world import lose_second, two_nodes

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    with two_nodes() as nodes:
        yield nodes


def test_a_node_that_is_killed_in_the_middle_changes_no_byte(cluster, tmp_path, monkeypatch):
    fill_in_small_blocks(monkeypatch.setattr)
    vectors = clustered().astype(np.float16)
    np.save(tmp_path / "v.npy", vectors)
    notes = tmp_path / "notes"
    notes.mkdir()
    killed, filled = [], []

    def heard(done):
        filled.append(done)
        begun = {path.name.split("-")[0] for path in notes.iterdir()}
        if not killed and len(begun) == 2:  # both are at work
            killed.append(True)
            lose_second(cluster)

    with open_crew("ray", address=cluster.address) as crew:
        fillers = Fillers(SlowCrew(crew, notes, heard), 12)
        mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
        build(mapped, RECIPES["ivf_pq"], tmp_path / "ray", fillers=fillers)
    assert killed
    starts = [done.job.start for done in filled]
    assert len(starts) == len(set(starts))
    assert sum(done.job.stop - done.job.start for done in filled) == len(vectors)
    assert sorted(done.tries for done in filled)[-1] == 2  # what the lost node was at
    build(vectors, RECIPES["ivf_pq"], tmp_path / "one")
    one, other = ((tmp_path / name / "index.faiss").read_bytes() for name in ("one", "ray"))
    assert one == other
