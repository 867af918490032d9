"""Exports for other programs: of a store (AnnData, Parquet, GeoJSON for QuPath, SpatialData), of hits, and pictures."""

from __future__ import annotations

from stamp_index.export.annotated import to_anndata, write_h5ad
from stamp_index.export.annotations import Annotation, Annotations, read_annotations
from stamp_index.export.chosen_spots import (
    spots_anndata,
    spots_csv,
    spots_geojson,
    spots_h5ad,
    spots_table,
)
from stamp_index.export.contact_sheets import contact_sheet
from stamp_index.export.csv_tables import table_csv
from stamp_index.export.hit_annotated import hits_anndata, hits_h5ad
from stamp_index.export.hit_shapes import geojson_bytes, hits_geojson, selection_geojson
from stamp_index.export.hit_tables import asked_columns, hits_csv, hits_table
from stamp_index.export.parquet import to_parquet
from stamp_index.export.qupath import to_geojson
from stamp_index.export.slide_figures import SlideFigure
from stamp_index.export.spatial_data import to_spatialdata, write_spatialdata
from stamp_index.export.spot_values import SpotValues, label_values, measured_values

__all__ = [
    "Annotation",
    "Annotations",
    "SlideFigure",
    "SpotValues",
    "asked_columns",
    "contact_sheet",
    "geojson_bytes",
    "hits_anndata",
    "hits_csv",
    "hits_geojson",
    "hits_h5ad",
    "hits_table",
    "label_values",
    "measured_values",
    "read_annotations",
    "selection_geojson",
    "spots_anndata",
    "spots_csv",
    "spots_geojson",
    "spots_h5ad",
    "spots_table",
    "table_csv",
    "to_anndata",
    "to_geojson",
    "to_parquet",
    "to_spatialdata",
    "write_h5ad",
    "write_spatialdata",
]
