"""Crews: the same results here and on Ray, whoever dies meanwhile."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from stamp_index import errors
from stamp_index.crew import Needs, open_crew, ray_crew, ray_hand
from stamp_index.errors import AnnIndexError, CrewError, SlideError, StampIndexError
from tests.crew_world import Failing, Mortal, Slow, Squares, begun, dead_worker, made, no_worker
from tests.ray_world import crew_on_ray

ROOT = Path(__file__).resolve().parents[1]


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


def squares(done):
    return {one.job: one.result[0] for one in done}


def test_every_job_is_done_once_and_a_worker_is_made_once(crew, tmp_path):
    done = list(crew.run(partial(Squares, tmp_path), range(12)))
    assert squares(done) == {number: number * number for number in range(12)}
    assert [begun(tmp_path, number) for number in range(12)] == [1] * 12
    assert len({one.result[1] for one in done}) <= made(tmp_path) <= 2
    assert all(one.tries == 1 and one.seconds >= 0 and one.node for one in done)


def test_without_jobs_nothing_is_done(crew):
    assert list(crew.run(no_worker, [])) == []


def test_progress_tells_of_every_job(crew, tmp_path):
    told = []
    assert len(list(crew.run(partial(Squares, tmp_path), range(5), progress=told.append))) == 5
    assert sorted({news.done for news in told}) == [0, 1, 2, 3, 4, 5]
    assert all(news.lost == 0 and 0 <= news.running <= news.workers <= 2 for news in told)
    assert told[-1].running == 0


def test_jobs_are_read_no_faster_than_they_are_done(crew, tmp_path):
    taken = []

    def endless():
        for number in count():
            taken.append(number)
            yield number

    done = []
    for one in crew.run(partial(Squares, tmp_path), endless()):
        done.append(one)
        assert len(taken) <= len(done) + 2
        if len(done) == 20:
            break


def test_errors_of_a_worker_arrive_with_their_type_and_the_job(crew, tmp_path):
    run = crew.run(partial(Failing, tmp_path), [1, 3], name="slide {}".format)
    with pytest.raises(SlideError, match=r"^slide 3 has no microns per pixel") as caught:
        list(run)
    assert type(caught.value) is SlideError
    assert "in the job slide 3" in caught.value.__notes__[0]


def test_errors_of_making_a_worker_arrive_with_their_type(crew):
    with pytest.raises(AnnIndexError, match="the encoder is damaged"):
        list(crew.run(no_worker, [1]))


def test_what_runs_after_an_error_is_not_disturbed_by_it(crew, tmp_path):
    with pytest.raises(SlideError):
        list(crew.run(partial(Failing, tmp_path), [3]))
    assert squares(crew.run(partial(Squares, tmp_path), [5])) == {5: 25}


def test_whoever_stops_taking_results_stops_the_work(crew, tmp_path):
    run = crew.run(partial(Slow, tmp_path), range(100))
    next(run)
    run.close()
    time.sleep(0.5)
    assert sum(begun(tmp_path, number) for number in range(100)) <= 4


# ---- Ray alone -----------------------------------------------------------------------------------


def test_an_error_that_cannot_be_sent_is_a_crew_error_with_its_trace(on_ray, tmp_path):
    with pytest.raises(CrewError, match=r"failed in the job 4") as caught:
        list(on_ray.run(partial(Failing, tmp_path), [4]))
    assert "CannotTravel" in caught.value.__notes__[0]


@pytest.mark.parametrize("kills", [1, 3])
def test_a_job_whose_worker_dies_is_done_by_another(on_ray, tmp_path, kills):
    for number in range(kills):
        (tmp_path / f"kill-{number}").touch()
    told = []
    done = list(on_ray.run(partial(Mortal, tmp_path), range(6), progress=told.append))
    assert squares(done) == {number: number * number for number in range(6)}
    assert {one.job: one.tries for one in done}[3] == kills + 1
    assert begun(tmp_path, 3) == kills + 1
    assert told[-1].lost == kills
    assert len(done) == 6


def test_a_job_that_kills_four_workers_is_named(on_ray, tmp_path):
    for number in range(4):
        (tmp_path / f"kill-{number}").touch()
    with pytest.raises(CrewError, match=r"job slide-3 lost its worker 4 times"):
        list(on_ray.run(partial(Mortal, tmp_path), range(6), name="slide-{}".format))
    assert begun(tmp_path, 3) == 4


def test_workers_that_die_while_they_start_are_not_started_for_ever(on_ray):
    with pytest.raises(CrewError, match="4 workers one after another died while they started"):
        list(on_ray.run(dead_worker, [1]))


def test_needs_that_no_machine_has_are_refused_with_numbers(on_ray, monkeypatch):
    monkeypatch.setattr(ray_crew, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(ray_crew, "_LISTEN_S", 0.3)
    with pytest.raises(CrewError, match=r"No worker could be started in 0\.5 s.*cpus=99"):
        list(on_ray.run(dead_worker, [1], needs=Needs(cpus=99)))


def test_workers_are_no_more_than_memory_has_room_for(on_ray, tmp_path):
    ray = pytest.importorskip("ray")
    most = int(ray.cluster_resources()["memory"])
    told = []
    needs = Needs(memory_bytes=int(most * 0.6))
    done = list(on_ray.run(partial(Slow, tmp_path), range(6), needs=needs, progress=told.append))
    assert len(done) == 6
    assert max(news.workers for news in told) == 1


def test_another_release_on_a_machine_is_refused(on_ray, tmp_path, monkeypatch):
    theirs = ray_hand.releases_here() | {"numpy": "1.26.0", "node": "old"}
    ray_hand.require_same_releases(ray_hand.releases_here() | {"node": "another"})
    monkeypatch.setattr(ray_hand, "releases_here", lambda: theirs)
    with pytest.raises(CrewError, match=r"has numpy \S+ \(here 1\.26\.0\)\. Results would"):
        list(on_ray.run(partial(Squares, tmp_path), [1]))


def test_a_connection_that_was_there_stays(on_ray, tmp_path):
    ray = pytest.importorskip("ray")
    with open_crew("ray") as second:
        assert squares(second.run(partial(Squares, tmp_path), [7])) == {7: 49}
    assert ray.is_initialized()
    assert squares(on_ray.run(partial(Squares, tmp_path), [8])) == {8: 64}


# Starts a Ray of its own in another process, and prints what that leaves.
WHOLE = """
import os, sys, time
from functools import partial
from stamp_index.crew import open_crew
from tests.crew_world import Squares
with open_crew("ray", n_workers=1) as crew:
    import ray
    print(sorted(done.result[0] for done in crew.run(partial(Squares, sys.argv[1]), range(3))))
