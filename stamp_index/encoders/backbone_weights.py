"""Weights of pretrained networks: reading them safely, renaming them to timm's names, fitting them strictly."""

from __future__ import annotations

import pickle
import re
import struct
from typing import TYPE_CHECKING, Any, Final

import torch

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import nn

    State = dict[str, torch.Tensor]

_FILES: Final = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
_PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt")
# What torch's unpickler raises for bytes that were changed or cut off, as found by changing and cutting them.
_DAMAGED: Final = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,  # with UnicodeDecodeError
)
# Torch's sentences on this option say that loading succeeds without it.
_ADVICE: Final = "weights_only"
_ASKED_FOR: Final = re.compile(r"\bGLOBAL:? ([A-Za-z_][\w.]{0,80})")
_WRAPPERS: Final = ("state_dict", "model", "teacher")
# transformers 4 (and files on the hub) -> timm, for ViTModel and Dinov2Model alike; transformers 5 names its
# modules in memory otherwise, but saves under the old names. Both are taken, and the classifiers' prefixes.
_TRANSFORMERS: Final = (
    (r"^(vit|dinov2|dinov2_with_registers)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.attention\.(?:attention\.)?(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.(?:attention\.)?([qkv])_proj\.", r".attn.\1_proj."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
)
_UNUSED_TRANSFORMERS: Final = r"^(embeddings\.mask_token|pooler\.|classifier\.)"
# facebookresearch/dinov2 -> timm
_DINOV2: Final = (
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
# mahmoodlab/CONCH -> ConchBackbone's trunk and pool
_CONCH: Final = (
    (r"^module\.", ""),
    (r"^visual\.trunk\.", "trunk."),
    (r"^visual\.attn_pool_contrast\.", "pool."),
    (r"^visual\.ln_contrast\.", "pool.ln_contrast."),
)
_UNUSED_CONCH: Final = (
    r"^(text|text_decoder|logit_scale|visual\.(attn_pool_caption|ln_caption|proj_contrast|head))\b"
)


def read_state(path: Path) -> State:
    """Read tensors by name from a file, or from a folder that holds one.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a ``.bin``, ``.pt`` or ``.pth`` that holds tensors and nothing else.

    Raises
    ------
    EncoderError
        If there is no such file, or it is damaged or holds more than tensors.
    """
    path = weights_file(path)
    state = _read_pickled(path) if path.suffix in _PICKLED else _read_safetensors(path)
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    by_name = all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items())
    if not state or not by_name:
        msg = f"{path} is not a state dict: it holds other things than tensors by name."
        raise EncoderError(msg)
    return state


def weights_file(path: Path) -> Path:
    """Find the file of weights at `path`, or in it where it is a folder.

    Raises
    ------
    EncoderError
        If there is none.
    """
    if path.is_dir():
        there = [path / name for name in _FILES if (path / name).is_file()]
        if there:
            return there[0]
        msg = f"There are no weights in the folder {path}; expected one of {', '.join(_FILES)}."
        raise EncoderError(msg)
    if not path.is_file():
        msg = f'The weights file {path} does not exist. Give a local .safetensors file, or "hub".'
        raise EncoderError(msg)
    return path


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as exc:
        msg = f"{path} is not a readable .safetensors file ({exc}). Copy or convert the weights again."
        raise EncoderError(msg) from exc


def _read_pickled(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as exc:
        if _ADVICE in str(exc):
            raise EncoderError(_refusal(path, str(exc))) from None  # nor in a traceback
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        msg = (
            f"{path} is damaged or holds more than tensors, which is not read ({reason}). Save its state "
            "dict as .safetensors where it came from."
        )
        raise EncoderError(msg) from exc
    return state if isinstance(state, dict) else {}


def _refusal(path: Path, text: str) -> str:
    """Refuse a pickle in our own words: torch's tell its reader how to run it."""
    named = _ASKED_FOR.search(text)
    asked = f" (it asks for {named[1]})" if named else ""
    return (
        f"{path} is damaged or holds more than tensors{asked}, which is not read; nothing in it was run. Do not "
        "open it with Python's own pickle unless you trust who wrote it. Save its state dict as .safetensors "
        "where it came from."
    )


def flaw_of(tensor: torch.Tensor) -> str:
    """Say what keeps a tensor from being a weight, as the end of a sentence; empty where nothing does."""
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}"
    # A view may claim any size over a few stored bytes; looking at its values would fill the memory.
    is_whole = tensor.layout == torch.strided and not tensor.is_meta
    if not is_whole or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return "is not stored value by value"
    return "" if tensor.isfinite().all() else "holds NaN or infinite values"


def refuse_flaws(state: State, names: Iterable[str], where: str) -> None:
    """Refuse weights that are not finite floating-point numbers.

    Parameters
    ----------
    state : dict of str to Tensor
    names : iterable of str
        The tensors to look at.
    where : str
        The file, for errors.

    Raises
    ------
    EncoderError
        Naming the first tensor that is none.
    """
    for name in names:
        if flaw := flaw_of(state[name]):
            msg = (
                f"The tensor {name} in {where} {flaw}; finite floating-point weights were expected. Copy the "
                "file again, or give another one."
            )
            raise EncoderError(msg)


def fit_state(network: nn.Module, state: State, loader: str, path: Path) -> None:
    """Fill a network with a file's tensors, all of them or none.

    Parameters
    ----------
    network : nn.Module
        A timm model, or CONCH's trunk and pool.
    state : dict of str to Tensor
    loader : str
        How the file names its tensors: ``timm``, ``transformers``, ``dinov2`` or ``conch``.
    path : Path
        Where it came from, for errors.

    Raises
    ------
    EncoderError
        If a tensor is missing, unknown, of another shape or not finite. Position embeddings of another
        image size are interpolated; a classifier is left out.
    """
    rename: dict[str, Callable[[State], State]] = {
        "transformers": _from_transformers,
        "dinov2": _from_dinov2,
        "conch": lambda found: _renamed(found, _CONCH, _UNUSED_CONCH),
    }
    state = rename.get(loader, dict)(state)
    _drop_classifier(network, state)
    vit: Any = network["trunk"] if loader == "conch" else network  # type: ignore[index]
    prefix = "trunk." if loader == "conch" else ""
    # The published models interpolate as they run: timm with antialiasing, the others without.
    _fit_positions(vit, state, prefix, antialias=loader in ("timm", "conch"))
    own = network.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    wrong = sorted(
        name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
    )
    if missing or extra or wrong:
        msg = (
            f"The weights in {path} do not fit {type(network).__name__}: {len(missing)} tensors missing "
            f"({', '.join(missing[:3])}), {len(extra)} unknown ({', '.join(extra[:3])}), {len(wrong)} of "
            f"another shape ({', '.join(wrong[:3])}). Give the file of the same model."
        )
        raise EncoderError(msg)
    refuse_flaws(state, [name for name in own if own[name].is_floating_point()], str(path))
    network.load_state_dict(state)


def _drop_classifier(network: nn.Module, state: State) -> None:
    names = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        for key in (f"{name}.weight", f"{name}.bias"):
            if key not in network.state_dict():
                state.pop(key, None)


def _renamed(state: State, rules: tuple[tuple[str, str], ...], unused: str) -> State:
    renamed = {}
    for name, tensor in state.items():
        if unused and re.search(unused, name):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _from_transformers(state: State) -> State:
    """Rename, and join what timm keeps in one matrix: query, key, value; gate and value of a SwiGLU."""
    bare = _renamed(state, _TRANSFORMERS[:1], "")
    renamed = _renamed(bare, _TRANSFORMERS[1:], _UNUSED_TRANSFORMERS)
    for parts in (("query", "key", "value"), ("q_proj", "k_proj", "v_proj")):
        _join(renamed, r"\.attn\.", parts, "qkv")
    _join(renamed, r"\.mlp\.", ("gate_proj", "up_proj"), "fc1")
    return renamed


def _join(state: State, where: str, parts: tuple[str, ...], whole: str) -> None:
    first = re.compile(rf"({where}){parts[0]}(\.(?:weight|bias))$")
    for name in [name for name in state if first.search(name)]:
        names = [first.sub(rf"\g<1>{part}\g<2>", name) for part in parts]
        if all(part in state for part in names):
            state[first.sub(rf"\g<1>{whole}\g<2>", name)] = torch.cat([state.pop(n) for n in names])


def _from_dinov2(state: State) -> State:
    return _renamed(state, _DINOV2, r"^mask_token$")


def _fit_positions(vit: Any, state: State, prefix: str, *, antialias: bool) -> None:  # noqa: ANN401
    """Give position embeddings the layout and the grid of the network, in place."""
    name = f"{prefix}pos_embed"
    own = getattr(vit, "pos_embed", None)
    found = state.get(name)
    if own is None or found is None or found.shape == own.shape or found.dim() != 3:
        return
    from timm.layers.pos_embed import resample_abs_pos_embed

    n_own = 0 if vit.no_embed_class else vit.num_prefix_tokens
    n_image = found.shape[1] - n_own
    if vit.no_embed_class and round(found.shape[1] ** 0.5) ** 2 != found.shape[1]:
        # DINOv2 gives CLS a position too; timm adds it to the CLS token once.
        cls = f"{prefix}cls_token"
        if cls in state:
            state[cls] = state[cls] + found[:, :1]
        found = found[:, 1:]
        n_image = found.shape[1]
    if round(n_image**0.5) ** 2 == n_image and found.shape[-1] == own.shape[-1]:
        grid = list(vit.patch_embed.grid_size)
        found = resample_abs_pos_embed(found, grid, num_prefix_tokens=n_own, antialias=antialias)
    state[name] = found
