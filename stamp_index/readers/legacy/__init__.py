"""Sections on arrays of legacy Spatial Transcriptomics."""