print(ray.is_initialized())
"""


@pytest.mark.slow
def test_what_was_started_is_stopped(tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, "-c", WHOLE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n") == ["[0, 1, 4]", "False", ""], done.stderr


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "a:99999999", "a..b:1", f"{'a' * 64}:1"],
)
def test_an_address_without_a_cluster_is_refused_at_once(address):
    pytest.importorskip("ray")
    from stamp_index.crew import ray_connection

    with pytest.raises(CrewError, match=f"no Ray cluster at '{address}'"):
        ray_connection._require_reachable(address)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"engine": "spark"}, ValueError, r"no engine 'spark'; expected local or ray"),
        ({"address": "auto"}, ValueError, r"local engine has no address"),
        ({"n_workers": 2}, ValueError, r"local engine has no address and no number"),
        ({"engine": "ray", "n_workers": 0}, ValueError, r"n_workers is 0; expected"),
        ({"engine": "ray", "n_workers": 1.5}, TypeError, r"n_workers is 1\.5; expected"),
        ({"engine": "ray", "address": " "}, ValueError, r"address is ' '; expected"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, said):
    with pytest.raises(error, match=said), open_crew(**arguments):
        pass


def test_every_error_of_ours_can_be_sent():
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    assert CrewError in kinds
    for kind in kinds:
        error = kind("3 of 5 genes")
        error.add_note("in slide A")
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind
        assert issubclass(kind, StampIndexError)
        assert (str(back), back.__notes__) == ("3 of 5 genes", ["in slide A"])


@pytest.mark.parametrize(
    "wrong",
    [{"cpus": n} for n in (float("inf"), float("nan"), 0, -1)]
    + [{"gpus": n} for n in (float("inf"), float("nan"), -1)]
    + [{"memory_bytes": n} for n in (-1, 2**50 + 1, float("nan"))],
    ids=str,
)
def test_needs_that_are_no_amounts_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} is "):
        Needs(**wrong)
