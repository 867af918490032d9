"""From a signature as it was asked to one that store and encoder both know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import MissingGenesError
from stamp_index.genes import GeneResolver, Signature, close_names, parse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder

_SIZES: Final = (1, 2, 3, 5)  # genes of random signatures
_LOW: Final = 0.25  # share of them, besides the first, that are low


@dataclass(frozen=True)
class ResolvedSignature:
    """A signature by the names of the store and of the encoder.

    Attributes
    ----------
    shown : Signature
        With the store's symbols.
    weights : dict of str to float
        The same with the panel's symbols, for `Encoder.encode_signature`.
    """

    shown: Signature
    weights: dict[str, float]


def resolve_signature(
    asked: str | Signature | Mapping[str, float], resolver: GeneResolver, encoder: Encoder
) -> ResolvedSignature:
    """Find every gene of a signature in the store and in the encoder's panel.

    Raises
    ------
    EmptyQueryError
        If no gene is named.
    MissingGenesError
        If the store (`resolver`) or the encoder's panel lacks a gene; close names are given.
    QueryError
        If it cannot be read, contradicts itself, or a name is ambiguous.
    """
    if isinstance(asked, str):
        signature = parse_signature(asked)
    elif isinstance(asked, Signature):
        signature = asked
    else:
        signature = Signature.from_weights(asked)
    shown = signature.resolve(resolver)
    panel = encoder.panel.genes
    in_panel = GeneResolver(panel).resolve(shown.genes, on_missing="ignore")
    missing = [gene for gene in shown.genes if gene not in in_panel]
    if missing:
        near = dict.fromkeys(name for gene in missing for name in close_names(gene, panel))
        hint = f"Close names in the panel: {', '.join(near)}. " if near else ""
        msg = (
            f"The store measured {', '.join(missing)}, but the panel of encoder '{encoder.name}' "
            f"({len(panel)} genes) lacks {'it' if len(missing) == 1 else 'them'}, so no query can "
            f"be made of it. {hint}Ask for other genes, or report it with `genes`."
        )
        raise MissingGenesError(msg)
    return ResolvedSignature(
        shown, {in_panel[gene]: weight for gene, weight in shown.weights.items()}
    )


def random_signatures(encoder: Encoder, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Embed signatures of random genes, for what scores mean by chance: (n, d), unit length.

    Of 1, 2, 3 or 5 genes of the panel, the first high and each of the others low in one of four.
    """
    panel = np.asarray(encoder.panel.genes)
    vectors = np.empty((n, encoder.dim), np.float32)
    for row in range(n):
        genes = rng.choice(panel, min(int(rng.choice(_SIZES)), len(panel)), replace=False)
        signs = np.where(rng.random(len(genes)) < _LOW, -1.0, 1.0)
        signs[0] = 1.0
        weights = dict(zip(genes.tolist(), signs.tolist(), strict=True))
        vectors[row] = encoder.encode_signature(weights)
    return vectors
