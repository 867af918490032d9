"""The layout of STimage-1K4M."""
