"""SpatialData folders."""
