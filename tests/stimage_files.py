"""A small slide in STimage-1K4M's layout, for tests of its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from PIL import Image

from tests.hest_files import hexagon, picture

if TYPE_CHECKING:
    from pathlib import Path

GENES: Final = ["ERBB2", "CD3E", "COL1A1", "TBCE"]


def square(pitch: float, rows: int = 6, columns: int = 6) -> np.ndarray:
    """Return spot centres (x, y) of a square array, in px."""
    return np.array(
        [(pitch * (c + 1), pitch * (r + 1)) for r in range(rows) for c in range(columns)]
    )


class StSlide:
    """One slide of one technology at 2 um/px (Visium HD: 0.5); tests damage it in one place each."""

    def __init__(self, root: Path, technology: str = "ST", name: str = "Human_Breast_A1") -> None:
        self.root, self.technology, self.name = root, technology, name
        self.folder = root / technology
        self.xy = {"ST": square(100.0), "Visium": hexagon(2.0), "VisiumHD": square(16.0)}[
            technology
        ]
        radius = {"ST": 25.0, "Visium": 16.25, "VisiumHD": 8.0}[technology]
        # The release's barcodes begin with the slide's name.
        local = [
            f"s_008um_{i:05d}_00001-1" if technology == "VisiumHD" else f"{i // 6}x{i % 6}"
            for i in range(len(self.xy))
        ]
        self.local = local
        index = [f"{name}_{spot}" for spot in local]
        self.coord = pd.DataFrame(
            {"yaxis": self.xy[:, 1], "xaxis": self.xy[:, 0], "r": radius}, index=index
        )
        values = np.random.default_rng(1).integers(1, 9, (len(index), len(GENES)))
        self.counts = pd.DataFrame(values, index=index, columns=GENES)
        size = self.xy.max(axis=0) + 120
        self.size = (int(size[0]), int(size[1]))

    @property
    def path(self) -> Path:
        return self.folder / "gene_exp" / f"{self.name}_count.csv"

    @property
    def coord_path(self) -> Path:
        return self.folder / "coord" / f"{self.name}_coord.csv"

    def write(self, *, image: bool = True, meta: bool = True) -> Path:
        for name in ("gene_exp", "coord", "image"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.counts.to_csv(self.path)
        self.coord.to_csv(self.coord_path)
        if image:
            Image.fromarray(picture(self.size)).save(self.folder / "image" / f"{self.name}.png")
        if meta:
            self.write_meta()
        return self.path

    def write_meta(self, separator: str = ",") -> None:
        (self.root / "meta").mkdir(exist_ok=True)
        row = [self.name, "human", "breast", 'A title, with "commas"', "True", self.technology]
        columns = ["slide", "species", "tissue", "title", "involve_cancer", "tech"]
        table = pd.DataFrame([["Other", "mouse", "brain", "", "False", "ST"], row], columns=columns)
        table.to_csv(self.root / "meta/meta_all_gene.csv", sep=separator, index=False, quoting=1)

    def write_annotation(self, labels: dict[str, str], separator: str = ",") -> None:
        (self.root / "annotation").mkdir(exist_ok=True)
        table = pd.DataFrame(
            {"V2": labels.values()}, index=[f"{self.name}_{spot}" for spot in labels]
        )
        table.to_csv(self.root / "annotation" / f"{self.name}_anno.csv", sep=separator)
