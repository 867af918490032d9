"""The last steps of every reader: put a slide together, and refuse one that cannot be right."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.genes.names import refuse_duplicates, repeated
from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import Slide

_LONGEST_ID: Final = 200  # characters
# Control characters, zero-width and bidirectional ones, lone surrogates, separators of lines and paragraphs.
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
LATIN_NAMES: Final = {"homo sapiens": "human", "mus musculus": "mouse"}


def make_slide(slide: Slide, options: SlideOptions) -> Slide:
    """Replace what the user says otherwise, then `validate`: the last line of every reader.

    Parameters
    ----------
    slide : Slide
        As the reader found it.
    options : SlideOptions
        Texts that are not None replace the slide's. `mpp` and `image` are the reader's work.

    Returns
    -------
    Slide
        Without empty spots.

    Raises
    ------
    SlideError, DuplicateGenesError
        See `validate`.
    """
    texts = ("slide_id", "patient_id", "organ", "disease", "species", "platform")
    said = {name: value for name in texts if (value := getattr(options, name)) is not None}
    return validate(replace(slide, **said))


def validate(slide: Slide) -> Slide:
    """Check a slide and drop its empty spots.

    Parameters
    ----------
    slide : Slide
        As a reader put it together.

    Returns
    -------
    Slide
        The same without spots that have no counts, where expression was measured; a note says how many
        were dropped.

    Raises
    ------
    BarcodeMismatchError
        If barcodes repeat, or counts and spots have different numbers of rows.
    DuplicateGenesError
        If gene names repeat.
    MissingPixelSizeError
        If there is an image but no pixel size.
    SpotOutsideImageError
        If a spot has no position or lies outside the image.
    SlideError
        If counts are not whole numbers of 0 or more, no spot is left, a name is none, or the species is not that of the
        Ensembl ids.
    """
    _check_names(slide)
    _check_species(slide)
    _check_given(slide)
    if slide.has_counts:
        _check_counts(slide)
        slide = _without_empty_spots(slide)
    elif not slide.n_spots:
        msg = f"Slide {slide.slide_id} has no spots."
        raise SlideError(msg)
    if slide.image is not None and slide.mpp is None:
        msg = (
            f"Slide {slide.slide_id} has an image but no microns per pixel. Give mpp "
            "(SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )
        raise MissingPixelSizeError(msg)
    _check_positions(slide)
    return slide


def sum_duplicate_genes(
    counts: csr_matrix, genes: Sequence[str], gene_ids: Sequence[str]
) -> tuple[csr_matrix, tuple[str, ...], tuple[str, ...], str | None]:
    """Add up columns that share a symbol.

    Parameters
    ----------
    counts : csr_matrix of shape (n, g)
        Raw counts.
    genes, gene_ids : sequence of str, length g
        Names of the columns; `gene_ids` may be empty.

    Returns
    -------
    counts : csr_matrix of shape (n, u)
        One column per symbol, in the order of first appearance.
    genes, gene_ids : tuple of str, length u
        The id is that of the first column.
    note : str or None
        What was done, or None where every symbol was unique.
    """
    first: dict[str, int] = {}
    for column, gene in enumerate(genes):
        first.setdefault(gene, column)
    if len(first) == len(genes):
        return counts, tuple(genes), tuple(gene_ids), None
    position = {gene: index for index, gene in enumerate(first)}
    target = np.array([position[gene] for gene in genes], dtype=np.int64)
    merged = csr_matrix(
        (counts.data, target[counts.indices], counts.indptr),
        shape=(counts.shape[0], len(first)),
        copy=True,  # summing in place would write into the caller's counts
    )
    merged.sum_duplicates()
    doubled = repeated(genes)
    note = (
        f"{len(doubled)} gene symbols stand for several ids; their counts were summed "
        f"({', '.join(doubled[:3])}{', ...' if len(doubled) > 3 else ''})."
    )
    ids = tuple(gene_ids[column] for column in first.values()) if gene_ids else ()
    return merged, tuple(first), ids, note


def _check_names(slide: Slide) -> None:
    _check_slide_id(slide.slide_id)
    if slide.counts.shape != (len(slide.spots), len(slide.genes)):
        msg = (
            f"Slide {slide.slide_id}: counts has shape {slide.counts.shape}, but there are "
            f"{len(slide.spots)} spots and {len(slide.genes)} genes."
        )
        raise BarcodeMismatchError(msg)
    twice = slide.spots.index[slide.spots.index.duplicated()].unique()
    if len(twice):
        msg = (
            f"Slide {slide.slide_id}: {len(twice)} barcodes stand more than once "
            f"({', '.join(map(str, twice[:5]))}). A barcode names one spot: correct the source."
        )
        raise BarcodeMismatchError(msg)
    refuse_duplicates(slide.genes, f"slide {slide.slide_id}")
    for what, names in (("genes", slide.genes), ("columns of spots", slide.spots.columns)):
        blank = sum(not str(name).strip() for name in names)
        if blank:
            msg = f"Slide {slide.slide_id}: {blank} of its {len(names)} {what} have no name. Name them in the source."
            raise SlideError(msg)


def _check_slide_id(slide_id: str) -> None:
    """Refuse an id that cannot be told from another by sight, or cannot begin a spot_id."""
    unseen = [c for c in slide_id if unicodedata.category(c) in _UNSEEN]
    if not slide_id or ":" in slide_id:
        wrong = "a name without ':' (it ends there in a spot_id)"
    elif len(slide_id) > _LONGEST_ID:
        slide_id, wrong = slide_id[:30] + "...", f"{_LONGEST_ID} characters at most"
    elif unseen or slide_id != slide_id.strip():
        wrong = "a name without control and invisible characters, and without blanks around it"
    else:
        return
    msg = f"slide_id is {slide_id!r}; expected {wrong}. Give another slide_id (SlideOptions or slide.toml)."
    raise SlideError(msg)


def _check_species(slide: Slide) -> None:
    said = slide.species.strip().lower()
    said = LATIN_NAMES.get(said, said)
    found = species_of((), slide.gene_ids)
    if found and said in LATIN_NAMES.values() and said != found:
        msg = (
            f"Slide {slide.slide_id}: its Ensembl ids are {found}, but its species is said to be {said}. Correct species "
            "(SlideOptions or slide.toml), or give the slide that it belongs to."
        )
        raise SlideError(msg)


def _check_given(slide: Slide) -> None:
    given = slide.embeddings
    if given is None:
        return
    if given.image.ndim != 2 or len(given.image) != slide.n_spots:
        msg = (
            f"Slide {slide.slide_id}: its embeddings of {given.encoder} have shape {given.image.shape} for "
            f"{slide.n_spots} spots. Expected one row per spot."
        )
        raise BarcodeMismatchError(msg)
    bad = ~np.isfinite(given.image).all(axis=1) | ~given.image.any(axis=1)
    if bad.any():
        msg = (
            f"Slide {slide.slide_id}: {bad.sum()} of its {slide.n_spots} embeddings of {given.encoder} are not "
            f"finite or all 0 (the first is row {np.flatnonzero(bad)[0]}). Make them again."
        )
        raise SlideError(msg)


def _check_counts(slide: Slide) -> None:
    data = slide.counts.data
    if are_counts(data):
        return
    if not np.all(np.isfinite(data)):
        wrong = "are not finite"
    elif np.any(data < 0):
        wrong = f"are below 0 (the smallest is {data.min():g})"
    else:
        example = data[data != np.round(data)][0]
        wrong = f"are not whole numbers (such as {example:g}), as after a normalisation"
    msg = f"Slide {slide.slide_id}: some counts {wrong}. Give the raw UMI counts."
    raise SlideError(msg)


def keep_spots(slide: Slide, rows: NDArray[np.integer], note: str) -> Slide:
    """Keep some of a slide's spots, with all that belongs to them.

    Parameters
    ----------
    slide : Slide
    rows : ndarray of shape (m,), integer
        Which spots stay, in which order.
    note : str
        What happened to the others.
    """
    given = slide.embeddings
    return replace(
        slide,
        spots=slide.spots.iloc[rows],
        counts=slide.counts[rows],
        embeddings=None if given is None else replace(given, image=given.image[rows]),
        quality={name: values[rows] for name, values in slide.quality.items()},
        notes=(*slide.notes, note),
    )


def _without_empty_spots(slide: Slide) -> Slide:
    totals = np.asarray(slide.counts.sum(axis=1)).ravel()  # (n,)
    filled = totals > 0
    if not np.any(filled):
        msg = f"Slide {slide.slide_id}: none of its {slide.n_spots} spots has any counts."
        raise SlideError(msg)
    if np.all(filled):
        return slide
    empty = slide.spots.index[np.flatnonzero(~filled)]
    note = (
        f"{len(empty)} of {slide.n_spots} spots have no counts and were dropped "
        f"({', '.join(map(str, empty[:3]))}{', ...' if len(empty) > 3 else ''})."
    )
    return keep_spots(slide, np.flatnonzero(filled), note)


def is_outside(slide: Slide) -> NDArray[np.bool_]:
    """Which spots lie outside the image with all of their disc: shape (n,); none where there is no image."""
    if slide.image is None or slide.mpp is None:
        return np.zeros(slide.n_spots, dtype=bool)
    # A spot that is cut by the edge still shows tissue; one whose whole disc is outside does not.
    reach = slide.spot_diameter_um / 2 / slide.mpp
    xy, far = slide.xy_px, np.array(slide.image.size_px) + reach
    return np.asarray(((xy < -reach) | (xy > far)).any(axis=1), dtype=bool)


def are_counts(values: NDArray[np.number]) -> bool:
    """Say whether numbers can be raw counts: whole, and 0 or more; yes and no are none."""
    return values.dtype.kind in "iuf" and bool(
        (np.isfinite(values) & (values >= 0) & (values == np.round(values))).all()
    )


def _check_positions(slide: Slide) -> None:
    xy = slide.xy_px
    if not np.all(np.isfinite(xy)):
        lost = slide.spots.index[np.flatnonzero(~np.isfinite(xy).all(axis=1))]
        msg = (
            f"Slide {slide.slide_id}: {len(lost)} spots have no position "
            f"({', '.join(map(str, lost[:5]))}). Correct the positions file."
        )
        raise SpotOutsideImageError(msg)
    outside = is_outside(slide)
    if slide.image is None or not outside.any():
        return
    width, height = slide.image.size_px
    first = slide.spots.index[np.flatnonzero(outside)[0]]
    x, y = slide.spots.loc[first, [Keys.X_PX, Keys.Y_PX]]
    msg = (
        f"Slide {slide.slide_id}: {outside.sum()} of {slide.n_spots} spots ({outside.mean():.0%}) lie "
        f"outside the image of {width} x {height} px, such as {first} at ({x:.0f}, {y:.0f}). The "
        "image or its scale does not belong to these positions: give the right image or mpp."
    )
    raise SpotOutsideImageError(msg)
