"""What a stage-1 recipe may say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from stamp_index.encoders.layers import check_sizes
from trainer.recipe import MOST, Count, CountFromZero, Positive, RecipeError, Section, Share
from trainer.recipe_file import check_context, in_words
from trainer.recipe_toml import recipe_values, stage1_names

if TYPE_CHECKING:
    from pathlib import Path

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Genes(Section):
    """Panel.

    Attributes
    ----------
    n_genes : int
        Size of the panel; 0 keeps every gene that is expressed at all often.
    """

    n_genes: CountFromZero = 1000

    @model_validator(mode="after")
    def _panel_ranks_something(self) -> Genes:
        if self.n_genes == 1:
            msg = "n_genes is 1; expected 0, for every gene, or at least 2"
            raise ValueError(msg)
        return self


class Objective(Section):
    """What is predicted, and how much it weighs.

    Attributes
    ----------
    mask_share : float
        Share of a spot's genes that are hidden.
    igr_weight, cgr_weight : float
        Of a spot's own hidden genes, and of the centre's genes from its neighbours.
    cgr_targets : {"all", "masked"}
        All genes of the centre (the released code) or its hidden ones (the paper).
    max_pitches : float
        A niche wider than this, in pitches of its slide, is not used.
    """

    mask_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    igr_weight: Weight = 1.0
    cgr_weight: Weight = 1.0
    cgr_targets: Literal["all", "masked"] = "all"
    max_pitches: Positive = 10.0

    @model_validator(mode="after")
    def _weighs_something(self) -> Objective:
        if self.igr_weight + self.cgr_weight == 0:
            msg = "igr_weight and cgr_weight are 0; expected one of them above 0"
            raise ValueError(msg)
        return self


class Schedule(Section):
    """How long and how fast.

    Attributes
    ----------
    mask_epochs, both_epochs : int
        Epochs with IGR alone, then with CGR added.
    niches : int
        Niches of nine spots in a step.
    lr, weight_decay : float
    warmup_share : float
        Share of the training spent in linear warm-up; a cosine to zero follows.
    max_norm : float
        Gradients are clipped to this norm.
    save_every : int
        Steps between two saved states.
    """

    mask_epochs: CountFromZero = 1
    both_epochs: CountFromZero = 1
    niches: Count = 16
    lr: Finite = 1e-3
    weight_decay: Weight = 1e-4
    warmup_share: Share = 0.05
    max_norm: Positive = 1.0
    save_every: Count = 200

    @model_validator(mode="after")
    def _has_epochs(self) -> Schedule:
        if not 1 <= self.epochs <= MOST:
            msg = (
                f"mask_epochs and both_epochs are {self.epochs:,} together; expected 1 to {MOST:,}"
            )
            raise ValueError(msg)
        return self

    @property
    def epochs(self) -> int:
        """All epochs."""
        return self.mask_epochs + self.both_epochs


class Stage1Recipe(Section):
    """Everything that one stage-1 run is told, besides its slides.

    Attributes
    ----------
    gene_tower : dict
        ``kind`` and its settings.
    """

    name: str
    gene_tower: dict[str, Any]
    genes: Genes = Genes()
    objective: Objective = Objective()
    schedule: Schedule = Schedule()

    @property
    def context(self) -> int:
        """Rank tokens of a spot."""
        return int(self.gene_tower["context"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump()


def load_stage1_recipe(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> Stage1Recipe:
    """Load a stage-1 recipe by name or from a file.

    Parameters
    ----------
    name_or_path : str or path
        ``stage1`` for ``trainer/recipes/stage1.toml``, or a path to a TOML file, which may extend another.
    overrides : tuple of str
        ``section.key=value`` with a TOML value, for example ``schedule.both_epochs=5``.

    Raises
    ------
    RecipeError
        For an unknown recipe, section, key or value, or a recipe of stage 2.
    """
    values = recipe_values(name_or_path, overrides)
    if values.pop("stage", None) != 1:
        msg = (
            f"{str(name_or_path)!r} is no stage-1 recipe: it does not say `stage = 1`. Known stage-1 recipes: "
            f"{', '.join(stage1_names())}."
        )
        raise RecipeError(msg)
    try:
        recipe = Stage1Recipe(**values)
    except ValidationError as exc:
        raise RecipeError(in_words(exc, Stage1Recipe)) from exc
    _check_tower(recipe)
    return recipe


def _check_tower(recipe: Stage1Recipe) -> None:
    tower = recipe.gene_tower
    if not isinstance(tower.get("kind", ""), str):
        msg = f"gene_tower.kind is {tower['kind']!r}; expected text, the name of a kind."
        raise RecipeError(msg)
    if "context" not in tower:
        msg = "The recipe has no gene_tower.context. Start from trainer/recipes/stage1_small.toml."
        raise RecipeError(msg)
    try:
        check_sizes(tower, "gene_tower.")
    except ValueError as exc:
        msg = f"The recipe cannot be used: {exc}"
        raise RecipeError(msg) from exc
    check_context("", tower, recipe.genes.n_genes)
