"""AnnData files: ``.h5ad`` with positions, as scanpy and squidpy write them, and their image.

Layout: ``obsm["spatial"]`` holds x and y in pixels of the full-resolution image, ``uns["spatial"][library]`` scale
factors and scaled images (scanpy.read_visium). Files with positions in columns of obs and an image of the same name
beside are read too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.joining import under_tissue
from stamp_index.readers.h5ad.bins import bins_asked_for, pool_cells
from stamp_index.readers.h5ad.counts import read_expression
from stamp_index.readers.h5ad.elements import column_of, columns_of, index_of, open_h5ad
from stamp_index.readers.h5ad.image import choose_image, images_by_name
from stamp_index.readers.h5ad.labels import read_labels
from stamp_index.readers.h5ad.library import Library
from stamp_index.readers.h5ad.positions import (
    COORDINATES,
    Positions,
    array_places,
    read_positions,
    visium_pitch_px,
)
from stamp_index.readers.h5ad.scale import Scale, choose_scale, place, spot_width
from stamp_index.slides import Slide

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.readers.h5ad.counts import Expression


class AnnDataReader:
    """Reads one ``.h5ad``; single cells are one spot each, or pooled where bins are asked for."""

    name = "AnnData"
    version = 1
    expects = "a file .h5ad with positions in obsm['spatial'] or in columns of obs such as x_pixel and y_pixel"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a file that ends in ``.h5ad``."""
        return path.suffix == ".h5ad" and path.is_file()

    def sidecar(self, path: Path) -> Path:
        """Return ``<name>.slide.toml`` beside the file."""
        return path.with_suffix(".slide.toml")

    def owns(self, path: Path) -> list[Path]:
        """Return the images beside the file that may be the slide's, which are no slides of their own."""
        return images_by_name(path)

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read positions, labels, counts where there are raw ones, and an image.

        Raises
        ------
        SlideError
            If the file is damaged, holds several sections or no positions, or the image does not fit.
        """
        with open_h5ad(path) as file:
            content = _read(file, path)
        content = _on_tissue(content, path)
        positions, expression = content.positions, content.expression
        xy = None if positions.in_um else positions.xy
        chosen = choose_image(path, xy, content.library, options.image)
        pitch = None if positions.in_um else _pitch(content)
        scale = Scale(pitch, content.library.scale_factors, chosen)
        mpp, measured = choose_scale(scale, options, in_um=positions.in_um)
        width = spot_width(path, scale)
        placed = place(positions, chosen, mpp, reach_um=width.um / 2)
        spots = content.labels.set_axis(pd.Index(content.barcodes, name=Keys.BARCODE), axis=0)
        spots[[Keys.X_PX, Keys.Y_PX]] = placed.xy_px
        counts, genes, gene_ids, summed = sum_duplicate_genes(
            expression.counts, expression.genes, expression.gene_ids
        )
        notes = [*expression.notes, *([summed] if summed else []), *content.notes, *chosen.notes]
        notes += [measured, *width.notes, *placed.notes]
        bins = bins_asked_for(options)
        if bins and pitch:
            notes.append("Spots of Visium are not pooled into bins: each is a spot.")
        slide = Slide(
            slide_id=path.stem,
            spots=spots,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            image=chosen.image,
            mpp=mpp,
            spot_diameter_um=width.um,
            species=species_of((), gene_ids),
            platform="Visium" if pitch else "",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path, *width.files),
            parameters={"counts": expression.place, "xy_swapped": placed.swapped},
            notes=tuple(notes),
        )
        return make_slide(pool_cells(slide, options) if bins and not pitch else slide, options)


@dataclass(frozen=True)
class _Content:
    """What was read from the file."""

    barcodes: list[str]
    positions: Positions
    array: NDArray[np.int64] | None
    labels: pd.DataFrame
    expression: Expression
    library: Library
    in_tissue: pd.Series[Any] | None
    notes: tuple[str, ...]


def _read(file: h5py.File, path: Path) -> _Content:
    library = Library.of(file, path)
    obs = file["obs"]
    barcodes = index_of(obs)
    labels, notes = read_labels(obs, COORDINATES)
    return _Content(
        barcodes=barcodes,
        positions=read_positions(file, len(barcodes), path),
        array=array_places(obs),
        labels=labels,
        expression=read_expression(file, len(barcodes), path),
        library=library,
        in_tissue=column_of(obs, "in_tissue") if "in_tissue" in columns_of(obs) else None,
        notes=tuple(notes),
    )


def _on_tissue(content: _Content, path: Path) -> _Content:
    """Return the content without the rows that are off tissue."""
    if content.in_tissue is None:
        return content
    under, notes = under_tissue(content.in_tissue, str(path))
    if not notes:
        return content
    return replace(
        content,
        barcodes=[content.barcodes[row] for row in under],
        positions=replace(content.positions, xy=content.positions.xy[under]),
        array=None if content.array is None else content.array[under],
        labels=content.labels.iloc[under],
        expression=replace(content.expression, counts=content.expression.counts[under]),
        notes=(*notes, *content.notes),
    )


def _pitch(content: _Content) -> float | None:
    spot_px = content.library.scale_factors.get("spot_diameter_fullres")
    return visium_pitch_px(content.positions.xy, content.array, spot_px)
