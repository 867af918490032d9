"""Unit vectors: of many inputs, a batch at a time, and of a signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_NOTHING: Final = 1e-6  # vectors nearer to zero differ from it by float32's rounding alone


def in_batches(
    inputs: NDArray[Any],
    embed: Callable[[torch.Tensor], torch.Tensor],
    *,
    dim: int,
    size: int,
    device: str,
) -> NDArray[np.float32]:
    """Embed inputs (n, ...) a batch at a time: (n, dim), unit length.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
    embed : callable
        Maps a batch of them to vectors (b, dim) of any length.
    dim, size : int
        Length of an embedding, and inputs in a batch.
    device : str
        Where `embed` runs.
    """
    parts = [np.zeros((0, dim), dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(inputs), size):
            batch = torch.from_numpy(np.array(inputs[start : start + size])).to(device)
            parts.append(functional.normalize(embed(batch), dim=-1).cpu().numpy())
    return np.concatenate(parts)


def signature_direction(
    vector: NDArray[np.float32], weights: Mapping[str, float], encoder: str
) -> NDArray[np.float32]:
    """Scale what an encoder makes of a signature to unit length.

    Parameters
    ----------
    vector : ndarray of shape (d,), float32
        The signature's direction, of any length.
    weights : mapping of str to float
        The signature, for the message.
    encoder : str
        Name of the encoder, for the message.

    Raises
    ------
    EncoderError
        If nothing is left of it, as of a signature without genes.
    """
    length = float(np.linalg.norm(vector))
    if not length > _NOTHING:
        asked = ", ".join(gene for gene, weight in weights.items() if weight) or "no gene"
        msg = (
            f"Encoder {encoder} has no direction to search in for a signature of {asked}, which it embeds like its "
            "opposite. Ask for other genes, such as CD8A high."
        )
        raise EncoderError(msg)
    unit: NDArray[np.float32] = (vector / length).astype(np.float32)
    return unit
