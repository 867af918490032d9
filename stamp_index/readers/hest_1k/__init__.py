"""The layout of HEST-1k."""
