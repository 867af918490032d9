"""Synthetic tissue with known biology: the demo and the tests' data."""

from stamp_index.phantom.make import load_truth, make_phantom, make_phantom_slide
from stamp_index.phantom.markers import PLANTED_QUERIES
from stamp_index.phantom.style import DOMAINS

__all__ = ["DOMAINS", "PLANTED_QUERIES", "load_truth", "make_phantom", "make_phantom_slide"]
