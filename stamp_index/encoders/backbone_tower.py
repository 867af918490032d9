"""Any pretrained network as an image tower, its frozen part run once per image."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.adapt import adapt, merge
from stamp_index.encoders.backbones import backbone_spec, load_backbone
from stamp_index.encoders.image_tower import TowerOutput
from stamp_index.errors import EncoderError
from stamp_index.machine import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH: Final = 8  # per thread on a CPU, where larger batches no longer fit its caches
_BATCH_CUDA: Final = 64
PIXELS: Final = "pixels"


class BackboneTower(nn.Module):
    """A pretrained network, fully trained, frozen, with LoRA, or trained in its last blocks.

    Parameters
    ----------
    patch_px, region_px : int
        Sides of patches and regions; position embeddings are laid out for `patch_px`.
    backbone : str
        A name of the registry (``backbones.toml``), or ``timm:NAME``.
    weights : str
        A local file or folder, ``hub``, or empty: see `load_backbone`. A stored configuration has none.
    train : str
        ``frozen``, ``lora``, ``last`` or ``full``.
    blocks : int
        How many of the last blocks LoRA adapts (0: all) or ``last`` trains.
    rank, alpha, dropout : int, int, float
        Of LoRA; the defaults are SEAL's.
    pool : str
        ``cls``, ``mean``, ``cls+mean``; empty: what the backbone's authors use.
    cache : bool
        True: `prepare` runs the frozen blocks, so that a step runs the others alone. False: `prepare` gives
        pixels, which can be augmented, and frozen blocks run at every step.
    grid : bool
        False, with ``train="frozen"``: `prepare` keeps the pooled feature alone, a few kB per image in place
        of hundreds; the output's tokens are then this one feature.
    checkpointing : bool
        Compute the trained blocks' activations again in the backward pass: less memory, a third more time.
    revision : str
        Branch, tag or commit on the hub.

    Raises
    ------
    EncoderError
        If the backbone cannot be had, or cannot be trained or pooled as asked.

    Notes
    -----
    There is no region mode: nothing can be inserted into a frozen network's sequence that it would know what
    to do with. Recipes that locate a patch in its region take `VitTower` or `HybridTower`.
    """

    region_mode: ClassVar = False

    def __init__(  # noqa: PLR0913 - the keys of a recipe's [model.image_tower]
        self,
        patch_px: int,
        region_px: int,
        *,
        backbone: str,
        weights: str = "",
        train: str = "frozen",
        blocks: int = 1,
        rank: int = 8,
        alpha: int = 8,
        dropout: float = 0.15,
        pool: str = "",
        cache: bool = True,
        grid: bool = True,
        checkpointing: bool = False,
        revision: str = "",
    ) -> None:
        super().__init__()
        spec = backbone_spec(backbone)
        self.name = spec.name
        self.backbone = load_backbone(
            backbone, weights=weights, image_px=patch_px, revision=revision
        )
        self.width = self.backbone.pooled_width(pool)
        self.pool = pool
        if not self.backbone.depth and train in ("lora", "last"):
            msg = (
                f"{backbone} is not a ViT or an EfficientNet and cannot be trained in part; choose "
                'train = "frozen" or "full".'
            )
            raise EncoderError(msg)
        self.adaptation = adapt(
            self.backbone.network,
            train,
            blocks=blocks,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets=spec.lora if train == "lora" else None,
        )
        self.checkpointing = checkpointing
        frozen = train == "frozen"
        self.split = self.backbone.depth if frozen else self.adaptation.first_block
        # With nothing but the patches' embedding frozen, pixels are the smaller thing to keep.
        self.keeps_pixels = not cache or not (self.split or frozen)
        self.keeps_pooled = frozen and cache and not grid
        self._hash = ""
        self.register_load_state_dict_post_hook(_forget_hash)  # type: ignore[no-untyped-call]

    @property
    def prepared_id(self) -> str:
        """Name of what `prepare` gives: backbone, hash of the frozen part's weights, place of the split."""
        if self.keeps_pixels:
            return PIXELS
        self._hash = self._hash or self._frozen_hash()
        kept = f"-{self.pool or 'own'}" if self.keeps_pooled else ""
        return f"{self.name}-{self._hash}-{self._stop()}{kept}"

    def train(self, mode: bool = True) -> BackboneTower:  # noqa: FBT001, FBT002 - as nn.Module.train
        """Set training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        self.adaptation.set_training(self.backbone.network, mode)
        return self

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float16] | NDArray[np.uint8]:
        """Run the frozen part.

        Parameters
        ----------
        images : ndarray of shape (n, s, s, 3), uint8
            RGB.

        Returns
        -------
        ndarray of shape (n, ...)
            States after the last frozen block, float16: (n, t, d) of a ViT, (n, h, w, c) of others, or
            features (n, width) with ``grid=False``. The images themselves if pixels are kept.

        Raises
        ------
        EncoderError
            If an activation does not fit into float16.
        """
        if self.keeps_pixels:
            return images
        if not len(images):
            return self._prepare_batch(np.zeros((1, *images.shape[1:]), np.uint8))[:0]
        cuda = self.backbone.mean.is_cuda
        size = _BATCH_CUDA if cuda else _BATCH
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        if cuda:
            return np.concatenate([self._prepare_batch(batch) for batch in batches])
        # One thread per batch, not many threads per operation: see Trunk.tokens.
        with ThreadPoolExecutor(usable_cores(), initializer=_one_thread) as pool:
            return np.concatenate(list(pool.map(self._prepare_batch, batches)))

    def forward(self, prepared: torch.Tensor, reference: torch.Tensor | None = None) -> TowerOutput:
        """Encode prepared images.

        Parameters
        ----------
        prepared : Tensor of shape (b, ...)
            As `prepare` gives it.
        reference : None
            Only for towers with a region mode.

        Raises
        ------
        EncoderError
            If a reference is given.
        """
        if reference is not None:
            msg = (
                "A backbone tower has no region mode. For a recipe that locates patches in regions choose "
                'kind = "vit" or "hybrid" in [model.image_tower].'
            )
            raise EncoderError(msg)
        if self.keeps_pooled:
            cls = prepared.float()
            return TowerOutput(cls, torch.zeros_like(cls), cls[:, None, None])
        backbone = self.backbone
        if self.keeps_pixels:
            state = self._from_pixels(prepared)
        else:
            state = backbone.unpack(prepared.float())
        if not self._whole():
            state = backbone.run(
                state, self.split, backbone.depth, checkpointing=self.checkpointing
            )
            state = backbone.end(state)
        cls = backbone.pooled(state, self.pool)
        return TowerOutput(cls, torch.zeros_like(cls), backbone.grid(state))

    @property
    def n_blocks(self) -> int:
        """Blocks of the network."""
        return self.backbone.depth

    def merge(self) -> None:
        """Fold LoRA into its layers, in place.

        The weights are then those of a tower with ``train="last"`` and the same `blocks`, whose `prepare` and
        `prepared_id` are the same; stored as such, the model needs no peft.
        """
        merge(self.backbone.network)
        if self.adaptation.mode == "lora":
            self.adaptation = type(self.adaptation)("frozen", self.split, ())
            self.backbone.network.requires_grad_(requires_grad=False)

    def _whole(self) -> bool:
        """Whether the frozen part is the whole network."""
        return self.adaptation.mode == "frozen" and self.split == self.backbone.depth

    def _stop(self) -> str:
        return "end" if self._whole() else str(self.split)

    def _from_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """State at the split, of images (b, s, s, 3)."""
        if self.adaptation.mode == "full":
            return self.backbone.begin(self.backbone.normal(images))
        with torch.no_grad():
            return self._frozen_state(images)

    def _frozen_state(self, images: torch.Tensor) -> torch.Tensor:
        backbone = self.backbone
        state = backbone.run(backbone.begin(backbone.normal(images)), 0, self.split)
        return backbone.end(state) if self._whole() else state

    def _prepare_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.backbone.mean.device)
            state = self._frozen_state(batch)
            if self.keeps_pooled:
                state = self.backbone.pooled(state, self.pool)
            else:
                state = self.backbone.pack(state)
            half = state.half()
            if not torch.isfinite(half).all():
                msg = (
                    f"{self.name} gives activations that float16 cannot hold (or its weights are broken). "
                    "Set cache = false in [model.image_tower]."
                )
                raise EncoderError(msg)
            prepared: NDArray[np.float16] = half.cpu().numpy()
        return prepared

    def _frozen_hash(self) -> str:
        """Hash of the weights and the normalisation that `prepare` rests on."""
        backbone = self.backbone
        digest = hashlib.sha256()
        for statistic in (backbone.mean, backbone.std):
            digest.update(statistic.cpu().numpy().tobytes())
        trained = () if self._whole() else self._after_split()
        for name, tensor in backbone.network.state_dict().items():
            if not name.startswith(trained):
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                flat = tensor.detach().cpu().reshape(-1).contiguous()
                digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:12]

    def _after_split(self) -> tuple[str, ...]:
        """Beginnings of the names of all tensors that run after the split."""
        backbone = self.backbone
        root = next(
            name for name, module in backbone.network.named_modules() if module is backbone.blocks()
        )
        blocks = (f"{root}.{number}." for number in range(self.split, backbone.depth))
        return (*blocks, *(f"{name}." for name in backbone.tail))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _forget_hash(module: Any, _: Any) -> None:  # noqa: ANN401 - torch's own signature
    module._hash = ""
