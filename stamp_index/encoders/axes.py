"""Principal axes that towers start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def leading_axes(
    rows: NDArray[np.float32], count: int, *, power: float = 0.5
) -> NDArray[np.float32]:
    """Principal axes (k, c) of rows (n, c), scaled so that scores fall as the root of their deviation.

    The first axis has scores of deviation 1. Full whitening would raise noise to the level of signal, none
    would let the first axis drown the others.
    """
    _, size, axes = np.linalg.svd(rows, full_matrices=False)
    k = min(count, int((size > 1e-6 * size[0]).sum()))
    scale = np.sqrt(len(rows)) / size[:k] * (size[:k] / size[0]) ** power  # (k,)
    scaled: NDArray[np.float32] = (axes[:k] * scale[:, None]).astype(np.float32)
    return scaled
