"""Image features of stored patches of 112 um: by an encoder of ours, or by a backbone alone; cached on disk."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.hest_tables import SIDE_PX
from stamp_index.keys import Nums
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.h5ad.elements import DAMAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_BATCH: Final = 128
_TOLERANCE: Final = 0.01  # of a patch's width


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """Makes features of patches.

    Attributes
    ----------
    name, fingerprint : str
        What the features are of; two with the same fingerprint give the same.
    embed : callable
        Maps RGB patches (n, 224, 224, 3), uint8, of 112 um to features (n, d), float32.
    notes : tuple of str
        How the patches were fitted to what the network takes.
    """

    name: str
    fingerprint: str
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    notes: tuple[str, ...] = ()


def checkpoint_features(path: Path | str) -> PatchFeatures:
    """Features by the image side of a checkpoint of ours: its embeddings, without surroundings.

    Parameters
    ----------
    path : path
        Checkpoint folder, or ``published:NAME``.

    Raises
    ------
    EncoderError
        If it cannot be loaded.
    EvaluationError
        If it looks at patches wider than the stored 112 um.
    """
    from stamp_index.encoders import load_encoder
    from stamp_index.encoders.published.locate import resolve_encoder

    encoder = load_encoder(resolve_encoder(path))
    patch = encoder.patch
    if patch.width_um > Nums.PATCH_UM * (1 + _TOLERANCE):
        msg = (
            f"The encoder {encoder.name} looks at patches of {patch.width_um:g} um, but HEST-Benchmark stores "
            f"{Nums.PATCH_UM:g} um and nothing around them. Take an encoder of {Nums.PATCH_UM:g} um or less."
        )
        raise EvaluationError(msg)
    notes = ["Features are the encoder's embeddings, of unit length, after its projection."]
    crop_px = SIDE_PX
    if patch.width_um < Nums.PATCH_UM * (1 - _TOLERANCE):
        crop_px = max(1, round(SIDE_PX * patch.width_um / Nums.PATCH_UM))
        notes.append(
            f"The encoder looks at {patch.width_um:g} um: the middle of each patch of {Nums.PATCH_UM:g} um was cut out, so the "
            "numbers do not compare with published ones."
        )
    if patch.size_px != crop_px:
        notes.append(f"Patches were resampled from {crop_px} to {patch.size_px} px.")
    if getattr(encoder, "sees_regions", True):
        notes.append(
            "The encoder also looks around a patch where it can; here there is only the patch."
        )
    return PatchFeatures(
        encoder.name,
        encoder.fingerprint,
        lambda images: encoder.encode_images(_fitted(images, crop_px, patch.size_px)),
        tuple(notes),
    )


def backbone_features(name: str, weights: str = "") -> PatchFeatures:
    """Features by a pretrained backbone, as it pools them.

    Parameters
    ----------
    name : str
        A name of the registry of backbones, or ``timm:NAME``.
    weights : str
        Local file or folder of weights; nothing is downloaded. May be empty for efficientnet_lite0.

    Raises
    ------
    EncoderError
        If there is no such backbone, or the weights do not fit.
    EvaluationError
        If there are no weights.
    """
    from stamp_index.encoders.backbones import HUB, backbone_spec, load_backbone

    spec = backbone_spec(name)
    packaged = spec.loader == "package"
    if weights == HUB or (not weights and not packaged):
        msg = (
            f"{spec.title} has no weights here, and a benchmark downloads nothing. Download them yourself and give the file: "
            "--weights model.safetensors."
        )
        raise EvaluationError(msg)
    backbone = load_backbone(name, weights=weights).eval()
    notes = [f"Features of {spec.title}, pooled as it does it, in single precision."]
    if spec.image_px != SIDE_PX:
        notes.append(f"Patches were resampled from {SIDE_PX} to {spec.image_px} px.")
    if "resnet50" in spec.architecture:
        notes.append(
            "The published ResNet50 is resnet50.tv_in1k after its third stage (1,024 features), not the whole network."
        )
    return PatchFeatures(
        spec.name,
        _fingerprint(backbone, spec.image_px),
        _backbone_embed(backbone, spec.image_px),
        tuple(notes),
    )


def sample_features(
    features: PatchFeatures,
    path: Path,
    cache: Path,
    *,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """Features (n, d) of all patches of a file, from the cache where they lie there.

    Parameters
    ----------
    features : PatchFeatures
    path : Path
        Dataset ``img`` of shape (n, 224, 224, 3).
    cache : Path
        Folder; made if it is missing, and can be deleted at any time.
    progress : callable, optional
        Called with the number of patches done since the last call.

    Raises
    ------
    EvaluationError
        If the patches cannot be read, or a feature is not finite.
    """
    stat = path.stat()
    asked = f"{features.fingerprint} {path.parent.parent.name} {path.name} {stat.st_size} {stat.st_mtime_ns}"
    held = cache / f"{path.stem}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npy"
    if held.exists():
        found: NDArray[np.float32] = np.load(held, allow_pickle=False)
        if progress is not None:
            progress(len(found))
        return found
    made = _embed_file(features, path, progress)
    cache.mkdir(parents=True, exist_ok=True)
    draft = held.with_name(f"{held.stem}-{uuid.uuid4().hex}.tmp.npy")
    try:
        np.save(draft, made)
        draft.replace(held)
    finally:
        draft.unlink(missing_ok=True)
    return made


def _embed_file(
    features: PatchFeatures, path: Path, progress: Callable[[int], object] | None
) -> NDArray[np.float32]:
    parts = []
    try:
        with open_h5(path) as file:
            images = file["img"]
            for start in range(0, images.shape[0], _BATCH):
                parts.append(features.embed(images[start : start + _BATCH]))
                if progress is not None:
                    progress(len(parts[-1]))
    except DAMAGE as error:
        msg = f"The patches {path} cannot be read ({error}). Copy the file again."
        raise EvaluationError(msg) from error
    made = np.concatenate(parts).astype(np.float32)
    if not np.isfinite(made).all():
        bad = int((~np.isfinite(made).all(axis=1)).sum())
        msg = f"{features.name} gives {bad} patches of {path} features that are not finite. Check its weights."
        raise EvaluationError(msg)
    return made


def _fitted(images: NDArray[np.uint8], crop_px: int, size_px: int) -> NDArray[np.uint8]:
    """Cut the middle out of square images (n, s, s, 3) and resample it to a side of `size_px`."""
    from PIL import Image

    start = (images.shape[1] - crop_px) // 2
    middle = images[:, start : start + crop_px, start : start + crop_px]
    if size_px == crop_px:
        return middle
    # Antialiased, as torchvision resizes pictures.
    resized = [
        np.asarray(Image.fromarray(one).resize((size_px, size_px), Image.Resampling.BILINEAR))
        for one in middle
    ]
    return np.stack(resized)


def _backbone_embed(
    backbone: Any,  # noqa: ANN401 - a Backbone, whose module imports torch
    image_px: int,
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = backbone.to(device)

    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        fitted = np.ascontiguousarray(_fitted(images, images.shape[1], image_px))
        with torch.inference_mode():
            pixels = torch.from_numpy(fitted).to(device)
            pooled: NDArray[np.float32] = backbone(backbone.normal(pixels)).float().cpu().numpy()
        return pooled

    return embed


def _fingerprint(backbone: Any, image_px: int) -> str:  # noqa: ANN401 - a Backbone
    """First 16 hex digits of the SHA-256 over the weights and the size of the images."""
    told = hashlib.sha256(f"{image_px} {backbone.mean.tolist()} {backbone.std.tolist()}".encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        told.update(name.encode())
        told.update(np.ascontiguousarray(tensor.cpu().float().numpy()).tobytes())
    return told.hexdigest()[:16]
