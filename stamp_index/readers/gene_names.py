"""Gives a slide's genes the names of a panel, or of the gene reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stamp_index.genes.covering import MIN_COVERAGE, require_coverage
from stamp_index.genes.matching import match_to_panel
from stamp_index.genes.panel import GenePanel
from stamp_index.genes.reference import GeneReference, species_of
from stamp_index.readers.build import LATIN_NAMES, sum_duplicate_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.genes.matching import PanelMatch
    from stamp_index.genes.reference.reference import Orthologs
    from stamp_index.genes.report import GeneReport
    from stamp_index.slides import Slide

_KNOWN: Final = ("human", "mouse")


def for_panel(
    slide: Slide,
    panel: GenePanel | Sequence[str],
    *,
    species: str | None = None,
    orthologs: Orthologs | None = None,
    min_coverage: float = MIN_COVERAGE,
    reference: GeneReference | None = None,
) -> tuple[Slide, GeneReport]:
    """Name a slide's genes as an encoder's panel does, and refuse a slide that measures too little of it.

    Parameters
    ----------
    slide : Slide
        With counts.
    panel : GenePanel or sequence of str
        The encoder's genes. Bare names are of the slide's species, or of the other one with `orthologs`.
    species : str, optional
        Of the slide's genes; by default what the slide says, else what its ids or symbols say, else the panel's.
    orthologs : {"table", "by_name"}, optional
        How genes are found where the panel is of the other species; see `GeneReference.ortholog`.
    min_coverage : float
        Smallest share of the panel that the slide must measure, 0 to 1.
    reference : GeneReference, optional
        The package's own by default.

    Returns
    -------
    slide : Slide
        Genes that are in the panel carry its names; the others keep theirs. Columns of one gene are summed, and a
        note says what was changed.
    report : GeneReport
        With the coverage of the panel.

    Raises
    ------
    MissingGenesError
        If the slide measures less than `min_coverage` of the panel.
    PanelError
        If orthologs are asked for a species that the reference does not know.
    ValueError
        If `min_coverage` is not between 0 and 1.
    """
    reference = reference or GeneReference.load()
    names = panel.genes if isinstance(panel, GenePanel) else tuple(panel)
    own = species or _species(slide, reference)
    wanted = _plain(panel.species) if isinstance(panel, GenePanel) else _other(own, orthologs)
    if own == wanted:
        orthologs = None  # a batch may hold slides of both species
    if not orthologs and (own not in _KNOWN or wanted not in _KNOWN):
        own = wanted = wanted if wanted in _KNOWN else "human"  # what fits by name fits
    matched = match_to_panel(
        slide.genes,
        slide.gene_ids,
        panel=names,
        species=own,
        panel_species=wanted,
        orthologs=orthologs,
        reference=reference,
    )
    hint = ""
    if own != wanted and not orthologs:
        hint = f"The slide's genes are {own}, the panel's {wanted}: orthologs='table' looks for their orthologs."
    covered = require_coverage(
        matched.names, names, min_coverage, where=f"Slide {slide.slide_id}", hint=hint
    )
    return _renamed(slide, matched), matched.report.with_coverage(covered)


def harmonise(
    slide: Slide,
    *,
    species: str | None = None,
    orthologs: Orthologs | None = None,
    reference: GeneReference | None = None,
) -> tuple[Slide, GeneReport]:
    """Give a slide's genes the symbols of the gene reference, as far as they are clear.

    Parameters
    ----------
    slide : Slide
        Symbols of any age, or Ensembl ids with or without version.
    species : str, optional
        Of the slide's genes; by default what the slide says, else what its ids or symbols say.
    orthologs : {"table", "by_name"}, optional
        Takes mouse genes to their human orthologs; see `GeneReference.ortholog`.
    reference : GeneReference, optional
        The package's own by default.

    Returns
    -------
    slide : Slide
        Done twice, it is the same as done once.
    report : GeneReport

    Raises
    ------
    PanelError
        If the species is neither human nor mouse or cannot be told, or orthologs are asked for human genes.
    """
    reference = reference or GeneReference.load()
    own = species or _species(slide, reference)
    matched = match_to_panel(
        slide.genes, slide.gene_ids, species=own, orthologs=orthologs, reference=reference
    )
    return _renamed(slide, matched), matched.report


def _plain(species: str) -> str:
    said = species.strip().lower()
    return LATIN_NAMES.get(said, said)


def _species(slide: Slide, reference: GeneReference) -> str:
    return _plain(slide.species) or species_of(slide.genes, slide.gene_ids, reference=reference)


def _other(species: str, orthologs: Orthologs | None) -> str:
    if not orthologs:
        return species
    return "mouse" if species == "human" else "human"


def _renamed(slide: Slide, matched: PanelMatch) -> Slide:
    """Put new names on a slide's columns and sum those of one gene."""
    ids = matched.gene_ids if any(matched.gene_ids) else ()
    counts, genes, gene_ids, _ = sum_duplicate_genes(slide.counts, matched.names, ids)
    note = matched.report.note()
    notes = slide.notes if note is None else (*slide.notes, note)
    return replace(slide, counts=counts, genes=genes, gene_ids=gene_ids, notes=notes)
