"""The load test itself, for as long as it takes to see that it works; half an hour of it is run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))

from load_parts import world  # noqa: E402
from load_parts.checks import Checks, Query  # noqa: E402
from load_parts.shadow import Journal, Shadow  # noqa: E402
from load_parts.wrong import WrongAnswerError  # noqa: E402

from stamp_index.search.vector_searcher import VectorSearcher  # noqa: E402
from stamp_index.store import EncoderCard, Store  # noqa: E402


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A store of three slides, of which one was deleted, with its shadow."""
    folder = tmp_path_factory.mktemp("load")
    card = EncoderCard("load", "0f0f", world.DIM, 112.0, 224, 336.0, "none")
    store, journal = Store.create(folder / "store", card), Journal(folder / "journal")
    for number in range(3):
        first = store.n_rows
        journal.write(
            store.add(world.slide_rows(number, card.fingerprint)), add=number, first=first
        )
    journal.write(store.delete(world.slide_id(1)), delete=1)
    shadow = Shadow(folder / "journal")
    yield VectorSearcher.open(store.path), shadow
    shadow.close()


def everything(view):
    return np.ones(len(view.rows), bool)


def ask(searcher, **more):
    vector = world.content(0).image[7].astype(np.float32)
    vector /= np.linalg.norm(vector)
    hits = searcher.search_vector(vector, k=20, recall=1.0, genes=["GENE3"], **more)
    return hits, Query(vector, "image", 20, 1.0, everything, one_per=more.get("one_per"))


@pytest.mark.parametrize("more", [{}, {"one_per": "slide"}])
def test_a_right_answer_passes(checked, more):
    searcher, shadow = checked
    hits, query = ask(searcher, **more)
    Checks().hits(hits, shadow.view(hits.store_version), query)


def test_a_wrong_answer_is_noticed(checked):
    searcher, shadow = checked
    hits, query = ask(searcher)
    view, other = shadow.view(hits.store_version), everything
    worse = VectorSearcher.search_vector(searcher, query.vector, k=21, recall=1.0)
    shorter = VectorSearcher.search_vector(searcher, query.vector, k=19, recall=1.0)
    hits.table.loc[3, "score"] += 1e-3
    wrong = [(hits, query), (worse, query), (shorter, query)]
    right, _ = ask(searcher)
    wrong.append((right, Query(query.vector, "image", 20, 1.0, lambda v: v.number == 2)))
    wrong.append((right, Query(query.vector, "gene", 20, 1.0, other)))
    right.rows[0] = world.PER_SLIDE + 3  # of the slide that was deleted
    wrong.append((right, query))
    for found, asked in wrong:
        with pytest.raises(WrongAnswerError):
            Checks().hits(found, view, asked)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_served_store_answers_rightly_while_it_changes_and_survives_an_overload(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "load.py"),
        str(tmp_path / "load"),
        "--smoke",
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "wrong answers 0" in done.stdout
    assert "lost 0, too many 0, different 0" in done.stdout
