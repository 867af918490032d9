"""Start a model from closed-form statistics of its training data.

With a few hundred pairs, towers that start at random fit the training spots long before they find what carries
over. Here the model's direct paths start at a shrunk canonical correlation analysis of the training pairs, and the
towers with a share of zero: training starts at the closed-form encoder and adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.linear_maps import ridge_map, shrunk_cca, shrunk_components
from stamp_index.encoders.model import Inputs
from trainer.images import CachedImages
from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.encoders.direct import DirectPath
    from stamp_index.encoders.linear_maps import LinearMap
    from stamp_index.encoders.model import AlignModel
    from trainer.data import TrainingSet

# A few hundred pairs want canonical scores of images, thousands their regression on those of genes: recall@10 on
# HER2ST C2 (364 pairs) .80 / .80 against .74 / .76, R@1 % on the phantom (4,800 pairs) .30 / .28 against .32 / .36.
_MANY_SPOTS: Final = 2000
_LEAST_LENGTH: Final = 1e-9


def standardise_channels(model: AlignModel, data: TrainingSet) -> None:
    """Fit the channel statistics of hybrid towers on the training images, whatever the start."""
    if not isinstance(data.images, CachedImages):
        return
    for side, images in (("patch", data.images.some_patches), ("region", data.images.some_regions)):
        if side in model.config.sides and isinstance(model.tower_of(side), HybridTower):
            shared = side == "region" and model.tower_of("region") is model.tower_of("patch")
            both = [data.images.some_patches(), images()] if shared else [images()]
            model.tower_of(side).fit_channels(*both)


def start_from_statistics(model: AlignModel, data: TrainingSet) -> None:
    """Fit the direct paths of `model` on the training spots, in closed form, and silence its towers.

    Raises
    ------
    RecipeError
        If the model has no direct paths, or its images are not cached features.
    """
    if "gene" not in model.direct or not isinstance(data.images, CachedImages):
        msg = (
            'start = "closed_form" needs [model.direct] and an image tower with a frozen trunk (hybrid); this recipe '
            'has another. Use start = "random".'
        )
        raise RecipeError(msg)
    model.eval()
    views = _views(model, data.images, data)
    paths: dict[str, Any] = dict(model.direct.items())
    searched = "image" if "image" in paths else "patch"
    images, genes = (_compressed(paths[side], views[side]) for side in (searched, "gene"))
    x_map, y_map = shrunk_cca(images, genes, model.config.dim)
    targets = y_map(genes)
    if len(images) >= _MANY_SPOTS:
        x_map = ridge_map(images, targets)
    _set(paths["gene"].linear, y_map, genes)
    _set(paths[searched].linear, x_map, images)
    for side in views.keys() - {searched, "gene"}:
        # Each by itself, so that a patch without its region is embedded as well as it can be.
        rows = _compressed(paths[side], views[side])
        _set(paths[side].linear, ridge_map(rows, targets), rows)
    with torch.no_grad():
        for gate in model.gates.values():
            gate.zero_()


def _views(
    model: AlignModel, cached: CachedImages, data: TrainingSet
) -> dict[str, NDArray[np.float32]]:
    """Summaries (n, w) of all training spots that direct paths start from."""
    means = {"patch": cached.mean_patches()}
    if data.centre is not None:
        means["region"] = data.centre
    views = {side: _summaries(model, side, mean) for side, mean in means.items()}
    if "image" in model.direct:
        views["image"] = np.concatenate([views["patch"], views["region"]], axis=1)
    views["gene"] = data.genes.profile
    if "niche" in model.direct:
        views["niche"] = data.genes.niche
    return views


def _compressed(path: DirectPath, view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit a path's components on a view (n, w); the view's components (n, k)."""
    fitted = shrunk_components(view, path.axes.shape[1])
    path.fit_axes(fitted.mean, fitted.axes)
    components: NDArray[np.float32] = fitted(view)
    return components


def _summaries(model: AlignModel, side: str, means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Summaries (n, w) of images by their mean features (n, c): as of grids of one cell."""
    device = next(model.parameters()).device
    prepared = torch.from_numpy(means[:, None, None]).to(device)
    with torch.inference_mode():
        found: NDArray[np.float32] = model.summary(side, Inputs(**{side: prepared})).cpu().numpy()
    return found


def _set(linear: nn.Linear, fitted: LinearMap, rows: NDArray[np.float32]) -> None:
    """Take over a fitted map, scaled to embeddings of `rows` of mean length one; what is beyond it stays silent."""
    n, k = fitted.weight.shape
    length = max(float(np.linalg.norm(fitted(rows), axis=1).mean()), _LEAST_LENGTH)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.weight[:k, :n] = torch.from_numpy(fitted.weight.T / length)
        linear.bias[:k] = torch.from_numpy(fitted.bias / length)
