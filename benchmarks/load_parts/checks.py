"""An answer beside brute force over the very version that it says it is of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from load_parts.wrong import require
from load_parts import world
from load_parts.shadow import TOLERANCE, View
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Query:
    """What was asked: a unit vector (d,), and who may be a hit."""

    vector: np.ndarray
    against: str
    k: int
    recall: float
    passes: Callable[[View], np.ndarray]
    one_per: str | None = None


class Checks:
    """Compares answers with the truth; `recall` gathers the share found of the exact ten best."""

    def __init__(self) -> None:
        self.recall: list[float] = []

    def hits(self, hits, view: View, query: Query) -> None:  # noqa: ANN001
        """Raise `WrongAnswerError` if a hit is not what it is said to be, or one is missing."""
        scores = view.vectors[query.against] @ query.vector
        allowed = view.alive & query.passes(view)
        at = view.at(hits.rows)
        require(
            (at >= 0).all(), f"row {hits.rows[at < 0][:3]} is not in version {hits.store_version}"
        )
        require(allowed[at].all(), "a hit does not pass the filter")
        require(len(set(hits.rows.tolist())) == len(hits.rows), "a row is there twice")
        require(
            np.allclose(hits.scores, scores[at], atol=TOLERANCE), "a score is not the row's cosine"
        )
        require((np.diff(hits.scores) <= 0).all(), "hits are not in order")
        self._what_is_told(hits, view, at)
        truth = self._truth(scores, allowed, view, query)
        require(len(hits) == len(truth), f"{len(hits)} hits instead of {len(truth)}")
        if query.recall == 1.0:
            require(np.allclose(hits.scores, truth, atol=TOLERANCE), "a better hit is missing")
        elif len(truth) >= 10:
            self.recall.append(float(np.mean(hits.scores[:10] >= truth[9] - TOLERANCE)))

    @staticmethod
    def _truth(scores: np.ndarray, allowed: np.ndarray, view: View, query: Query) -> np.ndarray:
        """Scores of the best hits there are."""
        found = scores[allowed]
        if query.one_per == "slide":
            number = view.number[allowed]
            best = np.full(number.max() + 1, -np.inf, np.float32)
            np.maximum.at(best, number, found)
            found = best[np.isfinite(best)]
        k = min(query.k, len(found))
        return np.sort(found)[::-1][:k]

    @staticmethod
    def _what_is_told(hits, view: View, at: np.ndarray) -> None:  # noqa: ANN001
        numbers, spots = view.number[at].tolist(), view.spot[at].tolist()
        names = [f"{world.slide_id(n)}:B{s}" for n, s in zip(numbers, spots, strict=True)]
        require(list(hits.spot_ids) == names, "a row has another spot's name")
        require(
            list(hits.table["patient_id"]) == [world.patient(n) for n in numbers],
            "another patient",
        )
        if "GENE3" in hits.table:
            told = hits.table["GENE3"].to_numpy()
            measured = [
                world.content(n).expression[s, 3] for n, s in zip(numbers, spots, strict=True)
            ]
            require(np.allclose(told, measured, rtol=1e-5), "another spot's expression")

    @staticmethod
    def regions(found, view: View, own: int) -> None:  # noqa: ANN001
        """Raise `WrongAnswerError` if a region is not of spots of one other slide of that version."""
        for rows, name, outline in zip(
            found.rows, found.table["slide_id"], found.outlines, strict=True
        ):
            at = view.at(rows)
            require((at >= 0).all(), f"a spot of a region is not in version {found.store_version}")
            numbers = set(view.number[at].tolist())
            require(
                {world.slide_id(number) for number in numbers} == {name}, "spots of another slide"
            )
            require(own not in numbers, "its own slide")
            from shapely import intersects_xy

            x, y = world.places()[view.spot[at]].T
            require(intersects_xy(outline, x, y).all(), "a spot outside of its outline")
