"""Everything that is measured of a store, as one report: see `evaluate_store`."""

from __future__ import annotations
