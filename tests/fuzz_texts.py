"""Parsers of what people type, paste or upload, as targets of malformed input: see `tests.fuzz_targets`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stamp_index.addresses import app_address, decode_polygon, encode_polygon
from stamp_index.genes import GenePanel, parse_signature
from stamp_index.genes.gene_sets import read_gmt
from stamp_index.genes.lists import read_gene_text
from stamp_index.search.filtering.parse import parse_filter

ROOT = Path(__file__).resolve().parent.parent

SIGNATURES = (
    "CD8A high, EPCAM low",
    "CD8A:2.5, EPCAM:-1, HLA-DRA",
    "ENSG00000153563 high; KRT8 low",
)
FILTERS = (
    'organ == "breast" and n_counts > 500 and not (disease in ("IDC", "DCIS"))',
    'expr("CD8A") > 1.5 or label("region") == "tumour"',
    "slide not in ('S1', 'S2') and 10 < x_um <= 2e3 and count('EPCAM') is missing",
)
GENE_TEXTS = (
    "gene,logfc\nCD8A,2.1\nEPCAM,-1.3\n",
    "CD8A\nCD4\n↑ EPCAM\n- KRT8",
    "High: CD8A, CD3E\nLow: EPCAM",
)
GMT = ("T_UP\tcells\tCD8A\tCD3E\nT_DN\t\tEPCAM,0.5\tKRT8\n", "set\thttp://x\tA\tB\n")
NETS = ("source,target,weight\nT,CD8A,1.0\nT,EPCAM,-2\n", "source\ttarget\nT\tCD8A\n")
GEOJSON = tuple(
    json.dumps(one)
    for one in (
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [[[0, 0], [90.5, 0], [90, 80], [0, 70], [0, 0]]],
                    },
                    "properties": {
                        "objectType": "annotation",
                        "name": "tumour",
                        "metadata": {"slide_id": "S1"},
                        "classification": {"name": "Tumor", "color": [200, 0, 0]},
                    },
                }
            ],
        },
        {
            "type": "MultiPolygon",
            "coordinates": [[[[0, 0], [9, 0], [9, 9], [0, 0]]], [[[20, 20], [30, 20], [30, 30], [20, 20]]]],
        },
    )
)  # fmt: skip
POLYGONS = ("100.200.50.0.0.50", encode_polygon([[0, 0], [10, 0], [10, 10], [-5, 3]]))
PANEL = json.dumps(GenePanel(("A", "B", "C"), (1.0, 2.0, 3.0)).to_dict())


def signature(text: str, _: Path) -> None:
    parsed = parse_signature(text)
    assert parse_signature(str(parsed)).items == parsed.items


def filter_text(text: str, _: Path) -> None:
    parsed = parse_filter(text)
    if parsed is not None:
        assert parse_filter(str(parsed)) is not None


def gene_text(text: str, _: Path) -> None:
    read_gene_text(text)


def gmt(text: str, _: Path) -> None:
    for one in read_gmt(text.encode("utf-8", "surrogatepass")):
        one.head(10)


def net(text: str, _: Path) -> None:
    from app.gene_set_panel import _of_net

    _of_net(text.encode("utf-8", "surrogatepass"))


def geojson(text: str, folder: Path) -> None:
    from stamp_index.search.regions.geojson import read_shape

    path = folder / "region.geojson"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_shape(path, "S1")
    finally:
        path.unlink()


def annotations(text: str, _: Path) -> None:
    from stamp_index.export.annotations import read_annotations

    read_annotations(text.encode("utf-8", "surrogatepass"))


def polygon(text: str, _: Path) -> None:
    corners = decode_polygon(text)
    assert (decode_polygon(encode_polygon(corners)) == corners).all()


def address(text: str, _: Path) -> None:
    app_address(page=text, state={"q": text, "roi": [text]})


def panel(text: str, _: Path) -> None:
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(values, dict):
        GenePanel.from_dict(values)


def _of_file(name: str, read: Any) -> Any:
    def target(text: str, folder: Path) -> None:
        path = folder / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            read(path)
        finally:
            path.unlink()

    return target


def _slide_toml(path: Path) -> None:
    from stamp_index.readers.sidecar import read_sidecar

    read_sidecar(path)


def _index_recipe(path: Path) -> None:
    from stamp_index.index.recipes import load_recipe

    load_recipe(path)


def _trainer_recipe(path: Path) -> None:
    from trainer.recipe_file import load_recipe

    load_recipe(path)


def _manifest(path: Path) -> None:
    from stamp_index.embed.manifest import read_manifest

    read_manifest(path)


slide_toml = _of_file("slide.toml", _slide_toml)
index_recipe = _of_file("recipe.toml", _index_recipe)
trainer_recipe = _of_file("trainer.toml", _trainer_recipe)
manifest = _of_file("slides.csv", _manifest)

SLIDE_TOMLS = (
    'slide_id = "P1_A"\npatient_id = "P1"\nmpp = 0.5\norgan = "breast"\nimage = "a.tif"\n',
)
MANIFESTS = ("path,patient_id,organ,mpp\na,P1,breast,0.5\nb,P2,,\n",)


def recipes(pattern: str) -> tuple[str, ...]:
    """Recipes of this checkout, as texts."""
    found = (
        path.read_text("utf-8") for path in sorted(ROOT.glob(pattern)) if "stage1" not in path.name
    )
    return tuple(found)
