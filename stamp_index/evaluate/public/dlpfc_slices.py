"""The twelve slices of human dorsolateral prefrontal cortex with their layers, as they are passed around.

A folder for each slice, ``151507`` to ``151676``, laid out as Space Ranger's output (``filtered_feature_bc_matrix.h5`` and
``spatial/``), with the layers beside: ``metadata.tsv``, the table of spatialLIBD (row names of R, so one field more in each
line than in the header; ``layer_guess_reordered``, ``subject``), or ``<slice>_truth.txt`` or ``truth.txt`` (barcode and layer,
without header). A full-resolution image is used where it is there. Data: Maynard et al., Nature Neuroscience 24:425 (2021).
Layouts: JiangBioLab/DeepST at 0574e1c (``data/DLPFC``), and what the tutorials of STAGATE, GraphST and G-CAST read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.layout import need_folder, read_table, while_reading
from stamp_index.evaluate.public.store import with_label

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import Slide

LABEL: Final = "layer"
# Donors of the slices: column `subject` of their metadata.
DONORS: Final = {
    "Br5292": ("151507", "151508", "151509", "151510"),
    "Br5595": ("151669", "151670", "151671", "151672"),
    "Br8100": ("151673", "151674", "151675", "151676"),
}
SLICES: Final = tuple(name for names in DONORS.values() for name in names)
_COLUMNS: Final = ("layer_guess_reordered", "layer_guess", "Layer", "ground_truth")
_IMAGES: Final = (
    "{name}_full_image.tif",
    "spatial/tissue_full_image.tif",
    "spatial/full_image.tif",
    "histology.tif",
)
_MISSING: Final = ("", "NA", "nan", "None")


@dataclass(frozen=True)
class LayerTable:
    """Layers of a slice: by barcode, empty where a spot has none; and the file they are from."""

    path: Path
    layers: pd.Series[str]
    donor: str


def find_slices(folder: Path) -> list[str]:
    """Names of the slices that have a folder, in the order of the publication.

    Raises
    ------
    EvaluationError
        If there is none.
    """
    need_folder(folder, "the folders of the DLPFC slices (151507, ..., 151676)")
    found = [name for name in SLICES if (folder / name).is_dir()]
    if not found:
        msg = (
            f"{folder} has none of the twelve DLPFC slices. Expected folders named {SLICES[0]} to {SLICES[-1]}, each with "
            "filtered_feature_bc_matrix.h5, spatial/ and metadata.tsv or <slice>_truth.txt."
        )
        raise EvaluationError(msg)
    return found


def read_slice(folder: Path) -> Slide:
    """Read a slice with its layers and donor.

    Raises
    ------
    EvaluationError
        If a file is missing or odd, or its layers are of other spots.
    """
    from stamp_index.readers import SlideOptions, read

    name = folder.name
    held = read_layers(folder)
    image = next((at for one in _IMAGES if (at := folder / one.format(name=name)).is_file()), None)
    options = SlideOptions(
        slide_id=name, patient_id=held.donor, image=image, organ="brain", species="human"
    )
    with while_reading(f"DLPFC slice {name}"):
        slide = read(folder, options)
    known = slide.spots.index.isin(held.layers.index)
    if known.mean() < 0.5:
        msg = (
            f"{held.path} names {int(known.sum())} of the {slide.n_spots} spots of slice {name}. Its layers are of another slice: "
            "copy them again."
        )
        raise EvaluationError(msg)
    values = held.layers.reindex(slide.spots.index)
    return with_label(
        slide, LABEL, [one or None if isinstance(one, str) else None for one in values]
    )


def read_layers(folder: Path) -> LayerTable:
    """Read the layers of a slice.

    Raises
    ------
    EvaluationError
        If there is no file of layers, it is odd, or it is of another donor.
    """
    name = folder.name
    metadata = folder / "metadata.tsv"
    if metadata.is_file():
        return _from_metadata(metadata, name)
    for path in (folder / f"{name}_truth.txt", folder / "truth.txt"):
        if path.is_file():
            table = read_table(path, sep="\t", header=None)
            if table.shape[1] != 2:
                msg = f"{path} has {table.shape[1]} columns; expected a barcode and its layer in each line."
                raise EvaluationError(msg)
            return LayerTable(path, _layers(table[0], table[1], path), _donor(name))
    msg = f"There are no layers in {folder}. Expected metadata.tsv, {name}_truth.txt or truth.txt there."
    raise EvaluationError(msg)


def _from_metadata(path: Path, name: str) -> LayerTable:
    # Row names of R are the first field of each line, which pandas takes for the index.
    table = read_table(path, sep="\t")
    column = next((one for one in _COLUMNS if one in table.columns), None)
    if column is None:
        msg = f"{path} has no column {' or '.join(_COLUMNS)}. Expected the table of spatialLIBD."
        raise EvaluationError(msg)
    barcodes = table["barcode"] if "barcode" in table.columns else table.index.to_series()
    donor = _donor(name)
    said = sorted(set(table["subject"])) if "subject" in table.columns else [donor]
    if said != [donor]:
        msg = f"{path} is of {', '.join(said)}; slice {name} is of {donor}. Its layers are of another slice."
        raise EvaluationError(msg)
    return LayerTable(path, _layers(barcodes, table[column], path), donor)


def _layers(barcodes: pd.Series[str], layers: pd.Series[str], path: Path) -> pd.Series[str]:
    if barcodes.duplicated().any():
        twice = barcodes[barcodes.duplicated()].iloc[0]
        msg = f"{path} names the spot {twice} more than once. Copy the file again."
        raise EvaluationError(msg)
    text = [str(one).strip() for one in layers]
    values = ["" if one in _MISSING else one for one in text]
    return pd.Series(values, index=pd.Index(barcodes.astype(str)), dtype=object)


def _donor(name: str) -> str:
    return next(donor for donor, slices in DONORS.items() if name in slices)
