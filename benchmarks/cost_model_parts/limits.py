"""At how many spots each part of today's design begins to hurt, by the laws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.cost_model_parts.simulate import FILTER_BYTES, GIB, HOUR_S
from stamp_index.index.engine.structure import TRAIN_COPIES
from stamp_index.index.upkeep import FOLD_ROWS
from stamp_index.store.reading import _KEPT_SPOTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.cost_model_parts.simulate import Model

_MOST: Final = 10**12
_PER_LIST_PAGE: Final = 1_000  # keys that one LIST of S3 returns


@dataclass(frozen=True)
class Limit:
    """One place in the code, and where it begins to hurt.

    Attributes
    ----------
    what : str
        What grows.
    where : str
        File and name.
    hurts : str
        The bar.
    n_spots : float
        Spots of one store, not divided, at which the bar is reached.
    """

    what: str
    where: str
    hurts: str
    n_spots: float


def limits(model: Model) -> list[Limit]:
    """Every limit, the lowest first."""
    laws, per_slide = model.laws, model.prices("workload", "spots_per_slide")
    dim, recipe = model.dim, model.recipe

    def sized(name: str) -> Callable[[float], float]:
        return lambda n: laws[name](1.0, n / per_slide, n)

    def training_gib(n: float) -> float:
        return TRAIN_COPIES * 4 * dim * recipe.sample_for(int(n)) / GIB

    def stage_h(name: str) -> Callable[[float], float]:
        return lambda n: model.stage_s(name, n) / HOUR_S

    def fold_s(n: float) -> float:
        return laws["fold: file read, written, hashed"](model.index_bytes(n))

    def add_requests_s(n: float) -> float:
        n_requests = sum(
            laws[f"a slide added: {kind}"](1.0, n / per_slide)
            for kind in ("reads", "writes and lists")
        )
        return n_requests * model.prices("latency", "object_get_ms") / 1e3

    rows = [
        ("memory that a process holds once it has opened a store, shown hits and opened one index", "`store/reading.py` `Tables._layout`, `Layout.rows`, `Tables._kept`; `index/generation.py` `Contents.rows`", "4 GiB", lambda n: sized("open, memory held")(n) / 1024, 4),
        ("memory at its most while it does so", "`store/reading.py` `Tables._layout` (every row id of two tables as one column)", "4 GiB", lambda n: sized("open, peak memory")(n) / 1024, 4),
        ("CPU of opening: row ids, slides, an index, first hits", "`store/reading.py` `Tables.slides`, `Tables._layout`; `index/difference.py` `slide_facts`", "5 CPU s", lambda n: sized("open, once")(n) / 1e3, 5),
        ("CPU of one add of a slide, in a folder", "`store/adding.py` `check_new`, `store/reading.py` `Tables.slides`: the table of slides is read twice, whole", "1 CPU s", lambda n: laws["add, a slide"](1.0, n / per_slide, per_slide, n) / 1e3, 1),
        ("one add to object storage if its requests follow each other (those of the draft, which is written before the lease is taken, are among them), slides not compacted: one lease spans the step, so this bounds commits a minute", "`store/remote_lock.py` `held_lock`, `store/transaction.py` `transact`", "10 s", add_requests_s, 10),
        ("CPU of making a filter of scattered rows ready (`expr(...)`), once a filter", "`index/engine/allowed.py` `prepare`, `index/difference.py` `here`: a bool of each row, then a bit", "100 CPU ms", lambda n: laws["filter of scattered rows"](n), 100),
        ("memory of the filters that are kept", "`search/engine.py` `_KEPT`: 8 filters and 8 selections of a byte a row", "1 GiB", lambda n: FILTER_BYTES * n / GIB, 1),
        ("a query in one index, at .99", "`index/engine/search.py`; nlist is 4 sqrt(n) and so are the centres that every query is compared with", "10 CPU ms", model.query_ms, 10),
        ("rows to be ranked for a recall of .99: the last step of the ladder", "`index/recipes.py` `IvfRecipe.rerank_ladder`", f"{recipe.rerank_ladder[-1]} rows", lambda n: laws["ranked at 0.99"](n / 1e6), recipe.rerank_ladder[-1]),
        ("training, on one machine", "`index/engine/training.py` `train`: one clustering of sqrt(n) centres", "24 CPU h", stage_h("train"), 24),
        ("float32 copies of the training sample", "`index/engine/structure.py` `TRAIN_COPIES`", "16 GiB", training_gib, 16),
        ("filling, which workers can share", "`index/engine/building.py` `_fill_lists`: every row against 4 sqrt(n) centres", "24 CPU h", stage_h("fill"), 24),
        ("memory of one machine while the parts of an index are joined, divided afterwards or not", "`index/engine/partial.py` `merge_files`: the whole index, whose parts are mapped", "32 GiB", lambda n: model.index_bytes(n) / GIB, 32),
        (f"a fold of {FOLD_ROWS:,} rows: CPU for reading, writing and hashing the whole file", "`index/folding.py` `_fold`", "60 CPU s", fold_s, 60),
        (f"the same in object storage: bytes sent for each byte of the {FOLD_ROWS:,} vectors, as the sidecar is one object", "`store/remote_folders.py` `push_folder`", "100 times", lambda n: (2 * n * dim + model.index_bytes(n)) / (2 * FOLD_ROWS * dim), 100),
        ("compaction in object storage, so many reads side by side: Lance reads each picture on its own", "`store/housekeeping.py` `_compact`; `store/schema.py` `thumbnail`, a blob column", "1 h", lambda n: laws["compaction: reads"](1.0, n) * model.prices("latency", "object_get_ms") / 1e3 / model.prices("latency", "gets_at_once") / HOUR_S, 1),
        ("versions of the store that are listed at each opening and refresh, one for each slide until clean-up", "`store/remote_place.py` `versions`: 1,000 names a LIST; seven days are kept (`RETAINED`)", "10 LISTs", lambda n: n / per_slide / _PER_LIST_PAGE, 10),
    ]  # fmt: skip
    found = [
        Limit(what, where, hurts, _reached(cost, bar)) for what, where, hurts, cost, bar in rows
    ]
    kept, taken = (laws[f"48 hits, columns {how}"] for how in ("kept", "taken"))
    jump = taken(1.0, _KEPT_SPOTS / per_slide, _KEPT_SPOTS) / max(
        kept(1.0, _KEPT_SPOTS / per_slide, _KEPT_SPOTS), 1e-9
    )
    found.append(
        Limit(
            f"columns of hits are read from the table each time: CPU of 48 hits is {jump:.0f} times as much",
            "`store/reading.py` `_KEPT_SPOTS`",
            "a constant",
            float(_KEPT_SPOTS),
        )
    )
    return sorted(found, key=lambda one: one.n_spots)


def _reached(cost: Callable[[float], float], bar: float) -> float:
    """Spots at which a growing cost reaches a bar; the most there are where it does not."""
    low, high = 1_000.0, float(_MOST)
    if cost(high) < bar:
        return high
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if cost(middle) >= bar else (middle, high)
    return high
