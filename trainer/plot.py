"""A picture of a run's losses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NOT_LOSSES = {"epoch", "step", "lr", "scale", "seconds", "loss"}


def plot_losses(log: Path, path: Path) -> None:
    """Draw every loss and the learning rate of a ``log.jsonl`` into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = [json.loads(line) for line in log.read_text().splitlines()]
    epochs = [record["epoch"] for record in records]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name in (key for key in records[0] if key not in _NOT_LOSSES):
        left.plot(epochs, [record[name] for record in records], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="mean loss (nats)", ylim=(0, None), title="losses")
    left.legend(frameon=False, fontsize=8)
    right.plot(epochs, [record["scale"] for record in records], color="tab:grey")
    right.set(xlabel="epoch", ylabel="logit scale", title="logit scale")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
