"""Shape of an alignment model: what it is built from, as plain values that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stamp_index.encoders.layers import check_whole
from stamp_index.encoders.model_checks import check_sections
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDES: Final[tuple[str, ...]] = ("patch", "region", "gene", "niche")
RETRIEVALS: Final = ("patch", "joint", "concat")


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build a model of the same shape.

    Attributes
    ----------
    patch, region : PatchSpec
        What the image towers see around a spot.
    dim : int
        Length of one side's embedding.
    image_tower, gene_tower : dict
        ``kind`` and the tower's own settings.
    region_tower : dict
        A tower of its own for regions; empty: the image tower reads them too (STAMP).
    niche_tower : dict
        A tower of its own for the expression around a spot; empty: there is none.
    head : dict
        ``kind`` and settings of the heads into the space.
    fusion : dict
        Attention between image and gene tokens (ST-Align); empty: none. ``n_tokens``, ``token_width``.
    decoders : dict
        Settings of the decoder from a side to expression, by side (``patch``, ``gene``).
    sides : tuple of str
        Which of ``patch``, ``region``, ``gene``, ``niche`` have a head.
    localised : bool
        True: a patch is located among its region's nine cells (STAMP), for which the region must be three
        patches wide.
    region_sees_patch : bool
        True: the region's feature is read beside the inserted thumbnail of its patch, as in STAMP. False:
        the thumbnail serves localisation alone (``region_ref_leak = false`` in a recipe).
    direct : dict
        Settings of the `DirectPath` from mean image features and from the profile into the space, beside the
        towers, which then learn what it cannot express; empty: there is none.
    retrieval : str
        What is compared in a search: ``patch`` with gene; ``joint``, the image of patch and region, with
        gene; ``concat``, patch and region side by side, with gene and niche.
    """

    patch: PatchSpec
    region: PatchSpec
    dim: int = 128
    image_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "hybrid"})
    gene_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "rank_profile"})
    region_tower: dict[str, Any] = field(default_factory=dict)
    niche_tower: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=lambda: {"kind": "linear"})
    fusion: dict[str, Any] = field(default_factory=dict)
    decoders: dict[str, Any] = field(default_factory=dict)
    sides: tuple[str, ...] = ("patch", "region", "gene")
    localised: bool = True
    region_sees_patch: bool = True
    direct: dict[str, Any] = field(default_factory=dict)
    retrieval: str = "joint"

    def __post_init__(self) -> None:
        if self.localised and not np.isclose(self.region.width_um, 3 * self.patch.width_um):
            msg = (
                f"The region is {self.region.width_um:g} um wide and the patch {self.patch.width_um:g} um; "
                "the nine cells of a region are patches, so it must be three patches wide."
            )
            raise ValueError(msg)
        check_whole("dim", self.dim)
        check_sections(self)
        self._check_sides()

    def _check_sides(self) -> None:
        if self.retrieval not in RETRIEVALS:
            msg = f"retrieval is {self.retrieval!r}; expected one of {', '.join(RETRIEVALS)}."
            raise ValueError(msg)
        needed = {"patch", "gene"}
        if self.retrieval != "patch" or self.localised:
            needed.add("region")
        if self.retrieval == "concat":
            needed.add("niche")
        if self.fusion:
            needed = set(SIDES)
        missing = sorted(needed - set(self.sides))
        if missing:
            msg = f"The model has no side {', '.join(missing)}, which its retrieval, fusion or localisation needs."
            raise ValueError(msg)
        if "niche" in self.sides and not self.niche_tower:
            msg = "The side niche needs a [model.niche_tower]."
            raise ValueError(msg)

    @property
    def embedding_dim(self) -> int:
        """Length of the vectors that are searched."""
        return self.dim * (2 if self.retrieval == "concat" else 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sides": list(self.sides)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            **{
                **values,
                "patch": PatchSpec(**values["patch"]),
                "region": PatchSpec(**values["region"]),
                "sides": tuple(values["sides"]),
            }
        )
