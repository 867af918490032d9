"""The published SEAL model: gene VAE under our names, and LoRA merged into its backbone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from stamp_index.encoders.published.state import below, fit, require, require_dims, without
from stamp_index.encoders.vae_tower import VaeTower
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from stamp_index.encoders.published.state import State

_LORA: Final = re.compile(r"encoder\.base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_WHAT: Final = "SEAL's gene model"
_MATRICES: Final = (
    "encoder.0.weight",
    "fc_mu.weight",
    "fc_logvar.weight",
    "decoder.0.weight",
)
_LORA_ALPHA: Final = 8.0  # released configuration (recipes 4.4)
_BACKBONE: Final = "encoder.base_model.model."
_IMAGE_DECODER: Final = "decoder."
# One linear layer whatever the configuration calls it (``create_mlp`` without hidden layers).
_PROJECTION: Final = "projection_head."


def published_seal_state(state: State) -> State:
    """Rename the tensors of SEAL's published gene model to those of `VaeTower`.

    Parameters
    ----------
    state : dict of str to Tensor
        ``encoder.N.*``, ``fc_mu.*``, ``fc_logvar.*``, ``flows.N.{w,u,b}`` and ``decoder.N.*``.

    Raises
    ------
    EncoderError
        If it is no such model.
    """
    require(state, _MATRICES, _WHAT)
    require_dims(state, dict.fromkeys(_MATRICES, 2), _WHAT)
    names = {"fc_mu.": "mu.", "fc_logvar.": "logvar."}
    renamed = without(state, (*names, _PROJECTION))
    for theirs, ours in names.items():
        renamed |= {ours + name: value for name, value in below(state, theirs).items()}
    return renamed


def build_vae(state: State) -> VaeTower:
    """Build the VAE that a state dict under `VaeTower`'s names is of, in evaluation mode.

    Raises
    ------
    EncoderError
        If its layers do not fit each other.
    """
    hidden: list[int] = []
    while (name := f"encoder.{4 * len(hidden)}.weight") in state:
        require_dims(state, {name: 2}, _WHAT)
        hidden.append(len(state[name]))
    n_flows = len({name.split(".")[1] for name in state if name.startswith("flows.")})
    with torch.device("meta"):
        tower = VaeTower(
            state["encoder.0.weight"].shape[1],
            hidden=hidden,
            latent=len(state["mu.weight"]),
            n_flows=n_flows,
        )
    fit(tower, state, _WHAT)
    return tower


def projection_of(state: State) -> State:
    """Weight and bias of the layer that the contrastive loss was computed after; empty where there is none.

    Parameters
    ----------
    state : dict of str to Tensor
        Of the published gene or vision model.

    Notes
    -----
    The released configuration has none and its script returns what lies before it. But a checkpoint only
    holds such a layer if it was trained with it, and then the two sides meet after it (mahmoodlab/SEAL
    @2137d8d, ``gene_model.py``: ``projection=use_projection`` in training).

    Raises
    ------
    EncoderError
        If it is not one linear layer.
    """
    found = below(state, _PROJECTION)
    found = {name.removeprefix("0."): value for name, value in found.items()}
    if found and found.keys() != {"weight", "bias"}:
        msg = f"SEAL's projection head has the tensors {', '.join(sorted(found))}; one linear layer was expected."
        raise EncoderError(msg)
    return found


def linear(state: State) -> nn.Linear:
    """Build the layer of a weight and a bias."""
    require_dims(state, {"weight": 2}, "SEAL's projection head")
    out_dim, in_dim = state["weight"].shape
    with torch.device("meta"):
        layer = nn.Linear(in_dim, out_dim)
    fit(layer, state, "SEAL's projection head")
    return layer


def merge_lora(network: nn.Module, state: State) -> int:
    """Add LoRA's products to the weights of a backbone, in place.

    Parameters
    ----------
    network : Module
        The backbone under timm's names, or CONCH's ``trunk`` and ``pool``.
    state : dict of str to Tensor
        SEAL's published vision model: ``encoder.base_model.model.LAYER.lora_{A,B}.default.weight``. The
        image decoder in it is left out, and so are copies of the backbone's frozen weights.

    Returns
    -------
    int
        Number of layers that were changed.

    Raises
    ------
    EncoderError
        If there is no LoRA, a layer is not in the backbone, or a shape does not fit it.
    """
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        if match := _LORA.fullmatch(name):
            factors.setdefault(match[1], {})[match[2]] = value
    odd = without(state, (_BACKBONE, _IMAGE_DECODER, _PROJECTION))
    if not factors or odd or any(len(pair) != 2 for pair in factors.values()):
        msg = (
            f"The vision checkpoint holds LoRA of {len(factors)} layers and {len(odd)} tensors that are not "
            f"known here ({', '.join(sorted(odd)[:3])}). Give SEAL's published file, seal_BACKBONE_vision.pth."
        )
        raise EncoderError(msg)
    updates = [_update(network, name, pair) for name, pair in factors.items()]
    with torch.no_grad():
        for weight, update in updates:
            weight += update.to(weight)
    return len(factors)


def _update(
    network: nn.Module, name: str, pair: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of a layer, and what LoRA adds to it: alpha / r * B A."""
    a, b = pair["A"], pair["B"]
    layer: Any = dict(network.named_modules()).get(name)
    weight = getattr(layer, "weight", None)
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != len(a) or not len(a):
        msg = (
            f"SEAL's LoRA for {name} does not fit itself: A is {tuple(a.shape)} and B {tuple(b.shape)}; two "
            "matrices, rank x n and m x rank, were expected. Give SEAL's published file, seal_BACKBONE_vision.pth."
        )
        raise EncoderError(msg)
    if weight is None or weight.shape != (len(b), a.shape[1]):
        found = "has no such layer" if weight is None else f"has {tuple(weight.shape)} there"
        msg = (
            f"SEAL's LoRA for {name} is of shape {len(b)} x {a.shape[1]}, but the backbone {found}. Give the "
            "backbone that the vision checkpoint was trained on (conch or uni2-h)."
        )
        raise EncoderError(msg)
    return weight, (_LORA_ALPHA / len(a)) * (b @ a)
