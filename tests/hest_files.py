"""A small sample in HEST-1k's layout, for tests of its reader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import numpy as np
import pandas as pd
import tifffile
from scipy.sparse import csc_matrix, csr_matrix

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GENES = ["EPCAM", "CD3E", "COL1A1", "TBCE"]
PITCH_UM = 100.0
PATCH_UM = 112.0


def hexagon(mpp: float, rows: int = 6, columns: int = 5) -> NDArray[np.float64]:
    """Return spot centres (x, y) in px of a Visium array whose first spot lies 120 um inside."""
    pitch = PITCH_UM / mpp
    return np.array(
        [
            (120 / mpp + pitch * (column + 0.5 * (row % 2)), 120 / mpp + pitch * row * 0.75**0.5)
            for row in range(rows)
            for column in range(columns)
        ]
    )


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return RGB pixels whose red grows from left to right and whose green grows from top to bottom."""
    width, height = size
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    pixels[:, :, 0] = np.linspace(0, 220, width, dtype=np.uint8)
    pixels[:, :, 1] = np.linspace(0, 220, height, dtype=np.uint8)[:, None]
    return pixels


class Sample:
    """One sample that tests damage in one place each; `metadata`, `obs` and `var` are written by `write`."""

    def __init__(self, root: Path, name: str = "TENX1", *, mpp: float = 1.0) -> None:
        self.root, self.name, self.mpp = root, name, mpp
        self.xy = hexagon(mpp)
        self.size = (round(760 / mpp), round(680 / mpp))
        self.x: Any = np.random.default_rng(0).integers(1, 9, (len(self.xy), len(GENES)))
        self.obs = pd.DataFrame(
            {
                "in_tissue": 1,
                "array_row": np.repeat(np.arange(6), 5),
                "array_col": [2 * c + r % 2 for r in range(6) for c in range(5)],
                "pxl_col_in_fullres": self.xy[:, 0],
                "pxl_row_in_fullres": self.xy[:, 1],
                "total_counts": self.x.sum(axis=1),
            },
            index=[f"{'ACGT'[i % 4]}{i:03d}-1" for i in range(len(self.xy))],
        )
        self.var = pd.DataFrame({"gene_ids": [f"ENSG{i:011d}.2" for i in range(4)]}, index=GENES)
        self.metadata: dict[str, Any] = {
            "id": name,
            "dataset_title": "A study of the breast",
            "organ": "Breast",
            "disease_state": "Cancer",
            "oncotree_code": "IDC",
            "species": "Homo sapiens",
            "patient": "Patient 1",
            "st_technology": "Visium",
            "license": "CC BY 4.0",
            "inter_spot_dist": 100.0,
            "spot_diameter": 55.0,
            "pixel_size_um_embedded": None,
            "pixel_size_um_estimated": mpp,
            "fullres_px_width": self.size[0],
            "fullres_px_height": self.size[1],
            "subseries": float("nan"),
            "magnification": "20x",
        }

    @property
    def path(self) -> Path:
        return self.root / "st" / f"{self.name}.h5ad"

    @property
    def patches(self) -> Path:
        return self.root / "patches" / f"{self.name}.h5"

    def write(self, *, wsi: bool = True, metadata: bool = True, matrix: str = "csr") -> Path:
        """Write the counts, and the image and metadata where wanted; return the counts' path."""
        for folder in ("st", "metadata"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        made = {"csr": csr_matrix, "csc": csc_matrix, "dense": np.asarray}[matrix](
            np.asarray(self.x, dtype=np.float32)
        )
        table = anndata.AnnData(made, obs=self.obs, var=self.var)
        table.obsm["spatial"] = self.xy
        factors = {"spot_diameter_fullres": 55 / self.mpp, "tissue_downscaled_fullres_scalef": 0.1}
        pictures = {"downscaled_fullres": picture((76, 68))}
        table.uns["spatial"] = {"ST": {"images": pictures, "scalefactors": factors}}
        table.write_h5ad(self.path)
        if metadata:
            self.write_metadata()
        if wsi:
            self.write_wsi()
        return self.path

    def write_metadata(self) -> None:
        (self.root / "metadata" / f"{self.name}.json").write_text(json.dumps(self.metadata))

    def write_wsi(self, size: tuple[int, int] | None = None, mpp: float | None = None) -> Path:
        """Write the image as the dataset's own code does: tiled, with its pixel size."""
        path = self.root / "wsis" / f"{self.name}.tif"
        path.parent.mkdir(exist_ok=True)
        per_cm = 1e4 / (mpp or self.mpp)
        tifffile.imwrite(
            path,
            picture(size or self.size),
            tile=(256, 256),
            compression="deflate",
            photometric="rgb",
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
        )
        return path

    def write_patches(self, order: list[int] | None = None, side: int = 224) -> NDArray[np.uint8]:
        """Write patches of some spots, cut from the picture at 0.5 um/px; return them."""
        order = list(range(len(self.xy))) if order is None else order
        width = PATCH_UM / self.mpp
        corners = (self.xy[order] - width // 2).astype(int)
        step = 0.5 / self.mpp
        pixels, taps = picture(self.size), (np.arange(side) * step).astype(int)
        images = np.full((len(order), side, side, 3), 255, dtype=np.uint8)
        for image, (x, y) in zip(images, corners, strict=True):
            image[:] = pixels[np.ix_(y + taps, x + taps)]
        self.patches.parent.mkdir(parents=True, exist_ok=True)
        names = np.array([[name.encode()] for name in self.obs.index[order]])
        with h5py.File(self.patches, "w") as file:
            file.create_dataset("img", data=images, chunks=(1, *images.shape[1:]))
            file.create_dataset("coords", data=corners)
            file.create_dataset("barcode", data=names)
        return images
