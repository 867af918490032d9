"""From a signature as it was asked to one that store and encoder both know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stamp_index.errors import MissingGenesError
from stamp_index.genes import GeneResolver, Signature, close_names, parse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.encoders.base import Encoder


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
    in_panel = GeneResolver(panel, aliases={}).resolve(shown.genes, on_missing="ignore")
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
