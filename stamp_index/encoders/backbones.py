"""Registry of pretrained image encoders: what they are, under which terms, and how they are loaded.

Everything that the registry (``backbones.toml``) names runs as a timm architecture, whatever library its
authors publish it for: tensors of transformers, DINOv2 and CONCH files are renamed on loading
(`backbone_weights`). So no code from a hub runs, a checkpoint rests on no other library's names, and
freezing, LoRA and the split into a cached and a trained part are written once.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from stamp_index.encoders.backbone_networks import (
    AttentionPool,
    Backbone,
    ConchBackbone,
    EfficientNetBackbone,
    Normalisation,
    PlainBackbone,
    VitBackbone,
)
from stamp_index.encoders.backbone_weights import fit_state, read_state, weights_file
from stamp_index.encoders.hub import fetch, hub_sentence, refuse_unreachable
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.encoders.trunk import load_trunk
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMM: Final = "timm:"
HUB: Final = "hub"
# Mean and standard deviation of ImageNet, RGB in [0, 1]: what most published encoders normalise by.
IMAGENET: Final = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_VIT_LORA: Final = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
# Modules of timm whose models take img_size and dynamic_img_size.
_VIT_MODULES: Final = ("vision_transformer", "deit")


@dataclass(frozen=True)
class BackboneSpec:
    """One entry of ``backbones.toml``; the file's head says what each field means.

    Attributes
    ----------
    name, title, hub : str
        Name in a recipe, name in sentences, repository on huggingface.co.
    files : tuple of str
        Names under which the repository may hold its weights, best first.
    loader, architecture : str
    settings : dict
        Keywords of the timm architecture.
    image_px, patch_px, mpp : number
    mean, std : tuple of float
        Of pixels in [0, 1].
    pool, width : str, int
    depth, prefix_tokens : int
    lora : tuple of str
        Ends of the names of the layers that LoRA adapts.
    licence : str
    commercial, gated, remote_code : bool
    """

    name: str
    title: str
    hub: str
    loader: str
    architecture: str
    image_px: int
    patch_px: int
    mpp: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pool: str
    width: int
    depth: int
    prefix_tokens: int
    licence: str
    commercial: bool
    gated: bool
    remote_code: bool = False
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    lora: tuple[str, ...] = _VIT_LORA
    settings: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=1)
def registry() -> dict[str, BackboneSpec]:
    """All entries of ``backbones.toml`` by name."""
    text = resources.files("stamp_index.encoders").joinpath("backbones.toml").read_text("utf-8")
    found = {}
    for name, entry in tomllib.loads(text).items():
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        found[name] = BackboneSpec(name=name, **fields)
    return found


def backbone_spec(name: str) -> BackboneSpec:
    """Look a backbone up.

    Parameters
    ----------
    name : str
        A name of the registry, or ``timm:NAME`` for any model of timm.

    Raises
    ------
    EncoderError
        If there is no such backbone; the message names the nearest ones.
    """
    if name.startswith(TIMM):
        return _timm_spec(name)
    found = registry().get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), registry(), n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        msg = (
            f"There is no backbone {name!r}. {hint}Expected one of {', '.join(registry())}, "
            f"or {TIMM}NAME for a model of timm."
        )
        raise EncoderError(msg)
    return found


def licence_notice(name: str) -> str:
    """One or two sentences on the terms of a backbone's weights, for the user to read once."""
    spec = backbone_spec(name)
    if not spec.hub:
        return f"{spec.title}: {spec.licence}."
    terms = "commercial use allowed" if spec.commercial else "no commercial use"
    if name.startswith(TIMM):
        terms = "see its page for the terms"
    notice = f"{spec.title} (https://huggingface.co/{spec.hub}): {spec.licence}, {terms}."
    if spec.gated:
        notice += " Access is granted on request."
    if not spec.commercial and not name.startswith(TIMM):
        notice += " Models trained on it can fall under the same terms: read them."
    return notice


