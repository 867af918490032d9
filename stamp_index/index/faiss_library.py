"""FAISS, set for our sizes; imported where it is first needed."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

# Numbers (queries x dimensions) from which FAISS compares through a matrix product. Its default,
# 128000, makes 16 queries of 512 dimensions 2.4 times as dear as it need be; below about four
# queries a product costs 4 times as much as plain loops (4,000 centres, one core).
_BLAS_FROM: Final = 2_048


@cache
def load_faiss() -> ModuleType:
    """Import FAISS and set its one global number that matters to us; done once.

    Returns
    -------
    module
        The `faiss` module.
    """
    with warnings.catch_warnings():
        # SWIG's own types lack __module__; Python 3.12 and later say so on import.
        warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
        import faiss
    faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM
    return faiss
