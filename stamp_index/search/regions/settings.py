"""How hard a region search looks, and how it judges."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RegionSettings:
    """Parameters of a region search; the defaults are those measured best (benchmarks/region_search.py).

    A search asks the index for ``n_prototypes`` times ``n_near`` rows, and reads the vectors of ``n_slides`` slides: its
    cost grows with these and hardly with the store.

    Attributes
    ----------
    n_prototypes : int
        Kinds of spots into which the query is divided, at most.
    n_near : int
        Nearest rows of each, at most, that vote for their slides.
    n_slides : int
        Slides that are looked at closely: those with most votes.
    per_slide : int
        Regions of one slide, at most.
    floor : float
        How far on the way from a random spot (0) to the nearest ones that may be found (1) a spot must lie to answer a
        prototype.
    softness : float
        On the same scale: prototypes that lie closer together than this share their spots.
    max_overlap : float
        Two regions of a slide have at most this share of their joint spots in common.
    seed : int
        Of k-means and of the random spots, 0 or more.
    """

    n_prototypes: int = 8
    n_near: int = 1024
    n_slides: int = 16
    per_slide: int = 4
    floor: float = 0.6
    softness: float = 0.2
    max_overlap: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"n_prototypes": 1, "n_near": 1, "n_slides": 1, "per_slide": 1, "seed": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                msg = f"{name} is {value!r}; expected a whole number of {least} or more."
                raise ValueError(msg)
        for name, lowest in (("floor", 0.0), ("softness", 1e-6), ("max_overlap", 0.0)):
            value = getattr(self, name)
            if not lowest <= value <= 1.0:
                msg = f"{name} is {value!r}; expected a number from {lowest:g} to 1."
                raise ValueError(msg)
