"""Long work of the app: in its own process, seen by its owner, stopped at once, and never silent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from app.jobs import JobError, Jobs
from stamp_index.evaluate import ProbeSettings, run_probe
from tests import job_work
from tests.probe_world import random_world

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0  # how long a test waits for what must happen


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    for owner in ("ann", "bob"):
        for view in made.of(owner):
            made.cancel(view.id, owner)


def until(true):
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def over(jobs, job_id, owner="ann"):
    """Wait for a job's end, and look at it."""
    until(lambda: jobs.look(job_id, owner).is_over)
    return jobs.look(job_id, owner)


def is_alive(pid):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def number_in(path):
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def test_a_job_runs_elsewhere_and_its_result_comes_back_whatever_it_prints(jobs):
    job_id = jobs.start("adding up", job_work.add, 2, 3, owner="ann")
    view = over(jobs, job_id)
    assert (view.state, view.share, view.name) == ("done", 1.0, "adding up")
    assert view.step == "adding"
    assert jobs.result(job_id, "ann") == 5
    assert view.elapsed_s > 0
    assert jobs.look(job_id, "ann").elapsed_s == view.elapsed_s  # the clock has stopped


def test_a_large_result_comes_back_whole(jobs):
    job_id = jobs.start("big", job_work.big, 3_000_000, owner="ann")
    assert over(jobs, job_id).state == "done"
    assert jobs.result(job_id, "ann") == list(range(3_000_000))


def test_a_running_job_says_its_step_and_is_gone_when_cancelled(jobs, tmp_path):
    job_id = jobs.start("waiting", job_work.wait, str(tmp_path / "pid"), owner="ann")
    pid = number_in(tmp_path / "pid")
    until(lambda: jobs.look(job_id, "ann").step != "starting")
    view = jobs.look(job_id, "ann")
    assert (view.state, view.step, view.share) == ("running", "waiting", 0.25)
    assert pid != os.getpid()
    with pytest.raises(JobError, match="no result: it is running"):
        jobs.result(job_id, "ann")
    jobs.cancel(job_id, "ann")
    assert jobs.look(job_id, "ann").state == "cancelled"
    until(lambda: not is_alive(pid))
    jobs.cancel(job_id, "ann")  # once more does nothing
    assert jobs.look(job_id, "ann").state == "cancelled"
    with pytest.raises(JobError, match="it is cancelled"):
        jobs.result(job_id, "ann")


def test_what_a_job_has_started_is_gone_with_it(jobs, tmp_path):
    path = tmp_path / "pids"
    job_id = jobs.start("parent", job_work.wait_with_child, str(path), owner="ann")
    until(path.exists)
    own, child = map(int, path.read_text().split())
    assert is_alive(own)
    assert is_alive(child)
    jobs.cancel(job_id, "ann")
    until(lambda: not is_alive(own) and not is_alive(child))


def test_two_run_at_once_and_others_queue_in_turn(jobs, tmp_path):
    go = [tmp_path / f"go{number}" for number in range(4)]
    ids = [jobs.start("turn", job_work.wait_for, str(path), owner="ann") for path in go]
    states = [jobs.look(one, "ann") for one in ids]
    assert [view.state for view in states] == ["running", "running", "queued", "queued"]
    assert [view.ahead for view in states] == [0, 0, 0, 1]
    assert states[2].elapsed_s == 0
    assert states[2].step == "waiting for a place"
    go[1].touch()
    assert over(jobs, ids[1]).state == "done"
    until(lambda: jobs.look(ids[2], "ann").state == "running")
    assert jobs.look(ids[3], "ann").state == "queued"
    jobs.cancel(ids[3], "ann")
    assert jobs.look(ids[3], "ann").state == "cancelled"
    jobs.cancel(ids[0], "ann")
    go[2].touch()
    assert over(jobs, ids[2]).state == "done"
    assert jobs.look(ids[3], "ann").state == "cancelled"  # it was not started after all


def test_one_owner_cannot_fill_the_queue_before_others(jobs, tmp_path):
    never, go = str(tmp_path / "never"), tmp_path / "go"
    first = [jobs.start("a", job_work.wait_for, str(go), owner="ann")]
    first += [jobs.start("a", job_work.wait_for, never, owner="ann") for _ in range(3)]
    with pytest.raises(JobError, match="4 jobs that are not done"):
        jobs.start("a", job_work.wait_for, never, owner="ann")
    theirs = jobs.start("b", job_work.wait_for, never, owner="bob")
    assert jobs.look(theirs, "bob").state == "queued"
    go.touch()
    over(jobs, first[0])
    until(lambda: jobs.look(theirs, "bob").state == "running")  # before ann's third
    assert jobs.look(first[2], "ann").state == "queued"


