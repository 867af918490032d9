"""Which gene a name means: symbols, Ensembl ids, previous symbols, aliases and orthologs of human and mouse."""

from __future__ import annotations

from stamp_index.genes.reference.reference import GeneReference, Species, species_of
from stamp_index.genes.reference.table import How, Match, SpeciesTable, without_version

__all__ = [
    "GeneReference",
    "How",
    "Match",
    "Species",
    "SpeciesTable",
    "species_of",
    "without_version",
]
