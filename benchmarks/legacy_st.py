"""Sections of the two public legacy ST data sets that the benchmarks train on: HER2ST and the mouse olfactory bulb.

Set STAMP_INDEX_SHARED to the folder that holds ``data/her2st`` and ``data/mob_stahl`` (their layouts are those of
almaan/her2st and of tare/Splotch with st_pipeline's counts).
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.readers import read
from stamp_index.slides import Slide, open_image

SHARED = Path(os.environ.get("STAMP_INDEX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
HER2ST, MOB = SHARED / "data" / "her2st", SHARED / "data" / "mob_stahl"
_COUNTS = {
    4: "MOB_REP4_stdata.tsv.gz",
    9: "MOB_REP9_stdata.tsv.gz",
    11: "Rep11_MOB_count_matrix-1.tsv.gz",
}
_PITCH_UM = 200.0


@cache
def section(name: str) -> Slide:
    """Return a HER2ST section (``C5``) or a replicate of the bulb (``MOB4``), labels in ``spots["label"]``."""
    return _bulb(int(name.removeprefix("MOB"))) if name.startswith("MOB") else _her2st(name)


def _her2st(name: str) -> Slide:
    slide = read(HER2ST / "ST-cnts" / f"{name}.tsv.gz")
    pathologist = HER2ST / "ST-pat" / "lbl" / f"{name}_labeled_coordinates.tsv"
    # Without a pathologist: the authors' clusters of expression, which mean something within one patient.
    clusters = HER2ST / "ST-cluster" / "lbl" / f"{name}-cluster-annotation.tsv.gz"
    path = pathologist if pathologist.exists() else clusters
    table = pd.read_csv(path, sep="\t").dropna(subset=["x", "y"])
    keys = [f"{round(x)}x{round(y)}" for x, y in zip(table["x"], table["y"], strict=True)]
    found = dict(zip(keys, table["label"].astype(str), strict=True))
    label = [found.get(str(key), "") for key in slide.spots.index]
    return replace(slide, spots=slide.spots.assign(label=label))


def _bulb(replicate: int) -> Slide:
    """One replicate: annotated spots alone, gene symbols, duplicates summed."""
    layers = pd.read_csv(MOB / "annotations" / f"{replicate:02d}_01.tsv", sep="\t", index_col=0)
    table = pd.read_csv(MOB / "counts" / _COUNTS[replicate], sep="\t", index_col=0)
    table.index = [
        "_".join(str(round(float(part))) for part in key.split("x")) for key in table.index
    ]
    table = table[~table.index.duplicated()]
    names = [name for name in layers.columns if name in table.index]
    genes = [_symbols().get(gene.split(".")[0], gene) for gene in table.columns]
    unique, column = np.unique(genes, return_inverse=True)
    summed = csr_matrix((np.ones(len(genes)), (np.arange(len(genes)), column)))
    counts = csr_matrix(
        csr_matrix(table.loc[names].to_numpy(np.float32)) @ summed, dtype=np.float32
    )
    image = open_image(MOB / "images" / f"{replicate:02d}.jpg")
    width, height = image.size_px
    array = np.array([[float(part) for part in name.split("_")] for name in names])
    one_hot = layers[names].to_numpy()  # (layers, n)
    label = np.where(one_hot.any(axis=0), layers.index.to_numpy()[one_hot.argmax(axis=0)], "")
    spots = pd.DataFrame(
        {
            "x_px": (array[:, 0] - 1) / 32 * width,
            "y_px": (array[:, 1] - 1) / 34 * height,
            "label": label,
        },
        index=pd.Index(names),
    )
    return Slide(
        slide_id=f"MOB{replicate}", spots=spots, counts=counts, genes=tuple(map(str, unique)), image=image,
        mpp=_PITCH_UM * 32 / width, spot_diameter_um=100.0, species="mouse",
    )  # fmt: skip


@cache
def _symbols() -> dict[str, str]:
    """Mouse Ensembl id to symbol, from the feature table of a Space Ranger run."""
    path = SHARED / "data" / "visium_muscle" / "Vis5A_2dpi" / "Vis5A_filtered_feature_bc_matrix.h5"
    with h5py.File(path) as file:
        features = file["matrix/features"]
        pairs = zip(features["id"][:], features["name"][:], strict=True)
        return {key.decode(): name.decode() for key, name in pairs}
