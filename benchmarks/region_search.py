"""Region search: does it find the same tissue on other patients' slides, and what does it cost as the store grows.

    python benchmarks/region_search.py niches STORE --truth PHANTOM         # or --label NAME, by the store's own labels
    python benchmarks/region_search.py layers STORE --label label           # whole areas of one label as queries
    python benchmarks/region_search.py growth FOLDER --slides 16 --slides 64 --slides 256

`niches`: queries are discs of 300 um of one kind of tissue or of two (each at least 35 %). A found region is worth one minus half the
sum of the differences between its shares of the kinds and the query's; "right" is worth .8 or more. Beside it: the ideal (the best
discs by the truth), chance (random discs), and two baselines by the mean embedding of the query: its 300 nearest spots, grouped by
disc, and the mean embedding of every disc of every slide. `layers`: overlap (IoU) of found regions with the label's spots.
`growth`: slides of 1,000 spots with a planted mixture of two tissues on every eighth slide, and a decoy whose embedding is the mean of the two;
recall of the planted discs and of what looking at every slide finds, and CPU time of both.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from region_data import (
    DIM,
    EVERY,
    RADIUS_UM,
    SPOTS,
    Known,
    NoEncoder,
    add_slide,
    known_slides,
    largest_area,
    made_slide,
)
from stamp_index.index import Index
from stamp_index.search import RegionSettings, Searcher, field_in
from stamp_index.search.regions.slide_scan import peaks
from stamp_index.store import EncoderCard, Store

RIGHT = 0.8
K = 5


def disc_queries(
    slides: list[Known], per_kind: int, seed: int
) -> list[tuple[Known, tuple, np.ndarray]]:
    """Discs of one kind (85 %), or of two (each 35 %, together 85 %): slide, kinds, spots."""
    rng = np.random.default_rng(seed)
    out = []
    for slide in slides:
        shares, n = slide.shares, slide.kind.shape[1]
        asked = {(a,): shares[:, a] >= 0.85 for a in range(n)}
        for a, b in itertools.combinations(range(n), 2):
            both = (shares[:, a] >= 0.35) & (shares[:, b] >= 0.35)
            asked[a, b] = both & (shares[:, a] + shares[:, b] >= 0.85)
        for kinds, where in asked.items():
            centres = np.flatnonzero(where)
            for unit in rng.choice(centres, min(per_kind, len(centres)), replace=False):
                out.append((slide, kinds, slide.discs[unit].indices))
    return out


def worth(asked: np.ndarray, found: np.ndarray) -> float:
    """One minus the total variation between two compositions."""
    return 1.0 - 0.5 * float(np.abs(asked - found).sum())


def best_discs(slides: list[Known], value, n: int = K) -> list[tuple[float, Known, np.ndarray]]:  # noqa: ANN001
    """Discs of highest value(slide) that are apart, over all slides, at most four a slide."""
    found = []
    for slide in slides:
        scores = value(slide)
        for unit in peaks(slide.xy_um, scores, 1.2 * RADIUS_UM, 4):
            found.append((scores[unit], slide, slide.discs[unit].indices))
    return sorted(found, key=lambda one: -one[0])[:n]


def discounted(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


class Niches:
    """All ways to answer a query, each giving the worths of its first five regions."""

    def __init__(self, searcher: Searcher, slides: list[Known], sides: tuple[str, str]) -> None:
        self.searcher, self.slides = searcher, slides
        self.query, self.against = sides
        self.vectors = {s.slide_id: searcher.store.vectors(self.against, s.rows) for s in slides}
        self.by_id = {slide.slide_id: slide for slide in slides}
        self.rng = np.random.default_rng(0)

    def others(self, slide: Known) -> list[Known]:
        """Slides of other patients."""
        return [other for other in self.slides if other.patient != slide.patient]

    def regions(self, slide: Known, spots: np.ndarray, settings: RegionSettings) -> list[float]:
        """Region search itself."""
        others = field_in("slide", [other.slide_id for other in self.others(slide)])
        hits = self.searcher.search_region(
            slide.rows[spots],
            query=self.query,
            against=self.against,
            k=K,
            filters=others,
            settings=settings,
        )
        asked, out = slide.kind[spots].mean(axis=0), []
        for rows, slide_id in zip(hits.rows, hits.table["slide_id"], strict=True):
            found = self.by_id[slide_id]
            out.append(worth(asked, found.kind[rows - found.rows[0]].mean(axis=0)))
        return out

    def mean_hits(self, slide: Known, spots: np.ndarray) -> list[float]:
        """Discs with most of the 300 spots nearest to the query's mean."""
        mean = self._mean(slide, spots)
        scores = {
            s.slide_id: self.vectors[s.slide_id].astype(np.float32) @ mean
            for s in self.others(slide)
        }
        cut = np.sort(np.concatenate(list(scores.values())))[-300]
        found = best_discs(
            self.others(slide), lambda s: s.discs @ (scores[s.slide_id] >= cut).astype(float)
        )
        return self._worths(slide, spots, found)

    def mean_discs(self, slide: Known, spots: np.ndarray) -> list[float]:
        """Discs whose mean is nearest to the query's, on every slide."""
        mean = self._mean(slide, spots)

        def value(other: Known) -> np.ndarray:
            means = other.discs @ self.vectors[other.slide_id].astype(np.float32)
            cosines = means @ mean / np.linalg.norm(means, axis=1)
            return np.where(other.shares.any(axis=1), cosines + 1.0, 0.0)

        return self._worths(slide, spots, best_discs(self.others(slide), value))

    def ideal(self, slide: Known, spots: np.ndarray) -> list[float]:
        """Discs that are best by the truth."""
        asked = slide.kind[spots].mean(axis=0)
        found = best_discs(
            self.others(slide), lambda s: 1.0 - 0.5 * np.abs(s.shares - asked).sum(axis=1)
        )
        return [value for value, _, _ in found]

    def chance(self, slide: Known, spots: np.ndarray) -> list[float]:
        """Discs anywhere."""
        others, found = self.others(slide), []
        for at in self.rng.integers(len(others), size=K):
            unit = self.rng.choice(np.flatnonzero(others[at].shares.any(axis=1)))
            found.append((0.0, others[at], others[at].discs[unit].indices))
        return self._worths(slide, spots, found)

    def _mean(self, slide: Known, spots: np.ndarray) -> np.ndarray:
        mean = self.searcher.store.vectors(self.query, slide.rows[spots]).astype(np.float32).mean(0)
        return mean / np.linalg.norm(mean)

    @staticmethod
    def _worths(slide: Known, spots: np.ndarray, found: list) -> list[float]:
        asked = slide.kind[spots].mean(axis=0)
        return [worth(asked, other.kind[at].mean(axis=0)) for _, other, at in found]


