"""A small section in HER2ST's layout, for tests of readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

GENES = ["ERBB2", "CD3E", "COL1A1"]
FULL = (640, 680)  # 20 px a pitch, so 10 um/px


def write_section(root: Path, section: str = "C2", image: tuple[int, int] | None = FULL) -> Path:
    """Write one section: spots at array (x, y) for x 3-8, y 4-7, and the counts of all but one."""
    for folder in ("ST-cnts", "ST-spotfiles", f"ST-imgs/{section[0]}/{section}", "app-imgs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    spots = [(x, y) for x in range(3, 9) for y in range(4, 8)]
    rows = [
        {
            "x": x,
            "y": y,
            "new_x": x + 0.1,
            "new_y": y - 0.1,
            "pixel_x": (x + 0.1 - 1) / 32 * FULL[0],
            "pixel_y": (y - 0.1 - 1) / 34 * FULL[1],
            "selected": 1,
        }
        for x, y in spots
    ]
    rows.append({**rows[0], "x": 30, "y": 30, "selected": 0})
    pd.DataFrame(rows).to_csv(root / f"ST-spotfiles/{section}_selection.tsv", sep="\t", index=False)
    rng = np.random.default_rng(0)
    counts = pd.DataFrame(
        rng.integers(1, 9, (len(spots), 3)), [f"{x}x{y}" for x, y in spots], GENES
    )
    path = root / "ST-cnts" / f"{section}.tsv.gz"
    counts.iloc[:-1].to_csv(path, sep="\t")
    if image:
        Image.new("RGB", image, (200, 120, 180)).save(
            root / f"ST-imgs/{section[0]}/{section}/HE.jpg"
        )
    return path
