"""Image networks with one interface: begin, run some blocks, end, pool.

The blocks in between can be split, so that the frozen ones run once per image and the trained ones at every
step. Images are (b, 3, s, s), normalised; a state is what flows between two blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Iterable

POOLS: Final = ("cls", "mean", "cls+mean")


class Normalisation(NamedTuple):
    """Mean and standard deviation of pixels in [0, 1], per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone(nn.Module, ABC):
    """A pretrained network that gives an image's feature and its grid of tokens.

    Attributes
    ----------
    network : nn.Module
        The timm model.
    width, token_width : int
        Length of the pooled feature and of a token.
    depth : int
        Number of blocks that a run can be split between; 0 if it cannot be split.
    tail : tuple of str
        Names in `network` of what runs after the last block.
    poolings : tuple of str
        Names that `pooled` knows.
    """

    network: Any
    depth: int = 0
    tail: tuple[str, ...] = ()
    poolings: tuple[str, ...] = ()
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.width = 0
        self.token_width = 0
        for name, values in normalisation._asdict().items():
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def normal(self, images: torch.Tensor) -> torch.Tensor:
        """Map RGB images (b, s, s, 3) in [0, 255] to normalised ones (b, 3, s, s), float32."""
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def blocks(self) -> nn.Sequential:
        """Blocks in order; `depth` of them."""
        blocks: nn.Sequential = self.network.blocks
        return blocks

    @abstractmethod
    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images to the state before the first block."""

    def run(
        self, state: torch.Tensor, start: int, stop: int, *, checkpointing: bool = False
    ) -> torch.Tensor:
        """Run blocks `start` to `stop` (not included), keeping activations or computing them again."""
        if start < stop:
            state = run_blocks(list(self.blocks())[start:stop], state, checkpointing=checkpointing)
        return state

    @abstractmethod
    def end(self, state: torch.Tensor) -> torch.Tensor:
        """Map the state after the last block to final features."""

    @abstractmethod
    def pooled(self, features: torch.Tensor, pool: str = "") -> torch.Tensor:
        """Pool final features to (b, width); `pool` overrides the backbone's own way."""

    @abstractmethod
    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """Lay final features out as image tokens (b, h, w, token_width)."""

    def pooled_width(self, pool: str = "") -> int:
        """Length of what `pooled` gives.

        Raises
        ------
        EncoderError
            If the backbone does not know that pooling.
        """
        if not pool:
            return self.width
        if pool not in self.poolings:
            known = ", ".join(self.poolings) or "its own alone"
            msg = f"{type(self.network).__name__} cannot be pooled by {pool!r}; expected {known}."
            raise EncoderError(msg)
        return self.token_width * (2 if pool == "cls+mean" else 1)

    def pack(self, state: torch.Tensor) -> torch.Tensor:
        """Lay a state out for storage; the inverse of `unpack`."""
        return state

    def unpack(self, stored: torch.Tensor) -> torch.Tensor:
        """Lay a stored state out for `run`, `end`, `pooled` and `grid`."""
        return stored

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Run everything on normalised images."""
        return self.end(self.run(self.begin(images), 0, self.depth))

    def tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map normalised images (b, 3, s, s) to features (b, width) and tokens (b, h, w, token_width)."""
        features = self.features(images)
        return self.pooled(features), self.grid(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (b, 3, s, s) to features (b, width)."""
        return self.pooled(self.features(images))


class VitBackbone(Backbone):
    """A timm `VisionTransformer`; a state is the sequence CLS, registers, image tokens.

    Parameters
    ----------
    network : nn.Module
    normalisation : Normalisation
    pool : str
        ``cls``, ``mean`` (of image tokens), ``cls+mean``, or ``own``: as timm's head does it.
    """

    tail = ("norm", "fc_norm", "attn_pool")

    def __init__(self, network: nn.Module, normalisation: Normalisation, pool: str) -> None:
        super().__init__(network, normalisation)
        self.pool = pool
        vit = self.vit
        self.depth = len(vit.blocks)
        self.token_width = int(vit.embed_dim)
        self.poolings = POOLS if vit.cls_token is not None else ("mean",)
        own = pool not in POOLS
        self.width = int(vit.num_features) if own else self.pooled_width(pool)

    @property
    def vit(self) -> Any:  # noqa: ANN401
        """The transformer itself."""
        return self.network

    def blocks(self) -> nn.Sequential:
        """Blocks of the transformer, in order."""
        blocks: nn.Sequential = self.vit.blocks
        return blocks

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """Embed patches and positions: (b, prefix + h w, d)."""
        vit = self.vit
        check_divisible(images, int(vit.patch_embed.patch_size[0]))
        state: torch.Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return state

    def end(self, state: torch.Tensor) -> torch.Tensor:
        """Apply the final norm."""
        features: torch.Tensor = self.vit.norm(state)
        return features

    def pooled(self, features: torch.Tensor, pool: str = "") -> torch.Tensor:
        """Pool the sequence (b, prefix + h w, d)."""
        pool = pool or self.pool
        if pool not in POOLS:
            own: torch.Tensor = self.vit.forward_head(features, pre_logits=True)
            return own
        parts = {"cls": features[:, 0], "mean": features[:, self.vit.num_prefix_tokens :].mean(1)}
        return torch.cat([parts[name] for name in pool.split("+")], dim=-1)

    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """Image tokens of a square image."""
        return square(features[:, self.vit.num_prefix_tokens :])


class AttentionPool(nn.Module):
    """CONCH's pooling for comparison with text: one learned query attends to all tokens.

    Parameters
    ----------
    width, token_width : int
        Of the output and of the tokens.
    heads : int
        As published, 8.

    Notes
    -----
    Layer norms around attention as in open_clip's attentional pooler, one more after it; CONCH's projection
    that follows is left out, as UMPIRE and SEAL do.
    """

    def __init__(self, width: int, token_width: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width) * 0.02)
        self.attn = nn.MultiheadAttention(
            width, heads, kdim=token_width, vdim=token_width, batch_first=True
        )
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(token_width)
        self.ln_contrast = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (b, t, token_width) to (b, width)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), 1, -1)
        attended = self.attn(query, keys, keys, need_weights=False)[0][:, 0]
        out: torch.Tensor = self.ln_contrast(attended)
        return out


class ConchBackbone(VitBackbone):
    """CONCH's image side: a ViT with an attention pool."""

    tail = ("trunk.norm", "trunk.fc_norm", "pool")

    def __init__(self, trunk: nn.Module, pool: AttentionPool, normalisation: Normalisation) -> None:
        super().__init__(nn.ModuleDict({"trunk": trunk, "pool": pool}), normalisation, "cls")
        self.width = pool.query.shape[1]
        self.pool = "attention"

    @property
    def vit(self) -> Any:  # noqa: ANN401
        """The transformer without its pool."""
        return self.network["trunk"]

    def pooled(self, features: torch.Tensor, pool: str = "") -> torch.Tensor:
        """Pool the sequence, by attention unless `pool` says otherwise."""
        if pool:
            return super().pooled(features, pool)
        out: torch.Tensor = self.network["pool"](features)
        return out


class EfficientNetBackbone(Backbone):
    """A timm `EfficientNet`; a state is a feature map (b, c, h, w), its blocks are block groups.

    Parameters
    ----------
    network : nn.Module
    normalisation : Normalisation
    head : bool
        False: features are the last block's output, without the convolution to 1280 channels.
    """

    tail = ("conv_head", "bn2")
    poolings = ("mean",)

    def __init__(
        self, network: nn.Module, normalisation: Normalisation, *, head: bool = True
    ) -> None:
        super().__init__(network, normalisation)
        self.head = head
        self.depth = len(self.network.blocks)
        channels = self.network.num_features if head else self.network.feature_info[-1]["num_chs"]
        self.width = self.token_width = int(channels)

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """Run the stem."""
        network = self.network
        # Channels last is a third faster on CPUs, and convolutions keep it.
        images = images.contiguous(memory_format=torch.channels_last)
        state: torch.Tensor = network.bn1(network.conv_stem(images))
        return state

    def end(self, state: torch.Tensor) -> torch.Tensor:
        """Run the last convolution, where there is one."""
        if not self.head:
            return state
        features: torch.Tensor = self.network.bn2(self.network.conv_head(state))
        return features

    def pooled(self, features: torch.Tensor, pool: str = "") -> torch.Tensor:
        """Mean over the map."""
        self.pooled_width(pool)
        return features.mean((2, 3))

    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """Cells of the map."""
        return features.permute(0, 2, 3, 1)

    def pack(self, state: torch.Tensor) -> torch.Tensor:
        """To (b, h, w, c)."""
        return state.permute(0, 2, 3, 1)

    def unpack(self, stored: torch.Tensor) -> torch.Tensor:
        """To (b, c, h, w)."""
        return stored.permute(0, 3, 1, 2)


class PlainBackbone(Backbone):
    """Any other timm model, which runs whole: features are its own, in its own layout."""

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__(network, normalisation)
        known = self.network
        self.token_width = int(known.num_features)
        self.width = int(getattr(known, "head_hidden_size", None) or known.num_features)

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """Run everything before the head."""
        state: torch.Tensor = self.network.forward_features(images)
        return state

    def end(self, state: torch.Tensor) -> torch.Tensor:
        """Nothing is left to run."""
        return state

    def pooled(self, features: torch.Tensor, pool: str = "") -> torch.Tensor:
        """Pool as the model's own head does."""
        self.pooled_width(pool)
        out: torch.Tensor = self.network.forward_head(features, pre_logits=True)
        return out

    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """Image tokens, whichever way the model lays them out."""
        if features.dim() == 3:  # (b, prefix + t, c)
            return square(features[:, getattr(self.network, "num_prefix_tokens", 0) :])
        channels_last = features.shape[-1] == self.token_width
        return features if channels_last else features.permute(0, 2, 3, 1)


def run_blocks(
    blocks: Iterable[nn.Module], state: torch.Tensor, *, checkpointing: bool = False
) -> torch.Tensor:
    """Run blocks one after the other; with `checkpointing`, compute activations again in the backward pass."""
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            state = checkpoint(block, state, use_reentrant=False)
        else:
            state = block(state)
    return state


def square(tokens: torch.Tensor) -> torch.Tensor:
    """Lay tokens (b, t, d) of a square image out as (b, h, w, d)."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.reshape(len(tokens), side, side, tokens.shape[-1])


def check_divisible(images: torch.Tensor, patch_px: int) -> None:
    """Refuse images (b, 3, s, s) whose side is no multiple of a ViT's patch.

    Raises
    ------
    EncoderError
        With the sides that would do.
    """
    side = images.shape[-1]
    if side % patch_px:
        below = side // patch_px * patch_px
        msg = (
            f"Images of {side} px cannot be cut into patches of {patch_px} px. Choose "
            f"{below or patch_px} or {below + patch_px} px."
        )
        raise EncoderError(msg)
