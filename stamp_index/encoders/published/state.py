"""Published state dicts: reading them, taking them apart, and fitting them strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.encoders.backbone_weights import read_state
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

# What training frameworks put before every name.
_WRAPPERS: Final = ("module.", "model.")


def read_published(path: Path) -> State:
    """Read a published checkpoint as float32 tensors under the authors' own names.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or ``.bin``, ``.pt``, ``.pth``, ``.ckpt`` of tensors alone, with or without
        ``state_dict`` around them and ``module.`` or ``model.`` before the names.

    Raises
    ------
    EncoderError
        If there is no such file, or it is damaged or holds more than tensors.
    """
    state = read_state(path)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = below(state, wrapper)
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def below(state: State, prefix: str) -> State:
    """Tensors whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def without(state: State, prefixes: Iterable[str]) -> State:
    """Tensors whose names begin with none of `prefixes`."""
    dropped = tuple(prefixes)
    return {name: value for name, value in state.items() if not name.startswith(dropped)}


def require(state: State, names: Iterable[str], what: str) -> None:
    """Refuse a state dict that lacks what every such model has.

    Raises
    ------
    EncoderError
        With the names that are missing and some that are there.
    """
    missing = [name for name in names if name not in state]
    if missing:
        msg = (
            f"The checkpoint is not of {what}: it has no {', '.join(missing[:5])}; it has "
            f"{', '.join(sorted(state)[:5])}, ... ({len(state)} tensors). Give the published file."
        )
        raise EncoderError(msg)


def count_blocks(state: State, prefix: str) -> int:
    """Count the blocks ``prefix0.``, ``prefix1.``, ... that a state dict holds."""
    numbers = {
        int(number)
        for name in state
        if name.startswith(prefix) and (number := name[len(prefix) :].split(".")[0]).isdigit()
    }
    return max(numbers, default=-1) + 1


def fit(module: nn.Module, state: State, what: str) -> None:
    """Fill a module with a state dict, all of it or nothing.

    Raises
    ------
    EncoderError
        If a tensor is missing, unknown or of another shape; the first of each are named.
    """
    own = module.state_dict()
    # A checkpoint folder holds single numbers as arrays of one.
    state = {
        name: value.reshape(())
        if value.shape == (1,) and name in own and not own[name].ndim
        else value
        for name, value in state.items()
    }
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    if missing or extra or wrong:
        msg = (
            f"The weights do not fit {what}: {len(missing)} tensors missing ({', '.join(missing[:3])}), "
            f"{len(extra)} unknown ({', '.join(extra[:3])}), {len(wrong)} of another shape "
            f"({', '.join(wrong[:3])}). Give the published file of that model."
        )
        raise EncoderError(msg)
    module.load_state_dict(state, assign=True)
    # Modules are built without memory of their own; assigned tensors must not ask for gradients.
    module.requires_grad_(requires_grad=False).eval()
