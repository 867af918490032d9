"""What single-marker queries find: expression measured at the first hits against the whole slide.

    python benchmarks/marker_hits.py STORE --slide C5 --gene ERBB2 --gene CD3E --gene COL1A1 --sheet hits.png

Prints, for each gene, its mean log1p CP10K at the first 20 hits and over all of the slide's spots, and the area under the ROC
curve of being a hit by measured expression (.5 is chance), and can draw the hits' thumbnails.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from stamp_index.search import Searcher, field_in

TOP = 20


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--slide", required=True, help="Slide that is searched.")
@click.option("--gene", "genes", multiple=True, required=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="Draw the hits here, a row a gene.")
def main(store: Path, slide: str, genes: tuple[str, ...], sheet: Path | None) -> None:
    """Search each gene as `GENE high` and compare the hits with the slide."""
    searcher = Searcher.open(store)
    slides = searcher.store.slides()
    rows = np.flatnonzero(searcher.store.mask_of((slides["slide_id"] == slide).to_numpy()))
    click.echo(
        f"| query | N | mean at top {TOP} | mean over slide | AUC of top {TOP} |\n|---|---|---|---|---|"
    )
    pictures = []
    for gene in genes:
        hits = searcher.search_genes(f"{gene} high", k=TOP, filters=field_in("slide", [slide]))
        measured = searcher.store.expression([gene], rows)[:, 0]
        is_hit = np.isin(rows, hits.rows)
        click.echo(
            f"| {gene} high | {len(rows)} | {measured[is_hit].mean():.2f} | {measured.mean():.2f} | "
            f"{auc(measured[is_hit], measured[~is_hit]):.2f} |"
        )
        pictures.append(
            [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in hits.thumbnails()[:10]]
        )
    if sheet is not None:
        Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in pictures])).save(
            sheet
        )


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a hit expresses more than another spot; ties count half."""
    more = (positive[:, None] > negative[None]).mean()
    return float(more + (positive[:, None] == negative[None]).mean() / 2)


if __name__ == "__main__":
    main()
