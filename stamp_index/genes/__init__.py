"""Genes: panels, normalisation, rank tokens, signatures and the names people use for them."""

from __future__ import annotations

from stamp_index.genes.aliases import COMMON_ALIASES
from stamp_index.genes.completion import Completion, GeneCompleter
from stamp_index.genes.covering import Coverage, coverage, require_coverage
from stamp_index.genes.gene_sets import GeneSet, gene_sets_from_net, read_gmt
from stamp_index.genes.lists import GeneText, read_gene_text
from stamp_index.genes.marker_sets import (
    Citation,
    MarkerSet,
    available_marker_sets,
    load_marker_sets,
)
from stamp_index.genes.matching import PanelMatch, match_to_panel
from stamp_index.genes.names import close_names
from stamp_index.genes.normalise import cp10k, log1p_cp10k
from stamp_index.genes.panel import GenePanel
from stamp_index.genes.reference import GeneReference, Match, species_of
from stamp_index.genes.report import GeneReport
from stamp_index.genes.resolver import GeneResolver
from stamp_index.genes.signature import Signature, parse_signature
from stamp_index.genes.tokens import MASK, PAD, TOKEN_OFFSET, compat_means, rank_tokens

__all__ = [
    "COMMON_ALIASES",
    "MASK",
    "PAD",
    "TOKEN_OFFSET",
    "Citation",
    "Completion",
    "Coverage",
    "GeneCompleter",
    "GenePanel",
    "GeneReference",
    "GeneReport",
    "GeneResolver",
    "GeneSet",
    "GeneText",
    "MarkerSet",
    "Match",
    "PanelMatch",
    "Signature",
    "available_marker_sets",
    "close_names",
    "compat_means",
    "coverage",
    "cp10k",
    "gene_sets_from_net",
    "load_marker_sets",
    "log1p_cp10k",
    "match_to_panel",
    "parse_signature",
    "rank_tokens",
    "read_gene_text",
    "read_gmt",
    "require_coverage",
    "species_of",
]
