"""A small SpatialData store for tests of readers, written with zarr and pyarrow alone."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import zarr
from anndata import AnnData
from anndata.io import write_elem
from scipy.sparse import csr_matrix

PITCH = 40.0  # full-resolution px, so 2.5 um/px
SCALE = 0.5  # px of the hires image per full-resolution px
ROWS, COLUMNS = 5, 12
HEIGHT, WIDTH = 250, 330  # full-resolution px
GENES = ["CD8A", "EPCAM", "TBCE", "ISO"]
IDS = [f"ENSG0000000000{i}" for i in range(4)]
_KEPT = tempfile.TemporaryDirectory(prefix="spatial-data-")
atexit.register(_KEPT.cleanup)
_WRITTEN: dict[tuple[int, str], Path] = {}


def axes(names: str, unit: str = "unit") -> list[dict[str, str]]:
    kinds = {"c": "channel"}
    return [
        {"name": n, "type": kinds.get(n, "space"), **({} if n == "c" else {"unit": unit})}
        for n in names
    ]


def transformation(
    kind: str, to: str, names: str = "cyx", unit: str = "unit", **said: object
) -> dict:
    return {
        "type": kind,
        **said,
        "input": {"name": names, "axes": axes(names)},
        "output": {"name": to, "axes": axes(names, unit)},
    }


def scaling(to: str, factor: float, names: str = "cyx", unit: str = "unit") -> dict:
    factors = [1.0 if n == "c" else factor for n in names]
    return transformation("scale", to, names, unit, scale=factors)


class SpatialStore:
    """Visium in `store.zarr` as spatialdata-io lays it out; tests damage it in one place each."""

    def __init__(self, root: Path, *, zarr_format: int = 3, tables: str = "tables") -> None:
        self.path = root / "P1.zarr"
        self.zarr_format = zarr_format
        self.tables = tables
        cells = [(r, c) for r in range(ROWS) for c in range(r % 2, COLUMNS, 2)]
        self.cells = np.array(cells)
        self.xy = np.array([(30 + c * PITCH / 2, 30 + r * PITCH * 0.75**0.5) for r, c in cells])
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 255, (int(HEIGHT * SCALE), int(WIDTH * SCALE), 3), np.uint8)
        self.counts = rng.integers(1, 9, (len(cells), len(GENES)))
        self.obs = pd.DataFrame(
            {
                "in_tissue": 1,
                "array_row": self.cells[:, 0],
                "array_col": self.cells[:, 1],
                "spot_id": np.arange(len(cells))[::-1],  # the table is in another order than shapes
                "region": pd.Categorical(["P1"] * len(cells)),
                "zone": pd.Categorical(np.where(self.cells[:, 0] < 2, "top", "bottom")),
            },
            index=[f"B{r}-{c}" for r, c in cells],
        )
        known = _WRITTEN.get((zarr_format, tables))
        if known is not None:  # writing one takes a third of a second
            shutil.copytree(known, self.path)
            self.root = zarr.open_group(self.path, mode="r+", use_consolidated=False)
            return
        self.root = zarr.open_group(self.path, mode="w", zarr_format=zarr_format)
        for name in ("images", "shapes", tables):
            self.root.create_group(name)
        self.write_image("P1_hires_image", self.pixels)
        self.write_shapes()
        self.write_table()
        kept = Path(_KEPT.name) / f"{zarr_format}-{tables}.zarr"
        shutil.copytree(self.path, kept)
        _WRITTEN[zarr_format, tables] = kept

    def write_image(
        self, name: str, pixels: np.ndarray, transformations: list | None = None, *, order: str = "cyx",
        n_levels: int = 2, unit: str | None = None, mpp: float = 1.0,
    ) -> Path:  # fmt: skip
        group = self.root.require_group(f"images/{name}")
        levels = [pixels[:: 2**i, :: 2**i] for i in range(n_levels)]
        place = {"y": 0, "x": 1, "c": 2}
        datasets = []
        for i, level in enumerate(levels):
            data = level.transpose([place[axis] for axis in order])
            chunks = tuple(
                min(50, n) if axis != "c" else n for n, axis in zip(data.shape, order, strict=True)
            )
            array = group.create_array(f"s{i}", shape=data.shape, dtype=data.dtype, chunks=chunks)
            array[:] = data
            scale = [1.0 if axis == "c" else 2.0**i * mpp for axis in order]
            datasets.append(
                {"path": f"s{i}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            )
        said = {
            "axes": [{**one, "unit": unit} if unit and one["name"] != "c" else {k: one[k] for k in ("name", "type")} for one in axes(order)],
            "datasets": datasets,
            "coordinateTransformations": transformations
            if transformations is not None
            else [transformation("identity", "P1_downscaled_hires", order), scaling("P1", 1 / SCALE, order)],
            "name": name,
        }  # fmt: skip
        attributes = {"multiscales": [said]}
        group.attrs.update({"ome": attributes} if self.zarr_format == 3 else attributes)
        return self.path / "images" / name

    def write_shapes(
        self, name: str = "P1", *, squares: float | None = None, radius: object = PITCH * 0.325,
        transformations: list | None = None, index: object = None,
    ) -> Path:  # fmt: skip
        group = self.root.require_group(f"shapes/{name}")
        points = self.xy if squares is None else None
        made = shapely.points(points) if squares is None else _boxes(self.xy, squares)
        columns = {"geometry": shapely.to_wkb(made)}
        if squares is None:
            columns["radius"] = np.broadcast_to(radius, len(made)).astype(float)
        ids = np.arange(len(made))[::-1] if index is None else index
        frame = pd.DataFrame(columns, index=pd.Index(ids, name="spot_id"))
        table = pa.Table.from_pandas(frame)
        geo = {
            "version": "1.0.0",
            "primary_column": "geometry",
            "columns": {"geometry": {"encoding": "WKB"}},
        }
        table = table.replace_schema_metadata({**table.schema.metadata, b"geo": json.dumps(geo)})
        pq.write_table(table, self.path / "shapes" / name / "shapes.parquet")
        group.attrs.update(
            {
                "axes": ["x", "y"],
                "encoding-type": "ngff:shapes",
                "coordinateTransformations": transformations
                if transformations is not None
                else [transformation("identity", "P1", "xy"), scaling("P1_downscaled_hires", SCALE, "xy")],
                "spatialdata_attrs": {"version": "0.3"},
            }
        )  # fmt: skip
        return self.path / "shapes" / name

    def write_table(
        self, name: str = "table", *, region: str | list[str] = "P1", X: object = None, var: pd.DataFrame | None = None,
        layers: dict | None = None, obs: pd.DataFrame | None = None,
    ) -> Path:  # fmt: skip
        counts = csr_matrix(self.counts.astype(np.float32)) if X is None else X
        if var is None:
            kinds = ["Gene Expression"] * 3 + ["Antibody Capture"]
            var = pd.DataFrame({"gene_ids": IDS, "feature_types": kinds}, index=GENES)
        parent = self.root.require_group(self.tables)
        with warnings.catch_warnings():  # of what the next release of anndata will do
            warnings.simplefilter("ignore")
            made = AnnData(counts, self.obs if obs is None else obs, var, layers=layers)
            write_elem(parent, name, made)
        parent[name].attrs.update(
            {"region": region, "region_key": "region", "instance_key": "spot_id"}
        )
        return self.path / self.tables / name

    def drop(self, what: str) -> None:
        shutil.rmtree(self.path / what)


def _boxes(xy: np.ndarray, width: float) -> np.ndarray:
    half = width / 2
    return shapely.box(xy[:, 0] - half, xy[:, 1] - half, xy[:, 0] + half, xy[:, 1] + half)
