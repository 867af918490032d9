"""What a reader is, and what a user may say about a slide that its files do not."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stamp_index.slides import Slide


# Options that are numbers above 0, and what is expected of each.
ABOVE_0: Final = {
    "mpp": "microns per pixel above 0, such as 0.5",
    "bin_um": "microns above 0, such as 48",
    "grid_um": "microns above 0, such as 112",
}

_LARGEST: Final = 1e30  # of any number, in any type of float
_TEXTS: Final = ("slide_id", "patient_id", "organ", "disease", "species", "platform")
# Wider than what images may say by themselves (0.02 to 20): a user may know of a photograph.
MIN_GIVEN_MPP: Final = 0.01
MAX_GIVEN_MPP: Final = 100.0


@dataclass(frozen=True)
class SlideOptions:
    """What the user says about a slide; wins over `slide.toml`, which wins over the files.

    Attributes
    ----------
    slide_id, patient_id, organ, disease, species, platform : str or None
        Replace what the reader finds; None leaves it.
    mpp : float or None
        Microns per pixel of the image that is used, 0.01 to 100.
    image : Path, str or None
        The H&E image to use.
    bin_um : float or None
        Width of the square bins into which Visium HD's squares, and Xenium's cells or transcripts, are pooled; above 0.
        None is the reader's own choice.
    spots : {"bins", "cells"} or None
        Of a slide of single cells: one spot per bin, or one per cell.
    grid_um : float or None
        Distance of neighbouring places on a slide without spots, above 0.

    Raises
    ------
    TypeError
        If a value is of another type.
    ValueError
        If a number is out of its range, or `spots` is neither word.
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
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        if isinstance(self.image, Path):
            _check_text("image", str(self.image))
        else:
            _check_text("image", self.image)
        for name in ABOVE_0:
            _check_number(name, getattr(self, name))
        if self.mpp is not None and not MIN_GIVEN_MPP <= self.mpp <= MAX_GIVEN_MPP:
            unit = "mm" if self.mpp < MIN_GIVEN_MPP else "nm"
            msg = (
                f"mpp is {self.mpp}; expected microns per pixel of {MIN_GIVEN_MPP:g} to {MAX_GIVEN_MPP:g}, such as 0.5. Is it "
                f"in {unit}?"
            )
            raise ValueError(msg)
        if self.spots not in (None, "bins", "cells"):
            msg = f"spots is {self.spots!r}; expected 'bins' or 'cells'."
            raise ValueError(msg)

    def over(self, other: Self) -> Self:
        """Return these options, filled up from `other` where they are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        msg = f"{name} is {value!r}, a {type(value).__name__}; expected text."
        raise TypeError(msg)
    if "\0" in value:
        msg = f"{name} is {value!r}; expected text without the character NUL."
        raise ValueError(msg)


def _check_number(name: str, value: Any) -> None:  # noqa: ANN401 - whatever a user gives
    if value is None:
        return
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        msg = f"{name} is {value!r}, a {type(value).__name__}; expected {ABOVE_0[name]}."
        raise TypeError(msg)
    # Compared, not converted: a whole number may be too large for a float.
    if not 0 < value < _LARGEST:
        msg = f"{name} is {value}; expected {ABOVE_0[name]}."
        raise ValueError(msg)


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


@runtime_checkable
class OwnsFiles(Protocol):
    """A reader whose slides have image files outside their own path; those are no slides of their own."""

    def owns(self, path: Path) -> Iterable[Path]:
        """Return these files; they need not exist."""
        ...
