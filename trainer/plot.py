"""Pictures of runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from trainer.state import best_record, is_number, read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NOT_MEASURED: Final = {
    *("epoch", "step", "lr", "scale", "seconds", "unreadable", "skipped_steps"),
    *("spots_per_s", "n_niches", "ends_epoch"),  # of stage 1
}
_VALIDATION: Final = "validation_"
_RECALL: Final = f"{_VALIDATION}recall"
_N_COLOURS: Final = 10  # of matplotlib's cycle
_LINES: Final = ("-", "--", ":", "-.")
_LETTER_IN: Final = 0.07  # inches of a letter and of a line in a legend
_LINE_IN: Final = 0.2
_SIDE: Final = 0.3  # epochs left free on either side
_WIDE: Final = 30  # largest loss to smallest, above which the axis is logarithmic


def whole_epochs(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the records that end an epoch: all of stage 2; stage 1 also logs parts of its epochs."""
    return [record for record in records if record.get("ends_epoch", "igr" not in record)]


def measured_names(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the losses in a log, the weighted sum first, and of stage 1's accuracies."""
    names = dict.fromkeys(
        key for record in records for key, value in record.items() if is_number(value)
    )
    return [n for n in names if n not in _NOT_MEASURED and not n.startswith(_VALIDATION)]


def loss_names(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the losses in a log, the weighted sum first; stage 1 logs none, and its first is ``igr``."""
    return [name for name in measured_names(records) if not name.endswith("accuracy")]


def run_labels(runs: Sequence[Path]) -> list[str]:
    """Name each run by the shortest end of its path that no other run's path has."""
    paths = [run.absolute() for run in runs]
    return [_shortest(path, [other for other in paths if other != path]) for path in paths]


def _shortest(path: Path, others: Sequence[Path]) -> str:
    for n in range(1, len(path.parts)):
        end = path.parts[-n:]
        if all(other.parts[-n:] != end for other in others):
            return "/".join(end)
    return str(path)


def plot_curves(runs: Sequence[Path], path: Path) -> None:
    """Draw the losses, the logit scale and the validation recall of runs into one PNG.

    One run shows every loss, the recall of both directions and the epoch whose weights it keeps. Several share the
    axes, one colour each: the recall, and the weighted sum (of stage 1 the loss on hidden genes) as a share of its
    first value, since sums of different losses cannot be held against each other.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels = run_labels(runs)
    logs = [whole_epochs(read_log(run)) for run in runs]
    several = len(runs) > 1
    # Room beside the axes for the names of the runs, and below for as many as there are.
    wide = _LETTER_IN * max(map(len, labels)) if several else 0.0
    size = (13 + wide, max(3.8, _LINE_IN * (len(runs) + 3)))
    figure, axes = plt.subplots(1, 3, figsize=size, layout="constrained")
    for number, (label, records) in enumerate(zip(labels, logs, strict=True)):
        if several:
            _draw_among_others(axes, records, label, _style(number))
        else:
            _draw_one(axes, records)
    _draw_chance(axes[2], logs)
    _finish(axes, several=several)
    _add_legends(figure, axes, several=several)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _style(number: int) -> dict[str, Any]:
    """Give a run its colour, and another line where the colours begin again."""
    line = _LINES[number // _N_COLOURS % len(_LINES)]
    return {"color": f"C{number % _N_COLOURS}", "linestyle": line}


def _draw_one(axes: Sequence[Any], records: Sequence[dict[str, Any]]) -> None:
    """Every loss of a run but their sum, and every way of its recall."""
    names = [name for name in loss_names(records) if name != "loss"]
    for number, name in enumerate(names):
        _draw(axes[0], _points(records, name), label=name, **_style(number))
    _draw(axes[1], _points(records, "scale"), color="C0")
    for name, style in (("image_to_gene", "--"), ("gene_to_image", ":")):
        _draw(
            axes[2], _points(records, _VALIDATION + name), label=name, linestyle=style, color="C0"
        )
    _draw(axes[2], _points(records, _RECALL), label="mean of both", color="C0")
    _draw_kept(axes[2], records, label="weights kept", color="C0")


def _draw_among_others(
    axes: Sequence[Any], records: Sequence[dict[str, Any]], label: str, style: dict[str, Any]
) -> None:
    """One curve of a run on each of the axes."""
    for name in loss_names(records)[:1]:
        shown = label if name == "loss" else f"{label}: {name}"
        _draw(axes[0], _relative(_points(records, name)), label=shown, **style)
    _draw(axes[1], _points(records, "scale"), label=label, **style)
    recall = _points(records, _RECALL)
    if len(recall) == 1:  # a run without steps: what the others can be held against at every epoch
        axes[2].axhline(recall[0][1], linewidth=1, **style)
    _draw(axes[2], recall, label=label, **style)
    _draw_kept(axes[2], records, label="_kept", color=style["color"])


def _points(records: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Epochs and values of the records that have a number under that name."""
    points = [(record.get("epoch"), record.get(name)) for record in records]
    known = [(float(x), float(y)) for x, y in points if is_number(x) and is_number(y)]
    return [point for point in known if all(map(math.isfinite, point))]


def _relative(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Values as shares of the first one; none where that is no length to measure by."""
    first = points[0][1] if points else 0.0
    return [(x, y / first) for x, y in points] if first > 0 else []


def _draw(one: Any, points: list[tuple[float, float]], **style: Any) -> None:  # noqa: ANN401 - Axes
    if points:
        one.plot(*zip(*points, strict=True), marker=".", **style)


def _draw_kept(one: Any, records: Sequence[dict[str, Any]], **style: Any) -> None:  # noqa: ANN401 - Axes
    """Put a ring around the epoch whose weights a run keeps."""
    best = best_record(records)
    if best is not None:
        one.plot(
            [best["epoch"]], [best[_RECALL]],
            linestyle="", marker="o", markersize=9, fillstyle="none", **style,
        )  # fmt: skip


def _draw_chance(one: Any, logs: Sequence[Sequence[dict[str, Any]]]) -> None:  # noqa: ANN401 - Axes
    """Draw the recall of an order drawn by lot, one line for each size of validation slides."""
    found = {y for records in logs for _, y in _points(records, f"{_VALIDATION}chance")}
    for chance in sorted(found):
        one.axhline(chance, color="0.5", linestyle="--", linewidth=1, label=f"chance {chance:.3g}")


def _finish(axes: Sequence[Any], *, several: bool) -> None:
    """Name the axes and fit them to what was drawn."""
    from matplotlib.ticker import MaxNLocator

    if several:
        axes[0].set(ylabel="loss, as a share of its first value", title="weighted loss")
    else:
        axes[0].set(ylabel="loss", title="losses")
    axes[1].set(ylabel="logit scale", title="logit scale")
    ringed = " (ring: weights kept)" if several and axes[2].lines else ""
    axes[2].set(ylabel="recall", title=f"validation recall{ringed}")
    drawn = [x for one in axes for line in one.lines for x in line.get_xdata(orig=False)]
    last = max([1.0, *drawn])
    side = max(_SIDE, 0.02 * last)
    for one, lacking in zip(axes, ("no epochs", "no logit scale", "no validation"), strict=True):
        one.spines[["top", "right"]].set_visible(False)
        one.set_xlabel("epoch")
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not one.lines:
            one.set(xticks=[], yticks=[])
            one.text(0.5, 0.5, lacking, ha="center", transform=one.transAxes)
        elif one is axes[0]:
            values = [y for line in one.lines for y in line.get_ydata()]
            if 0 < _WIDE * min(values) < max(values):  # a term of thousandths beside one of tens
                one.set_yscale("log")
        else:
            # Where nothing was found, the whole of it: an axis needs an end.
            one.set_ylim(0, 1.05 * max(max(line.get_ydata()) for line in one.lines) or 1)
        one.set_xlim(-side, last + side)


def _add_legends(figure: Any, axes: Sequence[Any], *, several: bool) -> None:  # noqa: ANN401 - Figure
    """Beside the axes: where curves fall from the upper left, no corner stays free."""
    look = {"frameon": False, "fontsize": 9}
    if several:
        handles = {
            label: handle
            for one in (axes[2], axes[1], axes[0])
            for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside right upper", **look)
        return
    for one in (axes[0], axes[2]):
        if one.lines:
            one.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), **look)
