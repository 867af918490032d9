"""Small AnnData files for tests of readers, written by AnnData itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

GENES = ["CD8A", "EPCAM", "TBCE", "KRT8"]
IDS = [f"ENSG0000000000{i}" for i in range(4)]
PITCH = 50.0  # px, so 2 um/px
SIZE = (600, 420)  # full resolution
ROWS, COLUMNS = 5, 8


def visium() -> AnnData:
    """Return a Visium section of 40 spots as scanpy holds it, counts in X."""
    from anndata import AnnData

    row, step = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    column = 2 * step + row % 2
    obs = pd.DataFrame(
        {
            "in_tissue": 1,
            "array_row": row,
            "array_col": column,
            "layer": pd.Categorical(["A", "B", None, "A"] * 10),
            "score": np.linspace(0, 1, 40),
        },
        index=[f"B{i}" for i in range(40)],
    )
    var = pd.DataFrame({"gene_ids": IDS, "feature_types": "Gene Expression"}, index=GENES)
    counts = np.random.default_rng(0).integers(0, 9, (40, 4)) + np.eye(40, 4)
    adata = AnnData(csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    xy = np.stack([100 + column * PITCH / 2, 100 + row * PITCH * 0.75**0.5], axis=1)
    adata.obsm["spatial"] = xy
    hires = np.full((SIZE[1] // 2, SIZE[0] // 2, 3), 0.8, dtype=np.float32)
    adata.uns["spatial"] = {
        "P1": {
            "images": {"hires": hires, "lowres": hires[::4, ::4]},
            "scalefactors": {
                "tissue_hires_scalef": 0.5,
                "tissue_lowres_scalef": 0.125,
                "spot_diameter_fullres": 0.65 * PITCH,
            },
            "metadata": {"source_image_path": "/lab/scans/he_scan.png"},
        }
    }
    return adata


def cells(n: int = 60) -> AnnData:
    """Return single cells with positions in columns of obs, as large as the image of `write_image`."""
    from anndata import AnnData

    rng = np.random.default_rng(1)
    xy = rng.uniform((0, 0), SIZE, (n, 2))
    xy[:2] = (0.5, 0.5), (SIZE[0] - 0.5, SIZE[1] - 0.5)
    obs = pd.DataFrame({"x_pixel": xy[:, 0], "y_pixel": xy[:, 1]}, [f"c{i}" for i in range(n)])
    counts = rng.integers(1, 5, (n, 4))
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))


def write_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    Image.new("RGB", size, (200, 120, 180)).save(path)
    return path


def to_layout_of_0_7(path: Path) -> None:
    """Rewrite a file as anndata 0.7 laid it out: categories apart, no encodings on plain elements."""
    with h5py.File(path, "r+") as file:
        for frame in ("obs", "var"):
            group = file[frame]
            group.attrs["encoding-version"] = "0.1.0"
            for name in list(group):
                if isinstance(group[name], h5py.Group):
                    codes, categories = group[name]["codes"][()], group[name]["categories"][()]
                    del group[name]
                    apart = group.create_dataset(f"__categories/{name}", data=categories)
                    group.create_dataset(name, data=codes).attrs["categories"] = apart.ref

        def forget(name: str, item: h5py.Group | h5py.Dataset) -> None:
            kept = ("csr_matrix", "csc_matrix", "dataframe")
            if item.attrs.get("encoding-type") not in kept:
                for attribute in ("encoding-type", "encoding-version"):
                    item.attrs.pop(attribute, None)

        file.visititems(forget)
        for attribute in list(file.attrs):
            del file.attrs[attribute]
