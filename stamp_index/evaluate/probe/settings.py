"""What is asked of a probe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

Features = Literal["image", "gene", "both"]
Split = Literal["patient", "slide", "block", "spot"]

MIN_SPOTS: Final = 20  # below this a share of right answers says nothing


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """A linear probe: which embeddings, what they are to tell, and how spots are kept apart.

    Attributes
    ----------
    label : str, optional
        Label whose classes are told apart by logistic regression. Give this or `gene`.
    gene : str, optional
        Gene whose log1p of counts per 10,000 is predicted by ridge regression.
    features : {"image", "gene", "both"}
        Embeddings that are looked at; "both" puts the two unit vectors side by side.
    split : {"slide", "patient", "block", "spot"}
        What is never on both sides of a fold: slides, patients, or square blocks of tissue. "spot" deals single
        spots out at random, so that neighbours that look alike are on both sides; its result says so.
    n_folds : int
        Folds; fewer where there are fewer slides, patients or blocks.
    C : float, optional
        Inverse strength of the penalty (ridge's alpha is 1 / C). By default it is chosen in each fold by
        cross-validation of the training part, split in the same way.
    classes : tuple of str, optional
        Only spots of these classes; all by default.
    slides : tuple of str, optional
        Only spots of these slides; all by default.
    block_um : float
        Side of a block.
    buffer_um : float, optional
        With blocks, training spots nearer to a test spot than this, along x and along y, are left out. By default
        what the encoder sees around a spot, so that no pixel is on both sides; 0 leaves none out.
    max_spots : int, optional
        With more spots, a random sample of this size is used, in proportion by group and class; None takes all.
    seed : int
        Of the sample, the folds and the random baselines.

    Raises
    ------
    ValueError
        If a value is not one of those above, or both or neither of `label` and `gene` are given.
    """

    label: str | None = None
    gene: str | None = None
    features: Features = "image"
    split: Split = "slide"
    n_folds: int = 5
    C: float | None = None
    classes: tuple[str, ...] | None = None
    slides: tuple[str, ...] | None = None
    block_um: float = 1000.0
    buffer_um: float | None = None
    max_spots: int | None = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = self._flaw()
        if wrong:
            raise ValueError(wrong)

    def _flaw(self) -> str:
        """Say what is wrong with the values, or nothing."""
        if bool(self.label) == bool(self.gene):
            return f"Give either a label or a gene to probe for; got label {self.label!r} and gene {self.gene!r}."
        for name, allowed in (("features", get_args(Features)), ("split", get_args(Split))):
            if getattr(self, name) not in allowed:
                return f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}."
        return self._flaw_of_numbers() or self._flaw_of_choices()

    def _flaw_of_numbers(self) -> str:
        if self.n_folds < 2:
            return f"n_folds is {self.n_folds}; it must be at least 2."
        if self.max_spots is not None and self.max_spots < MIN_SPOTS:
            return (
                f"max_spots is {self.max_spots}; it must be at least {MIN_SPOTS}, or None for all."
            )
        if self.seed < 0:
            return f"seed is {self.seed}; it must not be negative."
        if self.buffer_um is not None and not 0 <= self.buffer_um < math.inf:
            return f"buffer_um is {self.buffer_um}; it must be 0 or more."
        for name in ("C", "block_um"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                return f"{name} is {value}; it must be above 0."
        return ""

    def _flaw_of_choices(self) -> str:
        for name in ("classes", "slides"):
            value = getattr(self, name)
            if isinstance(value, str) or (value is not None and not value):
                return f"{name} is {value!r}; it must name at least one, as a tuple, or be None for all."
        if self.gene and self.classes is not None:
            return f"classes belong to a label; the expression of {self.gene} has none."
        return ""
