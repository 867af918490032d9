"""How much of a pretrained network is trained: all, nothing, LoRA, or its last blocks.

LoRA follows SEAL (arXiv 2602.14177; mahmoodlab/SEAL @2137d8d): r 8, alpha 8, dropout .15, on every linear
layer and convolution whose name has "attn" or "mlp" in the last blocks, attention pools left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES: Final = ("full", "frozen", "lora", "last")
_AFTER: Final = ("norm", "fc_norm", "attn_pool", "conv_head", "bn2")


@dataclass(frozen=True)
class Adaptation:
    """Which modules of a network are trained.

    Attributes
    ----------
    mode : str
        One of `MODES`.
    first_block : int
        Blocks before this one are frozen.
    trained : tuple of str
        Names of the modules that learn; ``""`` is the network itself.
    """

    mode: str
    first_block: int
    trained: tuple[str, ...]

    def set_training(self, network: nn.Module, mode: bool) -> None:  # noqa: FBT001 - as nn.Module.train
        """Put trained modules into training mode and frozen ones into evaluation mode.

        A frozen batch norm must not follow the batch, and frozen dropout must not make noise.
        """
        network.eval()
        if mode:
            for name in self.trained:
                network.get_submodule(name).train()


def adapt(
    network: nn.Module,
    mode: str,
    *,
    blocks: int = 0,
    rank: int = 8,
    alpha: int = 8,
    dropout: float = 0.15,
    targets: Sequence[str] | None = None,
) -> Adaptation:
    """Freeze what is not to be trained, and put LoRA where it is asked for, in place.

    Parameters
    ----------
    network : nn.Module
        A timm model.
    mode : str
        ``full``, ``frozen``, ``lora`` (adapters in the last `blocks`, the rest frozen) or ``last`` (the last
        `blocks` and what follows them are trained).
    blocks : int
        How many of the last blocks; for ``lora`` 0 is all of them. Block groups of an EfficientNet.
    rank, alpha, dropout : int, int, float
        Of LoRA.
    targets : sequence of str, optional
        Ends of layer names that LoRA adapts within these blocks. By default linear layers and convolutions
        with "attn" or "mlp" in their names, and the pointwise convolutions of an EfficientNet.

    Returns
    -------
    Adaptation
        Its `set_training` stands in for ``network.train``.

    Raises
    ------
    EncoderError
        If the mode is unknown, the network has no such blocks or no such layers, or peft is not installed.
    """
    if mode not in MODES:
        msg = f"train is {mode!r}; expected one of {', '.join(MODES)}."
        raise EncoderError(msg)
    if mode == "full":
        network.requires_grad_(requires_grad=True)
        return Adaptation(mode, 0, ("",))
    network.requires_grad_(requires_grad=False).eval()
    where, depth = _blocks_of(network)
    if mode == "frozen":
        return Adaptation(mode, depth, ())
    if not where:
        msg = (
            f"{type(network).__name__} is not a ViT or an EfficientNet and cannot be trained in part; "
            'choose train = "frozen" or "full".'
        )
        raise EncoderError(msg)
    least = 0 if mode == "lora" else 1
    if not least <= blocks <= depth:
        msg = f"blocks is {blocks}; {type(network).__name__} here has {depth}, so expected {least} to {depth}."
        raise EncoderError(msg)
    first = depth - (blocks or depth)
    names = [f"{where}.{number}" for number in range(first, depth)]
    if mode == "lora":
        layers = _layers(network, names, targets)
        _add_lora(network, layers, rank=rank, alpha=alpha, dropout=dropout)
        return Adaptation(mode, first, tuple(layers))
    root = where.removesuffix("blocks")
    after = (*(f"{root}{name}" for name in _AFTER), "pool")
    names += [name for name in after if _has(network, name)]
    for name in names:
        network.get_submodule(name).requires_grad_(requires_grad=True)
    return Adaptation(mode, first, tuple(names))


def merge(network: nn.Module) -> int:
    """Fold LoRA into the layers that it adapts, in place; returns how many there were.

    The result has the names of a network that was never adapted, and needs no peft.
    """
    adapted = [
        (name, module) for name, module in network.named_modules() if hasattr(module, "lora_A")
    ]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, layer.get_base_layer())
    return len(adapted)


def _blocks_of(network: nn.Module) -> tuple[str, int]:
    """Name and number of a ViT's blocks or an EfficientNet's block groups; ``("", 0)`` if it is neither."""
    for name in ("blocks", "trunk.blocks"):
        if _has(network, name):
            blocks: Any = network.get_submodule(name)
            return name, len(blocks)
    return "", 0


def _has(network: nn.Module, name: str) -> bool:
    return any(name == own for own, _ in network.named_modules())


def _layers(network: nn.Module, blocks: Sequence[str], targets: Sequence[str] | None) -> list[str]:
    """Names of the linear layers and convolutions in `blocks` that LoRA adapts."""
    found = []
    for block in blocks:
        for name, module in network.get_submodule(block).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and _adapted(name, module, targets):
                found.append(f"{block}.{name}")
    if not found:
        wanted = f" that end in {', '.join(targets)}" if targets else ""
        msg = (
            f"The last blocks of {type(network).__name__} have no layers{wanted} for LoRA to adapt."
        )
        raise EncoderError(msg)
    return found


def _adapted(name: str, module: nn.Module, targets: Sequence[str] | None) -> bool:
    if targets is not None:
        return any(name == end or name.endswith(f".{end}") for end in targets)
    pointwise = (
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and ".se." not in name
    )
    return pointwise or "attn" in name or "mlp" in name


def _add_lora(
    network: nn.Module, layers: list[str], *, rank: int, alpha: int, dropout: float
) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as exc:
        msg = "LoRA needs the package peft. Run: pip install peft"
        raise EncoderError(msg) from exc
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=layers,
    )
    inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = "lora_" in name
