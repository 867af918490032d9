"""A ResNet for images of a few dozen pixels, from random weights: ST-Align's tower for a single spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import nn
from torch.nn import functional

from stamp_index.encoders.backbone_tower import PIXELS
from stamp_index.encoders.backbones import IMAGENET
from stamp_index.encoders.image_tower import TowerOutput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Blocks of the four stages, and whether they are bottlenecks (He et al., arXiv 1512.03385, table 1).
_DEPTHS: Final = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}
_EXPANSION: Final = 4  # a bottleneck's output is four times as wide as its inside


class ResidualBlock(nn.Module):
    """Basic (two 3 x 3) or bottleneck (1 x 1, 3 x 3, 1 x 1) block with a projected shortcut where needed.

    Parameters
    ----------
    channels, inner : int
        Channels that come in, and inside the block.
    stride : int
        Of the (first) 3 x 3 convolution and of the shortcut.
    bottleneck : bool
        True: three convolutions with `inner` * 4 channels out. False: two, with `inner` out.
    """

    def __init__(self, channels: int, inner: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = inner * _EXPANSION if bottleneck else inner
        if bottleneck:
            plan = [(channels, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        else:
            plan = [(channels, inner, 3, stride), (inner, out, 3, 1)]
        layers: list[nn.Module] = []
        for before, after, size, step in plan:
            layers += [*_conv(before, after, size, step), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(*layers[:-1])  # the last ReLU follows the sum
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(channels, out, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, channels, h, w) to (b, out, h / stride, w / stride)."""
        return functional.relu(self.residual(x) + self.shortcut(x))


class SmallResNet(nn.Module):
    """ResNet with a 3 x 3 stem of stride 1 and no pooling after it, as used on CIFAR.

    ST-Align's AE-Img (arXiv 2411.16793; dumbgoos/ST-Align @738da0b): ResNet-50 from scratch on 28-px images
    of single spots, 512 out. Its released code feeds pixels in [0, 255] with height and width swapped;
    here they are normalised by ImageNet's mean and deviation, and upright.

    Parameters
    ----------
    patch_px : int
        Side of the images.
    region_px : int
        Side of regions, which this tower does not read.
    depth : {18, 34, 50}
        50 as published; 18 takes a third of the multiplications.
    width : int
        Length of a feature: a linear map of the pooled channels.
    base : int
        Channels of the stem; the stages have 1, 2, 4 and 8 times as many. 64 as published.

    Raises
    ------
    ValueError
        For an unknown depth, a base that is no multiple of 8, an image below 8 px (three halvings must leave a pixel), and when asked for
        region mode.

    Notes
    -----
    BatchNorm couples the spots of a batch while training: gradients cached in chunks, or on several
    processes without SyncBatchNorm, differ from those of the whole batch.
    """

    region_mode: ClassVar = False

    def __init__(
        self,
        patch_px: int,
        region_px: int = 0,
        *,
        depth: int = 50,
        width: int = 512,
        base: int = 64,
    ) -> None:
        super().__init__()
        if depth not in _DEPTHS:
            known = ", ".join(map(str, _DEPTHS))
            msg = f"depth of the small ResNet is {depth}; expected one of {known}."
            raise ValueError(msg)
        if patch_px < 8:
            msg = f"The patch is {patch_px} px; the small ResNet halves it three times and needs at least 8."
            raise ValueError(msg)
        if base < 8 or base % 8:
            # Below that oneDNN's backward pass on a CPU corrupts memory (torch 2.13).
            msg = f"base of the small ResNet is {base}; expected a multiple of 8."
            raise ValueError(msg)
        self.width = width
        self.prepared_id = PIXELS
        self.stem = nn.Sequential(*_conv(3, base, 3, 1), nn.ReLU(inplace=True))
        self.stages, channels = _stages(depth, base)
        self.linear = nn.Linear(channels, width)
        for name, values in IMAGENET._asdict().items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    mean: torch.Tensor
    std: torch.Tensor

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels themselves (n, s, s, 3): nothing of a network that is trained can be cached."""
        return images

    def forward(self, prepared: torch.Tensor, reference: torch.Tensor | None = None) -> TowerOutput:
        """Encode images (b, s, s, 3) in [0, 255]; the inserted token is the image's own feature."""
        if reference is not None:
            msg = (
                "The small ResNet has no region mode: it cannot read a region beside a patch. Give the "
                "recipe a [model.region_tower], or another image tower."
            )
            raise ValueError(msg)
        x = (prepared.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        x = self.stages(self.stem(x)).permute(0, 2, 3, 1)  # (b, h, w, channels)
        tokens = self.linear(x)  # (b, h, w, width)
        cls = tokens.mean((1, 2))  # the same as the map of the mean: the map is affine
        return TowerOutput(cls, cls, tokens)


def _stages(depth: int, base: int) -> tuple[nn.Sequential, int]:
    """Four stages, each after the first halving the side, and the channels that come out."""
    blocks, bottleneck = _DEPTHS[depth]
    stages: list[nn.Module] = []
    channels = base
    for number, n_blocks in enumerate(blocks):
        inner = base * 2**number
        for block in range(n_blocks):
            stride = 2 if number and not block else 1
            stages.append(ResidualBlock(channels, inner, stride=stride, bottleneck=bottleneck))
            channels = inner * _EXPANSION if bottleneck else inner
    return nn.Sequential(*stages), channels


def _conv(before: int, after: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Convolution without bias and its BatchNorm."""
    return (
        nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(after),
    )
