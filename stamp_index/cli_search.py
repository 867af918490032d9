"""``stamp-index search``: every kind of query, with Python's defaults."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import click

from stamp_index.errors import QueryError

_PATH = click.Path(path_type=Path)
_SIDE = click.Choice(["image", "gene"])
_QUERIES = ("genes", "image", "spot", "profile", "region")
_OF_SPOTS = _QUERIES[:4]
_GOES_WITH = {
    "mpp": ("image",),
    "slide": ("region",),
    "query": ("spot", "region"),
    "exclude_own": ("spot", "region"),
    "rank_by": ("genes",),
    "one_per": _OF_SPOTS,
    "report": _OF_SPOTS,
    "predict": _OF_SPOTS,
}
_UNKNOWN = {"mpp": "pixel size", "slide": "slide"}


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--genes", help="A signature, for example 'CD8A high, EPCAM low'.")
@click.option("--image", type=_PATH, help="A picture; give its --mpp.")
@click.option("--spot", help="A spot id of the store.")
@click.option("--profile", type=_PATH, help="A CSV file of gene,count lines: a gene profile.")
@click.option("--region", type=_PATH, help="GeoJSON, level-0 pixels of --slide: find regions.")
@click.option("--mpp", type=float, help="Microns per pixel of the picture.")
@click.option("--slide", help="Slide of the store on which the region lies.")
@click.option("--query", type=_SIDE, help="Embedding of the spot or region that asks [image].")
@click.option(
    "--against",
    type=click.Choice(["image", "gene", "both"]),
    help="Embeddings to search [image; for a picture gene]; both not for a region.",
)
@click.option("-k", type=int, help="Hits wanted [48; 6 regions].")
@click.option("--filter", "filters", help="""'organ == "breast" and expr("CD8A") > 1'""")
@click.option(
    "--exclude-own",
    type=click.Choice(["nothing", "slide", "patient"]),
    help="What of the spot's or region's own to leave out [nothing; for a region slide].",
)
@click.option("--one-per", help="One hit per 'slide', 'patient' or so many microns.")
@click.option("--recall", type=float, help="Share of the best to find: .95, .99 [.99], 1 is exact.")
@click.option(
    "--rank-by",
    type=click.Choice(["score", "measured"]),
    help="Order of the hits of a signature [score].",
)
@click.option("--report", multiple=True, help="A further gene to report at the hits.")
@click.option("--predict", is_flag=True, help="Predict the reported genes from the hits.")
@click.option("--encoder", help="Its name in the store [the store's first].")
@click.option(
    "--shards",
    envvar="STAMP_INDEX_SHARDS",
    help="Where the indexes' shards are served, such as http://host:8000.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--out", type=_PATH, help="Also write a .csv, .json or (of regions) .geojson file.")
def search(
    store_path: Path,
    *,
    as_csv: bool,
    out: Path | None,
    encoder: str | None,
    shards: str | None,
    **asked: Any,  # noqa: ANN401
) -> None:
    """Search STORE by genes, by a picture, by a spot, by a profile or by a region.

    What is left out is as in Python; the defaults stand in brackets.
    """
    from stamp_index.export import table_csv
    from stamp_index.search import Searcher, VectorSearcher, predict_expression

    kind = _kind_of(asked, out)
    # Stored spots have their embeddings: no encoder is loaded for them.
    opener = VectorSearcher if kind in ("spot", "region") else Searcher
    searcher = opener.open(store_path, encoder=encoder, shards=shards)
    hits = _ask(searcher, kind, asked)
    shown = {"hits": hits.to_pandas()}
    for note in hits.notes:
        click.echo(note, err=True)
    if asked["predict"]:
        genes = list(asked["report"]) or list(hits.genes)
        if not genes:
            msg = "Say which genes to predict: --report GENE, as often as needed."
            raise click.UsageError(msg)
        shown["predictions"] = predict_expression(hits, searcher.store, genes)
    table = shown.get("predictions", shown["hits"])
    if as_csv:  # with the line ends that other programs of a pipe expect
        click.echo(table_csv(table).decode().replace("\r\n", "\n"), nl=False)
    else:
        click.echo(table.to_string(index=False))
    if out is not None:
        _write(out, hits, shown, asked | {"encoder": searcher.store.encoder})


def _kind_of(asked: dict[str, Any], out: Path | None) -> str:
    """Which query it is; refuses options that do not belong to it."""
    given = [name for name in _QUERIES if asked[name] is not None]
    if len(given) != 1:
        names = ", ".join(f"--{name}" for name in _QUERIES[:-1])
        msg = f"Give exactly one of {names} and --{_QUERIES[-1]}; got {len(given)}."
        raise click.UsageError(msg)
    kind = given[0]
    for option, kinds in _GOES_WITH.items():
        if asked[option] not in (None, (), False) and kind not in kinds:
            names = " or ".join(f"--{name}" for name in kinds)
            msg = f"--{option.replace('_', '-')} goes with {names} only."
            raise click.UsageError(msg)
    for option, needed in (("mpp", "image"), ("slide", "region")):
        if kind == needed and asked[option] is None:
            msg = f"The {_UNKNOWN[option]} of {asked[kind]} is unknown: give --{option}."
            raise click.UsageError(msg)
    if kind == "region" and asked["against"] == "both":
        msg = "Regions are compared with one embedding: give --against image or --against gene."
        raise click.UsageError(msg)
    endings = [".csv", ".json", ".geojson"] if kind == "region" else [".csv", ".json"]
    if out is not None and out.suffix not in endings:
        msg = f"--out is '{out}'; expected a file that ends in {' or '.join(endings)}."
        raise click.UsageError(msg)
    if out is not None and not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
        msg = f"--out is '{out}', but {out.parent} is not a folder that can be written to."
        raise click.UsageError(msg)
    return kind


def _ask(searcher: Any, kind: str, asked: dict[str, Any]) -> Any:  # noqa: ANN401
    """Ask with what was given, so that the rest is as in Python."""
    names = ("query", "against", "k", "filters", "exclude_own", "recall", "rank_by", "mpp")
    given = {name: asked[name] for name in names if asked[name] is not None}
    if asked["against"] == "both":
        given["against"] = {"image": 0.5, "gene": 0.5}
    if kind == "region":
        from stamp_index.search import Region

        region = Region.from_geojson(asked["region"], asked["slide"])
        return searcher.search_region(region, **given)
    given |= {"genes": asked["report"], "one_per": _one_per(asked["one_per"])}
    if kind == "genes":
        return searcher.search_genes(asked["genes"], **given)
    if kind == "profile":
        return searcher.search_profile(read_profile(asked["profile"]), **given)
    if kind == "spot":
        return searcher.search_spot(asked["spot"], **given)
    from stamp_index.slides import safe_open

    return searcher.search_image(safe_open(asked["image"]), **given)


def _write(out: Path, hits: Any, shown: dict[str, Any], asked: dict[str, Any]) -> None:  # noqa: ANN401
    """Write what was found, in the format that the file's name says."""
    if out.suffix == ".csv":
        from stamp_index.export import table_csv

        out.write_bytes(table_csv(shown.get("predictions", shown["hits"])))
        return
    if out.suffix == ".geojson":
        text = json.dumps(hits.to_geojson())
    else:
        names = ("query", "notes", "store_version", "fingerprint")
        said = {name: getattr(hits, name) for name in names}
        said["asked"] = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asked.items()
            if value not in (None, (), False)
        }
        tables = {
            name: json.loads(table.to_json(orient="records", double_precision=15))
            for name, table in shown.items()
        }
        text = json.dumps(said | tables, indent=1)
    out.write_text(text, encoding="utf-8")


def _one_per(text: str | None) -> str | float | None:
    if text is None or text in ("slide", "patient"):
        return text
    try:
        radius_um = float(text)
    except ValueError:
        radius_um = 0.0
    if not 0 < radius_um < math.inf:
        msg = f"--one-per is '{text}'; expected 'slide', 'patient', or microns above 0."
        raise click.UsageError(msg)
    return radius_um


def read_profile(path: Path) -> dict[str, float]:
    """Read a gene profile: a CSV file of ``gene,count`` lines; a header is skipped.

    Raises
    ------
    QueryError
        If the file is missing, a line is not a gene and a number, or names a gene again; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"The profile {path} cannot be read ({exc}). Give a CSV file of gene,count lines."
        raise QueryError(msg) from exc
    counts: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        gene, comma, value = (part.strip() for part in line.partition(","))
        try:
            count = float(value)
        except ValueError as exc:
            if not line.strip() or (number == 1 and comma):
                continue
            msg = f"Line {number} of {path} is {line!r}; expected a gene and a count, such as CD8A,12."
            raise QueryError(msg) from exc
        if gene in counts:
            msg = f"Line {number} of {path} names {gene} again. Give each gene once."
            raise QueryError(msg)
        counts[gene] = count
    return counts
