"""The sets of ``sets.toml``, and which of them a store's genes are enough for."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from stamp_index.errors import QueryError
from stamp_index.genes.signature import Signature

if TYPE_CHECKING:
    from stamp_index.genes.resolver import GeneResolver

MIN_KNOWN: Final = 2
MIN_SHARE: Final = 0.5


@dataclass(frozen=True)
class Citation:
    """Where markers are from.

    Attributes
    ----------
    authors, journal, doi : str
        `journal` has the volume and the first page; `doi` has no address before it.
    year : int
    """

    authors: str
    year: int
    journal: str
    doi: str

    @property
    def url(self) -> str:
        """Address of the paper."""
        return f"https://doi.org/{self.doi}"

    def __str__(self) -> str:
        return f"{self.authors} {self.journal} ({self.year}), doi:{self.doi}"


@dataclass(frozen=True)
class MarkerSet:
    """A few genes that mark a cell type or a state.

    Attributes
    ----------
    name : str
        Lower case with underscores; does not change between releases.
    title, group : str
        For people: what it marks, and the heading that it stands under.
    high, low : tuple of str
        Human symbols, approved ones. `low` is empty unless the definition has it.
    citations : tuple of Citation
        At least one.
    note : str
        What else to know, or "".
    """

    name: str
    title: str
    group: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    citations: tuple[Citation, ...]
    note: str = ""

    @property
    def genes(self) -> tuple[str, ...]:
        """All genes, the high ones first."""
        return (*self.high, *self.low)

    @property
    def signature(self) -> Signature:
        """The set as a query: high genes have weight +1, low genes -1."""
        return Signature(
            (*((gene, 1.0) for gene in self.high), *((gene, -1.0) for gene in self.low))
        )

    def available(self, resolver: GeneResolver) -> tuple[str, ...]:
        """Which of the set's genes a store knows.

        Parameters
        ----------
        resolver : GeneResolver
            Of the store's genes, which may have other names for them.

        Returns
        -------
        tuple of str
            Symbols of the set, in its order.
        """
        return tuple(gene for gene in self.genes if _known(gene, resolver))

    def is_offered(self, resolver: GeneResolver) -> bool:
        """Say whether a store knows at least two genes, half of the set, and one of the high ones."""
        known = self.available(resolver)
        enough = max(MIN_KNOWN, MIN_SHARE * len(self.genes))
        return len(known) >= enough and not set(known).isdisjoint(self.high)


def load_marker_sets() -> tuple[MarkerSet, ...]:
    """Read all marker sets of the package, group by group.

    Examples
    --------
    >>> {s.name: s for s in load_marker_sets()}["t_cell_cd4"].signature.text
    'CD4 high, CD3D high, CD3E high, CD3G high, CD8A low, CD8B low'
    """
    return _loaded()


def available_marker_sets(resolver: GeneResolver) -> tuple[MarkerSet, ...]:
    """Find the marker sets that a store knows enough genes of (`MarkerSet.is_offered`)."""
    return tuple(one for one in load_marker_sets() if one.is_offered(resolver))


@cache
def _loaded() -> tuple[MarkerSet, ...]:
    path = resources.files("stamp_index.genes.marker_sets").joinpath("sets.toml")
    table = tomllib.loads(path.read_text("utf-8"))
    sources = {key: Citation(**entry) for key, entry in table["sources"].items()}
    return tuple(
        MarkerSet(
            entry["name"],
            entry["title"],
            entry["group"],
            tuple(entry["high"]),
            tuple(entry.get("low", ())),
            tuple(sources[key] for key in entry["sources"]),
            entry.get("note", ""),
        )
        for entry in table["sets"]
    )


def _known(gene: str, resolver: GeneResolver) -> bool:
    try:
        return bool(resolver.resolve([gene], on_missing="ignore"))
    except QueryError:  # it means several of the store's genes
        return False
