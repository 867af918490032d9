"""Tables of a SpatialData store: which shapes each annotates, and the counts of one."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys
from stamp_index.readers.build import are_counts
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.declared import refuse_bomb
from stamp_index.readers.common.feature_names import name_features
from stamp_index.readers.h5ad.counts import PLACES
from stamp_index.slides.zarr_files import attributes, open_node, walk, zarr_errors

if TYPE_CHECKING:
    from pathlib import Path

_FOLDERS: Final = ("tables", "table")  # SpatialData 0.1 and later, and before
_SQUARE: Final = re.compile(
    r"square_0*(\d+)um"
)  # names that spatialdata-io gives Visium HD's squares
# Columns that a store has itself for every spot.
_OWN: Final = frozenset(
    (
        *(
            Keys.SPOT_ID,
            Keys.SLIDE_ID,
            Keys.BARCODE,
            Keys.PATIENT_ID,
            Keys.ORGAN,
            "disease",
            "species",
        ),
        *("platform", Keys.X_PX, Keys.Y_PX, Keys.X_UM, Keys.Y_UM, Keys.N_COUNTS, Keys.N_GENES),
    )
)


@dataclass(frozen=True)
class Annotation:
    """One table, and the one element of shapes whose rows are meant.

    Attributes
    ----------
    path : Path
        The table's folder.
    region : str
        Name of the element.
    region_key, instance_key : str
        Columns of ``obs``: the element's name, and the id of the shape in it.
    alone : bool
        Whether the store has no other annotated shapes.
    """

    path: Path
    region: str
    region_key: str
    instance_key: str
    alone: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of one table that annotate one element.

    Attributes
    ----------
    instances : Index of length n
        Ids of the shapes.
    obs : DataFrame of n rows, indexed by barcode
        Everything else that the table says of them.
    counts : csr_matrix of shape (n, g), float32
    genes, gene_ids : tuple of str, length g; `gene_ids` may be empty
    notes : tuple of str
    """

    instances: pd.Index[Any]
    obs: pd.DataFrame
    counts: csr_matrix
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...]
    notes: tuple[str, ...]


def square_um(region: str) -> float | None:
    """Width in microns of Visium HD's squares by the name of their element, such as ``square_008um``."""
    found = _SQUARE.search(region)
    return float(found[1]) if found and int(found[1]) else None


def choose_table(store: Path, region: str | None, bin_um: float | None) -> Annotation:
    """Find the table and the shapes that make the slide.

    Parameters
    ----------
    store : Path
        The ``*.zarr`` folder.
    region : str or None
        Name of shapes that the user named; the only annotated ones by default.
    bin_um : float or None
        Chooses among Visium HD's squares.

    Raises
    ------
    SlideError
        If there is none, or several; they are named.
    """
    found = _annotations(store)
    shapes = [one for one in found if (store / "shapes" / one.region).is_dir()]
    if not shapes:
        other = ", ".join(sorted({_kind_of(store, one.region) for one in found})) or "nothing"
        msg = (
            f"{store} has no table that annotates shapes; its tables annotate {other}. Expected circles or squares "
            "that a table annotates (Visium, Visium HD)."
        )
        raise SlideError(msg)
    names = sorted({one.region for one in shapes})
    if region is not None:
        shapes = [one for one in shapes if one.region == region]
        asked = f"the shapes '{region}'"
    elif bin_um is not None:
        shapes = [one for one in shapes if square_um(one.region) == bin_um]
        asked = f"squares of {bin_um:g} um"
    else:
        asked = "one slide"
    if len(shapes) == 1:
        return replace(shapes[0], alone=len(names) == 1)
    if not shapes:
        msg = f"No table of {store} annotates {asked}; its tables annotate the shapes {', '.join(names)}."
        raise SlideError(msg)
    if len(names) > 1:
        msg = (
            f"{store} holds {len(names)} annotated shapes ({', '.join(names)}); expected {asked}. Name the shapes: "
            f"{store / 'shapes' / names[0]}."
        )
        raise SlideError(msg)
    tables = ", ".join(sorted(one.path.name for one in shapes))
    msg = f"The shapes '{names[0]}' of {store} are annotated by {len(shapes)} tables ({tables}). Keep one in the store."
    raise SlideError(msg)


