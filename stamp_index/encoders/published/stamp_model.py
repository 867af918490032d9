"""The published STAMP model: gene transformer, prompted ViT, heads, and the layout of its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch import nn

from stamp_index.encoders.image_tower import pool_cells
from stamp_index.encoders.published.state import (
    below,
    count_blocks,
    fit,
    require,
    require_dims,
    without,
)
from stamp_index.encoders.published.vit import (
    PromptedVit,
    build_vit,
    checked_heads,
    vit_heads,
    vit_state,
)
from stamp_index.encoders.rank_transformer import SPARE_ROWS, RankTransformer
from stamp_index.errors import EncoderError
from stamp_index.genes import MASK, PAD, TOKEN_OFFSET

if TYPE_CHECKING:
    from stamp_index.encoders.published.state import State

_PUBLISHED_MASK: Final = 0
_PUBLISHED_PAD: Final = 1  # stored tokens have 0, which the released code changes to 1 on entry
_PUBLISHED_CLS: Final = 2
_GENE_HEADS: Final = {512: 16}  # the published size
_HEADS: Final = {
    "spot": "spot_projection",
    "patch": "patch_projection",
    "region": "region_projection",
    "position": "positioning_projection",
}
_GENE_MATRICES: Final = (
    "embeddings.weight",
    "positional_embedding.weight",
    "encoder.layers.0.linear1.weight",
)
# A template of a layer that is never run, and the two heads of stage 1.
_UNUSED: Final = ("encoder_layer.", "classifier_head.", "spatial_classifier_head.")


@dataclass(frozen=True)
class StampOptions:
    """What the weights of a STAMP checkpoint do not say.

    Attributes
    ----------
    gene_heads, vision_heads : int
        Attention heads.
    compat : bool
        True computes what the released code computes, quirks included (recipes 1.8 B, C and D): the
        weights were trained with them. False is the corrected form, for weights trained so.
    bgr : bool
        True turns the order of colours round before the ViT sees them (recipes 1.8 F): for weights whose
        training images were read as BGR.
    """

    gene_heads: int
    vision_heads: int
    compat: bool = True
    bgr: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; ``StampOptions(**values)`` gives the same options."""
        return asdict(self)


