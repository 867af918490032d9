"""Cost and recall of vector search, ours beside FAISS, LanceDB, hnswlib and usearch, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/vector_search.py FOLDER --part unfiltered [--rows 1000000]
    OMP_NUM_THREADS=1 python benchmarks/vector_search.py FOLDER --part filtered [--rows 1000000]
    OMP_NUM_THREADS=1 python benchmarks/vector_search.py FOLDER --part growth --rows 200000 --rows 1000000 --rows 5000000

Prints Markdown for RESULTS.md. Data and indexes are made in FOLDER once: 1M rows take 1 GB, with all peers 8 GB and some
hours; 5M rows 6 GB. The peers come with `pip install --group bench`.

CPU time is what counts, of the whole process, medians over rounds in which everything takes its turn: wall time depends on who
else uses the machine. Settings are chosen on the first 512 queries of each modality and reported on the others. LanceDB is asked
for row numbers alone, by cosine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from benchmarks.vector_search_parts import filtered, growth, unfiltered
from benchmarks.vector_search_parts.report import origin

PARTS = ("unfiltered", "filtered", "growth", "growth-build", "growth-search")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(PARTS), required=True)
@click.option("--rows", "sizes", type=int, multiple=True, default=(1_000_000,))
@click.option("--dim", type=int, default=512)
@click.option("--kind", default="ivf_pq", help="Our index.")
@click.option(
    "--group",
    "groups",
    type=click.Choice(unfiltered.GROUPS),
    multiple=True,
    default=unfiltered.GROUPS,
    help="Who takes part without filters.",
)
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the growth here.")
def main(
    folder: Path,
    part: str,
    sizes: tuple[int, ...],
    dim: int,
    kind: str,
    groups: tuple[str, ...],
    figure: Path | None,
) -> None:
    """Measure one part and print its tables."""
    from stamp_index.index.faiss_library import load_faiss

    load_faiss().omp_set_num_threads(1)
    if part == "growth-build":
        growth.build_one(folder, sizes[0], dim)
    elif part == "growth-search":
        growth.search_one(folder, sizes[0], dim)
    elif part == "growth":
        click.echo(f"{origin()}\n\n{growth.run(folder, list(sizes), dim, figure)}")
    else:
        for n in sizes:
            if part == "unfiltered":
                text = unfiltered.run(folder, n, dim, kind=kind, groups=groups)
            else:
                text = filtered.run(folder, n, dim, kind=kind)
            click.echo(f"{origin()}\n\n{text}\n")


if __name__ == "__main__":
    main()