@click.group()
def main() -> None:
    """Measure region search."""


_STORE = click.argument("store", type=click.Path(path_type=Path))


@main.command()
@_STORE
@click.option("--truth", type=click.Path(path_type=Path), help="Folder of the phantom's slides.")
@click.option("--label", default="label", show_default=True)
@click.option("--query", default="image", show_default=True)
@click.option("--against", default="image", show_default=True)
@click.option("--per-kind", default=1, show_default=True, help="Discs of each kind from a slide.")
@click.option("--most", default=60, show_default=True, help="Queries at most.")
@click.option("--vary", multiple=True, help="Also with other settings: 'n_prototypes=8 floor=0.3'.")
def niches(  # noqa: PLR0913
    store: Path,
    truth: Path | None,
    label: str,
    query: str,
    against: str,
    per_kind: int,
    most: int,
    vary: tuple[str, ...],
) -> None:
    """Discs of known tissue as queries, other patients' slides to find them on."""
    searcher = Searcher.open(store)
    slides, names = known_slides(searcher.store, truth, label)
    queries = disc_queries(slides, per_kind, seed=0)
    if len(queries) > most:
        queries = [queries[i] for i in np.random.default_rng(1).permutation(len(queries))[:most]]
    ways = Niches(searcher, slides, (query, against))
    made = ways_of(vary)
    rows = []
    for slide, kinds, spots in queries:
        got = {name: ways.regions(slide, spots, settings) for name, settings in made.items()}
        for name in ("mean_hits", "mean_discs", "chance", "ideal"):
            got[name] = getattr(ways, name)(slide, spots)
        best = discounted(np.array(got["ideal"]))
        for name, gains in got.items():
            padded = np.array([*gains, *[0.0] * K])[:K]
            rows.append({"way": name, "query": "one tissue" if len(kinds) == 1 else "two tissues",
                         "worth@1": padded[0], "worth@5": padded.mean(), "right@5": (padded >= RIGHT).mean(),
                         "nDCG@5": discounted(padded) / best, "n": 1.0})  # fmt: skip
    click.echo(
        f"{len(slides)} slides, {len(queries)} queries; kinds: {', '.join(names)}; {query} against {against}"
    )
    _print(pd.DataFrame(rows))


def _print(rows: pd.DataFrame) -> None:
    groups = rows.groupby(["query", "way"], sort=False)
    table = groups.mean(numeric_only=True).assign(n=groups["n"].sum().astype(int)).round(3)
    click.echo(table.to_string())


