"""Image towers: patch mode, region mode with the inserted token, and nine region cells.

Every tower follows STAMP's stage-2 vision model (arXiv 2602.13944; Hanminghao/STAMP @78c4fd2,
``_prompt_learner.py``): the sequence is CLS, one inserted token, then the image's tokens. In patch mode the
inserted token is a learned prompt; in region mode it is the patch's own thumbnail, whose output is then
located among the region's nine cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.layers import Block, check_sizes
from stamp_index.encoders.trunk import load_trunk

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TowerOutput:
    """What a tower gives for b images.

    Attributes
    ----------
    cls : Tensor of shape (b, width)
        The image's feature.
    inserted : Tensor of shape (b, width)
        Output at the inserted token; in region mode the patch seen within its region.
    tokens : Tensor of shape (b, h, w, width)
        Outputs of the image's tokens.
    """

    cls: torch.Tensor
    inserted: torch.Tensor
    tokens: torch.Tensor


class ImageTower(Protocol):
    """A tower as the model sees it. `prepare` is frozen, so its result is cached by the trainer."""

    region_mode: ClassVar[bool]  # whether it reads a region beside the inserted token of a patch
    width: int
    prepared_id: str  # names what `prepare` gives; part of fingerprints and of cache files' names

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float16] | NDArray[np.uint8]:
        """Map (n, s, s, 3) images to the tower's fixed inputs (n, h, w, c)."""
        ...

    def __call__(
        self, prepared: torch.Tensor, reference: torch.Tensor | None = None
    ) -> TowerOutput:
        """Encode prepared images; with `reference`, the prepared patches, in region mode."""
        ...


