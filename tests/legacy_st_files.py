"""Small legacy Spatial Transcriptomics sections for tests of readers."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

GENES = ["ENSMUSG00000000001.4", "ENSMUSG00000000028.14", "ENSMUSG00000000037.16"]
SYMBOLS = ["Gnai3", "Cdc45", "Scml2"]
LAYERS = ["Nerve", "Mitral", "Granular"]

# Pixels of neighbouring columns and rows: 10 um/px on the square array, 5 um/px on the staggered one.
SQUARE_PX = (20.0, 20.0)
STAGGERED_PX = (6200 / 66 / 5, 6600 / 63 / 5)


def write_counts(path: Path, names: list[str], genes: list[str] | None = None) -> np.ndarray:
    """Write counts as ST Pipeline does, ``3.0`` for 3; return them."""
    genes = GENES if genes is None else genes
    values = np.random.default_rng(0).integers(1, 30, (len(names), len(genes)))
    values[:, 1] = values[:, 1] % 3  # some zeros
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(values.astype(float), names, genes).to_csv(path, sep="\t")
    return values


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text in a table, gzipped or not."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    assert old in text
    changed = text.replace(old, new).encode()
    path.write_bytes(gzip.compress(changed) if path.suffix == ".gz" else changed)


def write_pair(root: Path, section: str = "MOB1", *, staggered: bool = True) -> Path:
    """Write counts, spots and image of a section side by side; return the counts file.

    Twenty spots lie under tissue; the counts hold five more, the table of spots one more.
    """
    root.mkdir(parents=True, exist_ok=True)
    step = 2 if staggered else 1
    places = [(x, y) for x in range(3, 3 + 4 * step, step) for y in range(4, 4 + 5 * step, step)]
    if staggered:
        places = [(x + k % 2, y + k % 2) for k, (x, y) in enumerate(places)]
        places = [(x, y if (x + y) % 2 else y + 1) for x, y in places]
    px = STAGGERED_PX if staggered else SQUARE_PX
    rows = [
        {
            "x": x,
            "y": y,
            "new_x": x + 0.02,
            "new_y": y - 0.02,
            "pixel_x": 40 + (x + 0.02) * px[0],
            "pixel_y": 50 + (y - 0.02) * px[1],
            "selected": 1,
        }
        for x, y in places
    ]
    rows.append({**rows[0], "x": 20, "y": 21, "selected": 0})
    pd.DataFrame(rows).to_csv(root / f"alignment_table_{section}.tsv", sep="\t", index=False)
    path = root / f"{section}.tsv.gz"
    extra = [(x, 30 + x % 2) for x in range(25, 30)]
    write_counts(path, [f"{x}x{y}" for x, y in [*places, *extra]])
    Image.new("RGB", (400, 420), (210, 180, 200)).save(root / f"{section}.jpg")
    return path


def write_gene_table(root: Path) -> None:
    table = pd.DataFrame({"gene_id": GENES, "gene_type": "protein_coding", "gene_name": SYMBOLS})
    table.to_csv(root / "mouse_genes.tsv.gz", sep="\t", index=False)


def write_study(root: Path) -> Path:
    """Write three replicates: 4 with counts of the whole array, 11 with measured places, 1 without counts."""
    places = [(x, y) for x in range(8, 13) for y in range(9, 14)]
    for folder in ("images", "annotations", "counts"):
        (root / folder).mkdir(parents=True)
    for number in (1, 4, 11):
        hot = np.zeros((len(LAYERS), len(places)), dtype=int)
        hot[np.arange(len(places)) % 3, np.arange(len(places))] = 1
        hot[:, 4] = 0  # a spot without layer
        columns = [f"{x}_{y}" for x, y in places]
        pd.DataFrame(hot, LAYERS, columns).to_csv(
            root / f"annotations/{number:02d}_01.tsv", sep="\t"
        )
        Image.new("RGB", (640, 680), (210, 180, 200)).save(root / f"images/{number:02d}.jpg")
    off = [(x, 30) for x in range(2, 30)]
    write_counts(
        root / "counts/MOB_REP4_stdata.tsv.gz", [f"{x}x{y}" for x, y in [*places[::-1], *off]]
    )
    moved = [f"{x - 0.08:g}x{y + 0.015:g}" for x, y in places]
    write_counts(root / "counts/Rep11_MOB_count_matrix-1.tsv.gz", moved, SYMBOLS)
    return root
