"""Markdown of what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.cost_model_parts.known import READS, STEPS, WRITES, n_requests
from benchmarks.cost_model_parts.lines import of_kind
from benchmarks.vector_search_parts.report import table

if TYPE_CHECKING:
    from benchmarks.cost_model_parts.lines import Line


def origin(lines: list[Line]) -> str:
    """Tell commands, commits, days, load and machine of every kind of run."""
    kinds = dict.fromkeys(line.kind for line in lines)
    rows = []
    for kind in kinds:
        found = [line for line in lines if line.kind == kind]
        loads = [load for line in found for load in line.load]
        commits = sorted({line.commit for line in found})
        words = f"`python benchmarks/cost_model.py measure FOLDER --kind {kind}`"
        days = sorted({line.at[:10] for line in found})
        rows.append(
            [
                words,
                str(len(found)),
                ", ".join(commits),
                ", ".join(days),
                f"{min(loads):g} to {max(loads):g}",
            ]
        )
    machines = "; ".join(sorted({line.machine for line in lines}))
    head = ["command", "sizes", "commit", "day", "load average"]
    return f"Machine: {machines}.\n\n{table(head, rows)}"


def built(lines: list[Line]) -> str:
    """Tell of builds."""
    rows = []
    for line in of_kind(lines, "index"):
        values, n = line.values, line.key["n"]
        stages = values["stages"]
        rows.append(
            [
                f"{n:,} x {line.key['dim']}",
                f"{values['nlist']:,}",
                *(f"{stages[name]['cpu_s']:,.1f}" for name in ("train", "fill", "calibrate")),
                f"{values['index_bytes'] / n:.1f}",
                f"{values['sidecar_bytes'] / n:,.0f}",
                f"{values['build_peak_resident_mib']:,}",
                f"{line.load[0]:g}, {line.load[1]:g}",
            ]
        )
    head = [
        "rows x d",
        "nlist",
        "train, CPU s",
        "fill",
        "measure settings",
        "index, bytes a vector",
    ]
    head += ["sidecar", "peak resident, MiB", "load"]
    return table(head, rows)


def query(lines: list[Line]) -> str:
    """Tell of single queries."""
    indexes = {tuple(one.key.values()): one.values for one in of_kind(lines, "index")}
    rows = []
    for line in of_kind(lines, "query"):
        values, shares = line.values, line.values["quantiles_percent"]
        cells = [f"{line.key['n']:,} x {line.key['dim']}"]
        choices = {str(one["target"]): one for one in indexes[tuple(line.key.values())]["choices"]}
        for target, at in values["at"].items():
            p50, p99 = (at["cpu_ms_quantiles"][shares.index(share)] for share in (50, 99))
            recall = choices[target]["recall"]
            words = (
                f"{at['breadth']}, {at['n_rerank']}: {recall['gene']:.3f}, {recall['image']:.3f}"
            )
            cells.append(words if choices[target]["reached"] else f"{words} (missed)")
            cells.append(f"{p50:.2f}, {p99:.2f}")
        cells += [f"{values['exact_cpu_ms_one']:,.0f}", f"{values['peak_resident_mib']:,}"]
        rows.append(cells)
    head = ["rows x d", "at .95: nprobe, ranked: recall gene, image", "CPU ms: p50, p99"]
    head += ["at .99", "CPU ms: p50, p99", "exact, CPU ms", "peak resident, MiB"]
    return table(head, rows)


def cold(lines: list[Line]) -> str:
    """Tell of queries without a page of the vectors in memory."""
    found = {tuple(one.key.values()): one.values for one in of_kind(lines, "cold")}
    rows = []
    for n, dim in dict.fromkeys(key[:2] for key in found):
        as_is, told = found[n, dim, 0], found[n, dim, 1]
        rows.append(
            [
                f"{n:,} x {dim}",
                str(as_is["n_rerank"]),
                *(
                    f"{one['disk_bytes'] / 1e6:,.2f}, {one['major_faults']:,}"
                    for one in (as_is, told)
                ),
                f"{as_is['read_ahead_kib']:,}",
            ]
        )
    head = ["rows x d", "ranked", "as it is: MB, faults", "with MADV_RANDOM: MB, faults"]
    return table([*head, "read-ahead of the disk, KiB"], rows)


def write(lines: list[Line]) -> str:
    """Tell of rows written to a store."""
    rows = []
    for line in sorted(of_kind(lines, "write"), key=lambda one: one.key["umi"]):
        values = line.values
        held = values["bytes_per_row"]
        rows.append(
            [
                f"{line.key['umi']:,}",
                f"{values['genes_per_spot']:,.0f}",
                f"{values['thumbnail_bytes']:,}",
                f"{held['spots']:,.0f}",
                f"{held['expression']:,.0f}",
                f"{values['add_cpu_us_per_row']:,.0f}",
            ]
        )
    head = ["counts a spot", "genes with a count", "thumbnail, bytes", "spots table, bytes a row"]
    return table([*head, "expression table", "Store.add, CPU us a row"], rows)


def opened(lines: list[Line]) -> str:
    """Tell of stores opened and grown."""
    grown = {tuple(one.key.values()): one.values for one in of_kind(lines, "grow")}
    rows = []
    for line in sorted(of_kind(lines, "open"), key=lambda one: one.values["rows"]):
        values, more = line.values, grown[tuple(line.key.values())]
        steps = ("store", "slides", "layout", "index")
        rows.append(
            [
                f"{line.key['slides']} of {line.key['spots']:,}",
                f"{more['add_cpu_ms']:.0f}",
                *(f"{values[name]['cpu_ms']:.0f}" for name in steps),
                f"{values['hits_first']['own_mib'] - values['nothing']['own_mib']:.0f}",
                f"{values['hits_kept_cpu_ms']:.2f}, {values['hits_taken_cpu_ms']:.1f}",
            ]
        )
    head = [
        "slides of spots",
        "one more add, CPU ms",
        "Store.open",
        "slides",
        "row ids",
        "Index.open",
    ]
    return table([*head, "held, MiB", "48 hits: columns kept, taken"], rows)


def compaction(lines: list[Line]) -> str:
    """Tell of compaction with and without pictures."""
    rows = []
    for line in of_kind(lines, "compaction"):
        counts = line.values["compact"]
        words = "with a picture each" if line.key["pictures"] else "without pictures"
        n_reads, n_writes = (n_requests(counts, methods) for methods in (READS, WRITES))
        rows.append([f"{line.values['rows']:,}, {words}", f"{n_reads:,}", f"{n_writes:,}"])
    return table(["spots compacted in object storage", "reads", "writes and lists"], rows)


def requests(lines: list[Line]) -> str:
    """Tell of requests to object storage."""
    found = sorted(
        of_kind(lines, "requests"), key=lambda one: (one.key["compact"], one.key["slides"])
    )
    rows = []
    for step, words in STEPS.items():
        cells = [words]
        for line in found:
            counts = line.values.get(step, {})
            moved = counts.get("bytes_in", 0) + counts.get("bytes_out", 0)
            reads, writes = (n_requests(counts, methods) for methods in (READS, WRITES))
            cells.append(f"{reads:,} + {writes}, {moved / 1e6:.2f}" if counts else "")
        rows.append(cells)
    head = ["reads + writes and lists, MB both ways"]
    head += [
        f"{line.key['slides']} slides{', compacted' if line.key['compact'] else ''}"
        for line in found
    ]
    return table(head, rows)
