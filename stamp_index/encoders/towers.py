"""Every kind of tower by the name that a recipe gives it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from stamp_index.encoders.backbone_tower import BackboneTower
from stamp_index.encoders.backbones import TIMM, find_weights, registry
from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.layers import check_sizes
from stamp_index.encoders.niche_tower import NicheTransformer
from stamp_index.encoders.profile_tower import ProfileTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.encoders.settings import check_settings
from stamp_index.encoders.small_resnet import SmallResNet
from stamp_index.encoders.vae_tower import VaeTower
from stamp_index.encoders.vit_tower import VitTower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

IMAGE_TOWERS: Final[dict[str, Any]] = {
    "hybrid": HybridTower,
    "vit": VitTower,
    "backbone": BackboneTower,
    "resnet_cifar": SmallResNet,
}
GENE_TOWERS: Final[dict[str, Any]] = {
    "rank_profile": GeneTower,
    "rank": RankTransformer,
    "profile": ProfileTower,
    "vae": VaeTower,
    "niche_transformer": NicheTransformer,
}

_ANY: Final = (object, "anything")
# By annotation: what a setting may be. Numbers are left to `check_sizes`.
_TYPES: Final[dict[str, tuple[Any, str]]] = {
    "str": (str, "text in quotes"),
    "bool": (bool, "true or false"),
    "Sequence[int]": ((list, tuple), "a list of whole numbers"),
}

# By the name of a tower: what it is chosen from, and what it is given beside its section.
_TOWERS: Final = {
    "image": (IMAGE_TOWERS, ("patch_px", "region_px")),
    "region": (IMAGE_TOWERS, ("patch_px", "region_px")),
    "gene": (GENE_TOWERS, ("n_genes", "n_scales")),
    "niche": (GENE_TOWERS, ("n_genes", "n_scales")),
}


def check_tower(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse an unknown kind of tower, and settings that the kind does not know, lacks or cannot have.

    Parameters
    ----------
    name : {"image", "region", "gene", "niche"}
        Which tower of a model.
    settings : mapping
        Its section: ``kind`` and its keywords.

    Raises
    ------
    ValueError
        Naming the section and the known kinds or settings.
    """
    kinds, filled = _TOWERS[name]
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        msg = f"Unknown {name} tower {kind!r}; expected one of {', '.join(kinds)}."
        raise ValueError(msg)
    what = f"The {kind} tower of [model.{name}_tower]"
    check_settings(what, settings, kinds[kind], filled=filled)
    check_values(f"model.{name}_tower", settings, kinds[kind])


def check_values(section: str, settings: Mapping[str, Any], maker: Callable[..., Any]) -> None:
    """Refuse values of another type than `maker` takes, and sizes that cannot be.

    Parameters
    ----------
    section : str
        Where they stand, for the message: ``model.image_tower``.
    settings : mapping
        Keyword arguments for `maker` that `check_settings` let pass.
    maker : callable
        Class or function that will be given them.

    Raises
    ------
    ValueError
        Naming the setting, its value and what was expected.
    """
    parameters = inspect.signature(maker).parameters
    for key, value in settings.items():
        types, expected = _TYPES.get(parameters[key].annotation if key in parameters else "", _ANY)
        if not isinstance(value, types):
            msg = f"{section}.{key} is {value!r}; expected {expected}."
            raise ValueError(msg)
        if value is None and key in parameters and parameters[key].default is not None:
            msg = f"{section}.{key} is null; expected a value. Leave it out for the default."
            raise ValueError(msg)
    # With what it does not say: other heads must divide the width that is there by default.
    defaults = {key: known.default for key, known in parameters.items()}
    own = {key: value for key, value in defaults.items() if value is not inspect.Parameter.empty}
    check_sizes({**own, **settings}, f"{section}.")


def random_network(settings: Mapping[str, Any]) -> str:
    """Name of the network that a tower's section would start at random; empty if there is none."""
    name = str(settings.get("backbone") or settings.get("model") or "")
    spec = registry().get(name.lower())
    installed = spec is not None and spec.loader == "package"
    return "" if installed or settings.get("weights") else name


def find_pretrained(settings: Mapping[str, Any]) -> None:
    """Find, or download, the weights that a tower's section names, before anything else takes its time.

    Raises
    ------
    EncoderError
        In one sentence: which weights cannot be had, why, and what to do.
    """
    name = str(settings.get("backbone") or settings.get("model") or "")
    if name and settings.get("weights"):
        # As `VitTower` reads it.
        plain = settings.get("kind") == "vit" and name.lower() not in registry()
        known = f"{TIMM}{name}" if plain and not name.startswith(TIMM) else name
        find_weights(known, str(settings["weights"]), str(settings.get("revision", "")))


def trained_part(settings: Mapping[str, Any]) -> str:
    """How much of its network a tower trains: ``full``, ``frozen``, ``lora`` or ``last``."""
    if not settings.get("trainable", True):
        return "frozen"
    parameters = inspect.signature(IMAGE_TOWERS[settings["kind"]]).parameters
    default = parameters["train"].default if "train" in parameters else "full"
    return str(settings.get("train", default))


def make_image_tower(settings: dict[str, Any], sizes_px: tuple[int, int]) -> nn.Module:
    """Build an image tower for patches and regions of `sizes_px`; settings are ``kind`` and its keywords."""
    own = {key: value for key, value in settings.items() if key != "kind"}
    tower: nn.Module = IMAGE_TOWERS[settings["kind"]](*sizes_px, **own)
    return tower


def make_gene_tower(settings: dict[str, Any], n_genes: int, n_scales: int) -> nn.Module:
    """Build a gene tower on a panel of `n_genes`; settings are ``kind`` and its keywords.

    Raises
    ------
    ValueError
        If the tower looks at one scale only and the recipe has more.
    """
    own = {key: value for key, value in settings.items() if key != "kind"}
    kind = GENE_TOWERS[settings["kind"]]
    if kind in _MANY_SCALES:
        own["n_scales"] = n_scales
    elif n_scales > 1:
        several = ", ".join(name for name, tower in GENE_TOWERS.items() if tower in _MANY_SCALES)
        msg = f"The gene tower {settings['kind']} reads one scale and the recipe has {n_scales}; {several} reads more."
        raise ValueError(msg)
    tower: nn.Module = kind(n_genes, **own)
    return tower


_MANY_SCALES: Final = (GeneTower, ProfileTower)
