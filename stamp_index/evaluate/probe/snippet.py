"""Python text that repeats a probe."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.evaluate.probe.result import ProbeSource
    from stamp_index.evaluate.probe.settings import ProbeSettings


def python_of(settings: ProbeSettings, source: ProbeSource, drawn: Mapping[int, str] | None) -> str:
    """Runnable Python that leaves the same `ProbeResult` in ``result``.

    Every value is written out, so that a later release with other defaults repeats the run too. Names of labels and
    paths are written as Python literals, whatever characters they hold.
    """
    values = "".join(
        f"    {each.name}={getattr(settings, each.name)!r},\n" for each in fields(settings)
    )
    opened = f"{source.store_path!r}, version={source.store_version}, encoder={source.encoder!r}"
    lines = [
        "from stamp_index import Store",
        "from stamp_index.evaluate import ProbeSettings, run_probe",
        "",
        f"store = Store.open({opened})",
        f"settings = ProbeSettings(\n{values})",
    ]
    if drawn is None:
        lines.append("result = run_probe(store, settings)")
    else:
        lines += [_drawn_text(drawn), "result = run_probe(store, settings, labels=labels)"]
    return "\n".join([*lines, "print(result.to_json())", ""])


def _drawn_text(drawn: Mapping[int, str]) -> str:
    """Drawn labels as stretches of rows, which regions mostly are."""
    by_class: dict[str, list[int]] = {}
    for row, name in drawn.items():
        by_class.setdefault(str(name), []).append(int(row))
    lines = ["drawn = {  # stretches of row ids: first, and one after the last"]
    for name in sorted(by_class):
        rows = np.sort(np.array(by_class[name], np.int64))
        parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        stretches = [(int(part[0]), int(part[-1]) + 1) for part in parts]
        lines.append(f"    {name!r}: {stretches!r},")
    return "\n".join(
        [
            *lines,
            "}",
            "labels = {row: name for name, parts in drawn.items() for part in parts for row in range(*part)}",
        ]
    )
