"""Published state dicts: reading them, taking them apart, and fitting them strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.encoders.backbone_weights import read_state, refuse_flaws
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

# What training frameworks put before every name.
_WRAPPERS: Final = ("module.", "model.")
_COUNTER: Final = "num_batches_tracked"  # of batch norm: a whole number by nature


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
        If there is no such file, it is damaged or holds more than tensors, or a tensor is not of finite
        floating-point numbers; the first such is named.
    """
    state = read_state(path)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = below(state, wrapper)
    floats = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    # After the change of type: a double of 1e300 is infinite as a float.
    refuse_flaws(floats, [name for name in floats if not name.endswith(_COUNTER)], str(path))
    return floats


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


def require_dims(state: State, dims: Mapping[str, int], what: str) -> None:
    """Refuse tensors from whose shape a size is read, where that shape is no such tensor's at all.

    Parameters
    ----------
    state : dict of str to Tensor
    dims : mapping of str to int
        Number of dimensions by name; names that are not in `state` are passed over.
    what : str
        The model, for errors.

    Raises
    ------
    EncoderError
        If one has another number of dimensions or is empty; the first three are named.
    """
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {n} dimensions, none of them 0"
        for name, n in dims.items()
        if name in state and (state[name].ndim != n or not state[name].numel())
    ]
    if wrong:
        msg = (
            f"The weights do not fit {what}: {len(wrong)} tensors of another shape ({', '.join(wrong[:3])}). "
            "Give the published file of that model."
        )
        raise EncoderError(msg)


def count_blocks(state: State, prefix: str) -> int:
    """Count the blocks ``prefix0.``, ``prefix1.``, ... that a state dict holds."""
    numbers = {
        number
        for name in state
        if name.startswith(prefix) and (number := name[len(prefix) :].split(".")[0]).isdigit()
    }
    return len(numbers)  # not the highest, or one odd name would ask for any number of blocks


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
