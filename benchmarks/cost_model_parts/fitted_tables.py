"""Markdown of the laws, their errors, and what was published of a size that they were not fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.cost_model_parts.known import query_features, shape
from benchmarks.cost_model_parts.lines import BENCHMARKS
from benchmarks.vector_search_parts.report import table

if TYPE_CHECKING:
    from benchmarks.cost_model_parts.laws import Law
    from benchmarks.cost_model_parts.simulate import Model

RESULTS: Final = BENCHMARKS / "RESULTS.md"
BUILT: Final = "| 5,000,000 | 8,944 "  # rows of its table of growth
SEARCHED: Final = "| 5,000,000 | 91, 800 "
_SHOWN: Final = ("train", "fill", "measure settings", "index file", "build, peak resident", "query")


def all_laws(laws: dict[str, Law]) -> str:
    """Every law with its formula and errors."""
    rows = []
    for law in laws.values():
        errors = np.abs(law.errors())
        held = [abs(said / point.value - 1) for point, said in law.checked]
        rows.append(
            [
                law.name,
                law.unit or "1",
                f"`{law.formula()}`",
                f"{len(law.points)}",
                f"{np.median(errors):.0%}, {errors.max():.0%}",
                f"{np.median(held):.0%}, {max(held):.0%}" if held else "-",
            ]
        )
    head = ["law of", "unit", "formula", "points", "error: median, worst"]
    return table([*head, "error at the largest size, fitted without it"], rows)


def residuals(laws: dict[str, Law]) -> str:
    """Errors by size of the laws that matter most."""
    rows = []
    for name in _SHOWN:
        law = laws[name]
        by_size: dict[str, list[float]] = {}
        for point, error in zip(law.points, law.errors(), strict=True):
            by_size.setdefault(point.name.split(",")[0], []).append(error)
        sizes = list(by_size)
        median = [f"{np.median(errors):+.0%}" for errors in by_size.values()]
        held = [
            f"{law.unit}: {point.value:,.4g} measured, {said:,.4g} said"
            for point, said in law.checked
        ]
        rows.append([name, *median, held[0] if len(held) == 1 else _spread(law)])
    return table(["law of", *sizes, "largest, fitted without it"], rows)


def _spread(law: Law) -> str:
    errors = [said / point.value - 1 for point, said in law.checked]
    if not errors:
        return "-"
    return f"{min(errors):+.0%} to {max(errors):+.0%} over {len(errors)} settings"


def published() -> dict[str, tuple[float, str]]:
    """Read what RESULTS.md has of 5M x 512, and how the row begins that has it."""
    found: dict[str, tuple[float, str]] = {}
    for text in RESULTS.read_text("utf-8").splitlines():
        cells = [cell.strip().replace(",", "").replace("*", "") for cell in text.split("|")[1:-1]]
        if text.startswith(BUILT):
            for name, cell in zip(("train", "fill", "measure settings"), cells[2:5], strict=True):
                found[name] = float(cell), BUILT
            found["index, bytes a vector"] = float(cells[7]), BUILT
        elif text.startswith(SEARCHED):
            found["query at nprobe 91, 800 ranked"] = float(cells[3].split("/")[0]), SEARCHED
    return found


def check(model: Model) -> str:
    """Compare the laws with what RESULTS.md has of 5M x 512, to which nothing was fitted."""
    n, dim = 5_000_000, 512
    recipe, laws = model.recipe, model.laws
    nlist, sample, code = recipe.lists_for(n), recipe.sample_for(n), recipe.code_bytes(dim)
    products = shape(n, dim, nlist, sample)
    said = {
        "train": laws["train"](products["train"], dim, dim**2),
        "fill": laws["fill"](products["compare"], n * dim, products["code"]),
        "measure settings": laws["measure settings"](1.0, n * dim),
        "index, bytes a vector": laws["index file"](n, n * code, nlist * dim, dim**2) / n,
        "query at nprobe 91, 800 ranked": laws["query"](
            *query_features(n, dim, nlist, code, (91, 800))
        ),
    }
    units = {"index, bytes a vector": "bytes", "query at nprobe 91, 800 ranked": "CPU ms"}
    rows = [
        [
            name,
            units.get(name, "CPU s"),
            f"{measured:,g}",
            begins.strip("| ").replace("|", "/"),
            f"{said[name]:,.3g}",
            f"{said[name] / measured - 1:+.0%}",
        ]
        for name, (measured, begins) in published().items()
    ]
    return table(
        ["5,000,000 x 512", "unit", "RESULTS.md", "its row begins with", "the laws", "error"], rows
    )
