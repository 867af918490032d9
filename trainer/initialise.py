"""Start a model from closed-form statistics of its training data.

With a few hundred pairs, towers that start at random fit the training spots long before they find what carries
over. Here the model's direct linear paths start at the shrunk canonical correlation analysis of the training
pairs, and the heads of the towers at zero: training starts at the closed-form encoder and adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.linear_maps import ridge_map, shrunk_cca
from trainer.images import CachedImages
from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.encoders.linear_maps import LinearMap
    from stamp_index.encoders.model import AlignModel
    from trainer.data import TrainingSet

_CHUNK: Final = 256


def standardise_channels(model: AlignModel, data: TrainingSet) -> None:
    """Fit the channel statistics of hybrid towers on the training images, whatever the start."""
    if not isinstance(data.images, CachedImages):
        return
    for side, images in (("patch", data.images.all_patches), ("region", data.images.all_regions)):
        if side in model.config.sides and isinstance(model.tower_of(side), HybridTower):
            shared = side == "region" and model.tower_of("region") is model.tower_of("patch")
            both = [data.images.all_patches(), images()] if shared else [images()]
            model.tower_of(side).fit_channels(*both)


def start_from_statistics(model: AlignModel, data: TrainingSet) -> None:
    """Fit the direct paths of `model` on the training spots, in closed form, and silence its heads.

    Raises
    ------
    RecipeError
        If the model has no direct paths, or its images are not cached features.
    """
    if "gene" not in model.direct or not isinstance(data.images, CachedImages):
        msg = (
            'start = "closed_form" needs model.direct = true and an image tower with a frozen trunk (hybrid); this '
            'recipe has another. Use start = "random".'
        )
        raise RecipeError(msg)
    model.eval()
    images = {"patch": data.images.all_patches()}
    if "region" in model.config.sides:
        images["region"] = data.images.all_regions()
    features = {side: _summaries(model, side, image) for side, image in images.items()}
    profile = data.genes.profile
    _, genes = shrunk_cca(
        np.concatenate(list(features.values()), axis=1), profile, model.config.dim
    )
    _set(model.direct["gene"], genes)
    scores = genes(profile)
    for side, feature in features.items():
        # Each side by itself, so that a patch without its region is embedded as well as it can be.
        _set(model.direct[side], ridge_map(feature, scores))
    if "image" in model.direct:
        _set(
            model.direct["image"],
            ridge_map(np.concatenate(list(features.values()), axis=1), scores),
        )
    with torch.no_grad():
        for side in (*features, "gene"):
            for first in [m for m in model.heads[side].modules() if isinstance(m, nn.Linear)][:1]:
                first.weight.zero_()
                first.bias.zero_()


def _summaries(model: AlignModel, side: str, images: NDArray[np.generic]) -> NDArray[np.float32]:
    device = model.direct["gene"].weight.device
    with torch.inference_mode():
        parts = [
            model.summary(side, torch.from_numpy(np.array(images[at : at + _CHUNK])).to(device))
            .cpu()
            .numpy()
            for at in range(0, len(images), _CHUNK)
        ]
    return np.concatenate(parts)


def _set(linear: nn.Linear, fitted: LinearMap) -> None:
    """First outputs of a layer from a fitted map; any others stay silent."""
    k = fitted.weight.shape[1]
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.weight[:k] = torch.from_numpy(fitted.weight.T)
        linear.bias[:k] = torch.from_numpy(fitted.bias)
