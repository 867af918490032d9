"""Start a model from closed-form statistics of its training data.

With a few hundred pairs, towers that start at random fit the training spots long before they find what carries
over. Here every tower starts from principal axes and every head from the ridge regression onto the axes of
expression, so that training starts at the closed-form floor and can only be worth it by beating it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stamp_index.encoders.axes import leading_axes
from stamp_index.encoders.image_tower import HybridTower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.encoders.model import StampModel
    from trainer.data import TrainingSet

AXES = 32
_CHUNK = 256


def start_from_statistics(model: StampModel, data: TrainingSet, context: int) -> None:
    """Fit the towers' first maps and the three matching heads on the training spots, in closed form.

    A tower that is not frozen underneath (a ViT) keeps its own start.
    """
    model.eval()
    model.gene.init_axes(data.genes.profile, AXES)
    if not isinstance(model.image, HybridTower):
        return
    patches = np.concatenate([np.asarray(part) for part in data.patches])
    regions = np.concatenate([np.asarray(placed[0]) for placed in data.regions])
    model.image.fit_channels(patches, regions)
    target = data.genes.profile @ leading_axes(data.genes.profile, AXES).T  # (n, k)
    x, around = model.image.mean_features(patches), model.image.mean_features(regions)
    _fit_linear(model.image.summary, x, target)
    _fit_linear(model.image.region_summary, around, target)
    tokens = data.genes.tokens[:, :context]
    features = {
        "patch": _features(lambda p: model.image(p).cls, patches),
        "region": _features(lambda r, p: region_cls(model, r, p), regions, patches),
        "gene": _features(model.gene, tokens, data.genes.profile),
    }
    for head, feature in features.items():
        _fit_head(model.heads[head], feature, target)


def region_cls(model: StampModel, region: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """CLS of a region as the model's own configuration reads it."""
    return model.image(region, patch if model.config.region_sees_patch else None).cls


def _features(tower: object, *inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = [
            tower(
                *(torch.from_numpy(np.array(array[at : at + _CHUNK])) for array in inputs)
            ).numpy()  # type: ignore[operator]
            for at in range(0, len(inputs[0]), _CHUNK)
        ]
    return np.concatenate(parts)


def _fit_linear(
    linear: torch.nn.Linear, inputs: NDArray[np.float32], target: NDArray[np.float32]
) -> None:
    """Set the first rows of a linear map to the ridge regression of target (n, k) on inputs (n, c)."""
    from sklearn.linear_model import RidgeCV

    ridge = RidgeCV(np.logspace(1, 5, 9), fit_intercept=False).fit(inputs, target)
    with torch.no_grad():
        linear.weight.normal_(std=1e-3)
        linear.bias.zero_()
        linear.weight[: target.shape[1]] = torch.from_numpy(ridge.coef_.astype(np.float32))


def _fit_head(
    head: torch.nn.Linear, features: NDArray[np.float32], target: NDArray[np.float32]
) -> None:
    """Set the head's first rows to the ridge regression of target (n, k) on features (n, width)."""
    from sklearn.linear_model import RidgeCV

    ridge = RidgeCV(np.logspace(0, 5, 11)).fit(features, target)
    k = min(target.shape[1], head.out_features)
    with torch.no_grad():
        head.weight.normal_(std=1e-3)
        head.bias.zero_()
        head.weight[:k] = torch.from_numpy(ridge.coef_[:k].astype(np.float32))
        head.bias[:k] = torch.from_numpy(ridge.intercept_[:k].astype(np.float32))
