"""What is measured of an index, and with what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stamp_index.index.engine.search import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class HeldOut:
    """Queries of one modality to measure with.

    Attributes
    ----------
    vectors : ndarray of shape (q, d), float32
        At least two.
    own : ndarray of shape (q,), int64, optional
        Position of each query itself, which does not count as a hit; -1 where it is not indexed.
    """

    vectors: NDArray[np.float32]
    own: NDArray[np.int64] | None = None

    def half(self, which: int) -> HeldOut:
        """Take every second query, from the first (0) or the second (1)."""
        return HeldOut(self.vectors[which::2], None if self.own is None else self.own[which::2])

    def first(self, n: int) -> HeldOut:
        """Take the first `n` queries."""
        return HeldOut(self.vectors[:n], None if self.own is None else self.own[:n])


@dataclass(frozen=True)
class Rung:
    """One setting that was tried.

    Attributes
    ----------
    breadth, n_rerank : int
        The setting.
    recall : dict of str to float
        Share of the exact top 10 among the candidates, by modality, from the choosing half.
    safe : dict of str to float
        The same less one standard error: the best of many settings looks better on the queries
        that chose it than on others.
    cpu_ms : float
        CPU time of a query on one thread in a batch of 64, from a plane through measured times.
    """

    breadth: int
    n_rerank: int
    recall: dict[str, float]
    safe: dict[str, float]
    cpu_ms: float


@dataclass(frozen=True)
class Choice:
    """What is needed for one target.

    Attributes
    ----------
    target : float
        Recall at 10 that was asked for.
    breadth, n_rerank : int
        The cheapest setting that reaches it, or the best there is.
    recall : dict of str to float
        Recall at 10 by modality, from the reporting half.
    error : dict of str to float
        Standard error of each.
    reached : bool
        Whether none of them lies below the target by more than its standard error.
    cpu_ms : float
        As in `Rung`.
    """

    target: float
    breadth: int
    n_rerank: int
    recall: dict[str, float]
    error: dict[str, float]
    reached: bool
    cpu_ms: float

    @property
    def settings(self) -> Settings:
        """For `Engine.search`."""
        return Settings(self.breadth, self.n_rerank)


@dataclass(frozen=True)
class FilterRecall:
    """Recall under one made-up filter, at the settings of the highest target.

    Attributes
    ----------
    share : float
        Of the rows that were allowed.
    follows : bool
        Whether whole inverted lists were allowed, as by an organ; else rows at random.
    recall : dict of str to float
        By modality.
    """

    share: float
    follows: bool
    recall: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """All that was measured.

    Attributes
    ----------
    choices : tuple of Choice
        One for each target, ascending.
    rungs : tuple of Rung
        Every setting that was tried; empty for exact search.
    filters : tuple of FilterRecall
        Empty for exact search.
    exact_cpu_ms : float
        CPU time of a query by exact search, measured alike: an index that is not quicker is of no use.
    n_queries : dict of str to int
        Held-out queries by modality; half of them chose, half reported.
    seconds : float
        That it all took.
    """

    choices: tuple[Choice, ...]
    rungs: tuple[Rung, ...]
    filters: tuple[FilterRecall, ...]
    exact_cpu_ms: float
    n_queries: dict[str, int]
    seconds: float

    def choice(self, target: float) -> Choice:
        """Choice for a target.

        Raises
        ------
        KeyError
            If it was not among the targets.
        """
        return {choice.target: choice for choice in self.choices}[target]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GivenUp:
    """A kind of index that ``auto`` did not take.

    Attributes
    ----------
    why : str
        It does not fit into the memory, missed the target, or is no quicker than exact search.
    calibration : Calibration or None
        What was measured of it; None where it was not built.
    """

    why: str
    calibration: Calibration | None
