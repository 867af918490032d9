"""Work that is done job by job, in this process or by many on Ray: the same code for both.

`crew.py` says what a crew is, `local.py` and `ray_crew.py` are the two there are, `opening.py` chooses::

    with open_crew("ray", n_workers=4) as crew:
        for done in crew.run(make_worker, jobs):
            print(done.job, done.result)
"""

from __future__ import annotations

from stamp_index.crew.crew import Crew, Done, Needs, News
from stamp_index.crew.opening import ENGINES, EngineName, open_crew

__all__ = ["ENGINES", "Crew", "Done", "EngineName", "Needs", "News", "open_crew"]
