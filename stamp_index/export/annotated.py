"""AnnData of a store's slides, in the conventions of scanpy and squidpy."""

from __future__ import annotations

import io
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.export.choosing import (
    SLOTS,
    choose_slides,
    each,
    plain_key,
    provenance,
    rows_of,
    unit_vectors,
)
from stamp_index.export.files import draft, refuse_existing
from stamp_index.store.view import SPOT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.store.view import StoreView

_NAMED: Final = 20  # genes that were left out are counted, and so many of them named


def to_anndata(
    store: StoreView, slides: Sequence[str] | str | None = None, *, images: bool = False
) -> AnnData:
    """Put slides together in one AnnData.

    Parameters
    ----------
    store : Store
    slides : sequence of str, optional
        Their ids; all by default.
    images : bool
        Also the stored picture of every slide (at most 1024 px), as `squidpy` draws it below spots.

    Returns
    -------
    AnnData of n spots and g genes
        ``X`` and ``layers["counts"]`` (csr, float32): raw counts of the genes that every slide with counts has measured,
        so that no 0 stands for what was not measured; ``uns["stamp"]`` says what was left out.
        ``obs``, indexed by spot_id: the store's columns of a spot, its labels (``label_<name>`` where a column has
        that name), `has_counts`, `has_X_stamp`, `has_X_stamp_image`.
        ``var``: gene_ids (Ensembl, "" where unknown).
        ``obsm["spatial"]`` (n, 2), float64: patch centres (x, y) in level-0 pixels of each slide's image.
        ``obsm["X_stamp"]``, ``obsm["X_stamp_image"]`` (n, d), float32: embeddings of genes and of images, of length
        1; rows of NaN where a spot has none.
        ``uns["spatial"][slide_id]``: scalefactors with `spot_diameter_fullres` where the slide has a pixel size, and
        with `images` ``images["hires"]`` and `tissue_hires_scalef`. A "/" in an id becomes "_".
        ``uns["stamp"]``: encoder, its fingerprint, patch width, store and version, microns per pixel of each slide.

    Raises
    ------
    QueryError
        If a slide is not in the store, or there is none.

    Notes
    -----
    All of it is held in memory, counts twice: `X` may be normalised in place. Give ``sc.pp.neighbors(...,
    use_rep="X_stamp", key_added=...)`` another key than ``"stamp"``, which would replace ``uns["stamp"]``.
    """
    from anndata import AnnData

    chosen = choose_slides(store, slides)
    rows = np.concatenate([rows_of(slide) for slide in each(chosen)])
    counts, var, said = _counts(store, chosen)
    obs = obs_of(store, rows)
    obs["has_counts"] = np.repeat(chosen["n_genes"].to_numpy() > 0, chosen["n_spots"])
    obsm: dict[str, NDArray[Any]] = {"spatial": store.spots(["x_px", "y_px"], rows).to_numpy()}
    for modality, slot in SLOTS.items():
        obsm[slot] = unit_vectors(store, modality, rows)
        obs[f"has_{slot}"] = store.has_vector(modality)[rows]
    pictures = {plain_key(s.slide_id): _spatial(store, s, images=images) for s in each(chosen)}
    uns = {"stamp": {**provenance(store, chosen), **said}, "spatial": pictures}
    return AnnData(counts, obs, var, uns=uns, obsm=obsm, layers={"counts": counts.copy()})


def write_h5ad(
    store: StoreView,
    path: Path | str,
    slides: Sequence[str] | str | None = None,
    *,
    images: bool = False,
    overwrite: bool = False,
) -> None:
    """Write `to_anndata` to an h5ad file, whole or not at all.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is False.
    OSError
        If it cannot be written.
    QueryError
        As `to_anndata`.
    """
    from pathlib import Path

    refuse_existing(Path(path), overwrite=overwrite)  # before anything is read
    content = h5ad_bytes(to_anndata(store, slides, images=images))
    with draft(path, overwrite=overwrite) as file:
        file.write_bytes(content)


