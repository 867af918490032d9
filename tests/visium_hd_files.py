"""A small Visium HD run for tests of readers: field names and types as Space Ranger 3 writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import tifffile
from PIL import Image, ImageDraw
from scipy.sparse import csr_matrix

from tests.tenx_files import GENE, write_h5, write_mtx

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MPP = 0.5
ROWS, COLS = 96, 144  # squares of 2 um: 192 x 288 um, or 4 x 6 bins of 48 um
FEATURES = [
    ("ENSG00000000001", "CD8A", GENE),
    ("ENSG00000000002", "EPCAM", GENE),
    ("ENSG00000000003", "TBCE", GENE),
    ("ENSG00000000004", "TBCE", GENE),
    ("CD4_ab", "CD4", "Antibody Capture"),
]
FULL = (900, 800)
HIRES = 0.5
TYPES = {"in_tissue": "int64", "array_row": "int64", "array_col": "int64"}


class HdRun:
    """A run that tests damage in one place each.

    The array is turned by `degrees` on the image, and mirrored where `mirrored`. Tissue is made of blocks
    of 16 um, so that squares of every width agree on it; the top-left 48 um bin has one such block only.
    """

    def __init__(
        self,
        root: Path,
        *,
        degrees: float = 10.0,
        mirrored: bool = False,
        widths: tuple[int, ...] = (2, 8, 16),
        mtx: bool = False,
    ) -> None:
        self.path = root / "P1" / "outs"
        self.mtx = mtx
        turn = np.radians(degrees)
        axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        if mirrored:
            axes = axes @ np.diag([1, -1])
        self.linear = axes * 2 / MPP  # px per square of 2 um
        middle = self.linear @ np.array([(COLS - 1) / 2, (ROWS - 1) / 2])
        self.offset = np.array(FULL) / 2 - middle
        rng = np.random.default_rng(0)
        blocks = rng.random((ROWS // 8, COLS // 8)) < 0.9
        blocks[:3, :3] = False
        blocks[2, 2] = True
        blocks[:, -3:] = False  # the last column of bins lies off tissue
        self.tissue = np.kron(blocks, np.ones((8, 8), dtype=bool)).astype(bool)
        self.counts = rng.poisson(0.3, (ROWS, COLS, len(FEATURES))) * self.tissue[..., None]
        self.factors: dict[int, dict[str, float]] = {}
        self.positions: dict[int, pd.DataFrame] = {}
        for width in widths:
            self.write_square(width)
        (self.path / "spatial").mkdir(parents=True, exist_ok=True)

    def folder(self, width: int) -> Path:
        return self.path / "binned_outputs" / f"square_{width:03d}um"

    def px(self, row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        """Full-resolution (x, y) of places in squares of 2 um; whole numbers are centres."""
        return np.column_stack([col, row]) @ self.linear.T + self.offset

    def centre_px(self, bin_row: int, bin_col: int, bin_um: float = 48.0) -> NDArray[np.float64]:
        """Full-resolution centre of a bin, from the array's corner."""
        middle = [np.array([(place + 0.5) * bin_um / 2 - 0.5]) for place in (bin_row, bin_col)]
        return self.px(middle[0], middle[1])[0]

    def bin_counts(self, bin_um: int = 48) -> NDArray[np.int64]:
        """Counts of shape (bin rows, bin columns, features)."""
        return self.pooled(self.counts, bin_um // 2)

    @staticmethod
    def pooled(values: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        rows, cols = values.shape[0] // k, values.shape[1] // k
        return values.reshape(rows, k, cols, k, -1).sum((1, 3))

    def write_square(self, width: int) -> None:
        k = width // 2
        spatial = self.folder(width) / "spatial"
        spatial.mkdir(parents=True)
        row, col = (axis.ravel() for axis in np.mgrid[: ROWS // k, : COLS // k])
        inside = self.tissue[::k, ::k].ravel()
        centre = (k - 1) / 2
        px = self.px(row * k + centre, col * k + centre)
        names = [f"s_{width:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, col, strict=True)]
        self.positions[width] = pd.DataFrame(
            {
                "barcode": names,
                "in_tissue": inside.astype(int),
                "array_row": row,
                "array_col": col,
                "pxl_row_in_fullres": px[:, 1],
                "pxl_col_in_fullres": px[:, 0],
            }
        )
        self.write_positions(width)
        self.factors[width] = {
            "spot_diameter_fullres": width / MPP,
            "bin_size_um": float(width),
            "microns_per_pixel": MPP,
            "regist_target_img_scalef": HIRES,
            "tissue_lowres_scalef": HIRES / 10,
            "fiducial_diameter_fullres": 1205.15,
            "tissue_hires_scalef": HIRES,
        }
        self.write_factors(width)
        self.draw_hires(spatial / "tissue_hires_image.png")
        counts = csr_matrix(self.pooled(self.counts, k).reshape(-1, len(FEATURES))[inside])
        self.write_counts(width, counts, [n for n, kept in zip(names, inside, strict=True) if kept])

    def write_counts(self, width: int, counts: csr_matrix, barcodes: list[str]) -> None:
        matrix = self.folder(width) / "filtered_feature_bc_matrix"
        if self.mtx:
            write_mtx(matrix, counts, barcodes, FEATURES)
        else:
            write_h5(matrix.with_suffix(".h5"), counts, barcodes, FEATURES)

    def write_positions(self, width: int) -> None:
        table = self.positions[width]
        table.to_parquet(
            self.folder(width) / "spatial" / "tissue_positions.parquet",
            index=False,
            row_group_size=5000,
        )

    def write_factors(self, width: int) -> None:
        path = self.folder(width) / "spatial" / "scalefactors_json.json"
        path.write_text(json.dumps(self.factors[width]))

    def draw_hires(self, path: Path) -> None:
        self._drawn(HIRES).save(path)

    def write_full(self, name: str = "he.tif", mpp: float | None = MPP) -> Path:
        tags = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
        path = self.path / name
        pixels = np.asarray(self._drawn(1.0))
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **tags)
        return path

    def _drawn(self, scale: float) -> Image.Image:
        """White, with a black disc of 8 um at the centre of each 48 um bin."""
        size = tuple(round(side * scale) for side in FULL)
        image = Image.new("RGB", size, (255, 255, 255))
        draw = ImageDraw.Draw(image)
        for bin_row in range(ROWS // 24):
            for bin_col in range(COLS // 24):
                x, y = self.centre_px(bin_row, bin_col) * scale
                reach = 4 / MPP * scale
                draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(0, 0, 0))
        return image