class PublishedStamp(nn.Module):
    """STAMP's stage-2 model (arXiv 2602.13944; Hanminghao/STAMP @78c4fd2, ``_stamp.py``).

    Parameters
    ----------
    gene : RankTransformer
    vision : PromptedVit
    dim : int
        Length of an embedding.
    compat : bool
        See `StampOptions`.
    """

    def __init__(
        self, gene: RankTransformer, vision: PromptedVit, dim: int, *, compat: bool
    ) -> None:
        super().__init__()
        self.gene = gene
        self.vision = vision
        self.compat = compat
        self.dim = dim
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(gene.width if name == "spot" else vision.width, dim)
                for name in _HEADS
            }
        )
        self.log_scale = nn.Parameter(torch.zeros(()))

    @classmethod
    def from_published(cls, state: State, options: StampOptions) -> Self:
        """Build from a state dict under the published names (`read_published`).

        Raises
        ------
        EncoderError
            If a tensor is missing, unknown or of a shape that does not fit the others.
        """
        return cls.from_own(published_stamp_state(state), options)

    @classmethod
    def from_own(cls, state: State, options: StampOptions) -> Self:
        """Build from a state dict under the names of this class."""
        vit = below(state, "vision.base_model.")
        gene = below(state, "gene.")
        context, width = gene["rank"].shape
        with torch.device("meta"):
            tower = RankTransformer(
                len(gene["embed.weight"]) - TOKEN_OFFSET - SPARE_ROWS,
                context=context,
                width=width,
                depth=count_blocks(gene, "encoder.layers."),
                heads=checked_heads(options.gene_heads, width, "gene encoder", "--gene-heads"),
                ffn=len(gene["encoder.layers.0.linear1.weight"]),
                pool="compat" if options.compat else "mean",
            )
            prompted = PromptedVit(build_vit(vit, vit_heads(vit, options.vision_heads)))
            dim = len(state["heads.spot.weight"])
            model = cls(tower, prompted, dim, compat=options.compat)
        fit(model, state, "STAMP")
        return model

    @property
    def n_genes(self) -> int:
        """Length of the vocabulary."""
        return self.gene.embed.num_embeddings - TOKEN_OFFSET - SPARE_ROWS

    @property
    def context(self) -> int:
        """Number of rank tokens."""
        return len(self.gene.rank)

    def embed_spots(self, tokens: torch.Tensor) -> torch.Tensor:
        """Embed rank tokens (b, t), 0 = padding: (b, dim), not yet of unit length."""
        profile = torch.zeros(len(tokens), 0, device=tokens.device)
        embedded: torch.Tensor = self.heads["spot"](self.gene(tokens, profile))
        return embedded

    def embed_patches(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalised patches (b, 3, s, s) in patch mode: (b, dim), not yet of unit length."""
        embedded: torch.Tensor = self.heads["patch"](self.vision(images).cls)
        return embedded

    def embed_regions(
        self, images: torch.Tensor, references: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embed normalised regions (b, 3, s, s) around the patches `references` (b, 3, p, p).

        Returns
        -------
        region : Tensor of shape (b, dim)
        reference : Tensor of shape (b, dim)
            The patch as seen within its region.
        cells : Tensor of shape (b, 9, dim)
            The region's cells; with ``compat`` scrambled as the released code scrambles them.
        """
        seen = self.vision(images, references)
        pool = scrambled_cells if self.compat else pool_cells
        return (
            self.heads["region"](seen.cls),
            self.heads["position"](seen.inserted),
            self.heads["position"](pool(seen.tokens)),
        )


def scrambled_cells(tokens: torch.Tensor) -> torch.Tensor:
    """Cells of a region as the released code makes them: cells and channels mixed (recipes 1.8 D).

    Parameters
    ----------
    tokens : Tensor of shape (b, n, n, d)

    Returns
    -------
    Tensor of shape (b, 9, d)
        The values of `pool_cells`, read in another order: channel by channel, nine cells each, and then cut
        into nine rows.
    """
    return pool_cells(tokens).transpose(1, 2).reshape(len(tokens), 9, -1)


def published_gene_state(state: State) -> State:
    """Rename the published gene encoder's tensors to those of `RankTransformer`.

    Parameters
    ----------
    state : dict of str to Tensor
        ``embeddings.weight``, ``positional_embedding.weight``, ``encoder.layers.N.*``; the heads of stage 1
        and the layer template may be there and are left out.

    Returns
    -------
    dict of str to Tensor
        The rows of the embedding table are moved: padding from 1 to 0, mask from 0 to 2, CLS from 2 to 1.
    """
    state = without(state, _UNUSED)
    require(state, _GENE_MATRICES, "STAMP's gene encoder")
    require_dims(state, dict.fromkeys(_GENE_MATRICES, 2), "STAMP's gene encoder")
    state = dict(state)
    table = state.pop("embeddings.weight")
    least = TOKEN_OFFSET + SPARE_ROWS + 1
    if len(table) < least:
        msg = (
            f"The checkpoint's table of gene embeddings has {len(table)} rows; with {TOKEN_OFFSET} reserved "
            f"ids and {SPARE_ROWS} spare ones at least {least} were expected. Give the published file."
        )
        raise EncoderError(msg)
    rows = torch.arange(len(table))
    rows[[PAD, MASK, 1]] = torch.tensor([_PUBLISHED_PAD, _PUBLISHED_MASK, _PUBLISHED_CLS])
    ranks = state.pop("positional_embedding.weight")
    return {**state, "embed.weight": table[rows], "rank": ranks}


def published_stamp_state(state: State) -> State:
    """Rename the tensors of a published STAMP checkpoint to those of `PublishedStamp`.

    Raises
    ------
    EncoderError
        If a part of the model is missing or of a shape that no such part has.
    """
    heads = [f"{name}.weight" for name in _HEADS.values()]
    require(state, ("logit_scale", *heads), "STAMP")
    scale = state["logit_scale"]
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    require_dims(
        {**state, "logit_scale": scale}, {"logit_scale": 0} | dict.fromkeys(heads, 2), "STAMP"
    )
    renamed = {"log_scale": scale}
    for ours, theirs in _HEADS.items():
        renamed |= {f"heads.{ours}.{k}": v for k, v in below(state, f"{theirs}.").items()}
    gene = published_gene_state(below(state, "spot_backbone."))
    renamed |= {f"gene.{name}": value for name, value in gene.items()}
    vision = below(state, "visual_backbone.")
    require(vision, ("p_visual", "ref_pos_embed.weight"), "STAMP's vision model")
    renamed |= {f"vision.{name}": value for name, value in vit_state(vision).items()}
    known = ("logit_scale", "spot_backbone.", "visual_backbone.", *_HEADS.values())
    return renamed | without(
        state, known
    )  # what is unknown is refused, and named, when weights are fitted


def stamp_heads(
    state: State, *, gene: int | None = None, vision: int | None = None
) -> tuple[int, int]:
    """Attention heads of gene encoder and ViT: those given, else those of the published sizes.

    Parameters
    ----------
    state : dict of str to Tensor
        Under the published names.
    gene, vision : int, optional
        The heads, where the width does not tell them.

    Raises
    ------
    EncoderError
        If they are not given for an unusual width, or do not divide it, or there is no width.
    """
    name = "spot_backbone.embeddings.weight"
    require(state, (name,), "STAMP")
    require_dims(state, {name: 2}, "STAMP")
    width = state[name].shape[1]
    heads = checked_heads(gene or _GENE_HEADS.get(width), width, "gene encoder", "--gene-heads")
    return heads, vit_heads(below(state, "visual_backbone.base_model."), vision)