def h5ad_bytes(made: AnnData) -> bytes:
    """Content of an h5ad file.

    Made in memory, of the size of what is written: where a disk is full, HDF5 leaves the file open and complains for
    each of its objects.
    """
    import h5py
    from anndata.io import write_elem

    with h5py.File("made", "w", driver="core", backing_store=False) as made_file:
        write_elem(made_file, "/", made, dataset_kwargs={"compression": "gzip"})
        made_file.flush()
        content: bytes = made_file.id.get_file_image()
    return content


def _counts(
    store: StoreView, chosen: pd.DataFrame
) -> tuple[csr_matrix, pd.DataFrame, dict[str, Any]]:
    """Return raw counts (n, g) of the genes in common, those genes, and what was left out."""
    from scipy.sparse import csr_matrix, vstack

    with_counts = [one.slide_id for one in each(chosen) if one.n_genes]
    names = list(store.genes)
    kept = genes_in_common(store, with_counts)
    parts = []
    for slide in each(chosen):
        rows = rows_of(slide)
        whole = store.sparse_counts(rows) if slide.n_genes else csr_matrix((len(rows), len(names)))
        parts.append(csr_matrix(whole[:, kept], dtype=np.float32))
    every: set[str] = set().union(*(store.genes_of(slide_id) for slide_id in with_counts))
    lacking = every - {names[i] for i in kept}
    gone = [gene for gene in names if gene in lacking]
    without = [s for s in chosen["slide_id"] if s not in with_counts]
    said = {
        "n_genes_left_out": len(gone),
        "genes_left_out": ", ".join(gone[:_NAMED]) + (", ..." if len(gone) > _NAMED else ""),
        "slides_without_counts": ", ".join(without),
    }
    return csr_matrix(vstack(parts, format="csr")), var_of(store, kept), said


def genes_in_common(store: StoreView, slide_ids: Sequence[str]) -> list[int]:
    """Columns of ``store.genes`` that every one of these slides measured; none where there is no slide.

    Raises
    ------
    QueryError
        If there are slides, but no such gene.
    """
    measured = [set(store.genes_of(slide_id)) for slide_id in slide_ids]
    common: set[str] = reduce(set.__and__, measured) if measured else set()
    if measured and not common:
        msg = (
            f"The {len(measured)} slides with counts have no gene in common, so there is no table of all of them. Choose "
            f"slides of one species or panel."
        )
        raise QueryError(msg)
    return [column for column, gene in enumerate(store.genes) if gene in common]


def var_of(store: StoreView, kept: Sequence[int]) -> pd.DataFrame:
    """Table of some genes, indexed by symbol, with Ensembl ids in gene_ids."""
    names, ids = store.genes, store.gene_ids
    return pd.DataFrame({"gene_ids": [ids[i] for i in kept]}, index=[names[i] for i in kept])


def obs_of(store: StoreView, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Columns of spots and labels, indexed by spot id; text as categories."""
    spots = store.spots(SPOT_COLUMNS, rows).set_index("spot_id")
    labels = store.labels(rows).set_axis(spots.index).dropna(axis=1, how="all")
    taken = {*SPOT_COLUMNS, "has_counts", *(f"has_{slot}" for slot in SLOTS.values())}
    for name in labels:
        plain = plain_key(str(name))
        spots[f"label_{plain}" if plain in taken else plain] = labels[name]
    for name in spots:
        if name != "barcode" and not pd.api.types.is_numeric_dtype(spots[name]):
            spots[name] = pd.Categorical(spots[name])
    return spots


def _spatial(store: StoreView, slide: Any, *, images: bool) -> dict[str, Any]:  # noqa: ANN401
    factors: dict[str, float] = {}
    found: dict[str, Any] = {"scalefactors": factors}
    if np.isfinite(slide.mpp):
        factors["spot_diameter_fullres"] = float(slide.spot_diameter_um / slide.mpp)
    picture = store.overview(slide.slide_id) if images else None
    if picture is not None:
        pixels = decode(picture)
        found["images"] = {"hires": pixels}
        factors["tissue_hires_scalef"] = pixels.shape[1] / float(slide.width_px)
    return found


def decode(picture: bytes) -> NDArray[np.uint8]:
    """Pixels (h, w, 3) of a JPEG of the store."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB"))