class HybridTower(nn.Module):
    """A small transformer on the grid of a frozen trunk: the default where there is no GPU.

    Parameters
    ----------
    patch_px, region_px : int
        Sides of patches and regions; multiples of 32.
    width, depth, heads : int
        Of the transformer.
    dropout : float
        Inside the blocks.
    token_dropout : float
        Share of image tokens hidden from attention while training.
    feature_dropout : float
        Share of trunk channels zeroed while training.

    Raises
    ------
    ValueError
        If a size or share is impossible.

    Notes
    -----
    The thumbnail of region mode is the mean of the patch's own trunk tokens: STAMP embeds the patch
    shrunk to one ViT cell, which a convolutional trunk has no counterpart for.
    """

    region_mode: ClassVar = True

    def __init__(  # noqa: PLR0913 - the keys of a recipe's [model.image_tower]
        self,
        patch_px: int,
        region_px: int,
        *,
        width: int = 128,
        depth: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
        token_dropout: float = 0.3,
        feature_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes({"width": width, "depth": depth, "heads": heads, "dropout": dropout})
        check_sizes({"token_dropout": token_dropout, "feature_dropout": feature_dropout})
        trunk = load_trunk()
        for size_px in (patch_px, region_px):
            if size_px % trunk.stride_px or size_px < 3 * trunk.stride_px:
                msg = f"An image side is {size_px} px; expected a multiple of 32, at least 96 (three cells)."
                raise ValueError(msg)
        n_patch, n_region = ((px // trunk.stride_px) ** 2 for px in (patch_px, region_px))
        self.width = width
        self.summary_width = trunk.channels
        self.prepared_id = trunk.prepared_id
        self.token_dropout = token_dropout
        self.register_buffer("channel_mean", torch.zeros(trunk.channels))
        self.register_buffer("channel_std", torch.ones(trunk.channels))
        self.project = nn.Linear(trunk.channels, width)
        self.summary = nn.Linear(trunk.channels, width)
        self.reference = nn.Linear(trunk.channels, width)
        self.region_summary = nn.Linear(trunk.channels, width)
        self.cls = nn.Parameter(torch.randn(width) * 0.02)
        self.prompt = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(n_patch, width) * 0.02)
        self.region_position = nn.Parameter(torch.randn(n_region, width) * 0.02)
        self.feature_dropout = nn.Dropout(feature_dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    channel_mean: torch.Tensor
    channel_std: torch.Tensor

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Trunk tokens (n, h, w, c) of RGB images (n, s, s, 3)."""
        return load_trunk().tokens(images)

    def fit_channels(self, *prepared: NDArray[np.float16]) -> None:
        """Standardise channels to the mean and deviation of training tokens, each (n, h, w, c)."""
        flat = np.concatenate([part.reshape(-1, part.shape[-1]) for part in prepared])
        self.channel_mean.copy_(torch.from_numpy(flat.mean(axis=0, dtype=np.float32)))
        self.channel_std.copy_(torch.from_numpy(flat.std(axis=0, dtype=np.float32) + 1e-3))

    def forward(self, prepared: torch.Tensor, reference: torch.Tensor | None = None) -> TowerOutput:
        """Encode trunk tokens (b, h, w, c); `reference` (b, h, w, c) turns region mode on."""
        b, h, w, _ = prepared.shape
        x = self._standard(prepared).flatten(1, 2)  # (b, t, c)
        # A channel is hidden in all tokens of an image: from its neighbours' it could be guessed.
        x = x * self.feature_dropout(torch.ones_like(x[:, :1]))
        mean = x.mean(1)  # (b, c)
        # CLS starts from the mean token: with a few hundred pairs attention alone never finds it.
        if reference is None:
            # A region without its patch's thumbnail comes this way too, and has positions of its own.
            position = self.position if h * w == len(self.position) else self.region_position
            cls = self.cls + self.summary(mean)  # (b, width)
            inserted = self.prompt.expand(b, -1)
        else:
            position = self.region_position
            thumbnail = self.feature_dropout(self._standard(reference).mean((1, 2)))  # (b, c)
            cls = self.cls + self.region_summary(mean)
            inserted = self.reference(thumbnail)
        tokens = self.project(x) + position  # (b, t, width)
        sequence = torch.cat([cls[:, None], inserted[:, None], tokens], dim=1)  # (b, 2 + t, width)
        keep = self._keep(sequence)
        for block in self.blocks:
            sequence = block(sequence, keep)
        sequence = self.norm(sequence)
        return TowerOutput(
            sequence[:, 0], sequence[:, 1], sequence[:, 2:].reshape(b, h, w, self.width)
        )

    def summarise(self, prepared: torch.Tensor) -> torch.Tensor:
        """Standardised mean token (b, c) of trunk tokens (b, h, w, c), for a direct path into the space."""
        mean: torch.Tensor = self._standard(prepared).mean((1, 2))
        return mean

    def _standard(self, prepared: torch.Tensor) -> torch.Tensor:
        return (prepared.float() - self.channel_mean) / self.channel_std

    def _keep(self, sequence: torch.Tensor) -> torch.Tensor | None:
        if not self.training or self.token_dropout <= 0:
            return None
        keep = torch.rand(sequence.shape[:2], device=sequence.device) >= self.token_dropout
        keep[:, :2] = True  # CLS and the inserted token are always there
        return keep


def pool_cells(tokens: torch.Tensor) -> torch.Tensor:
    """Mean token of each of the nine cells of a region.

    Parameters
    ----------
    tokens : Tensor of shape (b, n, n, d)
        Square token grid, n at least 3.

    Returns
    -------
    Tensor of shape (b, 9, d)
        Cells in reading order.

    Notes
    -----
    Windows of ``n - 2 * (n // 3)`` tokens every ``n // 3``: for n = 14 STAMP's 6 x 6 every 4. The released
    code scrambles cells with channels after pooling (``view`` without ``permute``); this does not.
    """
    side = tokens.shape[1]
    stride = side // 3
    window = side - 2 * stride
    pooled = nn.functional.avg_pool2d(tokens.permute(0, 3, 1, 2), window, stride)  # (b, d, 3, 3)
    return pooled.flatten(2).transpose(1, 2)  # (b, 9, d)
