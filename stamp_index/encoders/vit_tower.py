"""STAMP's vision model on any ViT: one token inserted after CLS, in patch and in region mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from stamp_index.encoders.adapt import adapt, merge
from stamp_index.encoders.backbone_networks import (
    ConchBackbone,
    Normalisation,
    VitBackbone,
    run_blocks,
    square,
)
from stamp_index.encoders.backbone_tower import PIXELS
from stamp_index.encoders.backbones import IMAGENET, TIMM, backbone_spec, load_backbone, registry
from stamp_index.encoders.image_tower import TowerOutput
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VitTower(nn.Module):
    """STAMP's vision model on a ViT.

    Parameters
    ----------
    patch_px, region_px : int
        Sides of patches and regions; multiples of the ViT's patch, best the same. Position embeddings are
        laid out for `patch_px` and interpolated for another `region_px`.
    model : str
        A ViT of the registry (``uni``, ``h-optimus-0``, ...) or of timm (``vit_large_patch16_224``; images
        are then normalised by ImageNet's statistics, as STAMP does for UNI, and with ``timm:`` before the
        name by the model's own).
    weights : str
        A local file or folder, ``hub``, or empty for random weights: see `load_backbone`.
    train : str
        What of the ViT is trained: ``full``, ``frozen``, ``lora`` or ``last``. The prompt and the reference's
        projection always are.
    blocks : int
        How many of the last blocks LoRA adapts (0: all) or ``last`` trains.
    rank, alpha, dropout : int, int, float
        Of LoRA; the defaults are SEAL's.
    checkpointing : bool
        Compute activations again in the backward pass: less memory, a third more time.
    revision : str
        Branch, tag or commit on the hub: see `load_backbone`.
    trainable : bool
        Older spelling in stored configurations: False is ``train="frozen"``.

    Raises
    ------
    EncoderError
        If the model is no ViT with a CLS token, or cannot be had or trained as asked.

    Notes
    -----
    The inserted token stands right after CLS, before registers (STAMP's released ``_prompt_learner.py``; its
    UNI has no registers). It attends in every block, so no part of a frozen ViT can be run ahead.
    """

    region_mode: ClassVar = True

    def __init__(  # noqa: PLR0913 - the keys of a recipe's [model.image_tower]
        self,
        patch_px: int,
        region_px: int,
        *,
        model: str,
        weights: str = "",
        train: str = "full",
        blocks: int = 1,
        rank: int = 8,
        alpha: int = 8,
        dropout: float = 0.15,
        checkpointing: bool = False,
        revision: str = "",
        trainable: bool = True,
    ) -> None:
        super().__init__()
        plain = model.lower() not in registry() and not model.startswith(TIMM)
        name = f"{TIMM}{model}" if plain else model
        spec = backbone_spec(name)
        backbone = load_backbone(name, weights=weights, image_px=patch_px, revision=revision)
        check_vit(backbone, model)
        if spec.patch_px and region_px % spec.patch_px:
            msg = f"Regions of {region_px} px cannot be cut into patches of {spec.patch_px} px."
            raise EncoderError(msg)
        self.vit: Any = backbone.network
        self.adaptation = adapt(
            self.vit,
            train if trainable else "frozen",
            blocks=blocks,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets=spec.lora if train == "lora" else None,
        )
        self.checkpointing = checkpointing
        self.width = int(self.vit.embed_dim)
        self.prepared_id = PIXELS
        self.prompt = nn.Parameter(torch.randn(1, 1, self.width) * 0.02)
        self.reference = nn.Linear(self.width, self.width)
        # STAMP normalises for UNI by ImageNet's statistics (arXiv 2602.13944, released code).
        normalisation = IMAGENET if plain else Normalisation(spec.mean, spec.std)
        for statistic, values in normalisation._asdict().items():
            self.register_buffer(statistic, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    mean: torch.Tensor
    std: torch.Tensor

    def train(self, mode: bool = True) -> VitTower:  # noqa: FBT001, FBT002 - as nn.Module.train
        """Set training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        self.adaptation.set_training(self.vit, mode)
        return self

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels themselves: the inserted token reaches every block, so nothing can be cached."""
        return images

    def forward(self, prepared: torch.Tensor, reference: torch.Tensor | None = None) -> TowerOutput:
        """Encode images (b, s, s, 3) in [0, 255]; `reference`, the patches, turns region mode on."""
        vit = self.vit
        x = vit._pos_embed(vit.patch_embed(self._normal(prepared)))  # (b, prefix + t, width)
        if reference is None:
            inserted = self.prompt.expand(len(x), -1, -1)
        else:
            inserted = self.reference(self._thumbnail(reference))
        x = torch.cat([x[:, :1], inserted, x[:, 1:]], dim=1)
        x = vit.norm(run_blocks(vit.blocks, vit.norm_pre(x), checkpointing=self.checkpointing))
        tokens = x[:, 1 + vit.num_prefix_tokens :]  # (b, t, width)
        return TowerOutput(x[:, 0], x[:, 1], square(tokens))

    @property
    def n_blocks(self) -> int:
        """Blocks of the network."""
        return len(self.vit.blocks)

    def merge(self) -> None:
        """Fold LoRA into its layers, in place; the weights are then those of ``train="last"``."""
        merge(self.vit)
        if self.adaptation.mode == "lora":
            self.adaptation = adapt(self.vit, "frozen")

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


def check_vit(backbone: Any, model: str) -> None:  # noqa: ANN401
    """Refuse what STAMP's token cannot be inserted into.

    Raises
    ------
    EncoderError
        If the backbone is no ViT, has no CLS token, or pools by attention.
    """
    plain = isinstance(backbone, VitBackbone) and not isinstance(backbone, ConchBackbone)
    if plain and backbone.vit.cls_token is not None:
        return
    msg = (
        f"{model} is not a ViT with a CLS token, which this tower inserts its own token after. Choose such a "
        'model, or kind = "backbone" in [model.image_tower].'
    )
    raise EncoderError(msg)