def load_backbone(
    name: str,
    *,
    weights: str = "",
    image_px: int | None = None,
    revision: str = "",
) -> Backbone:
    """Build a backbone, with weights from a file, from the hub, or random ones.

    Parameters
    ----------
    name : str
        A name of the registry, or ``timm:NAME``.
    weights : str
        A local ``.safetensors`` (or ``.bin``, ``.pt`` of tensors alone), a folder that holds one, or
        ``hub``. Empty: random weights, to be filled from a checkpoint; except for efficientnet_lite0, whose
        weights are installed with this package.
    image_px : int, optional
        Side of the images that position embeddings are laid out for; the registry's if not given. A ViT
        takes other sides too, and then interpolates them at every step.
    revision : str
        Branch, tag or commit on the hub; for ``hub`` and names of the registry alone.

    Raises
    ------
    EncoderError
        If there is no such backbone, the weights cannot be had or do not fit, `image_px` does not, or
        `revision` cannot be followed.
    """
    spec = backbone_spec(name)
    px = spec.image_px if image_px is None else image_px
    _check_px(spec, px)
    # Before the network is built, which takes longer than to find out that there is nothing to fill it with.
    path = find_weights(name, weights, revision)
    if path is None:
        # Of its own models timm knows where and how the files lie.
        return _build(spec, px, pretrained=weights == HUB and name.startswith(TIMM))
    backbone = _build(spec, px)
    fit_state(backbone.network, read_state(path), spec.loader, path)
    return backbone


def find_weights(name: str, weights: str, revision: str = "") -> Path | None:
    """Find a backbone's weights, downloaded if they are not on this machine, as `load_backbone` takes them.

    Parameters
    ----------
    name, weights, revision : str
        As for `load_backbone`.

    Returns
    -------
    Path or None
        None where there is no file to be given: random weights, those of this package, and timm's own.

    Raises
    ------
    EncoderError
        If they cannot be had, or `revision` cannot be followed.
    """
    spec = backbone_spec(name)
    if not weights:
        return None  # a checkpoint's settings keep the revision, but name no weights
    if revision:
        _check_revision(spec, weights, revision)
    if spec.loader == "package":
        if weights != HUB:
            msg = (
                f"The weights of {spec.name} are installed with this package; leave weights out, or take "
                f"{TIMM}{spec.architecture} to load a file."
            )
            raise EncoderError(msg)
        return None
    if weights != HUB:
        return weights_file(Path(weights))
    if name.startswith(TIMM):
        if spec.hub:
            refuse_unreachable(spec)
        return None
    return fetch(spec, revision)


def _check_revision(spec: BackboneSpec, weights: str, revision: str) -> None:
    """Refuse to leave a revision out of account: whoever names one counts on getting it."""
    if weights != HUB:
        reason = f"the weights are the file {weights}, which has none"
    elif spec.name.startswith(TIMM):
        reason = f"timm chooses the files of {spec.name.removeprefix(TIMM)} itself"
    elif spec.loader == "package":
        reason = f"the weights of {spec.name} are installed with this package"
    else:
        return
    msg = (
        f"revision = {revision!r} cannot be followed: {reason}. Leave revision out; it pins a commit of what "
        'weights = "hub" downloads for a name of the registry.'
    )
    raise EncoderError(msg)


def _check_px(spec: BackboneSpec, px: int) -> None:
    """Refuse images that patches do not tile."""
    if spec.patch_px and spec.prefix_tokens and px % spec.patch_px:
        msg = (
            f"Images of {px} px cannot be cut into {spec.title}'s patches of {spec.patch_px} px. Choose a "
            f"multiple of {spec.patch_px}, such as {spec.image_px}."
        )
        raise EncoderError(msg)


