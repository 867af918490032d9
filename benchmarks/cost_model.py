"""What a store and its indexes cost as they grow: measured, fitted, and simulated up to a billion spots.

    python benchmarks/cost_model.py measure FOLDER [--kind index] [--most-rows 2000000]
    python benchmarks/cost_model.py fit
    python benchmarks/cost_model.py simulate [--prices benchmarks/prices.toml]
    python benchmarks/cost_model.py document [--doc docs/scaling.md]

`measure` runs what benchmarks/cost_measurements.jsonl has no line of, each size in a process of its own, and adds a line
when it has finished; what was cut off is run again. Data and indexes are made in FOLDER once (6 GB). What is counted is CPU
seconds of a process and its children, bytes, and requests: wall time depends on who else uses the machine. `fit` prints the
laws and how far off they are at each measured size, `simulate` what they say of larger stores, both as Markdown;
`document` writes these tables between their marks in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cost_model_parts import tables
from benchmarks.cost_model_parts.lines import MEASURED, read_lines
from benchmarks.cost_model_parts.measure import RUNS, measure, one
from benchmarks.cost_model_parts.prices import PRICES, read_prices

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
FITTED = ("laws", "residuals", "check")
SIMULATED = ("assumptions", "simulated-size", "simulated-cost", "shards", "limits")
ARGUMENTS = ("n", "dim", "random", "umi", "slides", "spots", "compact", "pictures", "shards")


def main() -> None:
    """Run one of the verbs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("measure", help="run what has not been measured")
    run.add_argument("folder", type=Path)
    run.add_argument("--kind", choices=RUNS, action="append", help="all by default")
    run.add_argument("--most-rows", type=int, default=10**10, help="leave larger sizes out")
    run.add_argument("--file", type=Path, default=MEASURED)
    child = verbs.add_parser("one", help="one measurement, as JSON")
    child.add_argument("folder", type=Path)
    child.add_argument("kind", choices=RUNS)
    for name in ARGUMENTS:
        child.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in ("fit", "simulate", "document"):
        verb = verbs.add_parser(name)
        verb.add_argument("--file", type=Path, default=MEASURED)
        verb.add_argument("--prices", type=Path, default=PRICES)
        if name == "document":
            verb.add_argument("--doc", type=Path, default=DOCUMENT)
    asked = parser.parse_args()
    if asked.verb == "measure":
        measure(asked.folder, asked.file, asked.kind or list(RUNS), most_rows=asked.most_rows)
    elif asked.verb == "one":
        key = {name: getattr(asked, name) for name in ARGUMENTS if getattr(asked, name) is not None}
        print(json.dumps(one(asked.folder, asked.kind, key)))
    else:
        show(asked)


def show(asked: argparse.Namespace) -> None:
    """Print tables, or write them into the document."""
    found = tables.all_tables(read_lines(asked.file), read_prices(asked.prices))
    if asked.verb == "document":
        text = asked.doc.read_text("utf-8")
        asked.doc.write_text(tables.rewrite(text, found), "utf-8")
        return
    for name in FITTED if asked.verb == "fit" else SIMULATED:
        print(f"{name}\n\n{found[name]}\n")


if __name__ == "__main__":
    main()
