"""From a measured expression profile to its embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import EmptyQueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.genes import GeneResolver


_MOST_COUNT: Final = 10**9  # as in a store


def encode_profile(
    counts: Mapping[str, float], resolver: GeneResolver, encoder: Encoder
) -> tuple[NDArray[np.float32], str]:
    """Embed one profile of raw counts.

    Returns
    -------
    vector : ndarray of shape (d,), float32
        Unit length.
    note : str
        How many genes the encoder does not know; empty where it knows all.

    Raises
    ------
    EmptyQueryError
        If there is no count above 0 in the encoder's panel.
    MissingGenesError
        If the panel has none of the genes.
    DuplicateGenesError
        If two names mean the same gene.
    ValueError
        If a count is negative, not finite or above 1e9.
    TypeError
        If it is no mapping of genes to numbers, nor a Series.
    """
    try:
        counts = {str(gene): float(count) for gene, count in counts.items()}
    except (AttributeError, TypeError, ValueError) as exc:
        msg = f"The profile is {type(counts).__name__}; expected counts by gene such as {{'CD8A': 12, 'CD3E': 4}}."
        raise TypeError(msg) from exc
    if not counts:
        msg = "The profile holds no gene. Give counts such as {'CD8A': 12, 'CD3E': 4}."
        raise EmptyQueryError(msg)
    wrong = [f"{gene} {n}" for gene, n in counts.items() if not 0 <= n <= _MOST_COUNT]
    if wrong:
        msg = f"Counts of a profile must be 0 to {_MOST_COUNT:,}; {len(wrong)} are not ({', '.join(wrong[:5])})."
        raise ValueError(msg)
    panel = encoder.panel
    # names that the panel has are taken as they are; the store knows ids and other cases
    others = resolver.resolve([g for g in counts if g not in panel.column_of], on_missing="ignore")
    genes = [others.get(gene, gene) for gene in counts]
    values = csr_matrix(np.array([list(counts.values())], np.float32))
    aligned = panel.align(values, genes)
    if aligned.sum() == 0:
        known = sum(gene in panel.column_of for gene in genes)
        msg = (
            f"The profile has no count above 0 in the {known} of its {len(genes)} genes that the "
            f"encoder's panel has. Give the counts of a spot or cell population."
        )
        raise EmptyQueryError(msg)
    unknown = [g for g, name in zip(counts, genes, strict=True) if name not in panel.column_of]
    note = ""
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        note = (
            f"{len(unknown)} of {len(genes)} genes of the profile are not in the encoder's panel "
            f"and were not used ({shown})."
        )
    return encoder.encode_counts(values, genes)[0], note