def _build(spec: BackboneSpec, px: int, *, pretrained: bool = False) -> Backbone:
    declare_torchvision_ops()
    from timm.models import EfficientNet, VisionTransformer

    normalisation = Normalisation(spec.mean, spec.std)
    network = _create(spec, px, pretrained=pretrained)
    if spec.loader == "conch":
        pool = AttentionPool(spec.width, int(network.embed_dim))
        return ConchBackbone(network, pool, normalisation)
    if isinstance(network, VisionTransformer):
        return VitBackbone(network, normalisation, spec.pool)
    if isinstance(network, EfficientNet):
        packaged = spec.loader == "package"
        if packaged:
            _fill_from_package(network)
        return EfficientNetBackbone(network, normalisation, head=not packaged)
    fixed = getattr(network, "pretrained_cfg", {}).get("fixed_input_size", False)
    if fixed and px != spec.image_px:
        msg = f"{spec.title} takes images of {spec.image_px} px alone; got {px} px."
        raise EncoderError(msg)
    return PlainBackbone(network, normalisation)


def _create(spec: BackboneSpec, px: int, *, pretrained: bool) -> Any:  # noqa: ANN401
    import timm

    keywords = _timm_keywords(spec.settings)
    module = timm.model_entrypoint(spec.architecture.split(".")[0]).__module__
    if module.rsplit(".", 1)[-1] in _VIT_MODULES:
        # At any other side position embeddings are interpolated as the network runs.
        keywords |= {"img_size": px, "patch_size": spec.patch_px, "dynamic_img_size": True}
    try:
        return timm.create_model(spec.architecture, pretrained, num_classes=0, **keywords)
    except OSError as exc:  # all of the hub's errors are
        raise EncoderError(hub_sentence(spec, exc)) from exc
    except RuntimeError as exc:
        if not pretrained:
            raise
        msg = f"timm has no pretrained weights for {spec.architecture} ({exc})."
        raise EncoderError(msg) from exc


def _timm_keywords(settings: Mapping[str, Any]) -> dict[str, Any]:
    from timm.layers.mlp import SwiGLUPacked

    layers: dict[str, Any] = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU}
    keywords: dict[str, Any] = {
        key: layers[value] if isinstance(value, str) else value for key, value in settings.items()
    }
    if "norm_eps" in keywords:
        keywords["norm_layer"] = partial(nn.LayerNorm, eps=keywords.pop("norm_eps"))
    return keywords


def _fill_from_package(network: Any) -> None:  # noqa: ANN401
    """Give EfficientNet-Lite0 the weights that the default trunk has, and take its unused head off."""
    trunk = load_trunk().network
    network.conv_stem.load_state_dict(trunk.stem[0].state_dict())
    network.bn1.load_state_dict(trunk.stem[1].state_dict())
    network.blocks.load_state_dict(trunk.blocks.state_dict())
    network.conv_head = nn.Identity()
    network.bn2 = nn.Identity()


@lru_cache(maxsize=32)
def _timm_spec(name: str) -> BackboneSpec:
    """Describe a model of timm; what its configuration does not say is read off the network."""
    declare_torchvision_ops()
    import timm

    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        msg = f"timm has no model named {model!r}. {hint}See timm.list_models('vit_*')."
        raise EncoderError(msg)
    with torch.device("meta"):
        network: Any = timm.create_model(model, num_classes=0)
    known: dict[str, Any] = network.pretrained_cfg
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", (0,))
    hub = str(known.get("hf_hub_id") or "")
    spec = BackboneSpec(
        name=name,
        title=f"timm's {model}",
        hub=hub,
        loader="timm",
        architecture=model,
        image_px=int(known["input_size"][-1]),
        patch_px=int(patch[0] if isinstance(patch, tuple) else patch),
        mpp=0.5,
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        pool="own",
        width=int(getattr(network, "head_hidden_size", None) or network.num_features),
        depth=len(getattr(network, "blocks", ())),
        prefix_tokens=int(getattr(network, "num_prefix_tokens", 0)),
        licence=str(known.get("license") or "licence not stated"),
        commercial=False,
        gated=False,
    )
    efficient = isinstance(network, timm.models.EfficientNet)
    return replace(spec, lora=("conv_pw", "conv_pwl")) if efficient else spec
