"""Stores large enough to train inverted lists, whose content follows from seeds, with their indexes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stamp_index.errors import StoreBusyError
from stamp_index.index import (
    Index,
    Settings,
    build_index,
    exact_search,
    fold_index,
    has_index,
)
from stamp_index.index.recipes import (
    FlatRecipe,
    HnswSq8Recipe,
    IvfPqRecipe,
    IvfRabitqRecipe,
    IvfSq8Recipe,
)
from stamp_index.store import SlideRows
from tests.store_world import CARD
from tests.support import TOY_GENES, _plain_slide, random_store, toy_slide

DIM = 8
ORGANS = ("breast", "liver", "skin")
RECIPES = {"flat": FlatRecipe(), "ivf_sq8": IvfSq8Recipe(nlist=4, n_queries=8, rerank_ladder=(50,))}
# All lists, and more candidates than rows: what is found then is exact
THOROUGH = Settings(10_000, 10_000)


def unit(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(slide_id, seed):
    """A slide of 50 to 80 spots and its vectors; the seed decides everything."""
    n_spots = int(np.random.default_rng(seed).integers(50, 80))
    slide = toy_slide(slide_id, n_spots, seed, genes=TOY_GENES[:2], image=False)
    slide = replace(slide, organ=ORGANS[seed % 3], patient_id=f"P{seed % 4}")
    vectors = unit(n_spots, seed)
    return SlideRows(slide, vectors, vectors[::-1].copy(), None, None, CARD.fingerprint)


def change(store, step):
    """One change of a store or its index, or none where another process is at the index."""
    kind, *what = step
    if kind in ("add", "replace"):
        store.add(made(*what), replace=kind == "replace")
    elif kind == "delete":
        store.delete(*what)
    elif kind == "compact":
        store.compact()
    elif kind == "clean":
        store.clean_up()
    else:
        try:
            if kind == "build" and store.n_spots:
                build_index(store, "image", RECIPES[what[0]])
            elif kind == "fold" and has_index(store, "image"):
                fold_index(store, "image")
        except StoreBusyError:
            pass


def random_step(rng, held, number):
    """A change that is possible, most often of the index."""
    kinds = ["add", "add", "build", "build", "build", "fold", "fold", "fold", "compact", "clean"]
    if len(held) > 2:
        kinds += ["replace", "delete"]
    if len(held) > 6:
        kinds += ["delete"] * 4
    kind = kinds[rng.integers(len(kinds))]
    if kind == "add":
        return ("add", f"S{number}", number)
    if kind == "build":
        return ("build", ("flat", "ivf_sq8", "ivf_sq8")[rng.integers(3)])
    if kind == "replace":
        return ("replace", list(held)[rng.integers(len(held))], number)
    return ("delete", list(held)[rng.integers(len(held))]) if kind == "delete" else (kind,)


def slow_search(store, queries, k, mask=None):
    """Scores and row ids of the best k by comparing everything in double precision."""
    rows = store.rows()
    vectors = store.vectors("image").astype(np.float64)
    if mask is not None:
        vectors, rows = vectors[mask[rows]], rows[mask[rows]]
    scores = queries.astype(np.float64) @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), rows[order]


def assert_same_hits(found, truth, within=2e-5):
    """Scores agree, and rows do but where scores lie closer together than rounding."""
    assert found[1].shape == truth[1].shape
    np.testing.assert_allclose(found[0], truth[0], atol=within)
    for (scores, rows), (exact, wanted) in zip(
        zip(*found, strict=True), zip(*truth, strict=True), strict=True
    ):
        assert len(set(rows.tolist())) == len(rows)
        last = exact[-1] if len(exact) else 0.0
        sure = (
            exact > last + 2 * within
        )  # all but those that may change places with what comes after
        assert set(wanted[sure].tolist()) <= set(rows.tolist())
        assert (np.diff(scores) <= 0).all()


def assert_answers(store, seed):
    """Compare the index of a store, if it has one, with exact search."""
    if not has_index(store, "image"):
        return
    index, queries = Index.open(store, "image"), unit(3, [seed, 77])
    for k in (1, 10, 5_000):
        assert_same_hits(
            index.search(queries, k, settings=THOROUGH), slow_search(store, queries, k)
        )
    mask = np.random.default_rng([seed, 78]).random(store.n_rows) < 0.3
    found = index.search(queries, 10, allowed=mask, settings=THOROUGH)
    assert_same_hits(found, slow_search(store, queries, 10, mask))


# ---- stores whose vectors lie in clusters --------------------------------------------------------

CLUSTERED_DIM = 16
PQ = IvfPqRecipe(name="small", n_queries=100, opq_rounds=1, nlist=16, target_recall=0.8)
KINDS = [
    FlatRecipe(),
    PQ,
    IvfRabitqRecipe(nlist=16, target_recall=0.8),
    IvfSq8Recipe(nlist=16),
    HnswSq8Recipe(links=8, target_recall=0.8),
]


def clustered(n, seed):
    """Rows around 20 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, CLUSTERED_DIM))
    rows = centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, CLUSTERED_DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


QUERIES = clustered(30, 7)


def world(folder, n=1_000, n_slides=4):
    """A store of such vectors."""
    return random_store(folder, clustered(n, 0), clustered(n, 1), n_slides=n_slides)


def add(store, slide_id, n, seed):
    """Add a slide of such vectors; returns them."""
    vectors = clustered(n, seed)
    slide = _plain_slide(slide_id, n, seed, 2)
    store.add(SlideRows(slide, vectors, vectors, None, None, store.card.fingerprint))
    return vectors


def exact(store, k=10):
    """Row ids of the best k of `QUERIES` by exact search of all vectors."""
    rows = store.rows()
    return rows[exact_search(store.vectors("image"), QUERIES, k)[1]]


def share_found(found, truth):
    """Share of the true hits that were found."""
    return np.mean([np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)])


class Stop(Exception):
    """Raised in the middle of a build."""
