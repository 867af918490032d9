"""Spots of stage 1: rank tokens, places and names, from slides with or without an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import MissingGenesError
from stamp_index.genes import TOKEN_OFFSET, rank_tokens
from trainer.recipe import RecipeError
from trainer.split import Split, refuse_doubles
from trainer.stage1.niches import SIZE, group_niches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import NDArray

    from stamp_index.genes import GenePanel
    from stamp_index.slides import Slide

_LEAST_SHARE: Final = (
    0.1  # of the panel that a slide must measure; below, its ranks mean something else
)


@dataclass(frozen=True)
class Spots:
    """All spots of some slides, one slide after the other.

    Attributes
    ----------
    tokens : ndarray of shape (n, context), uint16 or uint32
        Rank tokens, 0 where padded.
    xy_um : ndarray of shape (n, 2), float64
        Positions, in microns on the spot's own slide.
    starts : ndarray of shape (slides + 1,), int64
        First spot of each slide, and n.
    spot_ids : list of str, length n
    """

    tokens: NDArray[np.integer]
    xy_um: NDArray[np.float64]
    starts: NDArray[np.int64]
    spot_ids: list[str]

    def niches(self, rng: np.random.Generator, max_pitches: float) -> NDArray[np.int64]:
        """Group every slide anew, each swept in a direction of its own; (k, 9) spot numbers by slide."""
        groups = [np.zeros((0, SIZE), dtype=np.int64)]
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            angle = rng.uniform(0, 2 * np.pi)
            found = group_niches(self.xy_um[start:end], angle=angle, max_pitches=max_pitches)
            groups.append(found.members + start)
        return np.concatenate(groups)


def prepare(slides: Sequence[Slide], panel: GenePanel, context: int) -> Spots:
    """Rank the genes of every spot.

    Raises
    ------
    MissingGenesError
        If a slide measures less than a tenth of the panel.
    MissingPixelSizeError
        If a slide's positions cannot be given in microns.
    """
    small = len(panel) + TOKEN_OFFSET <= np.iinfo(np.uint16).max
    tokens, places, names, starts = [], [], [], [0]
    for slide in slides:
        shared = sum(gene in panel.column_of for gene in slide.genes)
        if shared < _LEAST_SHARE * len(panel):
            msg = (
                f"Slide {slide.slide_id} measures {shared} of the panel's {len(panel)} {panel.species} genes; at "
                f"least {_LEAST_SHARE:.0%} are needed. Its genes are named like {', '.join(slide.genes[:3])}, the "
                f"panel's like {', '.join(panel.genes[:3])}. Check the species, or leave the slide out."
            )
            raise MissingGenesError(msg)
        own = rank_tokens(panel.align(slide.counts, slide.genes), panel.means, context)
        tokens.append(own.astype(np.uint16 if small else np.uint32))
        places.append(slide.xy_um)
        names += slide.spot_ids
        starts.append(len(names))
    return Spots(np.concatenate(tokens), np.concatenate(places), np.array(starts), names)


def split_counts(
    slides: Sequence[Slide], patients: Sequence[str], slide_ids: Sequence[str]
) -> Split:
    """Split slides into training and held out; unlike in stage 2, a slide needs no image.

    Raises
    ------
    RecipeError
        If a name is unknown, two slides share an id or their counts, or nothing is left to train on.
    """
    refuse_doubles(
        [replace(slide, image=None) for slide in slides]
    )  # one image may hold two sections
    patient_of = {slide.slide_id: slide.patient_id for slide in slides}
    for given, known, what in (
        (patients, set(patient_of.values()), "patient"),
        (slide_ids, set(patient_of), "slide"),
    ):
        unknown = sorted(set(given) - known)
        if unknown:
            msg = f"No {what} {', '.join(unknown)} among the slides; there are {', '.join(sorted(known))}."
            raise RecipeError(msg)
    held = {
        name for name, patient in patient_of.items() if patient in patients or name in slide_ids
    }
    train = patient_of.keys() - held
    if not train:
        msg = "Every slide is held out; leave at least one to train on."
        raise RecipeError(msg)
    by: Literal["patient", "section", "nothing"] = "nothing"
    if held:
        shared = {patient_of[name] for name in train} & {patient_of[name] for name in held}
        by = "section" if shared else "patient"
    return Split(by, tuple(sorted(train)), (), tuple(sorted(held)), patient_of)
