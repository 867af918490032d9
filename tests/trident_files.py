"""A small TRIDENT job, for tests of its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import tifffile

from tests.hest_files import picture

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (2048, 1536)
TILE = 512  # level-0 px of a tile of 256 px at 20x on a slide of 40x


class Job:
    """Embeddings of one slide; `features`, `coords` and `attributes` are written by `write`."""

    def __init__(self, root: Path, name: str = "TCGA-A1.uuid", encoder: str = "uni_v1") -> None:
        self.root, self.name = root, name
        self.folder = root / "trident" / "20x_256px_0px_overlap"
        self.path = self.folder / f"features_{encoder}" / f"{name}.h5"
        self.coords: Any = np.array(
            [(x, y) for y in range(0, SIZE[1], TILE) for x in range(0, SIZE[0], TILE)],
            dtype=np.int64,
        )
        rng = np.random.default_rng(2)
        self.features: Any = rng.normal(size=(len(self.coords), 16)).astype(np.float32)
        self.encoder: str | None = encoder
        self.attributes: dict[str, Any] = {
            "patch_size": 256,
            "patch_size_level0": TILE,
            "level0_magnification": 40,
            "target_magnification": 20,
            "overlap": 0,
            "name": name,
            "savetodir": "/data/job/20x_256px_0px_overlap",
            "level0_width": SIZE[0],
            "level0_height": SIZE[1],
        }

    def write(self) -> Path:
        """Write as TRIDENT's save_h5 does: one row a chunk, attributes at the datasets."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(self.path, "w") as file:
            for name, values in (("features", self.features), ("coords", self.coords)):
                file.create_dataset(
                    name,
                    data=values,
                    maxshape=(None, *values.shape[1:]),
                    chunks=(1, *values.shape[1:]),
                )
            file["features"].attrs.update({"name": self.name, "savetodir": "/data/job"})
            if self.encoder is not None:
                file["features"].attrs["encoder"] = self.encoder
            file["coords"].attrs.update(self.attributes)
        return self.path

    def write_image(
        self, folder: Path, size: tuple[int, int] = SIZE, mpp: float | None = 0.25
    ) -> Path:
        path = folder / f"{self.name}.tif"
        resolution = (
            {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
        )
        tifffile.imwrite(path, picture(size), tile=(256, 256), photometric="rgb", **resolution)
        return path