def read_table(annotation: Annotation) -> Table:
    """Read the rows of a table that annotate its element.

    Raises
    ------
    SlideError
        If it is damaged, or contradicts itself.
    """
    from anndata._io.specs.registry import IORegistryError
    from anndata.io import read_elem

    path = annotation.path
    group = open_node(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of files that are no arrays: what is missing is said below
            _refuse_bombs(path, group)
        obs, var = read_elem(group["obs"]), read_elem(group["var"])
        counts, place = _raw_counts(group)
    except (*zarr_errors(), IORegistryError) as exc:
        msg = f"The table {path} cannot be read ({exc}). Copy or write it again."
        raise SlideError(msg) from exc
    if counts.shape != (len(obs), len(var)):
        msg = f"The table {path} has counts of shape {counts.shape} for {len(obs)} rows and {len(var)} genes."
        raise BarcodeMismatchError(msg)
    missing = [k for k in (annotation.region_key, annotation.instance_key) if k not in obs]
    if missing:
        msg = f"The table {path} has no column {', '.join(missing)}, which its attributes name. Write it again."
        raise SlideError(msg)
    here = np.flatnonzero(obs[annotation.region_key].astype(str) == annotation.region)
    if not len(here):
        msg = f"No row of the table {path} is of '{annotation.region}', which its attributes name. Write it again."
        raise SlideError(msg)
    features = name_features(
        [str(name) for name in var.index], list(var), lambda name: var[name].tolist()
    )
    obs = obs.iloc[here]
    instances = pd.Index(obs[annotation.instance_key].to_numpy())
    obs = obs.drop(columns=[annotation.region_key, annotation.instance_key])
    obs.index = obs.index.astype(str).rename(Keys.BARCODE)
    return Table(
        instances=instances,
        obs=obs,
        counts=features.of(csr_matrix(counts[here], dtype=np.float32)),
        genes=features.genes,
        gene_ids=features.gene_ids,
        notes=(f"Counts: {place} of the table '{path.name}'.", *features.notes),
    )


def _refuse_bombs(path: Path, group: Any) -> None:  # noqa: ANN401 - zarr.Group
    """Refuse arrays that are larger than the table's files can hold: chunks that are not there read as 0."""
    stored = sum(file.stat().st_size for file in walk(path) if file.is_file())
    for name in ("obs", "var", *(matrix for matrix, _ in PLACES)):
        node = group.get(name)
        arrays = [] if node is None else [node]
        while arrays:
            one = arrays.pop()
            if hasattr(one, "shape"):
                declared = math.prod(one.shape) * one.dtype.itemsize
                refuse_bomb(f"{path / one.path}", declared, stored)
            else:
                arrays += [item for _, item in one.members()]


def labels_of(obs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Columns that become labels, as numbers or text, and notes on those that do not."""
    own = [str(name) for name in obs if name in _OWN]
    kept = obs.drop(columns=own)
    for name in kept:
        column = kept[name]
        if column.dtype == bool or not pd.api.types.is_numeric_dtype(column):
            text = column.astype(object)
            kept[name] = text.where(text.isna(), text.astype(str)).where(text.notna(), None)
    note = (
        f"Columns {', '.join(own)} of the table were left out: a store has its own of these names."
    )
    return kept, [note] if own else []


def _annotations(store: Path) -> list[Annotation]:
    """Every pair of a table and an element that it annotates, by the tables' attributes."""
    found = []
    for name in _FOLDERS:
        folder = store / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir():
                said = attributes(confined(path, store))
                regions, keys = (
                    said.get("region"),
                    (said.get("region_key"), said.get("instance_key")),
                )
                if regions is None or None in keys:
                    continue  # a table of something else
                regions = [regions] if isinstance(regions, str) else list(regions)
                names = [str(key) for key in keys]
                found += [Annotation(path, str(one), names[0], names[1]) for one in regions]
    return found


def _kind_of(store: Path, region: str) -> str:
    for kind in ("points", "labels", "images"):
        if (store / kind / region).is_dir():
            return f"the {kind} '{region}'"
    return f"'{region}', which is not there"


def _raw_counts(group: Any) -> tuple[csr_matrix, str]:  # noqa: ANN401
    """Return the first matrix that holds raw counts, or else the last one, and its place."""
    from anndata.io import read_elem

    counts, place = None, ""
    for place in (name for name, var in PLACES if name in group and var == "var"):
        counts = _matrix(read_elem(group[place]))
        if are_counts(counts.data):
            break
    if counts is None:
        msg = "it has neither X nor a layer `counts`"
        raise ValueError(msg)
    return counts, place  # others than counts are refused with an example by `make_slide`


def _matrix(values: Any) -> csr_matrix:  # noqa: ANN401 - sparse or dense, as stored
    stored: Any = values if issparse(values) else np.asarray(values)
    matrix = csr_matrix(stored)
    if matrix.dtype.kind not in "fiu":
        msg = f"its counts are {matrix.dtype}; expected numbers"
        raise ValueError(msg)
    matrix.check_format(full_check=True)
    n_stored = matrix.nnz
    matrix.sum_duplicates()
    if (
        matrix.nnz < n_stored
    ):  # a chunk that is lost reads as 0, so that its genes are all the first
        msg = f"{n_stored - matrix.nnz} counts are of a gene that its row has already"
        raise ValueError(msg)
    return matrix
