"""A run's numbers: how well it does beside what guessing gives, and where it fails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from app import probe_map, probe_markup
from app.markup import facts, plain
from app.probe_markup import Bar, number, spread
from app.probe_runs import name_of

if TYPE_CHECKING:
    from app.probe_runs import Run
    from app.stores import Opened
    from stamp_index.evaluate import ProbeResult

NAMES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "r2": "R²",
}
LEVELS = {
    "random_features": "Random features",
    "stratified": "Guesses by frequency",
    "majority": "Always the commonest class",
    "train_mean": "Always the mean",
}
DOTS = 1500  # of the scatter plot


def show(opened: Opened, run: Run) -> None:
    """Everything about one run."""
    result = run.result()
    st.subheader(f"Run {run.short}: {plain(name_of(result.settings))}", anchor=False)
    top, side = st.columns([0.6, 0.4], gap="large", vertical_alignment="center")
    with top:
        _headline(result)
    with side:
        st.html(probe_markup.level_bars(_bars(result), result.chance))
    for warning in result.warnings:
        st.warning(plain(warning))
    left, right = st.columns([0.46, 0.54], gap="large")
    with left:
        if result.classes:
            _classes(result)
        else:
            _gene(result)
    with right:
        probe_map.show(opened, run)
    _small_print(run, result)


def _headline(result: ProbeResult) -> None:
    level, metric = result.level, result.metric
    random = result.levels["random_features"]
    others = [
        ("chance", number(result.chance)),
        ("random features", spread(random.mean[metric], random.sd[metric])),
    ]
    others += [
        (NAMES[name], spread(level.mean[name], level.sd[name]))
        for name in level.mean
        if name != metric
    ]
    main = NAMES[metric], spread(level.mean[metric], level.sd[metric])
    st.html(probe_markup.headline(main, others))
    n = len(result.folds)
    st.caption(
        f"Mean ± SD over {n} folds of {_groups(result)}, each tested on spots that its probe never saw."
    )


def _groups(result: ProbeResult) -> str:
    unit = "single spot" if result.settings.split == "spot" else result.settings.split
    return f"{result.counts.groups:,} {unit}s"


def _bars(result: ProbeResult) -> list[Bar]:
    metric = result.metric
    bars = [Bar("This probe", result.level.mean[metric], result.level.sd[metric])]
    for name, words in LEVELS.items():
        level = result.levels.get(name)
        if level is not None and math.isfinite(level.mean[metric]):
            bars.append(Bar(words, level.mean[metric], level.sd[metric], "level"))
    return bars


def _classes(result: ProbeResult) -> None:
    st.markdown("**What was taken for what**, % of each class")
    st.html(probe_markup.confusion_table(result.classes, result.confusion))
    st.caption("Blank: never. A dot: less than half of one per cent. Hover for the counts.")
    st.markdown("**Found of each class**")
    st.html(probe_markup.recall_bars(result.per_class))


def _gene(result: ProbeResult) -> None:
    st.markdown("**Fold by fold**")
    _folds(result)
    held = result.predictions
    at = np.arange(len(held.rows))
    if len(at) > DOTS:
        at = np.random.default_rng(0).choice(at, DOTS, replace=False)
    st.markdown(f"**Predicted against measured**, {plain(str(result.settings.gene))}, log1p CP10K")
    st.scatter_chart(
        pd.DataFrame({"measured": held.truth[at], "predicted": held.predicted[at]}),
        x="measured",
        y="predicted",
        size=18,
        color="#0f6e8466",
        height=300,
        alt="Predicted expression of each spot against what was measured",
    )
    if len(held.rows) > DOTS:
        st.caption(f"{DOTS:,} of {len(held.rows):,} spots, a random sample.")


def _folds(result: ProbeResult) -> None:
    names = list(result.level.mean)
    head = ["Held out", "Spots", "Trained on", "C", *(NAMES[name] for name in names)]
    rows = [
        [
            _held_out(fold.held_out) or f"part {fold.number}",
            f"{fold.n_test:,}",
            f"{fold.n_train:,}",
            f"{fold.C:.3g}",
            *(number(fold.scores[name]) for name in names),
        ]
        for fold in result.folds
    ]
    st.html(probe_markup.rows_table(head, rows))


def _held_out(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _small_print(run: Run, result: ProbeResult) -> None:
    """Folds, what was left out, and what the run was made of."""
    title = "Folds, notes and provenance" if result.classes else "Notes and provenance"
    with st.expander(title):
        if result.classes:
            _folds(result)
        for note in result.notes:
            st.caption(plain(note))
        st.html(facts(_provenance(run, result)))


def _provenance(run: Run, result: ProbeResult) -> list[tuple[str, str]]:
    source, counts, settings = result.source, result.counts, result.settings
    limit = "all" if settings.max_spots is None else f"at most {settings.max_spots:,}"
    rows = [
        ("Store", f"{source.store_path}, version {source.store_version}"),
        ("Encoder", f"{source.encoder} {source.fingerprint[:12]}"),
        ("Spots", f"{counts.spots:,} ({limit})"),
        ("Held out in", f"{_groups(result)}, {len(result.folds)} folds"),
        ("Slides", f"{counts.slides:,}, of {counts.patients:,} known patients"),
        ("C", "chosen in each fold" if settings.C is None else f"{settings.C:g}"),
        ("Seed", str(settings.seed)),
        ("Split", source.split_hash),
        ("Took", f"{run.view.elapsed_s:.1f} s"),
    ]
    if settings.split == "block":
        buffer = (
            "what the encoder sees" if settings.buffer_um is None else f"{settings.buffer_um:g} µm"
        )
        rows.insert(4, ("Blocks", f"{settings.block_um:g} µm wide; {buffer} left out around them"))
    return rows
