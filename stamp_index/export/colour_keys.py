"""What the colours of a figure mean, beside its picture: a colour bar for numbers, a legend for categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.export.category_colours import category_colours
from stamp_index.export.drawing import INK, SOFT, drawable, font_path

if TYPE_CHECKING:
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from stamp_index.export.spot_values import SpotValues

_GAP: Final = 0.14  # inches between picture and colours
_HIGHEST: Final = 2.4  # inches of a colour bar
_SWATCH: Final = 0.11  # inches
_LINE: Final = 0.17  # inches from one name to the next
_EDGE: Final = 0.12  # inches that stay free at the page's right
_FEWEST: Final = 10  # names for which there is room beside the flattest picture
_NAME_POINTS: Final = 7.0
_TITLE_POINTS: Final = 7.5


def draw_colour_bar(
    figure: Figure, drawn: Collection, spots: SpotValues, at: tuple[float, float, float]
) -> None:
    """Colour bar, at most 2.4 inches high, beside the picture; `at` is its right, foot and height, in inches."""
    right, foot, height = at
    wide, tall = figure.get_size_inches()
    high = min(height, _HIGHEST)
    axes = figure.add_axes(
        ((right + _GAP) / wide, (foot + height - high) / tall, 0.13 / wide, high / tall)
    )
    bar = figure.colorbar(drawn, cax=axes)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)
    axes.tick_params(length=0, labelsize=_NAME_POINTS, labelcolor=INK, pad=3)
    name = ", ".join(drawable(text, 24) for text in (spots.name, spots.unit) if text)
    axes.set_ylabel(name, fontsize=_TITLE_POINTS, color=INK, labelpad=4, parse_math=False)


def legend_height(n: int) -> float:
    """Inches that the names of `n` categories need; of many, those that every figure has room for."""
    return (min(n, _FEWEST) + 1) * _LINE


def draw_legend(
    figure: Figure,
    spots: SpotValues,
    shown: NDArray[np.bool_],
    at: tuple[float, float, float],
) -> None:
    """Names of the categories of the spots that are shown, those with most spots first.

    Parameters
    ----------
    figure : Figure
    spots : SpotValues
        Of categories.
    shown : bool array of shape (n,)
        Spots that have a value and are drawn.
    at : (left, foot, height)
        Room for it, in inches. Names that do not fit are counted in its last line.
    """
    from matplotlib.patches import Rectangle

    colours = category_colours(len(spots.categories)) / 255.0
    left, foot, height = at
    wide, tall = figure.get_size_inches()
    look: dict[str, Any] = {"parse_math": False, "ha": "left", "va": "center_baseline"}
    top = foot + height - _LINE / 2
    held, n_more = _named(spots, shown, max(1, int(height / _LINE + 1e-6) - 1))
    room = wide - left - _GAP - _EDGE
    title = _fitted(spots.name, room, _TITLE_POINTS)
    place = (left + _GAP) / wide
    figure.text(place, top / tall, title, fontsize=_TITLE_POINTS, color=INK, **look)
    for line, code in enumerate(held, start=1):
        y = top - line * _LINE
        figure.add_artist(
            Rectangle(
                (place, (y - _SWATCH / 2) / tall), _SWATCH / wide, _SWATCH / tall,
                color=colours[code], linewidth=0,
            )
        )  # fmt: skip
        name = _fitted(spots.categories[code], room - _SWATCH - 0.07, _NAME_POINTS)
        x = place + (_SWATCH + 0.07) / wide
        figure.text(x, y / tall, name, fontsize=_NAME_POINTS, color=INK, **look)
    if n_more:
        y = (top - (len(held) + 1) * _LINE) / tall
        figure.text(place, y, f"and {n_more:,} more", fontsize=_NAME_POINTS, color=SOFT, **look)


def _named(spots: SpotValues, shown: NDArray[np.bool_], n_lines: int) -> tuple[list[int], int]:
    """Codes of the categories that are named, and how many others there are."""
    codes = spots.values[shown].astype(np.int64)
    n_spots = np.bincount(codes, minlength=len(spots.categories))
    order = np.argsort(-n_spots, kind="stable")[: np.count_nonzero(n_spots)].tolist()
    if len(order) <= n_lines:
        return order, 0
    return order[: n_lines - 1], len(order) - n_lines + 1


def _fitted(text: str, inches: float, points: float) -> str:
    """As much of a name as fits a width."""
    from PIL import ImageFont

    font = ImageFont.truetype(font_path(), 100, layout_engine=ImageFont.Layout.BASIC)
    most = 100 * inches * 72 / points
    fits = next((n for n in range(60, 1, -1) if font.getlength(drawable(text, n)) <= most), 1)
    return drawable(text, fits)
