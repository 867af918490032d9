"""The verb that writes a store's slides for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from stamp_index.store import Store

_PATH = click.Path(path_type=Path)
_ENDINGS: Final = (".h5ad", ".parquet", ".geojson", ".zarr")
_GOES_WITH: Final = {"label": ".geojson", "genes": ".geojson", "images": ".h5ad"}


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.argument("out", metavar="OUT", type=_PATH)
@click.option("--slide", "slides", multiple=True, help="A slide_id, as often as needed [all].")
@click.option("--label", help="Label that becomes the class of a detection (.geojson).")
@click.option("--genes", help="Genes to measure, such as CD8A,EPCAM (.geojson).")
@click.option("--images", is_flag=True, help="Also the slides' pictures (.h5ad).")
@click.option("--encoder", help="Its name in the store [the store's first].")
@click.option("--overwrite", is_flag=True, help="Replace what is at OUT.")
def export(
    store_path: Path,
    out: Path,
    *,
    slides: tuple[str, ...],
    encoder: str | None,
    overwrite: bool,
    **asked: Any,  # noqa: ANN401
) -> None:
    """Write slides of STORE to OUT, in the format that its ending names.

    .h5ad is AnnData, .parquet a table of spots with embeddings, .geojson the spots of one slide as detections for
    QuPath, and .zarr SpatialData (needs the extra `spatialdata`).
    """
    from stamp_index.store import Store

    ending = out.suffix.lower()
    if ending not in _ENDINGS:
        msg = f"OUT is '{out}'; expected a name that ends in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}."
        raise click.UsageError(msg)
    for option, needed in _GOES_WITH.items():
        if asked[option] and ending != needed:
            msg = f"--{option} goes with {needed} only."
            raise click.UsageError(msg)
    store = Store.open(store_path, encoder=encoder)
    _write(store, out, slides, asked | {"ending": ending, "overwrite": overwrite})
    click.echo(f"{out}: version {store.version} of {store.place}.")


def _write(store: Store, out: Path, slides: tuple[str, ...], asked: dict[str, Any]) -> None:
    from stamp_index import export as library

    chosen = list(slides) or None
    overwrite: bool = asked["overwrite"]
    if asked["ending"] == ".h5ad":
        library.write_h5ad(store, out, chosen, images=asked["images"], overwrite=overwrite)
    elif asked["ending"] == ".parquet":
        library.to_parquet(store, out, chosen, overwrite=overwrite)
    elif asked["ending"] == ".zarr":
        library.write_spatialdata(store, out, chosen, overwrite=overwrite)
    else:
        genes = [name.strip() for name in (asked["genes"] or "").split(",") if name.strip()]
        slide_id = _one_slide(store, slides)
        library.to_geojson(
            store, slide_id, out, label=asked["label"], genes=genes, overwrite=overwrite
        )


def _one_slide(store: Store, slides: tuple[str, ...]) -> str:
    """QuPath opens one image at a time, so a file is of one slide."""
    held = slides or tuple(store.slides()["slide_id"])
    if len(held) != 1:
        msg = f"A .geojson file is of one slide; got {len(held)}. Give --slide once."
        raise click.UsageError(msg)
    return held[0]
