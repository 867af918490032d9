"""A recipe is data: towers, heads, weighted named losses, a batch sampler and an optimiser, in one TOML file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stamp_index.encoders.gene_input import Around
from stamp_index.encoders.model_config import ModelConfig  # noqa: TC001 - pydantic reads it
from stamp_index.encoders.neighbours import ITSELF, Neighbourhood

LossKind = Literal[
    "clip", "clip_one_way", "clip_soft", "clip_paired", "locate", "reconstruct", "kl"
]
Side = Literal["", "patch", "region", "image", "gene", "niche", "fused_spot", "fused_niche"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
# Far above any training: what lies beyond is a slip, which would end in an overflow or never.
MOST = 1_000_000
Count = Annotated[int, Field(ge=1, le=MOST)]
Several = Annotated[int, Field(ge=2, le=MOST)]
CountFromZero = Annotated[int, Field(ge=0, le=MOST)]


class RecipeError(ValueError):
    """A recipe has a field or a value that the trainer does not know."""


class Section(BaseModel):
    """Unknown keys and values of another type are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LossTerm(Section):
    """One weighted loss.

    Attributes
    ----------
    kind : str
        ``clip`` (symmetric), ``clip_one_way`` (left finds right), ``clip_soft`` (BLEEP's soft targets),
        ``clip_paired`` (each anchor against its own negatives, ST-Align), ``locate`` (patch in its region),
        ``reconstruct`` (expression decoded from `left`) or ``kl`` (of a VAE's latent from a standard normal;
        SEAL's option has weight 1 / latent).
    weight : float
        Factor in the sum; 0 leaves the loss out.
    left, right : str
        Which embeddings a loss compares: ``patch``, ``region``, ``gene``, ``niche``, ``fused_spot``,
        ``fused_niche``, or ``image``, patch and region together, as retrieval uses them.
    form : str
        Of ``reconstruct``: a loss of `trainer.reconstruction`.
    both_ways : bool
        Of ``clip_paired``: left finds right and right finds left.
    """

    kind: LossKind
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    left: Side = ""
    right: Side = ""
    form: str = "standardized_mse"
    both_ways: bool = True

    @property
    def name(self) -> str:
        """Name in logs and plots."""
        if self.kind in ("locate", "kl"):
            return self.kind
        if self.kind == "reconstruct":
            return f"{self.form}({self.left})"
        return f"{self.kind}({self.left}, {self.right})"

    @property
    def needs(self) -> set[str]:
        """Outputs of the model that the loss is computed from."""
        if self.kind == "locate":
            return {"reference", "cells"}
        if self.kind == "kl":
            return {"kl_gene"}
        if self.kind == "reconstruct":
            return {f"decoded_{self.left}"}
        return {self.left, self.right}

    @model_validator(mode="after")
    def _sides_fit_the_kind(self) -> LossTerm:
        if self.kind == "reconstruct" and self.left not in ("patch", "gene"):
            msg = f"reconstruct decodes patch or gene, not {self.left!r}"
            raise ValueError(msg)
        if self.kind not in ("locate", "reconstruct", "kl") and not (self.left and self.right):
            msg = f"{self.kind} compares two sides; give left and right"
            raise ValueError(msg)
        return self


class Sampler(Section):
    """How batches are drawn.

    Attributes
    ----------
    kind : str
        ``uniform``; ``one_slide``, whose batches hold spots of one slide each, so that slides are nothing to
        tell apart; ``same_slide_partner``, which adds to each spot another of its slide (STAMP); or
        ``cluster_negatives``, which adds one spot of every other expression cluster of its slide (ST-Align).
    batch_size : int
        Spots of a batch, without partners and negatives.
    balance : str
        ``none``: every spot once an epoch. ``slide``: every slide equally often. ``organ``: every organ, and
        every slide of one, equally often. An epoch is as long as before.
    clusters : int
        Of ``cluster_negatives``: clusters per slide.
    apart_um : float, optional
        Spots of a slide nearer than this are no negatives of each other; by default the width of a patch.
    """

    kind: Literal["uniform", "one_slide", "same_slide_partner", "cluster_negatives"] = (
        "same_slide_partner"
    )
    batch_size: Several = 128
    balance: Literal["none", "slide", "organ"] = "none"
    clusters: Several = 6
    apart_um: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _balance_fits(self) -> Sampler:
        if self.kind == "one_slide" and self.balance != "none":
            msg = "one_slide gives every slide its own batches; balance must be none"
            raise ValueError(msg)
        return self


