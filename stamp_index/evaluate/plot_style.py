"""How the plots of a report look: inks that follow the page, colours and signs of lines, text as outlines."""

from __future__ import annotations

import io
import re
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from stamp_index.export.drawing import drawable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_Asked = ParamSpec("_Asked")

# Colours that stand for the page's own, which is light or dark: they are put in when the SVG is written.
INK: Final = "#010203"
RULE: Final = "#040506"
_OF_THE_PAGE: Final = {
    INK: "currentColor",
    RULE: "var(--rule, #d5dde2)",
    "#0072b2": "var(--series-1, #0072b2)",  # too dark for thin lines on dark paper
}

# Okabe and Ito (2008), those that can be told from white and from black paper, strongest contrast first.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
SHADE: Final = "#0072b3"  # of areas with white writing: the same on light and dark paper
LINES: Final = ("-", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (8, 2, 1, 2)), (0, (4, 1, 1, 1, 1, 1)))
_LONGEST: Final = 40  # characters of a name

_STYLE: Final[Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "stamp-index",  # the same numbers give the same file
    "text.parse_math": False,  # names hold dollars
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
}


def styled(plot: Callable[_Asked, str]) -> Callable[_Asked, str]:
    """Draw a plot in the style of reports, whatever the style of the program around it."""

    @wraps(plot)
    def drawn(*args: _Asked.args, **named: _Asked.kwargs) -> str:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return plot(*args, **named)

    return drawn


def look(place: int) -> dict[str, Any]:
    """Colour, sign and line of a series by its place, so that colour is never alone."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def name(text: object) -> str:
    """One line that can be drawn, whatever the name holds."""
    return drawable(str(text), _LONGEST) or "(no name)"


def add_legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Names to the right of the axes, where they hide nothing."""
    # A name with a leading underscore is one that matplotlib leaves out.
    shown = [f"\u200a{one}" if one.startswith("_") else one for one in names]
    axes.legend(
        handles,
        shown,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0.0,
        handlelength=3.2,
    )


def draw_level(axes: Axes, value: float, said: str, *, across: bool = True) -> Any:  # noqa: ANN401 - a Line2D
    """Draw a dashed line at a level that nothing needs to be learnt for; gives it back for the legend."""
    line = axes.axhline if across else axes.axvline
    return line(value, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1, label=said)


def svg_of(figure: Figure) -> str:
    """SVG text of a figure: only the element, with nothing about this machine and nothing to be fetched."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    nothing: Mapping[str, None] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_figure(
        content,
        format="svg",
        metadata=nothing,
        facecolor="none",
        bbox_inches="tight",
        pad_inches=0.05,
    )
    text = content.getvalue().decode()
    text = _COMMENT.sub("", text[text.index("<svg") :]).strip()  # these repeat every name
    for ours, theirs in _OF_THE_PAGE.items():
        text = text.replace(ours, theirs)
    return text
