"""Draw a query region and its answers over their slides, spots coloured by what they truly are.

python benchmarks/region_pictures.py STORE --slide MOB4 --label label --value 'Granular Cell Layer' --png out.png
python benchmarks/region_pictures.py STORE --slide P4_A --truth PHANTOM --at 2000 1500 400 --png out.png
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from region_data import Known, known_slides
from stamp_index.search import Searcher

if TYPE_CHECKING:
    from stamp_index.store import Store


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--slide", required=True)
@click.option("--truth", type=click.Path(path_type=Path))
@click.option("--label", default="label", show_default=True)
@click.option("--value", help="All spots of this kind ask.")
@click.option("--at", nargs=3, type=float, help="Or a disc: x, y and radius in um.")
@click.option("--query", default="image", show_default=True)
@click.option("--against", default="image", show_default=True)
@click.option("-k", default=3, show_default=True)
@click.option("--png", type=click.Path(path_type=Path), required=True)
def main(  # noqa: PLR0913
    store: Path,
    slide: str,
    truth: Path | None,
    label: str,
    value: str | None,
    at: tuple[float, float, float] | None,
    query: str,
    against: str,
    k: int,
    png: Path,
) -> None:
    """Draw a query and its answers over the slides, spots coloured by what they truly are."""
    searcher = Searcher.open(store)
    slides, names = known_slides(searcher.store, truth, label)
    by_id = {one.slide_id: one for one in slides}
    own = by_id[slide]
    by_place = value is None
    away = np.hypot(*(own.xy_um - np.array(at[:2])).T) if by_place else np.zeros(0)
    chosen = away <= at[2] if by_place else own.kind[:, names.index(value)] > 0
    hits = searcher.search_region(own.rows[chosen], query=query, against=against, k=k)
    shown = [
        (slide, None, "query"),
        *zip(hits.table["slide_id"], hits.outlines, hits.scores, strict=True),
    ]
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 6.4))
    for axis, (slide_id, outline, score) in zip(np.atleast_1d(axes), shown, strict=True):
        _draw_slide(axis, searcher.store, by_id[slide_id])
        if outline is None:
            axis.plot(
                *_pixels(searcher.store, own)[chosen].T, "o", mfc="none", mec="black", ms=6, mew=1.2
            )
            axis.set_title(f"{slide_id}: query, {chosen.sum()} spots")
        else:
            axis.plot(*outline.exterior.xy, "-", color="black", lw=2)
            for ring in outline.interiors:
                axis.plot(*ring.xy, "-", color="black", lw=1.5)
            axis.set_title(f"{slide_id}: score {score:.3f}")
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=f"C{i}", label=name)
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="lower center", ncol=len(names))
    figure.tight_layout(rect=(0, 0.06, 1, 0.95))
    figure.savefig(png, dpi=70)
    click.echo(hits.table.round(3).to_string())


def _pixels(store: Store, slide: Known) -> np.ndarray:
    return store.spots(["x_px", "y_px"], slide.rows).to_numpy()


def _draw_slide(axis, store: Store, slide: Known) -> None:  # noqa: ANN001
    about = store.slides().set_index("slide_id").loc[slide.slide_id]
    picture = store.overview(slide.slide_id)
    if picture is not None:
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        axis.imshow(pixels, extent=(0, about["width_px"], about["height_px"], 0), alpha=0.6)
    xy = _pixels(store, slide)
    colours = [f"C{int(kind.argmax())}" if kind.any() else "lightgrey" for kind in slide.kind]
    axis.scatter(*xy.T, c=colours, s=10)
    axis.set_aspect("equal")
    if picture is None:
        axis.invert_yaxis()
    axis.set_axis_off()


if __name__ == "__main__":
    main()
