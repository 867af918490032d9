"""Retrieval between the two halves of spots: what was asked for, how far down it stands, and what stands above it."""

from __future__ import annotations
