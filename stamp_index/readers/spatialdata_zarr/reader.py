"""SpatialData: a ``*.zarr`` folder as the scverse library of that name writes it (versions 0.1 to 0.7).

It holds ``images/``, ``shapes/`` and ``tables/`` (older: ``table/``). The shapes that a table annotates are the
spots: circles (Visium) or squares (Visium HD). Read with zarr, pyarrow and anndata alone.
Source: Marconato et al., Nature Methods 22:58 (2025); layout: https://spatialdata.scverse.org, design document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.joining import join_all, under_tissue
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.common.text_numbers import to_numeric
from stamp_index.readers.common.visium_array import visium_pitch
from stamp_index.readers.spatialdata_zarr.image import choose_image
from stamp_index.readers.spatialdata_zarr.ngff import apply, scale_of
from stamp_index.readers.spatialdata_zarr.shapes import read_shapes
from stamp_index.readers.spatialdata_zarr.table import (
    choose_table,
    labels_of,
    read_table,
    square_um,
)
from stamp_index.slides import Slide
from stamp_index.slides.zarr_files import walk

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.readers.spatialdata_zarr.shapes import Shapes
    from stamp_index.readers.spatialdata_zarr.table import Annotation, Table


class SpatialDataReader:
    """Reads a SpatialData store with one annotated element of shapes, or ``shapes/<name>`` of one with several."""

    name = "SpatialData"
    version = 1
    expects = "a folder *.zarr with shapes/ and tables/, or shapes/<name> in it"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a ``*.zarr`` folder with shapes and tables, or shapes in one."""
        store, _ = _split(path)
        tables = ("tables", "table")
        return (
            store.suffix == ".zarr"
            and path.is_dir()
            and (store / "shapes").is_dir()
            and any((store / name).is_dir() for name in tables)
        )

    def sidecar(self, path: Path) -> Path:
        """Return ``<store>.slide.toml`` beside the store, or ``<store>_<shapes>.slide.toml``."""
        store, region = _split(path)
        name = store.stem if region is None else f"{store.stem}_{region}"
        return store.with_name(f"{name}.slide.toml")

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read shapes, the table that annotates them, and an image.

        Raises
        ------
        SlideError
            If an element is missing or damaged, or they do not belong together.
        """
        store, region = _split(path)
        chosen = choose_table(store, region, options.bin_um)
        table = read_table(chosen)
        shapes = read_shapes(confined(store / "shapes" / chosen.region, store))
        rows, at, notes = _join(table, shapes)
        shapes_um, platform = _known_size(shapes, table.obs.iloc[rows], shapes.centres[at])
        placed = choose_image(store, shapes, shapes_um, options)
        scale = scale_of(placed.matrix, f"the shapes '{shapes.name}' to the image")
        mpp, note = choose_mpp(
            derived={**{how: um / scale for how, um in shapes_um.items()}, **placed.um},
            image=placed.image,
            given=options.mpp,
        )
        labels, more = labels_of(table.obs.iloc[rows].drop(columns="in_tissue", errors="ignore"))
        xy = apply(placed.matrix, shapes.centres[at])
        spots = labels.assign(**{Keys.X_PX: xy[:, 0], Keys.Y_PX: xy[:, 1]})
        counts, genes, gene_ids, summed = sum_duplicate_genes(
            table.counts[rows], table.genes, table.gene_ids
        )
        slide = Slide(
            slide_id=_slide_id(store, chosen),
            spots=spots,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            image=placed.image,
            mpp=mpp,
            spot_diameter_um=_diameter_um(shapes, scale * mpp, platform),
            species=species_of((), gene_ids),
            platform=platform,
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=_files(store, chosen),
            parameters={"shapes": chosen.region, "table": chosen.path.name},
            notes=(*table.notes, *notes, *more, *([summed] if summed else []), *placed.notes, note),
        )
        return make_slide(slide, options)


def _split(path: Path) -> tuple[Path, str | None]:
    """Return the store, and the name of the shapes where `path` names them."""
    if path.parent.name == "shapes" and path.parent.parent.suffix == ".zarr":
        return path.parent.parent, path.name
    return path, None


def _slide_id(store: Path, chosen: Annotation) -> str:
    stem = store.resolve().stem
    return stem if chosen.alone else f"{stem}_{chosen.region}"


def _join(table: Table, shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return rows of the table that are under tissue, their places in the shapes, and notes."""
    ids, known = table.instances, shapes.index
    if not (pd.api.types.is_numeric_dtype(ids) and pd.api.types.is_numeric_dtype(known)):
        ids, known = ids.astype(str), known.astype(str)
    where = f"The shapes '{shapes.name}'"
    joined = join_all(ids, known, where=where, counted="rows of the table", place="shape")
    if "in_tissue" not in table.obs:
        return joined.rows, joined.at, joined.notes(uncounted="shapes")
    under, notes = under_tissue(table.obs["in_tissue"], where)
    return joined.rows[under], joined.at[under], [*joined.notes(uncounted="shapes"), *notes]


def _known_size(
    shapes: Shapes, obs: pd.DataFrame, centres: NDArray[np.float64]
) -> tuple[dict[str, float], str]:
    """Microns per unit of the shapes' coordinates, by what they follow from, and the platform."""
    found, platform = {}, ""
    pitch = _visium_pitch(obs, centres) if shapes.kind == "circle" else None
    width = square_um(shapes.name) if shapes.kind == "square" else None
    if pitch is not None:
        found["the spots' pitch of 100 um on Visium's array"] = Nums.VISIUM_PITCH_UM / pitch
        platform = "Visium"
    if width is not None:
        found[f"the squares' width of {width:g} um by their name"] = width / shapes.width
        platform = "Visium HD"
    for name, system in shapes.systems.items():
        if system.unit_um is not None:
            how = f"the shapes' place in the coordinate system '{name}', which is in microns"
            found[how] = system.unit_um * scale_of(system.matrix, f"the shapes '{shapes.name}'")
    return found, platform


def _visium_pitch(obs: pd.DataFrame, centres: NDArray[np.float64]) -> float | None:
    """Distance of neighbours on Visium's hexagonal array; None where the spots lie on no such array."""
    if not {"array_row", "array_col"} <= set(obs):
        return None
    array = obs[["array_row", "array_col"]].apply(to_numeric)
    if array.isna().any(axis=None):
        return None
    return visium_pitch(array.to_numpy(np.int64), centres)


def _diameter_um(shapes: Shapes, unit_um: float, platform: str) -> float:
    """Width of a spot: Visium's circles are drawn at 65 um (`spot_diameter_fullres`), but capture 55."""
    return Nums.VISIUM_SPOT_UM if platform == "Visium" else shapes.width * unit_um


def _files(store: Path, chosen: Annotation) -> tuple[Path, ...]:
    """Every file of the table and of the shapes."""
    return tuple(walk(chosen.path)) + tuple(walk(store / "shapes" / chosen.region))
