"""What a reader is, and what a user may say about a slide that its files do not."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import Slide


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
    """

    slide_id: str | None = None
    mpp: float | None = None
    image: Path | str | None = None
    patient_id: str | None = None
    organ: str | None = None
    disease: str | None = None
    species: str | None = None
    platform: str | None = None

    def __post_init__(self) -> None:
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            msg = f"mpp is {self.mpp}; expected microns per pixel above 0, such as 0.5."
            raise ValueError(msg)

    def over(self, other: Self) -> Self:
        """Return these options, filled up from `other` where they are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


class Reader(Protocol):
    """Reads one source format; a new format is one more class and one line in the registry."""

    name: str
    expects: str  # one clause for people: what a slide of this format looks like on disk

    def detect(self, path: Path) -> bool:
        """Say whether `path` is one slide of this format, by names alone."""
        ...

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read the slide; `options` already holds what `slide.toml` says."""
        ...

    def sidecar(self, path: Path) -> Path:
        """Return where the slide's ``slide.toml`` would be."""
        ...
