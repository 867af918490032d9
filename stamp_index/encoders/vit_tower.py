"""Any timm vision transformer as an image tower, with weights from a local file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stamp_index.encoders.image_tower import TowerOutput
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# ImageNet statistics, as STAMP normalises for UNI (recipes: arXiv 2602.13944, released code).
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class VitTower(nn.Module):
    """STAMP's vision model on a timm ViT.

    Parameters
    ----------
    patch_px, region_px : int
        Side of the images, the same for both.
    model : str
        Name of a timm ViT without registers, for example ``vit_large_patch16_224``.
    weights : str
        Local ``.safetensors`` file with the model's state dict; empty starts from random weights.
    trainable : bool
        False freezes the ViT and trains the prompt and the reference's projection alone.
    """

    def __init__(
        self,
        patch_px: int,
        region_px: int,
        *,
        model: str,
        weights: str = "",
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if patch_px != region_px:
            msg = f"A ViT sees patches and regions at one size; got {patch_px} and {region_px} px."
            raise ValueError(msg)
        vit: Any = _create(model, patch_px)
        self.vit = vit
        self.width = int(vit.embed_dim)
        self.prepared_id = "pixels"
        if weights:
            load_local_weights(self.vit, Path(weights))
        self.vit.requires_grad_(requires_grad=trainable)
        self.prompt = nn.Parameter(torch.randn(1, 1, self.width) * 0.02)
        self.reference = nn.Linear(self.width, self.width)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    mean: torch.Tensor
    std: torch.Tensor

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels themselves: nothing of a trainable ViT can be cached."""
        return images

    def forward(self, prepared: torch.Tensor, reference: torch.Tensor | None = None) -> TowerOutput:
        """Encode images (b, s, s, 3) in [0, 255]; `reference`, the patches, turns region mode on."""
        vit = self.vit
        x = vit._pos_embed(vit.patch_embed(self._normal(prepared)))  # (b, 1 + t, width)
        if reference is None:
            inserted = self.prompt.expand(len(x), -1, -1)
        else:
            inserted = self.reference(self._thumbnail(reference))
        n_prefix = vit.num_prefix_tokens
        x = torch.cat([x[:, :1], inserted, x[:, 1:]], dim=1)
        x = vit.norm(vit.blocks(vit.norm_pre(x)))
        tokens = x[:, 1 + n_prefix :]  # (b, t, width)
        side = int(tokens.shape[1] ** 0.5)
        return TowerOutput(x[:, 0], x[:, 1], tokens.reshape(len(x), side, side, self.width))

    def _normal(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).float() / 255
        return (x - self.mean) / self.std

    def _thumbnail(self, patches: torch.Tensor) -> torch.Tensor:
        """One token of the whole patch, shrunk to a single ViT cell: (b, 1, width)."""
        embed = self.vit.patch_embed
        small = nn.functional.interpolate(
            self._normal(patches), size=embed.patch_size, mode="bilinear", antialias=True
        )
        token: torch.Tensor = embed.proj(small).flatten(2).transpose(1, 2)
        return token


def load_local_weights(network: nn.Module, path: Path) -> str:
    """Load a state dict strictly from a safetensors file and return the file's SHA-256.

    Raises
    ------
    EncoderError
        If the file is missing, is no safetensors file, or its tensors do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        msg = f"The weights file {path} does not exist. Give a local .safetensors file."
        raise EncoderError(msg)
    try:
        state = load_file(path)
    except SafetensorError as exc:
        msg = f"{path} is not a readable .safetensors file ({exc}). Convert the weights first."
        raise EncoderError(msg) from exc
    own = network.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    wrong = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or extra or wrong:
        msg = (
            f"The weights in {path} do not fit {type(network).__name__}: {len(missing)} tensors missing "
            f"({', '.join(missing[:3])}), {len(extra)} unknown ({', '.join(extra[:3])}), {len(wrong)} of "
            f"another shape ({', '.join(wrong[:3])}). Give the file of the same timm model."
        )
        raise EncoderError(msg)
    network.load_state_dict(state)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _create(model: str, size_px: int) -> nn.Module:
    declare_torchvision_ops()
    import timm

    if not timm.is_model(model):
        msg = f"timm has no model named {model!r}. See timm.list_models('vit_*')."
        raise EncoderError(msg)
    vit: nn.Module = timm.create_model(model, num_classes=0, img_size=size_px)
    if getattr(vit, "num_prefix_tokens", 0) != 1 or not hasattr(vit, "blocks"):
        msg = f"{model} is not a ViT with one CLS token and no registers; choose such a model."
        raise EncoderError(msg)
    return vit
