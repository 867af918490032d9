"""What the pictures have in common: colours, round lengths, and text that can be drawn whatever it holds."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stamp_index.store.view import StoreView

INK: Final = "#10202c"
SOFT: Final = "#5b6b76"
ACCENT: Final = "#0f6e84"
RULE: Final = "#d5dde2"
FADED: Final = "#eef2f4"  # in the place of a picture that is not there
RESEARCH: Final = "Research use only"
_NO_GLYPH: Final = "\u25a1"  # a hollow square


def round_length(longest: float) -> float:
    """Longest of 1, 2, 5 times a power of ten that is not longer than `longest`.

    Raises
    ------
    ValueError
        If `longest` is not above 0.
    """
    if not math.isfinite(longest) or longest <= 0:
        msg = f"A scale bar needs a length above 0; got {longest}."
        raise ValueError(msg)
    power = 10.0 ** math.floor(math.log10(longest))
    for digit in (5.0, 2.0):
        if digit * power <= longest * (1 + 1e-9):
            return digit * power
    return power


def scale_bar(width_px: float, mpp: float, *, share: float = 0.25) -> tuple[float, str]:
    """Length of a bar in level-0 pixels, at most `share` of `width_px`, and its label.

    In microns or millimetres; in pixels where `mpp` is not known.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        length = round_length(width_px * share)
        return length, f"{length:,g} px"
    length_um = round_length(width_px * mpp * share)
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} \u00b5m"
    return length_um / mpp, label


def source_line(store: StoreView) -> str:
    """Where a picture's data are from."""
    card = store.card
    return (
        f"store {store.place.label}, version {store.version} \u00b7 encoder {card.name} "
        f"{card.fingerprint[:8]}"
    )


def drawable(text: str, most: int = 200) -> str:
    """One line of at most `most` characters, each of which the font has.

    Others become hollow squares: names come from files, and no library draws every script.
    """
    held = _glyphs()
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * most])
    line = " ".join(line.split())
    line = "".join(c if ord(c) in held else _NO_GLYPH for c in line)
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


def font_path(*, bold: bool = False) -> Path:
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib as mpl

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / name


@cache
def _glyphs() -> frozenset[int]:
    """Characters that both cuts of the font have."""
    from matplotlib.ft2font import FT2Font

    held: list[Any] = [FT2Font(str(font_path(bold=bold))).get_charmap() for bold in (False, True)]
    return frozenset(held[0]) & frozenset(held[1])
