"""Small parts, and slow workers that note what they fill, for the tests of indexes that crews fill."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from stamp_index.index.engine import building
from stamp_index.index.engine.crewed import PartFiller
from stamp_index.index.engine.memory import Budget

share_out = building.share_out


def fill_in_small_blocks(change=setattr):
    """One process fills shards of 1,500 rows then, and adds 400 at once."""

    def in_small_blocks(*args):
        return Budget(share_out(*args).sample_rows, 400)

    change(building, "_SHARD_ROWS", 1_500)
    change(building, "_MOST_SHARDS", 99)
    change(building, "share_out", in_small_blocks)


class SlowFiller(PartFiller):
    """Notes the node and the part, waits, and then fills."""

    def __init__(self, trained, rows, notes):
        super().__init__(trained, rows)
        self.notes = Path(notes)

    def __call__(self, part):
        import ray

        node = ray.get_runtime_context().get_node_id()
        (self.notes / f"{node}-{part.start}-{time.monotonic_ns()}").touch()
        time.sleep(0.4)
        return super().__call__(part)


class SlowCrew:
    """Fills with `SlowFiller`; `heard` is told of every part that is filled."""

    engine = "ray"

    def __init__(self, crew, notes, heard):
        self.crew, self.notes, self.heard = crew, notes, heard

    def run(self, make_worker, jobs, **rest):
        for done in self.crew.run(partial(SlowFiller, *make_worker.args, self.notes), jobs, **rest):
            self.heard(done)
            yield done


class CountingCrew:
    """Remembers the jobs that it is given."""

    engine = "local"

    def __init__(self, crew):
        self.crew, self.jobs = crew, []

    def run(self, make_worker, jobs, **rest):
        self.jobs = list(jobs)
        return self.crew.run(make_worker, self.jobs, **rest)
