"""One space for H&E patches and gene expression."""

__version__ = "0.1.0"
