"""Write one phantom slide as a Space Ranger output folder with a pyramidal image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from stamp_index.phantom.ensembl import ENSEMBL_IDS
from stamp_index.phantom.layout import SPOT_UM, SpotArray
from stamp_index.phantom.noise import rng_for
from stamp_index.phantom.style import MPP

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_FIDUCIAL_UM = 89.0  # diameter of the frame's dots (10x Genomics)
_HIRES_PX, _LOWRES_PX = 2000, 600  # longest side, as Space Ranger writes them
_LEVELS = (1, 4, 16)


def barcodes(array: SpotArray) -> list[str]:
    """Name every array position: 16 letters and ``-1``.

    A position has the same barcode on every slide, as on a real array.
    """
    stride = 4096
    letters = rng_for(16, 4).permutation(stride * stride // 64)  # unique codes
    code = letters[array.array_row * 512 + array.array_col]
    out = []
    for value in code.tolist():
        rest = int(value) * 2_654_435_761 % 4**16  # odd factor: a bijection modulo a power of 2
        out.append("".join("ACGT"[rest >> 2 * i & 3] for i in range(16)) + "-1")
    return out


def write_image(path: Path, rgb: NDArray[np.uint8], quality: int) -> None:
    """Write a tiled pyramidal JPEG TIFF (levels 1, 4, 16; 256 px tiles; pixel size in cm).

    Parameters
    ----------
    path : Path
        File to write.
    rgb : ndarray of shape (h, w, 3), uint8
        Level 0.
    quality : int
        JPEG quality.
    """
    import tifffile

    full = Image.fromarray(rgb)
    with tifffile.TiffWriter(path) as tif:
        for factor in _LEVELS:
            level = rgb if factor == 1 else np.asarray(full.reduce(factor))
            per_cm = 1e4 / (MPP * factor)
            tif.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression="jpeg",
                # Small levels cost little, and their fine detail suffers most.
                compressionargs={"level": quality if factor == 1 else 93},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=0 if factor == 1 else 1,
                software="stamp-index phantom",
                metadata=None,
                maxworkers=1,
            )


def write_counts(path: Path, counts: csr_matrix, names: list[str], genes: tuple[str, ...]) -> None:
    """Write counts (spots, genes) in the HDF5 layout of 10x Genomics, version 3."""
    import h5py

    ids = [ENSEMBL_IDS[g] for g in genes]
    with h5py.File(path, "w", track_order=False) as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
        matrix = file.create_group("matrix")
        # 10x stores (genes, spots) by column: the arrays of our (spots, genes) by row.
        matrix.create_dataset("data", data=counts.data.astype(np.int32), compression="gzip")
        matrix.create_dataset("indices", data=counts.indices.astype(np.int64), compression="gzip")
        matrix.create_dataset("indptr", data=counts.indptr.astype(np.int64))
        matrix.create_dataset("shape", data=np.array(counts.shape[::-1], dtype=np.int32))
        matrix.create_dataset("barcodes", data=np.array(names, dtype="S"))
        features = matrix.create_group("features")
        features.create_dataset("id", data=np.array(ids, dtype="S"))
        features.create_dataset("name", data=np.array(genes, dtype="S"))
        kind = np.array(["Gene Expression"] * len(genes), dtype="S")
        features.create_dataset("feature_type", data=kind)
        features.create_dataset("genome", data=np.array(["GRCh38"] * len(genes), dtype="S"))
        features.create_dataset("_all_tag_keys", data=np.array(["genome"], dtype="S"))


def write_spatial(
    folder: Path, array: SpotArray, in_tissue: NDArray[np.bool_], rgb: NDArray[np.uint8]
) -> None:
    """Write positions, scale factors and the two preview images."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.lexsort((array.array_col, array.array_row))
    pd.DataFrame(
        {
            "barcode": np.array(barcodes(array))[order],
            "in_tissue": in_tissue[order].astype(int),
            "array_row": array.array_row[order],
            "array_col": array.array_col[order],
            "pxl_row_in_fullres": np.rint(array.y_px[order]).astype(int),
            "pxl_col_in_fullres": np.rint(array.x_px[order]).astype(int),
        }
    ).to_csv(folder / "tissue_positions.csv", index=False)
    factors: dict[str, float] = {
        "spot_diameter_fullres": SPOT_UM / MPP,
        "fiducial_diameter_fullres": _FIDUCIAL_UM / MPP,
    }
    full = Image.fromarray(rgb)
    small = full.reduce(max(2, array.size_px // (_HIRES_PX + 1)))
    for name, longest in (("hires", _HIRES_PX), ("lowres", _LOWRES_PX)):
        side = min(longest, array.size_px // 2)
        factors[f"tissue_{name}_scalef"] = side / array.size_px
        small = small.resize((side, side), Image.Resampling.BICUBIC)
        small.save(folder / f"tissue_{name}_image.png", compress_level=1)
    (folder / "scalefactors_json.json").write_text(json.dumps(factors) + "\n")


def write_sidecar(folder: Path, slide_id: str, patient_id: str) -> None:
    """Write ``slide.toml``: what Space Ranger's own files do not say."""
    lines = {
        "slide_id": slide_id,
        "patient_id": patient_id,
        "organ": "breast",
        "disease": "synthetic carcinoma",
        "species": "human",
        "platform": "phantom",
        "image": "image.tif",
    }
    text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    (folder / "slide.toml").write_text(text + f"mpp = {MPP}\n")
