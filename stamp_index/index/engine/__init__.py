"""Approximate search over one array of unit vectors; knows neither stores nor row ids.

`make` builds a FAISS index by a recipe and measures it, `Engine` searches it: see `making.py` for the
whole way. Vectors are float16 (n, d), usually a memory map; positions are row numbers of that array.
"""

from stamp_index.index.engine.allowed import Allowed
from stamp_index.index.engine.building import Progress, build
from stamp_index.index.engine.calibrate import calibrate, measure
from stamp_index.index.engine.crewed import Fillers
from stamp_index.index.engine.files import write_index
from stamp_index.index.engine.gpu import n_gpus
from stamp_index.index.engine.making import Made, make
from stamp_index.index.engine.measured import Calibration, HeldOut
from stamp_index.index.engine.reading import read_index
from stamp_index.index.engine.search import Engine, Settings, on_gpus_if_any
from stamp_index.index.engine.structure import SizeEstimate, estimate

__all__ = [
    "Allowed",
    "Calibration",
    "Engine",
    "Fillers",
    "HeldOut",
    "Made",
    "Progress",
    "Settings",
    "SizeEstimate",
    "build",
    "calibrate",
    "estimate",
    "make",
    "measure",
    "n_gpus",
    "on_gpus_if_any",
    "read_index",
    "write_index",
]
