"""Which of a slide's genes an encoder can use, and under which names the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stamp_index.errors import MissingGenesError, PanelError
from stamp_index.genes.covering import MIN_COVERAGE
from stamp_index.readers import for_panel, harmonise

if TYPE_CHECKING:
    from stamp_index.encoders.base import Encoder
    from stamp_index.genes.reference.reference import Orthologs
    from stamp_index.genes.report import GeneReport
    from stamp_index.slides import Slide

NOT_EMBEDDED: Final = "Its gene profiles are not embedded, its images are."


@dataclass(frozen=True)
class GeneSettings:
    """How a slide's genes meet an encoder's.

    Attributes
    ----------
    orthologs : {"table", "by_name"} or None
        How mouse genes are taken for human ones, or the other way round; None for not at all.
    min_coverage : float
        Smallest share of the encoder's panel that a slide must measure for its genes to be embedded.
    """

    orthologs: Orthologs | None = None
    min_coverage: float = MIN_COVERAGE


def with_current_names(slide: Slide) -> Slide:
    """Give a slide's genes the symbols of the gene reference, where these are clear.

    A slide without counts, or of a species that is not known, stays as it is.
    """
    if not slide.has_counts:
        return slide
    try:
        return harmonise(slide)[0]
    except PanelError as exc:
        return replace(slide, notes=(*slide.notes, f"Gene names are kept as they are: {exc}"))


def for_encoder(
    slide: Slide, encoder: Encoder, settings: GeneSettings
) -> tuple[Slide | None, str, GeneReport | None]:
    """Name a slide's genes as an encoder's panel does, to embed them.

    Parameters
    ----------
    slide : Slide
    encoder : Encoder
    settings : GeneSettings

    Returns
    -------
    slide : Slide or None
        None where the genes are not to be embedded: none was measured, or too few of the panel.
    note : str
        Why too few were measured; empty otherwise.
    report : GeneReport or None
        What became of each gene.

    Raises
    ------
    MissingGenesError
        If too few were measured, and the slide has no image by which it could be found.
    """
    if not slide.has_counts:
        return None, "", None
    try:
        named, report = for_panel(
            slide,
            encoder.panel,
            orthologs=settings.orthologs,
            min_coverage=settings.min_coverage,
        )
    except MissingGenesError as exc:
        if slide.image is None and slide.embeddings is None:
            raise
        return None, f"{NOT_EMBEDDED} {exc}", None
    return named, "", report