@main.command()
@_STORE
@click.option("--truth", type=click.Path(path_type=Path), help="Folder of the phantom's slides.")
@click.option("--label", default="label", show_default=True)
@click.option("--query", default="image", show_default=True)
@click.option("--against", default="image", show_default=True)
@click.option("--vary", multiple=True, help="Also with other settings: 'n_prototypes=8 floor=0.3'.")
def layers(
    store: Path, truth: Path | None, label: str, query: str, against: str, vary: tuple[str, ...]
) -> None:
    """Largest area of each label on a slide as the query; the first region on each other slide."""
    searcher = Searcher.open(store)
    slides, names = known_slides(searcher.store, truth, label)
    rows = []
    for slide, (number, name) in itertools.product(slides, enumerate(names)):
        if slide.kind[:, number].sum() < 12:
            continue
        asked = largest_area(slide, slide.kind[:, number] > 0)
        if asked.sum() < 12:
            continue
        for other, (way, settings) in itertools.product(slides, ways_of(vary).items()):
            of_label = other.kind[:, number] > 0
            if other is slide or not of_label.any():
                continue
            here = field_in("slide", [other.slide_id])
            hits = searcher.search_region(
                slide.rows[asked],
                query=query,
                against=against,
                k=1,
                filters=here,
                settings=settings,
            )
            found = (
                np.isin(other.rows, hits.rows[0]) if len(hits) else np.zeros(len(other.rows), bool)
            )
            area = largest_area(other, of_label, touching=found)
            rows.append({"query": name, "way": way, "IoU": _iou(found, area), "precision": of_label[found].mean() if found.any() else 0.0,
                         "chance precision": of_label.mean(), "size": found.sum() / asked.sum(), "score": hits.scores[0] if len(hits) else 0.0, "n": 1.0})  # fmt: skip
    _print(pd.DataFrame(rows))


def ways_of(vary: tuple[str, ...]) -> dict[str, RegionSettings]:
    """Return settings by name: the defaults, and others as text."""
    made = {"region search": RegionSettings()}
    for text in vary:
        pairs = (pair.split("=") for pair in text.split())
        made[text] = RegionSettings(**{name: float(v) if "." in v else int(v) for name, v in pairs})
    return made


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


# ---- growth --------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--slides", multiple=True, type=int, default=(16, 64, 256), show_default=True)
@click.option("--queries", default=6, show_default=True)
def growth(folder: Path, slides: tuple[int, ...], queries: int) -> None:
    """Planted mixtures on every eighth slide: recall, and cost beside that of looking at every slide."""
    card = EncoderCard("made", "0f0f", DIM, 112.0, 224, 336.0, "none")
    store = Store.open(folder) if folder.exists() else Store.create(folder, card)
    rows = []
    for n in sorted(slides):
        for number in range(len(store.slides()), n):
            add_slide(store, number)
        seen = Store.open(folder, version=n + 1)
        searcher = Searcher(seen, NoEncoder("0f0f"), {"image": Index.build(seen, "image")})
        for number in range(0, min(n, EVERY * queries), EVERY):
            rows.append({"slides": n, "spots": n * SPOTS, **measured(searcher, number, n)})
    click.echo(pd.DataFrame(rows).groupby("slides").mean(numeric_only=True).round(3).T.to_string())


def measured(searcher: Searcher, number: int, n: int) -> dict[str, float]:
    """One planted disc as the query: what a search finds, what looking everywhere finds, and their CPU seconds."""
    inside = np.flatnonzero(made_slide(number)[2])
    asked = inside + number * SPOTS
    planted = {
        other: np.flatnonzero(made_slide(other)[2]) + other * SPOTS
        for other in range(0, n, EVERY)
        if other != number
    }
    k = min(10, len(planted))
    searcher.search_region(asked, k=k)  # warm
    clock = time.process_time()
    hits = searcher.search_region(asked, k=k)
    taken = time.process_time() - clock
    clock = time.process_time()
    every = searcher.search_region(
        asked, k=k, settings=RegionSettings(n_slides=n, n_near=n * SPOTS)
    )
    taken_every = time.process_time() - clock
    mean = searcher.store.vectors("image", asked).astype(np.float64).mean(axis=0)
    near = searcher.search_vector(mean, k=200, filters=f'slide != "S{number:05d}"').rows
    right = [_best_iou(rows, planted) for rows in hits.rows]
    right_every = [_best_iou(rows, planted) for rows in every.rows]
    same = [max((_iou_of(rows, other) for other in hits.rows), default=0.0) for rows in every.rows]
    return {
        "recall of planted": np.mean(np.array(right) >= 0.5), "IoU with planted": np.mean(right),
        "recall, every slide": np.mean(np.array(right_every) >= 0.5), "IoU, every slide": np.mean(right_every),
        "recall of every slide's top k": np.mean(np.array(same) >= 0.9),
        "200 spots nearest the mean: in planted": np.isin(near, np.concatenate([*planted.values()])).mean(),
        "CPU s": taken, "CPU s, every slide": taken_every, "k": k,
    }  # fmt: skip


def _iou_of(a: np.ndarray, b: np.ndarray) -> float:
    common = len(np.intersect1d(a, b))
    return common / (len(a) + len(b) - common)


def _best_iou(rows: np.ndarray, planted: dict[int, np.ndarray]) -> float:
    there = planted.get(int(rows[0]) // SPOTS)
    return 0.0 if there is None else _iou_of(rows, there)


if __name__ == "__main__":
    main()
