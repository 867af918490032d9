"""A small Space Ranger folder for tests of readers."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from scipy.io import mmwrite
from scipy.sparse import csc_matrix

if TYPE_CHECKING:
    from pathlib import Path

FULL = (4000, 3000)


PITCH = 200.0  # full-resolution px, so 0.5 um/px


GENES = ["CD8A", "EPCAM", "TBCE", "TBCE", "ISO"]


IDS = [f"ENSG0000000000{i}" for i in range(5)]


KINDS = ["Gene Expression"] * 4 + ["Antibody Capture"]


HEADER = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"


class Run:
    """A small Space Ranger folder that tests damage in one place each."""

    def __init__(
        self, root: Path, *, mtx: bool = False, header: bool = True, hires: bool = True
    ) -> None:
        self.path = root / "P1_A"
        self.spatial = self.path / "spatial"
        self.spatial.mkdir(parents=True)
        self.positions = pd.DataFrame(
            [
                (f"B{row}-{column}", int((row, column) != (0, 0)), row, column,
                 500 + row * PITCH * 0.75**0.5, 600 + column * PITCH / 2)
                for row in range(8)
                for column in range(row % 2, 16, 2)
            ]
        )  # fmt: skip
        self.barcodes = self.positions[0][1:].tolist()  # the first spot is off tissue
        self.counts = np.random.default_rng(0).integers(1, 9, (len(self.barcodes), 5))
        self.write_positions(header=header)
        self.write_mtx() if mtx else self.write_h5()
        factors = {"hires": 0.5, "lowres": 0.15}
        scales = {f"tissue_{kind}_scalef": factor for kind, factor in factors.items()}
        self.scale_factors = {"spot_diameter_fullres": PITCH * 0.65, **scales}
        self.write_scale_factors()
        for kind in ("hires", "lowres") if hires else ("lowres",):
            size = tuple(round(side * factors[kind]) for side in FULL)
            Image.new("RGB", size, (200, 130, 180)).save(self.spatial / f"tissue_{kind}_image.png")

    def write_positions(self, *, header: bool = True) -> None:
        for name in ("tissue_positions.csv", "tissue_positions_list.csv"):
            (self.spatial / name).unlink(missing_ok=True)
        text = self.positions.to_csv(index=False, header=False)
        name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
        (self.spatial / name).write_text(HEADER + text if header else text)

    def write_scale_factors(self) -> None:
        (self.spatial / "scalefactors_json.json").write_text(json.dumps(self.scale_factors))

    def write_h5(self) -> None:
        matrix = csc_matrix(self.counts.T)
        with h5py.File(self.path / "filtered_feature_bc_matrix.h5", "w") as file:
            group = file.create_group("matrix")
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(matrix, name)
            group["shape"] = np.array(matrix.shape, dtype=np.int32)
            group["barcodes"] = np.array(self.barcodes, dtype="S")
            for name, values in (
                ("id", IDS),
                ("name", GENES),
                ("feature_type", KINDS),
                ("genome", ["GRCh38"] * 5),
            ):
                group[f"features/{name}"] = np.array(values, dtype="S")

    def write_mtx(self) -> None:
        folder = self.path / "filtered_feature_bc_matrix"
        folder.mkdir()
        stream = BytesIO()
        mmwrite(stream, csc_matrix(self.counts.T))
        features = "".join(f"{i}\t{g}\t{k}\n" for i, g, k in zip(IDS, GENES, KINDS, strict=True))
        texts = {
            "matrix.mtx": stream.getvalue(),
            "features.tsv": features.encode(),
            "barcodes.tsv": "\n".join(self.barcodes).encode(),
        }
        for name, content in texts.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))

    def write_tiff(
        self, name: str = "image.tif", mpp: float | None = 0.5, size: tuple[int, int] = FULL
    ) -> Path:
        tags = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
        pixels = np.full((size[1], size[0], 3), 180, dtype=np.uint8)
        tifffile.imwrite(
            self.path / name, pixels, tile=(256, 256), compression="jpeg", photometric="rgb", **tags
        )
        return self.path / name