def test_another_user_cannot_see_read_or_stop_a_job(jobs, tmp_path):
    job_id = jobs.start("waiting", job_work.wait, str(tmp_path / "pid"), owner="ann")
    pid = number_in(tmp_path / "pid")
    texts = set()
    for act in (jobs.look, jobs.result, jobs.cancel):
        for asked in (job_id, "nonsense"):
            with pytest.raises(JobError) as refused:
                act(asked, "bob")
            texts.add(str(refused.value))
    assert len(texts) == 1  # a job of another is as if it were not there
    assert jobs.of("bob") == []
    assert [view.id for view in jobs.of("ann")] == [job_id]
    assert is_alive(pid)


def test_ids_cannot_be_guessed(jobs):
    ids = {jobs.start("x", job_work.count, 1, owner=owner) for owner in ["ann", "bob"] * 3}
    assert len(ids) == 6
    assert all(len(one) >= 11 for one in ids)  # 64 random bits


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (job_work.refuse, r"^There is no slide 'S9'; choose another\.$"),
        (job_work.run_out_of_memory, "not enough memory"),
        (job_work.die, r"ended from outside \(signal 9\).*memory"),
        (job_work.stumble, "not foreseen.*incident [0-9a-f]{8}"),
        (job_work.unsendable, "not foreseen.*incident [0-9a-f]{8}"),
    ],
)
def test_a_failure_is_one_sentence(jobs, work, words):
    job_id = jobs.start("bad", work, owner="ann")
    view = over(jobs, job_id)
    assert view.state == "failed"
    assert "Traceback" not in view.message
    with pytest.raises(JobError, match=words):
        jobs.result(job_id, "ann")


def test_after_a_crash_the_next_job_runs(jobs):
    crashed = [jobs.start("bad", job_work.die, owner="ann") for _ in range(3)]
    fine = jobs.start("good", job_work.add, 1, 1, owner="ann")
    assert over(jobs, fine).state == "done"
    assert [over(jobs, one).state for one in crashed] == ["failed"] * 3


def test_every_reader_has_a_copy_of_the_result(jobs):
    job_id = jobs.start("big", job_work.big, 5, owner="ann")
    over(jobs, job_id)
    jobs.result(job_id, "ann").clear()
    assert jobs.result(job_id, "ann") == [0, 1, 2, 3, 4]


def test_ended_jobs_are_kept_for_a_while_and_not_too_many():
    jobs = Jobs(keep=2)
    ids = []
    for n in range(3):
        ids.append(jobs.start("x", job_work.count, n, owner="ann"))
        over(jobs, ids[-1])
    assert [view.id for view in jobs.of("ann")] == [ids[2], ids[1]]
    with pytest.raises(JobError, match="no such job"):
        jobs.look(ids[0], "ann")
    brief = Jobs(keep_s=0.0)
    gone = brief.start("x", job_work.count, 1, owner="ann")
    until(lambda: brief.of("ann") == [])
    with pytest.raises(JobError, match="ended long ago"):
        brief.result(gone, "ann")


def test_a_function_of_a_script_is_refused(jobs):
    def local(*, tell):
        return None

    local.__module__ = "__main__"
    with pytest.raises(ValueError, match="local belongs to a script"):
        jobs.start("x", local, owner="ann")


def test_a_job_ends_when_its_server_does(tmp_path):
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from app.jobs import JOBS\n"
        "from tests import job_work\n"
        f"JOBS.start('x', job_work.wait, {str(tmp_path / 'pid')!r}, owner='ann')\n"
        "time.sleep(600)"
    )
    server = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = number_in(tmp_path / "pid")
        assert is_alive(pid)
    finally:
        server.kill()
        server.wait()
    until(lambda: not is_alive(pid))


def test_a_probe_as_a_job_gives_the_numbers_of_a_plain_call(jobs, tmp_path):
    store = random_world(tmp_path)
    settings = ProbeSettings(label="region", C=1.0)
    job_id = jobs.start("probe", job_work.probe, str(store.path), asdict(settings), owner="ann")
    assert over(jobs, job_id).state == "done"
    plain = run_probe(store, settings)
    assert jobs.result(job_id, "ann") == plain.to_json(predictions=True)


def test_jobs_know_nothing_of_pages():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import app.jobs; print('streamlit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_argument_that_json_has_not_is_refused_before_anything_starts(jobs):
    with pytest.raises(TypeError, match="not JSON serializable"):
        jobs.start("x", job_work.count, object(), owner="ann")
    assert jobs.of("ann") == []
