"""Vision transformers of any size, their shape read from a state dict, with STAMP's inserted token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional

from stamp_index.encoders.backbones import IMAGENET
from stamp_index.encoders.image_tower import TowerOutput
from stamp_index.encoders.published.state import count_blocks, require, require_dims
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from stamp_index.encoders.published.state import State

# Heads of the usual ViTs by width (timm): tiny, small, base, large, huge, giant, UNI2-h.
_HEADS: Final = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24}
_NEEDED: Final = {  # and their numbers of dimensions
    "patch_embed.proj.weight": 4,
    "pos_embed": 3,
    "cls_token": 3,
    "norm.weight": 1,
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2,
}
_TRAINING_ONLY: Final = ("mask_token",)


class PromptedVit(nn.Module):
    """A ViT that sees one more token, right after CLS (Hanminghao/STAMP @78c4fd2, ``_prompt_learner.py``).

    The names of the tensors are the published ones.

    Parameters
    ----------
    base_model : Module
        A timm ``VisionTransformer``.
    """

    def __init__(self, base_model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.base_model = base_model
        self.width = int(base_model.embed_dim)
        self.image_px = int(base_model.patch_embed.img_size[0])
        self.patch_px = int(base_model.patch_embed.patch_size[0])
        self.p_visual = nn.Parameter(torch.zeros(1, 1, self.width))
        self.ref_pos_embed = nn.Linear(self.width, self.width)

    def forward(self, images: torch.Tensor, references: torch.Tensor | None = None) -> TowerOutput:
        """Encode normalised images (b, 3, s, s).

        Parameters
        ----------
        images : Tensor of shape (b, 3, s, s)
            Patches, or regions if `references` are given.
        references : Tensor of shape (b, 3, p, p), optional
            The patches shrunk to one cell of the ViT. With them the inserted token is their embedding,
            without them the learned prompt.
        """
        vit: Any = self.base_model
        x = vit._pos_embed(vit.patch_embed(images))  # (b, prefix + t, width)
        if references is None:
            inserted = self.p_visual.expand(len(x), -1, -1)
        else:
            cell = vit.patch_embed.proj(references).flatten(2).transpose(1, 2)  # (b, 1, width)
            inserted = self.ref_pos_embed(vit.patch_embed.norm(cell))
        x = torch.cat([x[:, :1], inserted, x[:, 1:]], dim=1)
        x = vit.norm(vit.blocks(vit.norm_pre(x)))
        tokens = x[:, 1 + vit.num_prefix_tokens :]  # (b, t, width)
        side = round(tokens.shape[1] ** 0.5)
        return TowerOutput(x[:, 0], x[:, 1], tokens.reshape(len(x), side, side, self.width))


def vit_heads(state: State, heads: int | None) -> int:
    """Heads of the ViT of a state dict: `heads` if given, else those usual for its width.

    Raises
    ------
    EncoderError
        If none are given for an unusual width, or they do not divide it, or there is no width.
    """
    name = "patch_embed.proj.weight"
    require(state, (name,), "a vision transformer under timm's names")
    require_dims(state, {name: _NEEDED[name]}, "a vision transformer")
    width = len(state[name])
    return checked_heads(heads or _HEADS.get(width), width, "ViT", "--vision-heads")


def checked_heads(heads: int | None, width: int, what: str, option: str) -> int:
    """Refuse a number of heads that is unknown or does not divide `width`.

    Raises
    ------
    EncoderError
        Naming the option that sets it.
    """
    if heads is None:
        msg = (
            f"The number of attention heads of a {what} of width {width} cannot be read from its weights. "
            f"Give it: {option} N."
        )
        raise EncoderError(msg)
    if heads < 1 or width % heads:
        msg = f"The {what} has width {width}, which {heads} heads do not divide. Correct {option}."
        raise EncoderError(msg)
    return heads


def build_vit(state: State, heads: int) -> nn.Module:
    """Build the timm ``VisionTransformer`` that a state dict is of, without memory for its weights.

    Parameters
    ----------
    state : dict of str to Tensor
        Under timm's names.
    heads : int
        See `vit_heads`.

    Raises
    ------
    EncoderError
        If it is no ViT with a CLS token and square images and patches; what is odd is named.
    """
    declare_torchvision_ops()
    from timm.layers.mlp import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    require(state, _NEEDED, "a vision transformer with a CLS token under timm's names")
    require_dims(state, {**_NEEDED, "reg_token": 3}, "a vision transformer")
    width, _, patch_px, other_px = state["patch_embed.proj.weight"].shape
    if patch_px != other_px:
        msg = f"The ViT has patches of {patch_px} x {other_px} px; square ones were expected. Use another ViT."
        raise EncoderError(msg)
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    side, is_embedded = _grid(state["pos_embed"].shape[1], 1 + registers)
    hidden, inner = (state[f"blocks.0.mlp.fc{n}.weight"].shape[n - 1] for n in (1, 2))
    packed = hidden == 2 * inner  # gate and value in one matrix
    settings: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if packed else {}
    with torch.device("meta"):
        return VisionTransformer(
            img_size=side * patch_px,
            patch_size=patch_px,
            num_classes=0,
            embed_dim=width,
            depth=count_blocks(state, "blocks."),
            num_heads=heads,
            mlp_ratio=(hidden + 0.5) / width,  # timm rounds down
            no_embed_class=not is_embedded,
            reg_tokens=registers,
            global_pool="token",
            weight_init="skip",
            **_options(state),
            **settings,
        )


def _options(state: State) -> dict[str, Any]:
    """Name the optional parts of a ViT, which are there if their tensors are."""
    return {
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "qk_norm": "blocks.0.attn.q_norm.weight" in state,
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in state else None,
        "pre_norm": "norm_pre.weight" in state,
    }


def _grid(n_positions: int, n_prefix: int) -> tuple[int, bool]:
    """Side of the grid of position embeddings, and whether CLS and registers have positions too."""
    for is_embedded in (True, False):
        side = round(max(n_positions - n_prefix * is_embedded, 0) ** 0.5)
        if side and side**2 == n_positions - n_prefix * is_embedded:
            return side, is_embedded
    msg = (
        f"The ViT has {n_positions} position embeddings, which are no square grid with or without "
        f"{n_prefix} for CLS and registers. Use a ViT for square images."
    )
    raise EncoderError(msg)


def vit_state(state: State) -> State:
    """State dict of a ViT without what only its own pre-training used."""
    return {name: value for name, value in state.items() if name not in _TRAINING_ONLY}


def normalise_images(images: torch.Tensor, size_px: int, *, bgr: bool = False) -> torch.Tensor:
    """Map uint8 images (b, s, s, 3) to ones normalised by ImageNet's statistics, as STAMP does (recipes 1.2).

    Parameters
    ----------
    images : Tensor of shape (b, s, s, 3), uint8
        RGB.
    size_px : int
        Images of another side are resized (bilinear, antialiased).
    bgr : bool
        Turn the order of colours round first.
    """
    x = images.permute(0, 3, 1, 2).float() / 255
    if bgr:
        x = x.flip(1)
    if x.shape[-1] != size_px:
        x = functional.interpolate(x, size=(size_px, size_px), mode="bilinear", antialias=True)
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    normal: torch.Tensor = (x - mean) / std
    return normal
