"""Values that are kept: the last ones, each made once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.search.kept import Kept


def test_value_is_made_once_however_many_ask_at_once():
    made, kept = [], Kept(10)

    def make() -> str:
        time.sleep(0.05)
        made.append(1)
        return "value"

    told: list[str] = []
    threads = [threading.Thread(target=lambda: told.append(kept.get("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (told, len(made)) == (["value"] * 8, 1)


def test_what_several_threads_want_is_made_once():
    kept, made, start = Kept(2), [], threading.Barrier(8)

    def want(_):
        start.wait()
        return kept.get("a", lambda: made.append(1) or len(made))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(want, range(8))) == [1] * 8


def test_what_was_not_used_for_longest_is_dropped_and_failures_are_not_kept():
    kept, made = Kept(2), []

    def get(key):
        return kept.get(key, lambda: made.append(key) or key)

    def fail():
        msg = "no"
        raise ValueError(msg)

    for key in "abacab":
        get(key)
    assert made == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match="no"):
        kept.get("d", fail)
    assert get("d") == "d"


def test_value_that_cannot_be_made_is_tried_again():
    kept = Kept(10)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 3) == 3


def test_value_that_fails_for_the_first_of_two_is_counted_once():
    kept, asked, failed = Kept(2), threading.Event(), threading.Event()

    def fail() -> str:
        asked.set()
        failed.wait(5)
        raise ZeroDivisionError

    def first() -> None:
        with pytest.raises(ZeroDivisionError):
            kept.get("a", fail)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    asked.wait(5)
    threads += [threading.Thread(target=lambda: kept.get("a", lambda: "value")) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    failed.set()
    for thread in threads:
        thread.join()
    assert (kept._sum, len(kept._held), kept._making) == (1, 1, {})
    kept._keep("a", "made twice")
    assert (kept._sum, len(kept._held)) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), max_size=60))
def test_what_is_kept_never_costs_more_than_it_may(asked):
    most = 9
    kept = Kept(most, lambda value: value)
    for key, cost in asked:
        assert kept.get((key, cost), lambda cost=cost: cost) == cost
        held = list(kept._held.values())
        assert kept._sum == sum(held)
        assert kept._sum <= most or len(held) == 1
