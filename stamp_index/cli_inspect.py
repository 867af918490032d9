"""The verb that says what a reader finds at a path, without adding it to anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.slides import Slide

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("path", type=_PATH)
@click.option("--overlay", type=_PATH, help="Draw the spots on the tissue into this PNG.")
@click.option("--image", type=_PATH, help="The H&E image to use.")
@click.option("--mpp", type=float, help="Microns per pixel of the image.")
@click.option("--bin-um", type=float, help="Width of bins of Visium HD and Xenium, in microns.")
@click.option("--spots", type=click.Choice(["bins", "cells"]), help="Of slides of single cells.")
@click.option("--grid-um", type=float, help="Distance of places on plain H&E, in microns.")
def inspect(
    path: Path,
    *,
    overlay: Path | None,
    image: Path | None,
    mpp: float | None,
    bin_um: float | None,
    spots: str | None,
    grid_um: float | None,
) -> None:
    """Say what lies at PATH: the slide that a reader makes of it, or the slides below a folder."""
    from stamp_index.readers import SlideOptions, find_slides, read
    from stamp_index.slides.overlay import draw_overlay

    found = find_slides(path) if path.is_dir() else [path]
    if found and found != [path]:
        click.echo(f"{len(found)} slides below {path}:")
        for each in found:
            click.echo(f"  {each.relative_to(path)}")
        click.echo("Inspect one of them, or add them all.")
        return
    options = SlideOptions(
        image=image,
        mpp=mpp,
        bin_um=bin_um,
        spots=spots,  # type: ignore[arg-type]  # click has checked it
        grid_um=grid_um,
    )
    slide = read(path, options)
    for line in describe(slide):
        click.echo(line)
    if overlay is not None:
        draw_overlay(slide).save(overlay, "PNG")
        click.echo(f"Overlay: {overlay}")


def describe(slide: Slide) -> Iterator[str]:
    """Say in lines what a slide holds, where from, and what its reader did."""
    yield f"{slide.slide_id}: {slide.reader} (reader version {slide.reader_version})"
    known = ("patient_id", "organ", "disease", "species", "platform")
    texts = {name: getattr(slide, name) for name in known}
    yield "  " + ", ".join(f"{name} {text or 'not known'}" for name, text in texts.items())
    if slide.image is None:
        yield "  image: none"
    else:
        width, height = slide.image.size_px
        levels = len(slide.image.levels)
        yield (
            f"  image: {slide.image.uri}, {width:,} x {height:,} px, {levels} levels, {slide.mpp:.4g} um/px, "
            f"{width * (slide.mpp or 0) / 1000:.3g} x {height * (slide.mpp or 0) / 1000:.3g} mm"
        )
    yield f"  spots: {slide.n_spots:,}, {slide.spot_diameter_um:g} um wide"
    if slide.has_counts:
        totals = np.asarray(slide.counts.sum(axis=1)).ravel()
        n_genes = np.diff(slide.counts.indptr)
        yield (
            f"  genes: {len(slide.genes):,} (such as {', '.join(slide.genes[:4])}); a spot has a median of "
            f"{np.median(totals):,.0f} counts of {np.median(n_genes):,.0f} genes"
        )
    else:
        yield "  genes: none were measured"
    labels = [name for name in slide.spots.columns if name not in ("x_px", "y_px")]
    if labels:
        yield f"  labels: {', '.join(map(str, labels))}"
    if slide.embeddings is not None:
        yield f"  embeddings: {slide.embeddings.image.shape[1]} numbers of encoder {slide.embeddings.encoder}"
    if slide.parameters:
        yield "  parameters: " + ", ".join(f"{k} {v}" for k, v in slide.parameters.items())
    for note in slide.notes:
        yield f"  {note}"
    for file in slide.files:
        yield f"  file: {file}"
