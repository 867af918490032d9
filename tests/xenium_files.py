"""A small Xenium output folder for tests of readers: field names and types as Xenium Onboard Analysis writes them."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from PIL import Image, ImageDraw
from scipy.sparse import csr_matrix

from tests.tenx_files import GENE, write_h5, write_mtx

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIXEL = 0.2125  # um per morphology pixel
SECTION_UM = (480.0, 384.0)  # width and height: 10 x 8 bins of 48 um
FEATURES = [
    ("ENSG00000000001", "CD8A", GENE),
    ("ENSG00000000002", "EPCAM", GENE),
    ("ENSG00000000003", "TBCE", GENE),
    ("ENSG00000000004", "TBCE", GENE),
    ("NegControlProbe_00001", "NegControlProbe_00001", "Negative Control Probe"),
    ("NegControlCodeword_0500", "NegControlCodeword_0500", "Negative Control Codeword"),
    ("UnassignedCodeword_0001", "UnassignedCodeword_0001", "Unassigned Codeword"),
    ("DeprecatedCodeword_0002", "DeprecatedCodeword_0002", "Deprecated Codeword"),
    ("Intergenic_Region_1", "Intergenic_Region_1", "Genomic Control"),
]
HE_SIZE = (1300, 1300)
N_CELLS = 60


class XeniumRun:
    """An output folder that tests damage in one place each.

    `first` writes the types of version 1: whole numbers as cell ids, and bytes as names of features.
    """

    def __init__(self, root: Path, *, first: bool = False, mtx: bool = False) -> None:
        self.path = root / "output-XETG1__001__R1"
        self.path.mkdir(parents=True)
        self.first = first
        self.experiment: dict[str, object] = {
            "major_version": 1 if first else 5,
            "run_name": "run",
            "region_name": "R1",
            "panel_organism": "Human",
            "panel_tissue_type": "Breast",
            "pixel_size": PIXEL,
            "images": {"morphology_filepath": "morphology.ome.tif"},
        }
        self.write_experiment()
        rng = np.random.default_rng(0)
        self.cells = self._make_cells(rng)
        self.counts = rng.poisson(2.0, (N_CELLS, len(FEATURES)))
        self.counts[:, 0] += 1  # no cell is empty
        self.write_cells()
        self.write_matrix(self.cells["cell_id"].astype(str).tolist(), mtx=mtx)
        self.transcripts = self._make_transcripts(rng)
        self.write_transcripts()

    def _make_cells(self, rng: np.random.Generator) -> pd.DataFrame:
        names = [f"aaaa{chr(97 + i // 26)}{chr(97 + i % 26)}aa-1" for i in range(N_CELLS)]
        ids = pd.Series(np.arange(1, N_CELLS + 1, dtype=np.int32)) if self.first else names
        return pd.DataFrame(
            {
                "cell_id": ids,
                "x_centroid": rng.uniform(5, SECTION_UM[0] - 5, N_CELLS),
                "y_centroid": rng.uniform(5, SECTION_UM[1] - 5, N_CELLS),
                "transcript_counts": rng.integers(5, 50, N_CELLS),
                "control_probe_counts": 0,
                "total_counts": 50,
                "cell_area": rng.uniform(40, 120, N_CELLS),
                "nucleus_area": rng.uniform(10, 40, N_CELLS),
            }
        )

    def _make_transcripts(self, rng: np.random.Generator, n: int = 4000) -> pd.DataFrame:
        names = list(dict.fromkeys(name for _, name, _ in FEATURES))
        return pd.DataFrame(
            {
                "transcript_id": np.arange(n, dtype=np.uint64),
                "cell_id": -1 if self.first else "UNASSIGNED",
                "overlaps_nucleus": np.uint8(0),
                "feature_name": rng.choice(names, n),
                "x_location": rng.uniform(0, SECTION_UM[0], n).astype(np.float32),
                "y_location": rng.uniform(0, SECTION_UM[1], n).astype(np.float32),
                "z_location": np.float32(15.0),
                "qv": rng.choice([5.0, 19.99, 20.0, 40.0], n).astype(np.float32),
                "fov_name": "A1",
            }
        )

    def write_experiment(self) -> None:
        (self.path / "experiment.xenium").write_text(json.dumps(self.experiment))

    def write_cells(self, *, csv: bool = False) -> None:
        for name in ("cells.parquet", "cells.csv.gz"):
            (self.path / name).unlink(missing_ok=True)
        if csv:
            text = self.cells.to_csv(index=False)
            (self.path / "cells.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            self.cells.to_parquet(self.path / "cells.parquet", index=False)

    def write_matrix(self, barcodes: list[str], *, mtx: bool = False) -> None:
        counts = csr_matrix(self.counts)
        if mtx:
            write_mtx(self.path / "cell_feature_matrix", counts, barcodes, FEATURES)
        else:
            write_h5(self.path / "cell_feature_matrix.h5", counts, barcodes, FEATURES)

    def write_transcripts(self) -> None:
        table = pa.Table.from_pandas(self.transcripts, preserve_index=False)
        if self.first and "feature_name" in table.column_names:
            place = table.column_names.index("feature_name")
            names = table.column("feature_name").cast(pa.binary())
            table = table.set_column(place, "feature_name", names)
        pq.write_table(table, self.path / "transcripts.parquet", row_group_size=700)

    def binned(self, bin_um: float = 48.0) -> dict[str, list[int]]:
        """Counts of CD8A, EPCAM and TBCE by bin, counted one transcript at a time."""
        genes = ["CD8A", "EPCAM", "TBCE"]
        found: dict[str, list[int]] = {}
        for row in self.transcripts.itertuples():
            if row.qv >= 20 and row.feature_name in genes:
                place = int(row.y_location // bin_um), int(row.x_location // bin_um)
                name = f"b{bin_um:g}um_{place[0]:05d}_{place[1]:05d}"
                found.setdefault(name, [0, 0, 0])[genes.index(row.feature_name)] += 1
        return dict(sorted(found.items()))


def alignment(
    degrees: float = 0.0, *, mirrored: bool = False, he_mpp: float = 0.5
) -> NDArray[np.float64]:
    """A matrix from H&E to Xenium pixels that lays the section's middle on the middle of the image."""
    turn = np.radians(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.diag([-1 if mirrored else 1, 1]) * he_mpp / PIXEL
    shift = np.array(SECTION_UM) / 2 / PIXEL - linear @ (np.array(HE_SIZE) / 2)
    return np.block([[linear, shift[:, None]], [np.array([0.0, 0.0, 1.0])]])


def write_alignment(path: Path, matrix: NDArray[np.float64]) -> None:
    path.write_text("\n".join(",".join(f"{value!r}" for value in row) for row in matrix.tolist()))


def write_he(
    path: Path, matrix: NDArray[np.float64], *, bin_um: float = 48.0, mpp: float | None = 0.5
) -> None:
    """Draw an H&E image: white, with a black disc of 8 um where the centre of each bin should be."""
    image = Image.new("RGB", HE_SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    reach = 4.0 / np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) / PIXEL
    for row in range(int(SECTION_UM[1] // bin_um)):
        for col in range(int(SECTION_UM[0] // bin_um)):
            um = (np.array([col, row]) + 0.5) * bin_um
            x, y = np.linalg.solve(matrix[:2, :2], um / PIXEL - matrix[:2, 2])
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(0, 0, 0))
    metadata = {"axes": "YXS"}
    if mpp:
        metadata |= {f"PhysicalSize{axis}": mpp for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    pixels = np.asarray(image)
    tifffile.imwrite(path, pixels, ome=True, tile=(256, 256), photometric="rgb", metadata=metadata)
