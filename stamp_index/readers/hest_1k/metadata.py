"""The two files of a HEST-1k sample that describe and hold its counts: metadata JSON and h5ad."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.readers.common.regular import load_json
from stamp_index.readers.h5ad.counts import check_shape, features_of, load_matrix
from stamp_index.readers.h5ad.elements import (
    array_of,
    column_of,
    columns_of,
    index_of,
    open_h5ad,
)

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_QUANTITIES: Final = (
    "pixel_size_um_embedded",
    "pixel_size_um_estimated",
    "spot_diameter",
    "inter_spot_dist",
    "fullres_px_width",
    "fullres_px_height",
)


@dataclass(frozen=True)
class HestMetadata:
    """What ``metadata/<id>.json`` says: texts, and numbers above 0.

    Attributes
    ----------
    texts : dict of str to str
        organ, species, disease_state, st_technology, license and others; blank ones are left out.
    numbers : dict of str to float
        Pixel sizes in um/px, spot diameter and distance in um, size of the image in px; those that are
        absent, null or NaN are left out.
    """

    texts: dict[str, str]
    numbers: dict[str, float]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file.

        Raises
        ------
        SlideError
            If it is not a JSON object, or one of its quantities is not a number above 0.
        """
        try:
            table = load_json(path)
        except (
            OSError,
            ValueError,
        ) as exc:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            msg = f"The metadata {path} cannot be read as JSON ({exc}). Copy the file again."
            raise SlideError(msg) from exc
        if not isinstance(table, dict):
            msg = f"The metadata {path} hold a {type(table).__name__}; expected a JSON object. Copy the file again."
            raise SlideError(msg)
        found = {name: _quantity(name, table.get(name), path) for name in _QUANTITIES}
        texts = {
            str(k): v.strip() for k, v in table.items() if isinstance(v, str) and v.strip() != ""
        }
        return cls(texts, {name: value for name, value in found.items() if value is not None})

    @property
    def full_size_px(self) -> tuple[float, float] | None:
        """Width and height of the full-resolution image, where both are known."""
        size = self.numbers.get("fullres_px_width"), self.numbers.get("fullres_px_height")
        return None if size[0] is None or size[1] is None else (size[0], size[1])


@dataclass(frozen=True)
class HestCounts:
    """What ``st/<id>.h5ad`` holds of use.

    Attributes
    ----------
    counts : csr_matrix of shape (n, g), float32
    barcodes : list of str, length n
    genes : tuple of str, length g
    gene_ids : tuple of str, length g, or empty
        Ensembl ids without version.
    xy_px : ndarray of shape (n, 2), float64
        ``obsm["spatial"]``: (x, y) centres in level-0 pixels.
    obs : dict of str to ndarray of shape (n,)
        in_tissue, array_row, array_col, pxl_col_in_fullres, pxl_row_in_fullres, those that are there.
    spot_diameter_px : float or None
        ``spot_diameter_fullres`` among the scale factors.
    notes : tuple of str
    """

    counts: csr_matrix
    barcodes: list[str]
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...]
    xy_px: NDArray[np.float64]
    obs: dict[str, NDArray[Any]]
    spot_diameter_px: float | None
    notes: tuple[str, ...]


_OBS: Final = ("in_tissue", "array_row", "array_col", "pxl_col_in_fullres", "pxl_row_in_fullres")


def read_hest_h5ad(path: Path) -> HestCounts:
    """Read the parts of an h5ad that are needed, and none of its pictures.

    Raises
    ------
    SlideError
        If the file is damaged, has no positions, or its parts do not fit each other.
    """
    with open_h5ad(path) as file:
        obs, var = file["obs"], file["var"]
        barcodes, names = index_of(obs), index_of(var)
        check_shape(file["X"], (len(barcodes), len(names)), path)
        features = features_of(var)
        there = [name for name in _OBS if name in columns_of(obs)]
        source = HestCounts(
            counts=features.of(load_matrix(file["X"])),
            barcodes=barcodes,
            genes=features.genes,
            gene_ids=features.gene_ids,
            xy_px=np.asarray(array_of(file["obsm/spatial"]), dtype=np.float64),
            obs={name: column_of(obs, name).to_numpy() for name in there},
            spot_diameter_px=_spot_diameter_px(file),
            notes=features.notes,
        )
    n = len(source.barcodes)
    if source.xy_px.shape != (n, 2) or {len(column) for column in source.obs.values()} - {n}:
        msg = f"The counts {path} have positions of shape {source.xy_px.shape} for {n} spots. Copy the file again."
        raise SlideError(msg)
    return source


def _quantity(name: str, value: object, path: Path) -> float | None:
    """Return a number above 0, or None where the file says nothing: null, NaN or blank."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if math.isnan(number) and not isinstance(value, bool):
        return None
    if not (math.isfinite(number) and number > 0):
        msg = f"The metadata {path} give {name} as {value!r}; expected a number above 0. Correct or remove it."
        raise SlideError(msg)
    return number


def _spot_diameter_px(file: h5py.File) -> float | None:
    for library in file.get("uns/spatial", {}).values():
        node = library.get("scalefactors/spot_diameter_fullres")
        if node is not None and node.shape == () and node.dtype.kind in "iuf" and node[()] > 0:
            return float(node[()])
    return None
