"""A figure of a slide: its H&E, spots coloured by values or categories, outlines, what colours mean, scale bar.

Drawn by matplotlib's objects without pyplot, so that threads can draw at the same time.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.category_colours import category_colours
from stamp_index.export.choosing import choose_slides, each
from stamp_index.export.colour_keys import draw_colour_bar, draw_legend, legend_height
from stamp_index.export.drawing import (
    ACCENT,
    INK,
    RESEARCH,
    RULE,
    SOFT,
    drawable,
    scale_bar,
    source_line,
)
from stamp_index.export.qupath import is_square
from stamp_index.export.spot_values import SpotValues, centres_of, colour_ends, pitch_of
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.slides import SlideImage
    from stamp_index.store.view import StoreView

DPI: Final = 200  # twice what a screen shows
_WIDTH: Final = 7.0  # inches; a page's text is about as wide
_SIDE: Final = (0.8, 7.0)  # shortest and longest height of the picture, inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.15, 1.05, 0.72, 0.62  # inches around the picture
_LEGEND: Final = 1.75  # inches at its right where names of categories stand
_FADE: Final = 0.5  # how far the tissue gives way to white below coloured spots
_SAID: Final = {"measured": ", measured", "predicted": ", predicted, not measured", "label": ""}
_MARGIN: Final = 0.03  # around the spots, as a share of the longer side
_AS_PIXELS: Final = 2_000  # spots from which on SVG holds them as a picture
_MIN_RADIUS: Final = 0.45  # of a spot that would be smaller than a pixel, in points


@dataclass(frozen=True)
class SlideFigure:
    """A figure that is to be drawn.

    Attributes
    ----------
    store : Store
    slide_id : str
    spots : SpotValues, optional
        See `measured_values` and `label_values`.
    outlines : sequence of Polygon or MultiPolygon
        Regions or a lasso, in level-0 pixels.
    box_px : (left, top, right, bottom), optional
        Part of the slide, in level-0 pixels; by default what holds the spots.
    image : SlideImage, optional
        The slide's image, for detail where `box_px` is small; by default the stored overview.
    colours : {"viridis", "cividis"}
        Of numbers; both are read in grey, and by the colour-blind. Categories have the viewer's colours.
    """

    store: StoreView
    slide_id: str
    spots: SpotValues | None = None
    outlines: Sequence[Polygon | MultiPolygon] = ()
    box_px: tuple[float, float, float, float] | None = None
    image: SlideImage | None = None
    colours: Literal["viridis", "cividis"] = "viridis"

    def png(self) -> bytes:
        """Draw it as PNG at 200 dots per inch, 1400 px wide.

        Raises
        ------
        QueryError
            If the store has no such slide, or there is nothing to be drawn.
        """
        return _saved(self._draw(), "png")

    def svg(self) -> bytes:
        """Draw it as SVG, in which tissue and more than 2,000 spots are pictures; letters are outlines.

        Raises
        ------
        QueryError
            As `png`.
        """
        return _saved(self._draw(), "svg")

    # ---- drawing -----------------------------------------------------------------------------

    def _draw(self) -> Figure:
        from matplotlib.figure import Figure

        if self.colours not in ("viridis", "cividis"):
            msg = f"colours is {self.colours!r}; expected 'viridis' or 'cividis'."
            raise ValueError(msg)
        left, top, right, bottom = self._box
        wide = self._across
        high = wide * (bottom - top) / (right - left)
        if high > _SIDE[1]:  # a tall slide
            high, wide = _SIDE[1], _SIDE[1] * (right - left) / (bottom - top)
        room = max(high, _SIDE[0], self._legend_high)
        size = (_WIDTH, room + _TOP + _BOTTOM)
        figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        x0, y0 = _LEFT, _BOTTOM + room - high  # below the title
        axes = figure.add_axes((x0 / size[0], y0 / size[1], wide / size[0], high / size[1]))
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axes.spines[:].set(color=RULE, linewidth=0.6)
        self._draw_tissue(axes)
        if self.spots is not None:
            drawn = self._draw_spots(axes, self.spots, wide)
            self._draw_key(figure, drawn, (x0 + wide, y0, high))
        self._draw_outlines(axes)
        self._draw_scale_bar(figure, (x0, y0, wide))
        self._write(figure, size)
        return figure

    def _draw_tissue(self, axes: Axes) -> None:
        pixels = self._tissue()
        if pixels is None:
            return
        if self.spots is not None:
            pixels = (255.0 - (255.0 - pixels) * (1.0 - _FADE)).astype(np.uint8)
        left, top, right, bottom = self._box
        extent = (left, right, bottom, top)
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="lanczos", zorder=0)

    def _tissue(self) -> NDArray[np.uint8] | None:
        """Pixels of the part that is shown; None where no image is kept."""
        left, top, right, bottom = self._box
        most = round(self._across * DPI)
        shrink = min(1.0, most / (right - left), _SIDE[1] * DPI / (bottom - top))
        out = max(1, round((right - left) * shrink)), max(1, round((bottom - top) * shrink))
        if self.image is not None:
            return self.image.read_box(left, top, (right - left, bottom - top), out)
        stored = self.store.overview(self.slide_id)
        if stored is None:
            return None
        from PIL import Image

        with Image.open(io.BytesIO(stored), formats=["JPEG"]) as picture:
            share = picture.width / self._slide.width_px  # overview pixels per level-0 pixel
            part = picture.convert("RGB").transform(
                out,
                Image.Transform.EXTENT,
                (left * share, top * share, right * share, bottom * share),
                Image.Resampling.BICUBIC,
                fillcolor="white",
            )
            return np.asarray(part)

    def _draw_spots(self, axes: Axes, spots: SpotValues, wide: float) -> Collection:
        """Spots at true diameter, never thinner than a hair; bins as squares."""
        from matplotlib.collections import EllipseCollection, PolyCollection

        slide = self._slide
        xy = spots.xy_px[self._shown]
        px_per_point = (self._box[2] - self._box[0]) / (wide * 72)
        diameter = max(self._diameter, 2 * _MIN_RADIUS * px_per_point)
        look: dict[str, Any] = self._colours_of(spots) | {
            "linewidths": 0,
            "alpha": 0.92,
            "zorder": 1,
            "rasterized": len(xy) > _AS_PIXELS,
        }
        drawn: Collection
        if is_square(slide.platform, slide.provenance):
            corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * diameter / 2
            drawn = PolyCollection(list(xy[:, None] + corner), antialiased=False, **look)
        else:
            sides = np.full(len(xy), diameter)
            drawn = EllipseCollection(
                sides, sides, np.zeros(len(xy)), units="xy", offsets=xy,
                offset_transform=axes.transData, **look,
            )  # fmt: skip
        axes.add_collection(drawn, autolim=False)
        return drawn

    def _colours_of(self, spots: SpotValues) -> dict[str, Any]:
        """Colours for matplotlib, the same whatever part is shown."""
        from matplotlib.colors import Normalize

        values = spots.values[self._shown]
        if spots.categories:
            colours = category_colours(len(spots.categories)) / 255.0
            return {"facecolors": colours[values.astype(np.int64)]}
        low, high = colour_ends(spots.values)
        return {"array": values, "cmap": self.colours, "norm": Normalize(low, high)}

    def _draw_key(self, figure: Figure, drawn: Collection, at: tuple[float, float, float]) -> None:
        """Say what the colours mean; `at` is the picture's right, foot and height, in inches."""
        spots = self.spots
        if spots is None or not self._shown.any():
            return
        right, foot, high = at
        if not spots.categories:
            draw_colour_bar(figure, drawn, spots, at)
            return
        room = (right, _BOTTOM, foot + high - _BOTTOM)  # below a flat picture there is more
        draw_legend(figure, spots, self._shown, room)

    def _draw_outlines(self, axes: Axes) -> None:
        """Rings of every part and hole, on a white line that parts them from the tissue."""
        import shapely
        from matplotlib.collections import LineCollection

        rings = [
            shapely.get_coordinates(ring)
            for shape in self.outlines
            for part in shapely.get_parts(shape)
            for ring in (part.exterior, *part.interiors)
        ]
        for colour, width in (("white", 3.0), (ACCENT, 1.5)):
            axes.add_collection(
                LineCollection(rings, colors=colour, linewidths=width, zorder=2, capstyle="round"),
                autolim=False,
            )

    def _draw_scale_bar(self, figure: Figure, at: tuple[float, float, float]) -> None:
        """Bar with its label below the picture, where it hides nothing; `at` is left, foot and width, in inches."""
        from matplotlib.patches import Rectangle

        left, foot, wide = at
        shown = self._box[2] - self._box[0]
        length, label = scale_bar(shown, float(self._slide.mpp), share=min(0.3, 1.8 / wide))
        inches = length / shown * wide
        size = figure.get_size_inches()
        corner = (left / size[0], (foot - 0.2) / size[1])
        figure.add_artist(
            Rectangle(corner, inches / size[0], 0.04 / size[1], color=INK, linewidth=0)
        )
        place = ((left + inches + 0.08) / size[0], (foot - 0.18) / size[1])
        figure.text(*place, label, fontsize=8, color=INK, va="center_baseline")

    def _write(self, figure: Figure, size: tuple[float, float]) -> None:
        """Title, where it is from, and what it is for."""
        spots = self.spots
        title = f"Slide {drawable(self.slide_id, 60)}"
        if spots is not None:
            title = f"{drawable(spots.name, 24)} on slide {drawable(self.slide_id, 28)}"
            title += _SAID[spots.origin]
        x, top = _LEFT / size[0], size[1]
        look: dict[str, Any] = {"parse_math": False, "ha": "left", "va": "baseline"}
        figure.text(
            x,
            (top - 0.34) / top,
            drawable(title, 84),
            fontsize=11,
            weight="bold",
            color=INK,
            **look,
        )
        source = drawable(source_line(self.store), 110)
        figure.text(x, (top - 0.56) / top, source, fontsize=7.5, color=SOFT, **look)
        figure.text(x, 0.17 / top, self._count(), fontsize=7, color=SOFT, **look)
        look["ha"] = "right"
        figure.text(1 - x, 0.17 / top, RESEARCH, fontsize=7, color=SOFT, **look)

    def _count(self) -> str:
        """How many spots are shown, and where colours end."""
        if self.spots is None:
            return ""
        n, n_all = int(self._shown.sum()), len(self.spots.values)
        some = f"{n:,} spots" if n == n_all else f"{n:,} of {n_all:,} spots"
        if self.spots.categories or not n:
            return f"{some}."
        return f"{some}. Colours end at the 1st and 99th percentile of the slide."

    # ---- what is shown -----------------------------------------------------------------------

    @cached_property
    def _slide(self) -> Any:  # noqa: ANN401 - a row of the slides table
        return next(each(choose_slides(self.store, self.slide_id)))

    @property
    def _across(self) -> float:
        """Inches that the picture may be wide; what says the colours of spots needs room."""
        if self.spots is None:
            return _WIDTH - 2 * _LEFT
        return _WIDTH - _LEFT - (_LEGEND if self.spots.categories else _RIGHT)

    @property
    def _legend_high(self) -> float:
        """Inches that names of categories need, beside a flat picture too."""
        if self.spots is None or not self.spots.categories:
            return 0.0
        return legend_height(len(np.unique(self.spots.values[self._shown])))

    @cached_property
    def _diameter(self) -> float:
        """Of a spot in level-0 pixels; where the slide has no pixel size, about what Visium's have."""
        if np.isfinite(self._slide.mpp):
            return float(self._slide.spot_diameter_um / self._slide.mpp)
        centres = centres_of(self.store, self._slide)
        return Nums.VISIUM_SPOT_UM / Nums.VISIUM_PITCH_UM * pitch_of(centres)

    @cached_property
    def _shown(self) -> NDArray[np.bool_]:
        """Spots that have a value and lie in the part that is shown."""
        if self.spots is None:
            return np.zeros(0, np.bool_)
        left, top, right, bottom = self._box
        reach = self._diameter / 2
        x, y = self.spots.xy_px.T
        inside = (x > left - reach) & (x < right + reach) & (y > top - reach) & (y < bottom + reach)
        shown: NDArray[np.bool_] = inside & np.isfinite(self.spots.values)
        return shown

    @cached_property
    def _box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is shown, in level-0 pixels."""
        if self.box_px is not None:
            left, top, right, bottom = (float(value) for value in self.box_px)
            if not (left < right and top < bottom and math.isfinite(right - left + bottom - top)):
                msg = f"box_px is {self.box_px}; expected left, top, right and bottom with an area."
                raise ValueError(msg)
            return left, top, right, bottom
        xy = self.spots.xy_px if self.spots is not None else centres_of(self.store, self._slide)
        if not len(xy) or not np.isfinite(xy).all():
            msg = f"Slide '{self.slide_id}' has no spots to be drawn. Give the part to be shown as box_px."
            raise QueryError(msg)
        low, high = xy.min(axis=0), xy.max(axis=0)
        margin = max(_MARGIN * float((high - low).max()), pitch_of(xy))
        size = np.array([self._slide.width_px, self._slide.height_px], float)
        size = np.where(np.isfinite(size), size, np.inf)
        left, top = np.minimum(np.maximum(low - margin, 0.0), low)
        right, bottom = np.maximum(np.minimum(high + margin, size), high)
        return float(left), float(top), float(right), float(bottom)


def _saved(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    canvas = FigureCanvasAgg(figure) if kind == "png" else FigureCanvasSVG(figure)
    # Nothing about this machine: neither its programs nor its clock.
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    canvas.print_figure(content, format=kind, dpi=DPI, metadata=metadata, facecolor="white")
    return content.getvalue()
