"""Hits as AnnData: where they lie, their embeddings, and all that was measured at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.export.annotated import genes_in_common, h5ad_bytes, var_of
from stamp_index.export.choosing import SLOTS, choose_slides, provenance, unit_vectors
from stamp_index.export.hit_tables import SEARCHED, hits_table, searched_text
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.export.hit_tables import HitList, Searched

MAX_HITS: Final = 10_000  # of one file, which is made in memory


def hits_anndata(hits: HitList, searched: Searched = "", *, counts: bool = False) -> AnnData:
    """Hits as AnnData.

    Parameters
    ----------
    hits : Hits
        At most 10,000.
    searched : {"image", "gene"} or mapping, optional
        What `against` was.
    counts : bool
        Also raw counts of every gene that all slides of the hits, those without any counts aside, have measured.

    Returns
    -------
    AnnData of k hits
        ``obs``, indexed by spot id: the columns of `hits_table`, expression of the genes asked for among them.
        ``X`` and ``layers["counts"]`` (csr, float32), `var` with gene_ids: with `counts`; rows of 0 where a slide has
        none, as ``obs["has_counts"]`` says. Without `counts` there are no genes.
        ``obsm["spatial"]`` (k, 2): x and y in level-0 pixels. ``obsm["X_stamp"]``, ``obsm["X_stamp_image"]`` (k, d),
        float32: embeddings of genes and of images, of length 1; NaN where a spot has none.
        ``uns["stamp"]``: query, searched, notes, encoder, store and version.

    Raises
    ------
    QueryError
        If there are more than 10,000 hits, or their slides have no gene in common.
    """
    from anndata import AnnData

    if len(hits.rows) > MAX_HITS:
        msg = f"{len(hits.rows):,} hits are asked for in one file; at most {MAX_HITS:,} are written. Ask for fewer."
        raise QueryError(msg)
    obs = _obs(hits)
    held, var = _counts(hits) if counts else (None, pd.DataFrame(index=pd.Index([], dtype=object)))
    obsm = {"spatial": hits.table[[Keys.X_PX, Keys.Y_PX]].to_numpy(np.float64)}
    obsm |= {slot: unit_vectors(hits.store, side, hits.rows) for side, slot in SLOTS.items()}
    layers = {} if held is None else {"counts": held.copy()}
    uns = {"stamp": _said(hits, searched)}
    return AnnData(held, obs, var, uns=uns, obsm=obsm, layers=layers)


def hits_h5ad(hits: HitList, searched: Searched = "", *, counts: bool = False) -> bytes:
    """Content of an h5ad file of `hits_anndata`, made in memory.

    Raises
    ------
    QueryError
        As `hits_anndata`.
    """
    return h5ad_bytes(hits_anndata(hits, searched, counts=counts))


def _obs(hits: HitList) -> pd.DataFrame:
    """Table of the hits; text as categories."""
    slides = hits.store.slides().set_index(Keys.SLIDE_ID)
    obs = hits_table(hits).drop(columns=list(SEARCHED))
    obs["has_counts"] = slides.loc[obs[Keys.SLIDE_ID], "n_genes"].to_numpy() > 0
    obs = obs.set_index(Keys.SPOT_ID)
    obs.columns = pd.Index([str(name).replace("/", "_") for name in obs.columns])
    for name in obs:
        if name != Keys.BARCODE and not pd.api.types.is_numeric_dtype(obs[name]):
            obs[name] = pd.Categorical(obs[name])
    return obs


def _counts(hits: HitList) -> tuple[csr_matrix, pd.DataFrame]:
    """Raw counts (k, g) of the genes in common, and these genes."""
    from scipy.sparse import csr_matrix

    here = choose_slides(hits.store, list(dict.fromkeys(hits.table[Keys.SLIDE_ID])) or None)
    with_counts = here.loc[here["n_genes"] > 0, Keys.SLIDE_ID].tolist()
    kept = genes_in_common(hits.store, with_counts)
    rows: NDArray[np.int64] = np.asarray(hits.rows)
    whole = hits.store.sparse_counts(rows)
    return csr_matrix(whole[:, kept], dtype=np.float32), var_of(hits.store, kept)


def _said(hits: HitList, searched: Searched) -> dict[str, Any]:
    here = choose_slides(hits.store, list(dict.fromkeys(hits.table[Keys.SLIDE_ID])) or None)
    return {
        **provenance(hits.store, here),
        "query": hits.query,
        "searched": searched_text(searched),
        "notes": "\n".join(hits.notes),
    }
