"""Pictures of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trainer.state import read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NOT_MEASURED: Final = {
    *("epoch", "step", "lr", "scale", "seconds", "unreadable", "skipped_steps"),
    *("spots_per_s", "n_niches", "ends_epoch"),  # of stage 1
}
_VALIDATION: Final = "validation_"
_LARGEST: Final = 2**63


def is_number(value: object) -> bool:
    """Whether a value of a log can be shown: a number, and no whole one that is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < _LARGEST


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

    Several runs share the axes: one colour each, the weighted sum alone, or of stage 1 the loss on hidden genes.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for label, run in zip(run_labels(runs), runs, strict=True):
        records = whole_epochs(read_log(run))
        if len(runs) == 1:
            _draw_one(axes, records)
        else:
            _draw_among_others(axes, records, label)
    axes[0].set(xlabel="epoch", ylabel="loss", title="losses")
    axes[1].set(xlabel="epoch", ylabel="logit scale", title="logit scale")
    axes[2].set(xlabel="epoch", ylabel="recall", title="validation recall", ylim=(0, 1))
    for one, lacking in zip(axes, ("no epochs", "no logit scale", "no validation"), strict=True):
        one.spines[["top", "right"]].set_visible(False)
        if not one.lines:
            one.text(0.5, 0.5, lacking, ha="center", transform=one.transAxes)
        elif len(one.lines) < 12 and (one is not axes[1] or len(runs) > 1):
            # Beside the axes: where curves fall from the upper left, no corner stays free.
            one.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_one(axes: Sequence[Any], records: Sequence[dict[str, Any]]) -> None:
    """Every loss of a run but their sum, and every way of its recall."""
    for name in loss_names(records):
        if name != "loss":
            _draw(axes[0], records, name, marker=".", label=name)
    _draw(axes[1], records, "scale")
    for name, style in (("recall", "-"), ("image_to_gene", "--"), ("gene_to_image", ":")):
        _draw(axes[2], records, _VALIDATION + name, linestyle=style, label=name)


def _draw_among_others(axes: Sequence[Any], records: Sequence[dict[str, Any]], label: str) -> None:
    """One curve of a run on each of the axes."""
    for name in loss_names(records)[:1]:
        shown = label if name == "loss" else f"{label}: {name}"
        _draw(axes[0], records, name, marker=".", label=shown)
    _draw(axes[1], records, "scale", label=label)
    _draw(axes[2], records, f"{_VALIDATION}recall", label=label)


def _draw(one: Any, records: Sequence[dict[str, Any]], name: str, **style: str) -> None:  # noqa: ANN401 - Axes
    """Draw a value of the records that have it over their epochs."""
    points = [(record.get("epoch"), record.get(name)) for record in records]
    known = [point for point in points if all(map(is_number, point))]
    if known:
        one.plot(*zip(*known, strict=True), **style)
