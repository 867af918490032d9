"""The session's runs: a table, two beside each other, and what can be taken away."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from app import probe_markup
from app.markup import plain
from app.probe_markup import number, spread
from app.probe_result import NAMES
from app.probe_runs import JOB, name_of
from app.settings import as_shown
from stamp_index.export import table_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.probe_runs import Run
    from app.stores import Opened
    from stamp_index.evaluate import ProbeResult

AGAINST = "against"  # in the address
NOBODY = ""


def show(opened: Opened, shown: Run, done: Sequence[Run]) -> None:
    """Downloads of the shown run; all runs, and a comparison with another one."""
    _downloads(shown)
    st.subheader("Runs", anchor=False)
    st.dataframe(
        runs_table(done, shown),
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(done), 250),
        column_config={"s": st.column_config.NumberColumn(format="%.1f")},
    )
    if len(done) < 2:
        st.caption("Run another probe to compare the two.")
        return
    other = _choose(shown, done)
    if other is not None:
        _compare(shown, other)


def runs_table(runs: Sequence[Run], shown: Run) -> pd.DataFrame:
    """One row for each run, the newest first."""
    return pd.DataFrame(
        [_row(run, " (shown)" if run.ticket == shown.ticket else "") for run in runs]
    )


def _row(run: Run, mark: str) -> dict[str, object]:
    result = run.result()
    settings, metric = result.settings, result.metric
    return {
        "run": run.short + mark,
        "probed for": settings.label or settings.gene,
        "features": settings.features,
        "held out by": "single spot" if settings.split == "spot" else settings.split,
        "measure": NAMES[metric],
        "mean ± SD": spread(result.level.mean[metric], result.level.sd[metric]),
        "chance": number(result.chance),
        "random features": number(result.levels["random_features"].mean[metric]),
        "spots": f"{result.counts.spots:,}",
        "version": str(result.source.store_version),
        "s": run.view.elapsed_s,
    }


def _choose(shown: Run, done: Sequence[Run]) -> Run | None:
    """Which run is shown, and which one stands beside it."""
    by_ticket = {run.ticket: run for run in done}

    def name(ticket: str) -> str:
        if ticket == NOBODY:
            return "nothing"
        settings = by_ticket[ticket].result().settings
        return f"{by_ticket[ticket].short} · {settings.label or settings.gene} · {settings.features} · {settings.split}"

    st.session_state["showrun"] = shown.ticket  # the address says which
    metric = shown.result().metric  # classes are not compared with a gene
    alike = [run.ticket for run in done if run.result().metric == metric]
    others = [NOBODY, *(ticket for ticket in alike if ticket != shown.ticket)]
    asked = st.query_params.get(AGAINST, NOBODY)
    st.session_state["comparerun"] = asked if asked in others else NOBODY
    with st.container(horizontal=True, gap="small"):
        for title, options, key, target in (
            ("Show run", list(by_ticket), "showrun", JOB),
            ("Compare with", others, "comparerun", AGAINST),
        ):
            st.selectbox(
                title,
                options,
                format_func=name,
                key=key,
                on_change=_into_address,
                args=(key, target),
                width=340,
            )
    return by_ticket.get(st.session_state["comparerun"])


def _into_address(key: str, target: str) -> None:
    if st.session_state[key] == NOBODY:
        st.query_params.pop(target, None)
    else:
        st.query_params[target] = st.session_state[key]


def _compare(shown: Run, other: Run) -> None:
    """Two runs, in the mean and class by class."""
    one, two = shown.result(), other.result()
    left, right = st.columns(2, gap="large")
    names = shown.short, other.short
    with left:
        levels = [
            (NAMES[name], one.level.mean[name], two.level.mean[name]) for name in one.level.mean
        ]
        st.html(probe_markup.pair_table("Mean", names, levels))
        for sentence in verdict(one, two):
            st.markdown(plain(sentence))
    classes = {score.name: score.recall for score in two.per_class}
    both = [
        (score.name, score.recall, classes[score.name])
        for score in one.per_class
        if score.name in classes
    ]
    if both:
        with right:
            st.html(probe_markup.pair_table("Class", names, both))
            st.caption("Recall of each class, over all folds.")


def verdict(one: ProbeResult, two: ProbeResult) -> list[str]:
    """What the difference of two runs is worth, in sentences."""
    metric = one.metric
    gap = one.level.mean[metric] - two.level.mean[metric]
    sd = np.nanmax([one.level.sd[metric], two.level.sd[metric], 0.0])
    inside = abs(gap) <= sd
    told = f"The difference in the mean is {_signed(gap)}, " + (
        f"within one SD over folds ({sd:.3f}): these runs do not tell which is better."
        if inside
        else f"more than one SD over folds ({sd:.3f})."
    )
    if one.source.split_hash != two.source.split_hash:
        return [told, "They were tested on different spots or folds, so compare them with care."]
    gaps = [a.scores[metric] - b.scores[metric] for a, b in zip(one.folds, two.folds, strict=True)]
    better = sum(value > 0 for value in gaps)
    return [
        told,
        f"Both were tested on the same spots in the same folds; the first is better in {better} of {len(gaps)}.",
    ]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def spots_csv(result: ProbeResult) -> bytes:
    """One row per spot, and what was probed on which store."""
    source = result.source
    return table_csv(
        result.to_pandas().reset_index(),
        query=name_of(result.settings),
        store_id=source.store_id,
        store_version=source.store_version,
        encoder=source.fingerprint,
    )


def _downloads(run: Run) -> None:
    result = run.result()
    source = replace(result.source, store_path=as_shown(str(result.source.store_path)))
    told = replace(result, source=source)
    with st.container(horizontal=True, gap="small", key="probedownloads"):
        for label, name, kind, make in (
            ("Spots (CSV)", "csv", "text/csv", partial(spots_csv, result)),
            (
                "Result (JSON)",
                "json",
                "application/json",
                lambda: told.to_json().encode("utf-8"),
            ),
        ):
            st.download_button(
                label, make, file_name=f"probe_{run.short}.{name}", mime=kind, on_click="ignore",
                key=f"download-{name}",
            )  # fmt: skip
        with st.popover("Copy as Python"):
            st.code(told.to_python(), language="python")
