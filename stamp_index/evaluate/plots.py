"""Plots of a report: numbers in, SVG text out. Chance is a dashed line; colour never tells something alone.

A series is a mapping with ``name``, ``values`` and, where an interval is known, ``low`` and ``high``: the ends of it.
None and NaN are gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.plot_style import (
    COLOURS,
    INK,
    MARKERS,
    RULE,
    SHADE,
    add_legend,
    draw_level,
    look,
    name,
    styled,
    svg_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Series = Mapping[str, Any]
Numbers = Sequence[float | None]

_HEIGHT: Final = 3.1  # inches of a plot
_WIDTH: Final = 5.2  # inches, without the legend
_MOST_CLASSES: Final = 25  # of a confusion matrix with numbers in it
_N_NAMED: Final = 8


def draw(kind: str, data: Mapping[str, Any]) -> str:
    """Draw the plot of a kind; `data` holds the arguments of the function of that name.

    Raises
    ------
    EvaluationError
        If there is no such kind, or its data lack something or do not fit together.
    """
    if kind not in KINDS:
        msg = f"There is no plot of kind {kind!r}; the kinds are {', '.join(KINDS)}."
        raise EvaluationError(msg)
    try:
        return KINDS[kind](**data)
    except (TypeError, KeyError, ValueError) as exc:
        msg = f"The data of a {kind} plot do not fit: {exc}. They are {sorted(data)}."
        raise EvaluationError(msg) from exc


@styled
def recall_curve(
    *,
    k: Sequence[int],
    series: Sequence[Series],
    chance: Numbers | None = None,
    y_label: str = "recall@k over the whole gallery",
) -> str:
    """Share of queries whose own spot is among the first k, by k on a logarithmic axis.

    Parameters
    ----------
    k : sequence of int
        Cut-offs, ascending, at least 1.
    series : sequence of mapping
        ``values`` in [0, 1], one for each k.
    chance : sequence of float, optional
        What a random order gives at each k.
    y_label : str
    """
    figure, axes = _axes()
    handles = _draw_lines(axes, np.asarray(k, float), series)
    names = [name(one["name"]) for one in series]
    if chance is not None:
        dashes: dict[str, Any] = {
            "color": INK,
            "linewidth": 1.0,
            "linestyle": (0, (4, 3)),
            "zorder": 1,
        }
        handles += axes.plot(k, _numbers(chance), **dashes)
        names.append("chance")
    _count_axis(axes, k, "k, number of hits that are looked at")
    _share_axis(axes, y_label)
    add_legend(axes, handles, names)
    return svg_of(figure)


@styled
def recall_by_cost(
    *,
    series: Sequence[Mapping[str, Any]],
    exact_cpu_ms: float,
    y_label: str = "recall@10 of exact search",
) -> str:
    """Best recall that settings of an index reach at a cost, and what exact search costs.

    Parameters
    ----------
    series : sequence of mapping
        ``name``, ``cost`` (CPU ms of a query, above 0) and ``values`` in [0, 1], in the order of rising cost.
    exact_cpu_ms : float
        A dashed line.
    y_label : str
    """
    figure, axes = _axes()
    handles: list[Any] = []
    for place, one in enumerate(series):
        handles += axes.plot(_numbers(one["cost"]), _numbers(one["values"]), **look(place))
    handles.append(axes.axvline(exact_cpu_ms, color=INK, linewidth=1.0, linestyle=(0, (4, 3))))
    _cost_axis(axes)
    axes.grid(visible=True, axis="y")
    axes.set_ylabel(name(y_label))
    add_legend(axes, handles, [*(name(one["name"]) for one in series), "exact search"])
    return svg_of(figure)


@styled
def few_shot(
    *,
    shots: Sequence[int],
    series: Sequence[Series],
    chance: float | None = None,
    y_label: str = "balanced accuracy",
) -> str:
    """Score by number of labelled spots of each class, on a logarithmic axis.

    Parameters
    ----------
    shots : sequence of int
        Labelled spots per class, ascending, at least 1.
    series : sequence of mapping
        ``values`` in [0, 1], one for each number.
    chance : float, optional
    y_label : str
    """
    figure, axes = _axes()
    handles = _draw_lines(axes, np.asarray(shots, float), series)
    names = [name(one["name"]) for one in series]
    if chance is not None:
        handles.append(draw_level(axes, chance, "chance"))
        names.append(f"chance, {chance:.3g}")
    _count_axis(axes, shots, "labelled spots of each class")
    _share_axis(axes, y_label)
    add_legend(axes, handles, names)
    return svg_of(figure)


@styled
def bars_with_interval(
    *,
    labels: Sequence[str],
    series: Sequence[Series],
    chance: float | None = None,
    x_label: str = "score",
) -> str:
    """Lying bars with their intervals, one group for each label.

    Parameters
    ----------
    labels : sequence of str
        Names of the groups, from the top.
    series : sequence of mapping
        ``values``, one for each label.
    chance : float, optional
    x_label : str
    """
    n_bars = max(1, len(labels) * len(series))
    figure, axes = _axes(height=max(1.2, 0.55 + 0.21 * n_bars + 0.12 * len(labels)))
    tall = 0.8 / max(1, len(series))
    at = np.arange(len(labels), dtype=float)
    handles = [
        _draw_bars(axes, at + (place - (len(series) - 1) / 2) * tall, one, (place, tall))
        for place, one in enumerate(series)
    ]
    names = [name(one["name"]) for one in series]
    if chance is not None:
        handles.append(draw_level(axes, chance, "chance", across=False))
        names.append(f"chance, {chance:.3g}")
    if chance != 0.0:
        axes.axvline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes.set_yticks(at, [name(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(name(x_label))
    if len(handles) > 1:
        add_legend(axes, handles, names)
    return svg_of(figure)


@styled
def per_gene_scatter(
    *,
    genes: Sequence[str],
    x: Numbers,
    y: Numbers,
    x_label: str,
    y_label: str,
    is_same_measure: bool = False,
) -> str:
    """One point for each gene; the genes at the top, and those farthest from the line, are named.

    Parameters
    ----------
    genes : sequence of str
    x, y : sequence of float
        Two numbers of each gene.
    x_label, y_label : str
        What they are, with units.
    is_same_measure : bool
        Both axes then have one scale and a dashed line where both are equal.
    """
    figure, axes = _axes(*((3.8, 3.8) if is_same_measure else ()))
    xy = np.column_stack([_numbers(x), _numbers(y)])
    if len(genes) != len(xy):
        msg = f"{len(genes)} genes have {len(xy)} points"
        raise ValueError(msg)
    drawn = np.flatnonzero(np.isfinite(xy).all(axis=1))
    axes.scatter(
        xy[drawn, 0], xy[drawn, 1], s=16, color=COLOURS[0], alpha=0.7, linewidths=0, zorder=2
    )
    if is_same_measure and len(drawn):
        ends = [float(xy[drawn].min()), float(xy[drawn].max())]
        axes.plot(ends, ends, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.set_aspect("equal", adjustable="datalim")
    outstanding = xy[drawn, 1] - xy[drawn, 0] if is_same_measure else xy[drawn, 1]
    for at in drawn[np.argsort(-np.abs(outstanding), kind="stable")[:_N_NAMED]]:
        axes.annotate(
            name(genes[at]), xy[at], (4, 2), textcoords="offset points", fontsize=7.5, color=INK
        )
    axes.grid(visible=True)
    axes.set(xlabel=name(x_label), ylabel=name(y_label))
    return svg_of(figure)


@styled
def confusion(*, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """How many spots of each class (rows) were taken for each class (columns); the shade is the share of the row.

    Parameters
    ----------
    classes : sequence of str
    counts : (k, k) of int
    """
    table = np.asarray(counts, float).reshape(len(classes), len(classes))
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    side = min(6.5, max(1.6, 0.46 * len(classes)))
    figure, axes = _axes(side, side)
    for row, column in np.ndindex(*share.shape):
        _draw_cell(axes, (row, column), float(share[row, column]))
        if len(classes) <= _MOST_CLASSES and table[row, column]:
            axes.text(
                column + 0.5, row + 0.5, f"{table[row, column]:,.0f}", ha="center", va="center",
                color="white" if share[row, column] > 0.5 else INK,
                fontsize=8.5 if len(classes) <= 10 else 6.0,
            )  # fmt: skip
    names = [name(one) for one in classes]
    axes.set_xticks(
        np.arange(len(names)) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    axes.set(xlabel="predicted class (shade: share of the true class)", ylabel="true class")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return svg_of(figure)


KINDS: Final[dict[str, Callable[..., str]]] = {
    "recall_curve": recall_curve,
    "recall_by_cost": recall_by_cost,
    "bars_with_interval": bars_with_interval,
    "per_gene_scatter": per_gene_scatter,
    "few_shot": few_shot,
    "confusion": confusion,
}


def _axes(width: float = _WIDTH, height: float = _HEIGHT) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes((0.0, 0.0, 1.0, 1.0))


def _numbers(values: Numbers) -> NDArray[np.float64]:
    """Floats, NaN for None."""
    return np.array([np.nan if one is None else one for one in values], np.float64)


def _ends(one: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Take the ends of the intervals, where there are any."""
    if one.get("low") is None or one.get("high") is None:
        return None
    return _numbers(one["low"]), _numbers(one["high"])


