"""Signatures: what a person types to ask for tissue by genes.

Grammar, one term per gene, terms separated by commas, semicolons or line ends::

    CD8A            high        CD8A high    CD8A:high    CD8A=high    +CD8A    CD8A+
    EPCAM low       low         EPCAM:low    EPCAM=low    -EPCAM       EPCAM-
    MKI67 2         weight 2    MKI67:2      MKI67=2      EPCAM -0.5   EPCAM=-0.5

``high`` is weight +1 and ``low`` is weight -1; both may be written in any case.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from stamp_index.errors import EmptyQueryError, QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stamp_index.genes.resolver import GeneResolver

MAX_TERMS: Final = 50
MAX_CHARS: Final = 5_000
MAX_WEIGHT: Final = 1_000.0  # larger than any marker's worth; keeps float32 arithmetic safe
MIN_WEIGHT: Final = 0.001

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TERM: Final = re.compile(
    rf"""(?P<prefix>[+-])(?P<signed>{_NAME})
       | (?P<suffixed>{_NAME})(?P<suffix>[+-])
       | (?P<name>{_NAME})(?:(?:\s*[:=]\s*|\s+)(?P<level>high|low|{_NUMBER}))?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_HELP: Final = "Write terms such as 'CD8A high, EPCAM low' or 'CD8A 2', separated by commas."


@dataclass(frozen=True)
class Signature:
    """Genes with weights: positive for high, negative for low.

    Attributes
    ----------
    items : tuple of (str, float)
        Gene and weight in the order they were given; genes are unique whatever their case.

    Raises
    ------
    EmptyQueryError
        If there is no term.
    QueryError
        If a gene is asked for twice with different weights, a name is not a gene name, a weight is
        0 or out of range, or there are more than 50 terms.
    """

    items: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", _merge(self.items))

    @classmethod
    def from_weights(cls, weights: Mapping[str, float]) -> Self:
        """Make a signature from a mapping of gene to weight."""
        return cls(tuple((gene, float(weight)) for gene, weight in weights.items()))

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each gene, in order."""
        return dict(self.items)

    @property
    def genes(self) -> tuple[str, ...]:
        """All genes, in order."""
        return tuple(gene for gene, _ in self.items)

    @property
    def high(self) -> tuple[str, ...]:
        """Genes with a positive weight, in order."""
        return tuple(gene for gene, weight in self.items if weight > 0)

    @property
    def low(self) -> tuple[str, ...]:
        """Genes with a negative weight, in order."""
        return tuple(gene for gene, weight in self.items if weight < 0)

    @property
    def text(self) -> str:
        """The canonical text, which `parse_signature` turns into the same signature."""
        return ", ".join(f"{gene} {_level_text(weight)}" for gene, weight in self.items)

    def resolve(
        self, resolver: GeneResolver, *, on_missing: Literal["raise", "ignore"] = "raise"
    ) -> Signature:
        """Replace the names by the resolver's symbols.

        Parameters
        ----------
        resolver : GeneResolver
            Knows the genes that can be asked for.
        on_missing : {"raise", "ignore"}
            What to do with names that the resolver does not know.

        Returns
        -------
        Signature
            With canonical symbols. Two names of one gene become one term if they say the same.

        Raises
        ------
        MissingGenesError
            If a name is unknown and `on_missing` is ``"raise"``.
        EmptyQueryError
            If no name is known.
        QueryError
            If two names of one gene contradict each other, or a name is ambiguous.
        """
        symbols = resolver.resolve(self.genes, on_missing=on_missing)
        if not symbols:
            msg = (
                f"Nothing is left of the query {self.text!r}: none of its {len(self.items)} genes is "
                "known. Ask for other genes."
            )
            raise EmptyQueryError(msg)
        return Signature(
            tuple((symbols[gene], weight) for gene, weight in self.items if gene in symbols)
        )

    def __str__(self) -> str:
        return self.text


def parse_signature(text: str) -> Signature:
    """Read a signature from text; the module's docstring gives the grammar.

    Parameters
    ----------
    text : str
        For example ``"CD8A high, EPCAM low"``.

    Returns
    -------
    Signature
        Names as they were written; `Signature.resolve` makes them symbols.

    Raises
    ------
    EmptyQueryError
        If there is no term in `text`.
    QueryError
        If a term cannot be read (it is quoted), a gene is asked for twice with different weights,
        a weight is 0 or out of range, or there are more than 50 terms.
    """
    if len(text) > MAX_CHARS:
        msg = f"The query has {len(text)} characters; at most {MAX_CHARS} are read. Shorten it."
        raise QueryError(msg)
    terms = [term.strip() for term in re.split(r"[,;\n\r]", text)]
    return Signature(tuple(_parse_term(term) for term in terms if term))


def _parse_term(term: str) -> tuple[str, float]:
    match = _TERM.fullmatch(term)
    if match is None:
        msg = f"Cannot read {_quoted(term)} in the query. {_HELP}"
        raise QueryError(msg)
    if match["prefix"]:
        return match["signed"], float(match["prefix"] + "1")
    if match["suffix"]:
        return match["suffixed"], float(match["suffix"] + "1")
    level = (match["level"] or "high").lower()
    if match["level"] is None and match["name"].lower() in ("high", "low"):
        msg = f"{_quoted(term)} in the query names no gene. {_HELP}"
        raise QueryError(msg)
    return match["name"], {"high": 1.0, "low": -1.0}.get(level) or float(level)


def _merge(items: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Check every term, drop exact repeats and refuse contradictions."""
    merged: dict[str, tuple[str, float]] = {}
    for gene, weight in items:
        _check_term(gene, weight)
        earlier, first = merged.setdefault(gene.casefold(), (gene, float(weight)))
        if first == weight:
            continue
        kind = "both high and low" if first * weight < 0 else "with two weights"
        msg = (
            f"{gene} is asked for {kind} ({earlier} {_level_text(first)}, "
            f"{gene} {_level_text(weight)}). Keep one of the two."
        )
        raise QueryError(msg)
    if not merged:
        msg = f"The query names no gene. {_HELP}"
        raise EmptyQueryError(msg)
    if len(merged) > MAX_TERMS:
        msg = f"The query has {len(merged)} genes; at most {MAX_TERMS} can be asked for at once."
        raise QueryError(msg)
    return tuple(merged.values())


def _check_term(gene: str, weight: float) -> None:
    if not re.fullmatch(_NAME, gene, re.ASCII) or not re.search("[A-Za-z]", gene):
        msg = f"{_quoted(gene)} is not a gene name. {_HELP}"
        raise QueryError(msg)
    if not (MIN_WEIGHT <= abs(weight) <= MAX_WEIGHT):  # False for NaN too
        msg = (
            f"The weight of {gene} is {weight:g}; expected a number other than 0, between "
            f"{MIN_WEIGHT:g} and {MAX_WEIGHT:g} in size. Leave the gene out to ignore it."
        )
        raise QueryError(msg)


def _level_text(weight: float) -> str:
    if math.isclose(abs(weight), 1.0, rel_tol=0.0):
        return "high" if weight > 0 else "low"
    # repr is the shortest text that gives the same float back
    return repr(int(weight)) if float(weight).is_integer() else repr(float(weight))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
