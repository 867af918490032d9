"""What of a model's sections cannot be, or cannot be together, said before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.encoders.decoders import DECODERS, check_decoder
from stamp_index.encoders.direct import DirectPath
from stamp_index.encoders.fusion import AttentionFusion
from stamp_index.encoders.heads import HEADS, check_head
from stamp_index.encoders.layers import check_sizes
from stamp_index.encoders.settings import check_settings, refuse_unknown
from stamp_index.encoders.towers import IMAGE_TOWERS, check_tower, check_values

if TYPE_CHECKING:
    from stamp_index.encoders.image_tower import ImageTower
    from stamp_index.encoders.model_config import ModelConfig


def check_sections(config: ModelConfig) -> None:
    """Refuse kinds and settings that a model's sections cannot have, and sections that do not go together.

    Raises
    ------
    ValueError
        In words: which section, what is wrong with it, and what is known.
    """
    towers = {"image": config.image_tower, "region": config.region_tower}
    towers |= {"gene": config.gene_tower, "niche": config.niche_tower}
    for name, settings in towers.items():
        if settings or name in ("image", "gene"):
            check_tower(name, settings)
    head = {key: value for key, value in config.head.items() if key != "kind"}
    kind = config.head.get("kind", "linear")
    check_head(kind, head)
    check_values("model.head", head, HEADS[kind])
    refuse_unknown("[model.decoders]", config.decoders, ("patch", "gene"))
    for side, settings in config.decoders.items():
        kind = settings.get("kind", "mlp")
        check_decoder(kind, settings, f"model.decoders.{side}")
        check_values(f"model.decoders.{side}", settings, DECODERS[kind])
    if config.direct:
        check_settings("[model.direct]", config.direct, DirectPath, filled=("width", "dim"))
        # Without hidden units a path is linear.
        check_sizes(
            {**config.direct, "hidden": config.direct.get("hidden") or None}, "model.direct."
        )
    if config.fusion:
        check_settings("[model.fusion]", config.fusion, AttentionFusion)
        check_values("model.fusion", config.fusion, AttentionFusion)
        _check_beside_fusion(config)
    if config.localised:
        _check_region_mode(config)


def _check_beside_fusion(config: ModelConfig) -> None:
    clashes = {
        "[model.direct]": bool(config.direct),
        'retrieval = "joint"': config.retrieval == "joint",
        "the loss locate": config.localised,
    }
    found = ", ".join(name for name, is_there in clashes.items() if is_there)
    if found:
        msg = (
            f"[model.fusion] does not go with {found}: a model with fusion embeds the four sides and the two fused "
            f"pairs, and nothing else. Take {found} out of the recipe, or [model.fusion]."
        )
        raise ValueError(msg)


def _check_region_mode(config: ModelConfig) -> None:
    tower = config.region_tower or config.image_tower
    if not IMAGE_TOWERS[tower["kind"]].region_mode:
        able = " or ".join(kind for kind, found in IMAGE_TOWERS.items() if found.region_mode)
        section = "region_tower" if config.region_tower else "image_tower"
        msg = (
            f"The loss locate reads a region beside a token of its patch, which the {tower['kind']} tower of "
            f"[model.{section}] cannot insert. Take one of kind {able}, or take the loss away."
        )
        raise ValueError(msg)


def check_reference(patch_tower: ImageTower, region_tower: ImageTower) -> None:
    """Refuse a patch that is prepared otherwise than the regions it is located in.

    Raises
    ------
    ValueError
        If the two towers prepare their images in different ways.
    """
    if patch_tower.prepared_id != region_tower.prepared_id:
        msg = (
            f"The loss locate inserts a patch into its region, but patches are prepared as "
            f"{patch_tower.prepared_id} and regions as {region_tower.prepared_id}. Give [model.image_tower] and "
            "[model.region_tower] the same kind, or take [model.region_tower] or the loss away."
        )
        raise ValueError(msg)
