"""Pictures of what was measured of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from stamp_index.index.card import IndexCard

PLOT: Final = "recall.png"
_ASIDE: Final = 1.06  # times a share: lines that agree lie side by side
_DPI: Final = 150
_COLOURS: Final = {"image": "#4363a8", "gene": "#c44e52"}


def draw_card(card: IndexCard, folder: Path) -> None:
    """Draw recall against cost, and recall under filters, into ``recall.png``; nothing for exact search."""
    if not card.calibration["rungs"]:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_cost(left, card)
    _draw_filters(right, card)
    figure.suptitle(f"{card.modality} index, {card.kind}, {card.n:,} x {card.dim}")
    figure.savefig(folder / PLOT, dpi=_DPI)


def _draw_cost(axes: Axes, card: IndexCard) -> None:
    calibration = card.calibration
    for side in calibration["n_queries"]:
        best = _front([(rung["cpu_ms"], rung["recall"][side]) for rung in calibration["rungs"]])
        axes.plot(
            *zip(*best, strict=True), "o-", ms=3, color=_COLOURS[side], label=f"{side} queries"
        )
    for choice in calibration["choices"]:
        axes.axhline(choice["target"], color="0.8", lw=0.8, zorder=0)
        for side, recall in choice["recall"].items():
            axes.plot(choice["cpu_ms"], recall, "D", ms=8, mfc="none", color=_COLOURS[side])
    axes.axvline(calibration["exact_cpu_ms"], color="0.4", ls="--", lw=0.8, label="exact search")
    costs = [rung["cpu_ms"] for rung in calibration["rungs"]]
    _log_axis(axes, (min(costs), max(*costs, calibration["exact_cpu_ms"])))
    axes.set(xlabel="CPU ms a query, one thread", ylabel="recall@10 of exact search")
    axes.set_title("every setting; diamonds: chosen, on other queries", fontsize=9)
    axes.legend(loc="best", fontsize=8)


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of which none cheaper has a higher recall."""
    out: list[tuple[float, float]] = []
    for cost, recall in sorted(points):
        if not out or recall > out[-1][1]:
            out.append((cost, recall))
    return out


def _draw_filters(axes: Axes, card: IndexCard) -> None:
    filters: list[dict[str, Any]] = card.calibration["filters"]
    for side in card.calibration["n_queries"]:
        for follows, style in ((False, "o-"), (True, "s--")):
            aside = _ASIDE ** (-1 if follows else 1) * _ASIDE ** (0.5 if side == "gene" else -0.5)
            line = [
                (one["share"] * aside, one["recall"][side])
                for one in filters
                if one["follows"] is follows
            ]
            if line:
                name = "that follow the lists" if follows else "at random"
                label = f"{side} queries, filters {name}"
                axes.plot(*zip(*line, strict=True), style, ms=4, color=_COLOURS[side], label=label)
    lowest = min((value for one in filters for value in one["recall"].values()), default=1.0)
    axes.set(xscale="log", xlabel="share of rows that a filter allows", ylabel="recall@10")
    axes.set_ylim(min(lowest - 0.01, 0.94), 1.005)
    shares = sorted({one["share"] for one in filters})
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_title("under filters, at the settings of the highest target", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)


def _log_axis(axes: Axes, ends: tuple[float, float]) -> None:
    """Logarithmic x axis over positive numbers, with 1, 2 and 5 of each decade in plain figures."""
    ticks = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
    low, high = ends[0] / 1.3, ends[1] * 1.3
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set(xscale="log", xlim=(low, high))
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown], minor=False)
    axes.set_xticks([], minor=True)
