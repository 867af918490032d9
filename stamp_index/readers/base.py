"""What a reader is, and what a user may say about a slide that its files do not."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import Slide


# Options that are numbers above 0, and what is expected of each.
ABOVE_0: Final = {
    "mpp": "microns per pixel above 0, such as 0.5",
    "bin_um": "microns above 0, such as 48",
    "grid_um": "microns above 0, such as 112",
}


@dataclass(frozen=True)
class SlideOptions:
    """What the user says about a slide; wins over `slide.toml`, which wins over the files.

    Attributes
    ----------
    slide_id, patient_id, organ, disease, species, platform : str or None
        Replace what the reader finds; None leaves it.
    mpp : float or None
        Microns per pixel of the image that is used, above 0.
    image : Path, str or None
        The H&E image to use.
    bin_um : float or None
        Width of the square bins into which Visium HD's squares, and Xenium's cells or transcripts, are pooled; above 0.
        None is the reader's own choice.
    spots : {"bins", "cells"} or None
        Of a slide of single cells: one spot per bin, or one per cell.
    grid_um : float or None
        Distance of neighbouring places on a slide without spots, above 0.
    """

    slide_id: str | None = None
    mpp: float | None = None
    image: Path | str | None = None
    patient_id: str | None = None
    organ: str | None = None
    disease: str | None = None
    species: str | None = None
    platform: str | None = None
    bin_um: float | None = None
    spots: Literal["bins", "cells"] | None = None
    grid_um: float | None = None

    def __post_init__(self) -> None:
        for name, what in ABOVE_0.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                msg = f"{name} is {value}; expected {what}."
                raise ValueError(msg)
        if self.spots not in (None, "bins", "cells"):
            msg = f"spots is {self.spots!r}; expected 'bins' or 'cells'."
            raise ValueError(msg)

    def over(self, other: Self) -> Self:
        """Return these options, filled up from `other` where they are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


class Reader(Protocol):
    """Reads one source format; a new format is one more class and one line in the registry."""

    name: str
    version: int  # another number where the same files may give another slide
    expects: str  # one clause for people: what a slide of this format looks like on disk

    def detect(self, path: Path) -> bool:
        """Say whether `path` is one slide of this format: by names, and where they do not tell by a file's head."""
        ...

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read the slide; `options` already holds what `slide.toml` says."""
        ...

    def sidecar(self, path: Path) -> Path:
        """Return where the slide's ``slide.toml`` would be."""
        ...
