"""Public data sets, each from the layout in which it is published to one report; nothing is downloaded."""

from __future__ import annotations
