"""Markdown of what was measured, fitted and simulated, and the document that holds it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.cost_model_parts import fitted_tables, measured_tables
from benchmarks.cost_model_parts.known import fit_all
from benchmarks.cost_model_parts.limits import limits
from benchmarks.cost_model_parts.lines import of_kind
from benchmarks.cost_model_parts.simulate import GIB, SIZES, Model
from benchmarks.vector_search_parts.report import table

if TYPE_CHECKING:
    from benchmarks.cost_model_parts.lines import Line
    from benchmarks.cost_model_parts.prices import Prices

_MARKED: Final = re.compile(
    r"(?P<open><!-- cost-model: (?P<name>[a-z-]+) -->\n).*?(?P<close><!-- /cost-model -->)",
    re.DOTALL,
)


def all_tables(lines: list[Line], prices: Prices) -> dict[str, str]:
    """Every table by the name of its marks."""
    model = model_of(lines, prices)
    return {
        "origin": measured_tables.origin(lines),
        "index": measured_tables.built(lines),
        "query": measured_tables.query(lines),
        "cold": measured_tables.cold(lines),
        "write": measured_tables.write(lines),
        "open": measured_tables.opened(lines),
        "requests": measured_tables.requests(lines),
        "compaction": measured_tables.compaction(lines),
        "laws": fitted_tables.all_laws(model.laws),
        "residuals": fitted_tables.residuals(model.laws),
        "check": fitted_tables.check(model),
        "assumptions": _assumptions(prices),
        "simulated-size": _simulated_size(model),
        "simulated-cost": _simulated_cost(model),
        "shards": _shards(model),
        "limits": _limits(model),
    }


def model_of(lines: list[Line], prices: Prices, target: str = "0.99") -> Model:
    """Fit all laws, and put them together with the prices."""
    rows = []
    for line in of_kind(lines, "query"):
        quantiles = np.array(line.values["at"][target]["cpu_ms_quantiles"])
        shares = np.array(line.values["quantiles_percent"]) / 100
        rows.append(quantiles / np.interp(0.5, shares, quantiles))
    return Model(fit_all(lines), prices, np.stack([shares, np.median(rows, axis=0)]), target)


def rewrite(text: str, tables: dict[str, str]) -> str:
    """Put tables between their marks.

    Raises
    ------
    ValueError
        If the text has marks of a table that there is not, or lacks one's.
    """
    named = [match["name"] for match in _MARKED.finditer(text)]
    if sorted(named) != sorted(tables):
        msg = f"The document has marks of {sorted(named)}; expected {sorted(tables)}, each once."
        raise ValueError(msg)
    return _MARKED.sub(lambda m: f"{m['open']}{tables[m['name']]}\n{m['close']}", text)


# ---- simulated -----------------------------------------------------------------------------------


def _assumptions(prices: Prices) -> str:
    rows = [
        [f"{section}.{name}", f"{entry.value:,.10g}", entry.unit, entry.source, entry.date]
        for (section, name), entry in prices.entries.items()
    ]
    return table(["entry", "value", "unit", "source", "date"], rows)


def _spots(n: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.0f}"


def _simulated_size(model: Model) -> str:
    rows = []
    for n in SIZES:
        plan = model.plan(n)
        rows.append(
            [
                _spots(n),
                f"{plan.n_slides:,}",
                f"{plan.n_shards} of {_spots(plan.rows_per_shard)} ({plan.bound_by})",
                f"{plan.ram_bytes / GIB:,.1f}",
                f"{plan.asker_bytes / GIB:,.1f}",
                f"{plan.sidecar_bytes / 1e9:,.1f}",
                f"{plan.store_bytes / 1e9:,.0f}",
                f"{plan.n_hosts} ({plan.hosts_by_ram}, {plan.hosts_by_latency}, {plan.hosts_by_load}, {plan.hosts_by_disk})",
                f"{plan.build_cpu_h:,.1f}",
                f"{plan.write_cpu_h:,.1f}",
                f"{plan.embed_cpu_h:,.0f}",
                f"{plan.embed_gpu_h:,.1f}",
            ]
        )
    head = [
        "spots",
        "slides",
        "shards of rows (bound by)",
        "RAM, GiB",
        "of it who asks",
        "vectors on NVMe, GB",
    ]
    head += ["object storage, GB", "hosts (by RAM, latency, load, disk)", "index builds, CPU h"]
    head += ["writing, CPU h", "embedding, CPU h", "or GPU h (not measured)"]
    return table(head, rows)


def _simulated_cost(model: Model) -> str:
    rows, asked = [], model.prices("workload", "queries_per_month")
    for n in SIZES:
        plan = model.plan(n)
        usd: dict[str, Any] = plan.usd
        rows.append(
            [
                _spots(n),
                f"{plan.query_cpu_ms:,.1f}",
                f"{plan.latency_ms:,.1f}",
                f"{plan.latency_cold_ms:,.1f}",
                f"{plan.hits_remote_ms:,.0f}",
                f"{plan.sidecar_reads:,.0f}",
                f"{_spots(plan.reads_month)} + {_spots(plan.writes_month)}",
                f"{usd['query_1000']:,.4f}, {1e3 * plan.usd_month / asked:,.2f}",
                f"{usd['hosts']:,.0f} + {usd['storage']:,.0f} + {usd['requests']:,.0f} = {plan.usd_month:,.0f}",
                f"{usd['build']:,.1f}",
                f"{usd['embed_cpu']:,.0f} or {usd['embed_gpu']:,.0f}",
            ]
        )
    head = ["spots", "CPU ms a query", "latency, ms: vectors in RAM", "vectors on NVMe"]
    head += [
        "and hits from object storage",
        "rows ranked exactly a query",
        "requests a month: reads + writes",
    ]
    head += [
        "USD a 1,000 queries: CPU alone, all of the month",
        "USD a month: hosts + storage + requests",
    ]
    return table([*head, "USD once: index, writing", "USD once: embedding on CPU or GPU"], rows)


def _shards(model: Model) -> str:
    """How the size of a shard trades latency against CPU at one size of the store."""
    n = 100_000_000
    rows = []
    for size in (500_000, 1_000_000, 2_000_000, 4_000_000, 20_000_000, 100_000_000):
        prices = model.prices.with_value("bounds", "shard_rows", size)
        prices = prices.with_value("bounds", "shard_cpu_ms", 1e9)
        plan = Model(model.laws, prices, model.tail, model.target).plan(n)
        rows.append(
            [
                f"{_spots(size)}{' (extrapolated)' if size > model.prices('bounds', 'shard_rows') else ''}",
                str(plan.n_shards),
                f"{plan.shard_cpu_ms:.2f}",
                f"{plan.query_cpu_ms:,.0f}",
                f"{plan.latency_ms:,.1f}",
                f"{plan.sidecar_reads:,.0f}",
                f"{plan.ram_bytes / GIB:,.0f}",
            ]
        )
    head = ["rows of a shard", "shards", "CPU ms of one", "CPU ms of a query", "latency, ms"]
    return table([*head, "rows ranked exactly", "RAM, GiB"], rows)


def _limits(model: Model) -> str:
    rows = [[_spots(one.n_spots), one.what, one.hurts, one.where] for one in limits(model)]
    return table(["spots of one store", "what", "reaches", "where"], rows)