def _draw_lines(axes: Axes, x: NDArray[np.float64], series: Sequence[Series]) -> list[Any]:
    """Lines with their intervals as bands."""
    handles = []
    for place, one in enumerate(series):
        handles += axes.plot(x, _numbers(one["values"]), **look(place), zorder=3)
        ends = _ends(one)
        if ends is not None:
            axes.fill_between(
                x, *ends, color=COLOURS[place % len(COLOURS)], alpha=0.16, linewidth=0
            )
    return handles


def _draw_bars(axes: Axes, at: NDArray[np.float64], one: Series, form: tuple[int, float]) -> Any:  # noqa: ANN401
    """Bars of one series, their values in the middle of the intervals; a sign at the tip tells series apart."""
    place, tall = form
    values, colour = _numbers(one["values"]), COLOURS[place % len(COLOURS)]
    bars = axes.barh(at, np.nan_to_num(values), tall * 0.86, color=colour, alpha=0.45, zorder=2)
    ends = _ends(one)
    if ends is not None:
        axes.hlines(at, *ends, color=INK, linewidth=1.2, zorder=3)
    tips = axes.plot(
        values, at, MARKERS[place % len(MARKERS)], color=colour, markeredgecolor=INK,
        markeredgewidth=0.6, zorder=4,
    )  # fmt: skip
    return (bars, tips[0])


def _draw_cell(axes: Axes, at: tuple[int, int], share: float) -> None:
    from matplotlib.patches import Rectangle

    row, column = at
    # What shines through is the page, so that few spots are near its own colour on light and on dark.
    shade: dict[str, Any] = {"facecolor": SHADE, "alpha": share, "linewidth": 0}
    axes.add_patch(Rectangle((column, row), 1, 1, **shade))
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=RULE, linewidth=0.8))


def _count_axis(axes: Axes, counts: Sequence[int], said: str) -> None:
    """Logarithmic x axis with a tick at every count."""
    axes.set_xscale("log")
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(said)


def _cost_axis(axes: Axes) -> None:
    """Logarithmic x axis of CPU milliseconds; plain numbers, as the style draws no formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("CPU ms a query, one thread")


def _share_axis(axes: Axes, said: str) -> None:
    """Y axis of shares: from 0, to 1 where the values come near."""
    top = axes.get_ylim()[1]
    axes.set_ylim(0.0, 1.02 if top > 0.7 else top)  # signs at 1 are whole
    axes.grid(visible=True, axis="y")
    axes.set_ylabel(name(said))
