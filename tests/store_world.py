"""Small stores whose whole content follows from a list of (slide, seed): for changes, kills and readers."""

from __future__ import annotations

import numpy as np

from stamp_index.store import EncoderCard, SlideRows, Store
from stamp_index.store.housekeeping import require_whole
from stamp_index.store.manifest import read_manifest
from tests.support import TOY_GENES, toy_slide

CARD = EncoderCard("vec", "0f0f", 8, 112.0, 224, 336.0, "none")


def empty_store(folder):
    return Store.create(folder / "store", CARD)


def made(slide_id, seed):
    """A slide and its vectors; the seed decides everything, also how many spots there are."""
    rng = np.random.default_rng(seed)
    n_spots = int(rng.integers(3, 12))
    genes = TOY_GENES[: int(rng.integers(2, 5))]
    slide = toy_slide(slide_id, n_spots, seed, genes=genes, image=False)
    vectors = rng.normal(size=(n_spots, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    thumbnails = [f"{slide_id} {seed} {spot}".encode() for spot in range(n_spots)]
    return SlideRows(slide, vectors, vectors[::-1].copy(), thumbnails, None, CARD.fingerprint)


def change(store, step):
    """One change: ("add" or "replace", slide, seed), ("delete", slide), ("compact",) or ("clean",)."""
    kind, *what = step
    if kind in ("add", "replace"):
        store.add(made(*what), replace=kind == "replace")
    elif kind == "delete":
        store.delete(*what)
    elif kind == "compact":
        store.compact()
    else:
        store.clean_up()


def after(held, step):
    """What a store that holds `held` (slide to seed, in the order of adding) holds after a change."""
    kind, *what = step
    left = {slide: seed for slide, seed in held.items() if not what or slide != what[0]}
    return left | {what[0]: what[1]} if kind in ("add", "replace") else left


def assert_is(store, held):
    """Compare everything in a store with what it should hold."""
    require_whole(store.path, read_manifest(store.path, store.version))
    parts = [made(slide, seed) for slide, seed in held.items()]
    assert store.slides()["slide_id"].tolist() == list(held)
    spots = [spot for part in parts for spot in part.slide.spot_ids]
    assert store.spots()["spot_id"].tolist() == spots
    for modality in ("image", "gene"):
        vectors = [np.zeros((0, 8), np.float32), *(getattr(part, modality) for part in parts)]
        expected = np.concatenate(vectors).astype(np.float16)
        np.testing.assert_array_equal(store.vectors(modality), expected)
    assert store.thumbnails(store.rows()) == [jpeg for part in parts for jpeg in part.thumbnails]
    for part, first in zip(parts, store.slides()["first_spot"], strict=True):
        rows = first + np.arange(part.slide.n_spots)
        dense = part.slide.counts.toarray()
        np.testing.assert_array_equal(store.counts(part.slide.genes, rows), dense)
        sparse = store.sparse_counts(rows)[:, [store.genes.index(g) for g in part.slide.genes]]
        np.testing.assert_array_equal(sparse.toarray(), dense)
        domains = part.slide.spots["domain"].tolist()
        assert store.label("domain", rows).tolist() == domains


def random_step(rng, held, number):
    """A change that is possible; `number` makes what is added unlike anything before."""
    kinds = ["add"] * 4 + ["compact", "clean"]
    if held:
        kinds += ["replace", "replace", "delete", "delete"]
    kind = kinds[rng.integers(len(kinds))]
    if kind == "add":
        return ("add", f"S{number}", number)
    if kind == "replace":
        return ("replace", list(held)[rng.integers(len(held))], number)
    if kind == "delete":
        return ("delete", list(held)[rng.integers(len(held))])
    return (kind,)
