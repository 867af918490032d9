"""Spatial domains: clusters of image, gene and fused embeddings against labels.

`evaluate_domains` works on a store; the other functions are the same on arrays.
"""

from __future__ import annotations

from stamp_index.evaluate.domains.cluster import (
    Method,
    gaussian_mixture,
    gaussian_mixture_by_bic,
    kmeans,
    leiden,
)
from stamp_index.evaluate.domains.fuse import Surroundings, find_surroundings, fuse
from stamp_index.evaluate.domains.report import DomainReport
from stamp_index.evaluate.domains.runner import evaluate_domains
from stamp_index.evaluate.domains.scores import domain_scores, spatial_coherence
from stamp_index.evaluate.domains.spaces import Features

__all__ = [
    "DomainReport",
    "Features",
    "Method",
    "Surroundings",
    "domain_scores",
    "evaluate_domains",
    "find_surroundings",
    "fuse",
    "gaussian_mixture",
    "gaussian_mixture_by_bic",
    "kmeans",
    "leiden",
    "spatial_coherence",
]