class Optimiser(Section):
    """AdamW with linear warm-up and a cosine to zero.

    Attributes
    ----------
    epochs : int
    lr, weight_decay : float
    direct_share : float
        Learning rate of the model's direct paths, as a share of `lr`: they start where they belong.
    weight_decay_end : float, optional
        Weight decay moves to this value along a cosine (ST-Align: .04 to .4).
    warmup_share : float
        Share of all steps spent in warm-up.
    max_norm : float
        Gradients are clipped to this norm.
    ema : float
        Decay of the moving average of the weights, 0 for none; the average is what is saved.
    micro_batch : int
        Spots per forward pass; 0 for the whole batch. Smaller values give the same gradients in less memory
        (cached contrastive gradients, arXiv 2101.06983), at the price of a second forward pass.
    precision : str
        ``auto`` is bfloat16 on a GPU that has it, else float32.
    """

    epochs: CountFromZero = 30
    lr: Positive = 1e-3
    direct_share: Share = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    warmup_share: Share = 0.1
    max_norm: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    micro_batch: CountFromZero = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class Scale(Section):
    """Logit scale, the inverse of the temperature: its start, whether it learns, and its largest value."""

    start: Positive = 1 / 0.07
    learnable: bool = True
    largest: Positive = 100.0  # CLIP's clamp

    @model_validator(mode="after")
    def _starts_below_the_largest(self) -> Scale:
        if self.start > self.largest:
            msg = f"start, {self.start:g}, is above largest, {self.largest:g}; lower it, or raise scale.largest"
            raise ValueError(msg)
        return self


class Surroundings(Section):
    """Spots averaged around a spot; see `stamp_index.encoders.neighbours.Neighbourhood`."""

    k: CountFromZero = 0
    radius_um: Annotated[float, Field(ge=0)] = 0.0
    self_weight: Share = 0.5


class Genes(Section):
    """Panel, surroundings and gene dropout.

    Attributes
    ----------
    n_genes : int
        Size of the panel.
    ranking : str
        How the panel is chosen; see `stamp_index.genes.GenePanel.fit`.
    stage1 : str
        Folder of a stage-1 gene encoder, whose panel and weights the gene tower takes over; empty: none.
    freeze_stage1 : bool
        True: what stage 1 gave stays as it is, and the rest of the gene tower and the heads learn beside it. False,
        as STAMP's code does: all of it is trained on.
    scales : list of Surroundings
        Blocks of the profile; none: the spot itself alone.
    niche : Surroundings, optional
        What the niche profile is averaged over.
    full_share : float
        Share of spots that keep every gene in a step.
    short_share : float
        Share of spots that keep a short panel (down to four genes), as a typed query has. The rest keeps a
        uniform share of 30 to 100 %.
    """

    n_genes: Several = 1000
    ranking: Literal["variance", "spatial"] = "variance"
    stage1: str = ""
    freeze_stage1: bool = False
    scales: list[Surroundings] = []
    niche: Surroundings | None = None
    full_share: Share = 0.4
    short_share: Share = 0.2

    @model_validator(mode="after")
    def _shares_fit(self) -> Genes:
        if self.full_share + self.short_share > 1:
            msg = "full_share + short_share is more than 1"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _frozen_weights_are_there(self) -> Genes:
        if self.freeze_stage1 and not self.stage1:
            msg = "freeze_stage1 needs the gene encoder of stage 1; name its folder in stage1"
            raise ValueError(msg)
        return self


class Images(Section):
    """Where training images come from, and how they are varied.

    Attributes
    ----------
    source : str
        ``auto``: cached features where the towers are frozen underneath, else pixels read from the slides.
        ``slides``: read from the slides at every step. ``shards``: pixels cached once per slide, for slides
        that are slow to read.
    placements : int
        Regions per spot, of the nine that hold its patch in another cell.
    stain : float
        Largest relative change of the haematoxylin, eosin and residual channels (pixels only).
    """

    source: Literal["auto", "slides", "shards"] = "auto"
    placements: Annotated[int, Field(ge=1, le=9)] = 9
    stain: Share = 0.0


class Validation(Section):
    """What is measured on validation slides, before training and after each epoch.

    Attributes
    ----------
    patience : int
        Training ends after this many epochs without a recall better than any before, the start's among them; 0: never.
    k : int
        Of recall@k, the mean of both directions within each slide.
    """

    patience: CountFromZero = 0
    k: Count = 10


class Recipe(Section):
    """Everything that one training run is told, besides its slides."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    model: ModelConfig
    losses: tuple[LossTerm, ...]
    start: Literal["closed_form", "random"] = "random"
    sampler: Sampler = Sampler()
    optimiser: Optimiser = Optimiser()
    scale: Scale = Scale()
    genes: Genes = Genes()
    images: Images = Images()
    validation: Validation = Validation()

    @property
    def wanted(self) -> frozenset[str]:
        """Outputs of the model that the losses need."""
        return frozenset(name for term in self.losses for name in term.needs)

    @property
    def image_sides(self) -> frozenset[str]:
        """Which images the losses look at: patch, region or both."""
        wanted = self.wanted
        looked = {"patch": {"patch", "decoded_patch", "image"}, "region": {"region", "image"}}
        looked["patch"] |= {"fused_spot"}
        looked["region"] |= {"fused_niche"}
        if self.model.localised:
            looked["patch"] |= {"reference", "cells", "region"}  # a region is read beside its patch
            looked["region"] |= {"reference", "cells"}
        return frozenset(side for side, names in looked.items() if wanted & names)

    @property
    def around(self) -> Around:
        """Surroundings as the gene input takes them."""
        made = [Neighbourhood(**scale.model_dump()) for scale in self.genes.scales]
        niche = self.genes.niche
        return Around(
            tuple(ITSELF if scale.k == 0 else scale for scale in made) or (ITSELF,),
            None if niche is None else Neighbourhood(**niche.model_dump()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = self.model_dump(exclude={"model"})
        return {**values, "losses": list(values["losses"]), "model": self.model.to_dict()}
