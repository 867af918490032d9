"""Pictures of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.state import read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NOT_LOSSES: Final = {"epoch", "step", "lr", "scale", "seconds", "unreadable"}
_VALIDATION: Final = "validation_"


def loss_names(records: Sequence[dict[str, object]]) -> list[str]:
    """Names of the losses in a log, the weighted sum first."""
    names = dict.fromkeys(key for record in records for key in record)
    return [n for n in names if n not in _NOT_LOSSES and not n.startswith(_VALIDATION)]


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

    Several runs share the axes: one colour each, the weighted sum alone.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    logs = [(label, read_log(run)) for label, run in zip(run_labels(runs), runs, strict=True)]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for name, records in logs:
        epochs = [record["epoch"] for record in records]
        shown = [n for n in loss_names(records) if n != "loss"] if len(logs) == 1 else ["loss"]
        for loss in shown:
            label = loss if len(logs) == 1 else name
            axes[0].plot(epochs, [r.get(loss) for r in records], marker=".", label=label)
        axes[1].plot(epochs, [r.get("scale") for r in records], label=name)  # stage 1 has none
        for key, style in (("recall", "-"), ("image_to_gene", "--"), ("gene_to_image", ":")):
            values = [r.get(_VALIDATION + key) for r in records]
            if any(value is not None for value in values) and (key == "recall" or len(logs) == 1):
                label = key if len(logs) == 1 else name
                axes[2].plot(epochs, values, style, label=label)
    axes[0].set(xlabel="epoch", ylabel="mean loss (nats)", title="losses")
    axes[1].set(xlabel="epoch", ylabel="logit scale", title="logit scale")
    axes[2].set(xlabel="epoch", ylabel="recall", title="validation recall", ylim=(0, 1))
    if not axes[2].lines:
        axes[2].text(0.5, 0.5, "no validation slides", ha="center", transform=axes[2].transAxes)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        if one.lines and len(one.lines) < 12 and (one is not axes[1] or len(logs) > 1):
            # Beside the axes: where curves fall from the upper left, no corner stays free.
            one.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    plt.close(figure)
