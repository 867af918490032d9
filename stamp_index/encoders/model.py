"""The alignment model that every recipe is an instance of: towers, heads, and what they put out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from stamp_index.encoders.decoders import make_decoder
from stamp_index.encoders.direct import DirectPath
from stamp_index.encoders.fusion import AttentionFusion, Tokeniser
from stamp_index.encoders.heads import make_head
from stamp_index.encoders.image_tower import pool_cells
from stamp_index.encoders.model_checks import check_reference
from stamp_index.encoders.model_config import SIDES
from stamp_index.encoders.towers import make_gene_tower, make_image_tower

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.encoders.image_tower import TowerOutput
    from stamp_index.encoders.model_config import ModelConfig


@dataclass(frozen=True)
class Inputs:
    """Tensors of b spots; a field that a model has no use for may be None.

    Attributes
    ----------
    patch, region : Tensor of shape (b, ...)
        Prepared images, as the towers' `prepare` gives them.
    tokens : Tensor of shape (b, context), int
    profile : Tensor of shape (b, s * g), float32
    niche : Tensor of shape (b, g), float32
    centre : Tensor of shape (b, c), float32
        Mean feature of the region that lies centred on the spot, where `region` may not: what a search looks at,
        so the direct path reads it. Without it the path reads `region`.
    """

    patch: torch.Tensor | None = None
    region: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    profile: torch.Tensor | None = None
    niche: torch.Tensor | None = None
    centre: torch.Tensor | None = None


class AlignModel(nn.Module):
    """Image and gene towers with heads into one space.

    Parameters
    ----------
    config : ModelConfig
        Shape of the model.
    n_genes : int
        Length of the gene panel.
    n_scales : int
        Scales of a profile; see `stamp_index.encoders.gene_input.Around`.
    """

    def __init__(self, config: ModelConfig, n_genes: int, n_scales: int = 1) -> None:
        super().__init__()
        self.config = config
        self.n_genes = n_genes
        px = (config.patch.size_px, config.region.size_px)
        self.towers = nn.ModuleDict({"image": make_image_tower(config.image_tower, px)})
        if config.region_tower:
            self.towers["region"] = make_image_tower(config.region_tower, px[::-1])
        self.towers["gene"] = make_gene_tower(config.gene_tower, n_genes, n_scales)
        if config.niche_tower:
            self.towers["niche"] = make_gene_tower(config.niche_tower, n_genes, 1)
        widths = {side: int(self.tower_of(side).width) for side in config.sides}
        if config.fusion:
            self._add_fusion(widths)
        settings = {key: value for key, value in config.head.items() if key != "kind"}
        self.heads = nn.ModuleDict(
            {
                side: make_head(
                    config.head.get("kind", "linear"), widths[side], config.dim, **settings
                )
                for side in config.sides
            }
        )
        if config.localised:
            check_reference(self.tower_of("patch"), self.tower_of("region"))
            self.heads["position"] = nn.Linear(self.tower_of("region").width, config.dim)
        self.direct, self.gates = nn.ModuleDict(), nn.ParameterDict()
        if config.direct:
            self._add_direct(n_genes * n_scales)
        self.decoders = nn.ModuleDict(
            {
                side: make_decoder(dim=config.dim, n_genes=n_genes, **settings)
                for side, settings in config.decoders.items()
                if not hasattr(self.tower_of(side), "decode")
            }
        )

    def _add_direct(self, n_profile: int) -> None:
        """Direct paths of all sides, and a factor of each tower's output beside them."""
        widths = {"gene": n_profile, "niche": self.n_genes}
        for side in self.config.sides:
            if side not in widths and not hasattr(self.tower_of(side), "summary_width"):
                msg = f"[model.direct] needs a tower that sums its images up (hybrid), not that of {side}."
                raise ValueError(msg)
            widths.setdefault(side, int(getattr(self.tower_of(side), "summary_width", 0)))
            self.gates[side] = nn.Parameter(torch.ones(()))
        paths = {side: widths[side] for side in self.config.sides}
        if self.config.retrieval == "joint":
            paths["image"] = widths["patch"] + widths["region"]
        for name, width in paths.items():
            self.direct[name] = DirectPath(width, self.config.dim, **self.config.direct)

    def _add_fusion(self, widths: dict[str, int]) -> None:
        """Tokens of every side, and attention between the two of a spot and the two of its niche."""
        shape = dict(self.config.fusion)
        n_tokens, token_width = int(shape.pop("n_tokens", 8)), int(shape.pop("token_width"))
        self.tokenisers = nn.ModuleDict(
            {side: Tokeniser(widths[side], n_tokens, token_width) for side in SIDES}
        )
        self.fusions = nn.ModuleDict(
            {name: AttentionFusion(token_width, n_tokens, **shape) for name in ("spot", "niche")}
        )
        flat = n_tokens * token_width
        head = {key: value for key, value in self.config.head.items() if key != "kind"}
        self.fused_heads = nn.ModuleDict(
            {
                name: make_head(
                    self.config.head.get("kind", "linear"), flat, self.config.dim, **head
                )
                for name in ("spot", "niche")
            }
        )
        widths.update(dict.fromkeys(SIDES, flat))

    def tower_of(self, side: str) -> Any:  # noqa: ANN401 - an ImageTower or a gene tower
        """Tower that a side is read from."""
        if side in ("patch", "region"):
            return self.towers[
                "region" if side == "region" and "region" in self.towers else "image"
            ]
        return self.towers[side]

    def prepared_id(self, side: str) -> str:
        """Name of what `prepare` gives for ``patch`` or ``region``; part of fingerprints and cache files."""
        name: str = self.tower_of(side).prepared_id
        return name

    def prepare(
        self, images: NDArray[np.uint8], side: str
    ) -> NDArray[np.float16] | NDArray[np.uint8]:
        """Map patches or regions (n, s, s, 3) to the fixed inputs of their tower (n, ...)."""
        prepared: NDArray[np.float16] = self.tower_of(side).prepare(images)
        return prepared

    def forward(self, inputs: Inputs, wanted: Collection[str]) -> dict[str, torch.Tensor]:
        """Compute what is wanted, and nothing else.

        Parameters
        ----------
        inputs : Inputs
            b spots.
        wanted : collection of str
            Of ``patch``, ``region``, ``image`` (both), ``gene``, ``niche``, ``fused_spot``, ``fused_niche``, ``reference``,
            ``cells``, ``decoded_patch``, ``decoded_gene``, ``kl_gene``.

        Returns
        -------
        dict of str to Tensor
            Outputs of the heads before they are scaled to unit length: (b, dim), cells (b, 9, dim),
            decoded expression (b, g), divergence (b,).
        """
        wanted = set(wanted)
        if self.config.fusion:
            return self._fused(inputs, wanted)
        out: dict[str, torch.Tensor] = {}
        features = self._features(inputs, wanted, out)
        heads = {side: self._head(side, feature) for side, feature in features.items()}
        for side, head in heads.items():
            out[side] = head + self._direct(side, inputs)
            if f"decoded_{side}" in wanted:
                out[f"decoded_{side}"] = self._decode(side, features[side], out[side])
        if "image" in wanted:
            out["image"] = heads["patch"] + heads["region"] + self._direct("image", inputs)
        return {name: value for name, value in out.items() if name in wanted}

    def _head(self, side: str, feature: torch.Tensor) -> torch.Tensor:
        """Tower's share (b, dim) of an embedding."""
        head: torch.Tensor = self.heads[side](feature)
        return self.gates[side] * head if side in self.gates else head

    def _features(
        self, inputs: Inputs, wanted: set[str], out: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Tower features (b, width) of the sides that are needed; what comes with them goes into `out`."""
        needed = {name.removeprefix("decoded_").removeprefix("kl_") for name in wanted}
        needed |= {"patch", "region"} if "image" in wanted else set()
        features: dict[str, torch.Tensor] = {}
        beside = self.config.localised and self.config.region_sees_patch
        if wanted & {"reference", "cells"} or ("region" in needed and beside):
            seen = self._image("region", inputs.region, inputs.patch)
            out["reference"] = self.heads["position"](seen.inserted)
            out["cells"] = self.heads["position"](pool_cells(seen.tokens))
            if beside and "region" in needed:
                features["region"] = seen.cls
        if "kl_gene" in wanted:
            tower: Any = self.towers["gene"]
            state = tower.encode_full(inputs.profile)
            features["gene"], out["kl_gene"] = state.z, tower.divergence(state)
        for side in SIDES:
            if side in needed and side not in features:
                features[side] = self._feature(side, inputs)
        return features

    def _direct(self, side: str, inputs: Inputs) -> torch.Tensor | float:
        """Direct path's share (b, dim) of an embedding; 0 where there is none."""
        if side not in self.direct:
            return 0.0
        mapped: torch.Tensor = self.direct[side](self.summary(side, inputs))
        return mapped

    def summary(self, side: str, inputs: Inputs) -> torch.Tensor:
        """Give what a side's direct path starts from (b, w): mean features of images, or a profile."""
        if side == "image":
            parts = [self.summary(part, inputs) for part in ("patch", "region")]
            return torch.cat(parts, dim=-1)
        given = {"gene": inputs.profile, "niche": inputs.niche}
        if side in given:
            return given[side]  # type: ignore[return-value]
        images = getattr(inputs, side)
        if side == "region" and inputs.centre is not None:
            images = inputs.centre[:, None, None]
        found: torch.Tensor = self.tower_of(side).summarise(images)
        return found

    def _decode(self, side: str, feature: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        tower = self.tower_of(side)
        coded: torch.Tensor = (
            self.decoders[side](embedding) if side in self.decoders else tower.decode(feature)
        )
        return coded

    def _fused(self, inputs: Inputs, wanted: set[str]) -> dict[str, torch.Tensor]:
        pairs = {"fused_spot": ("patch", "gene"), "fused_niche": ("region", "niche")}
        needed = wanted | {side for name, pair in pairs.items() if name in wanted for side in pair}
        tokens = {
            side: self.tokenisers[side](self._feature(side, inputs))  # (b, s, l)
            for side in SIDES
            if side in needed
        }
        out = {side: self.heads[side](x.flatten(1)) for side, x in tokens.items() if side in wanted}
        for name, (image, gene) in pairs.items():
            if name in wanted:
                short = name.removeprefix("fused_")
                fused = self.fusions[short](tokens[image], tokens[gene])  # (b, s, l)
                out[name] = self.fused_heads[short](fused.flatten(1))
        return out

    def _feature(self, side: str, inputs: Inputs) -> torch.Tensor:
        """Output of a side's tower before its head: (b, width)."""
        if side == "patch":
            return self._image("patch", inputs.patch, None).cls
        if side == "region":
            reference = (
                inputs.patch if self.config.region_sees_patch and self.config.localised else None
            )
            return self._image("region", inputs.region, reference).cls
        profile = inputs.niche if side == "niche" else inputs.profile
        feature: torch.Tensor = self.towers[side](inputs.tokens, profile)
        return feature

    def _image(
        self, side: str, prepared: torch.Tensor | None, reference: torch.Tensor | None
    ) -> TowerOutput:
        output: TowerOutput = self.tower_of(side)(prepared, reference)
        return output

    def embed_images(self, patch: torch.Tensor, region: torch.Tensor | None = None) -> torch.Tensor:
        """Embed prepared images for retrieval: (b, embedding_dim), unit length.

        Without a region the embedding rests on the patch alone.
        """
        sides: tuple[str, ...] = ("patch",)
        if region is not None and self.config.retrieval != "patch":
            sides = ("image",) if self.config.retrieval == "joint" else ("patch", "region")
        found = self(Inputs(patch=patch, region=region), sides)
        return self._joined([functional.normalize(found[side], dim=-1) for side in sides])

    def embed_genes(
        self, tokens: torch.Tensor, profile: torch.Tensor, niche: torch.Tensor
    ) -> torch.Tensor:
        """Embed gene inputs for retrieval: (b, embedding_dim), unit length."""
        sides = ("gene", "niche") if self.config.retrieval == "concat" else ("gene",)
        found = self(Inputs(tokens=tokens, profile=profile, niche=niche), sides)
        return self._joined([functional.normalize(found[side], dim=-1) for side in sides])

    def _joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        if self.config.retrieval != "concat":
            return parts[0]
        parts += [torch.zeros_like(parts[0])] * (2 - len(parts))
        return functional.normalize(torch.cat(parts, dim=-1), dim=-1)
