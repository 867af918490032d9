"""What is asked of domains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from stamp_index.evaluate.domains.cluster import Method
from stamp_index.evaluate.domains.spaces import Features


@dataclass(frozen=True, kw_only=True)
class DomainSettings:
    """The values of `evaluate_domains`, checked.

    Raises
    ------
    ValueError
        If a value is not one of those that `evaluate_domains` takes.
    """

    label: str
    exclude: tuple[str, ...]
    features: tuple[Features, ...]
    methods: tuple[Method, ...]
    smoothing_um: tuple[float | None, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, allowed in (("features", get_args(Features)), ("methods", get_args(Method))):
            values = getattr(self, name)
            if not values or set(values) - set(allowed):
                msg = f"{name} is {values}; expected at least one of {', '.join(allowed)}."
                raise ValueError(msg)
        if not self.seeds or min(self.seeds) < 0:
            msg = f"seeds is {self.seeds}; expected at least one, none below 0."
            raise ValueError(msg)
        radii = [radius for radius in self.smoothing_um if radius is not None]
        if not self.smoothing_um or not all(0 < radius < math.inf for radius in radii):
            msg = f"smoothing_um is {self.smoothing_um}; expected radii above 0, or None for no smoothing."
            raise ValueError(msg)
