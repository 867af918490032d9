"""Exports of a store for other programs: AnnData, Parquet, GeoJSON for QuPath, SpatialData."""

from __future__ import annotations

from stamp_index.export.annotated import to_anndata, write_h5ad
from stamp_index.export.parquet import to_parquet
from stamp_index.export.qupath import to_geojson
from stamp_index.export.spatial_data import to_spatialdata, write_spatialdata

__all__ = [
    "to_anndata",
    "to_geojson",
    "to_parquet",
    "to_spatialdata",
    "write_h5ad",
    "write_spatialdata",
]
