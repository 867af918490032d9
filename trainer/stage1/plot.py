"""A picture of a stage-1 run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.state import read_log

if TYPE_CHECKING:
    from pathlib import Path

_PANELS = (
    ("hidden genes: loss (nats)", "igr", "probe_igr", "baseline_igr"),
    ("hidden genes: accuracy", "accuracy", "probe_accuracy", "baseline_accuracy"),
    ("centre from neighbours: loss (nats)", "cgr", "probe_cgr", "baseline_cgr"),
)


def plot_run(run: Path, path: Path, measured_on: str) -> None:
    """Draw losses and accuracy of a run's log beside the baseline into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = read_log(run)
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(13, 3.6), layout="constrained")
    for place, (title, *names) in zip(axes, _PANELS, strict=True):
        # In training a tenth of the hidden genes is shown and easily found; when measured, none.
        shown = "" if title.startswith("centre") else " (a tenth shown)"
        labels = (f"training{shown}", measured_on, f"rank frequency, {measured_on}")
        for name, label in zip(names, labels, strict=True):
            known = [(record["step"], record[name]) for record in records if name in record]
            style = "--" if label.startswith("rank") else "-"
            place.plot(
                *zip(*known, strict=True) if known else ([], []), style, marker=".", label=label
            )
        place.set(xlabel="step", title=title)
        place.legend(frameon=False, fontsize=8)
        place.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
