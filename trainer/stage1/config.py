"""What a stage-1 recipe may say."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from stamp_index.encoders.layers import check_sizes
from trainer.recipe import MOST, RecipeError
from trainer.recipe_file import (
    check_context,
    is_there,
    override_value,
    read_toml,
    refuse_depth,
    shortened,
)
from trainer.stage1.losses import CGR_TARGETS

_T = TypeVar("_T")
RECIPES: Final = Path(__file__).parents[1] / "recipes"
_TYPES: Final = {"int": int, "float": (int, float), "str": str}


@dataclass(frozen=True)
class Genes:
    """Panel.

    Attributes
    ----------
    n_genes : int
        Size of the panel; 0 keeps every gene that is expressed at all often.
    """

    n_genes: int = 1000


@dataclass(frozen=True)
class Objective:
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

    mask_share: float = 0.15
    igr_weight: float = 1.0
    cgr_weight: float = 1.0
    cgr_targets: str = "all"
    max_pitches: float = 10.0


@dataclass(frozen=True)
class Schedule:
    """Epochs, batches and AdamW.

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

    mask_epochs: int = 1
    both_epochs: int = 1
    niches: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup_share: float = 0.05
    max_norm: float = 1.0
    save_every: int = 200

    @property
    def epochs(self) -> int:
        """All epochs."""
        return self.mask_epochs + self.both_epochs


@dataclass(frozen=True)
class Stage1Recipe:
    """Everything that one stage-1 run is told, besides its slides.

    Attributes
    ----------
    gene_tower : dict
        ``kind`` and its settings.
    """

    name: str
    gene_tower: dict[str, Any]
    genes: Genes = field(default_factory=Genes)
    objective: Objective = field(default_factory=Objective)
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def context(self) -> int:
        """Rank tokens of a spot."""
        return int(self.gene_tower["context"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def load_stage1_recipe(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> Stage1Recipe:
    """Load a stage-1 recipe by name or from a file.

    Parameters
    ----------
    name_or_path : str or path
        ``stage1`` for ``trainer/recipes/stage1.toml``, or a path to a TOML file.
    overrides : tuple of str
        ``section.key=value`` with a TOML value, for example ``schedule.both_epochs=5``.

    Raises
    ------
    RecipeError
        For an unknown recipe, section, key or value, or a recipe of stage 2.
    """
    values = _read(name_or_path)
    for override in overrides:
        _set(values, override)
    refuse_depth("The recipe with its overrides", values)
    if values.pop("stage", None) != 1:
        msg = (
            f"{str(name_or_path)!r} is no stage-1 recipe: it does not say `stage = 1`. Known stage-1 recipes: "
            f"{', '.join(_known())}."
        )
        raise RecipeError(msg)
    sections = {"genes": Genes, "objective": Objective, "schedule": Schedule}
    made = {name: _make(kind, values.pop(name, {}), name) for name, kind in sections.items()}
    name, tower = values.pop("name", None), values.pop("gene_tower", None)
    if values:
        msg = f"The recipe has unknown fields: {', '.join(values)}."
        raise RecipeError(msg)
    if not isinstance(name, str) or not isinstance(tower, dict):
        msg = "The recipe needs a name and a [gene_tower]. Start from trainer/recipes/stage1_small.toml."
        raise RecipeError(msg)
    recipe = Stage1Recipe(name, tower, **made)
    _check(recipe)
    return recipe


def _known() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("stage1*.toml"))


def _read(name_or_path: str | Path) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not is_there(path):
        msg = (
            f"There is no recipe {shortened(str(name_or_path))!r}. Known stage-1 recipes: {', '.join(_known())}; or give a "
            ".toml file."
        )
        raise RecipeError(msg)
    return read_toml(path)


def _set(values: dict[str, Any], override: str) -> None:
    key, _, text = override.partition("=")
    value = override_value(override, text)
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            msg = f"Cannot set {key!r}: {section!r} is a value, not a section."
            raise RecipeError(msg)
    values[last] = value


def _make(kind: type[_T], values: object, section: str) -> _T:
    if not isinstance(values, dict):
        msg = f"{section} is {values!r}; expected a section [{section}]."
        raise RecipeError(msg)
    types = {known.name: str(known.type) for known in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(types))
    if unknown:
        msg = f"[{section}] has unknown fields: {', '.join(unknown)}; expected {', '.join(sorted(types))}."
        raise RecipeError(msg)
    for name, value in values.items():
        # Where a float is expected a whole number does too, but not one that becomes none.
        endless = types[name] == "float" and isinstance(value, int) and abs(value) >= 2**63
        if endless or isinstance(value, bool) or not isinstance(value, _TYPES[types[name]]):
            msg = f"{section}.{name} is {value!r}; expected a value of type {types[name]}."
            raise RecipeError(msg)
    return kind(**values)


def _check(recipe: Stage1Recipe) -> None:
    objective, schedule = recipe.objective, recipe.schedule
    context = recipe.gene_tower.get("context")
    weights = (objective.igr_weight, objective.cgr_weight)
    checks = {
        "gene_tower.kind (text)": isinstance(recipe.gene_tower.get("kind", ""), str),
        "gene_tower.context (at least 1)": isinstance(context, int) and context >= 1,
        f"genes.n_genes (0 or 2 to {MOST:,})": recipe.genes.n_genes == 0
        or 2 <= recipe.genes.n_genes <= MOST,
        "objective.mask_share (above 0, at most 1)": 0 < objective.mask_share <= 1,
        "objective.igr_weight and cgr_weight (0 or more, one of them above 0)": sum(weights) > 0
        and all(0 <= weight < math.inf for weight in weights),
        f"objective.cgr_targets ({' or '.join(CGR_TARGETS)})": objective.cgr_targets in CGR_TARGETS,
        "objective.max_pitches (above 0)": objective.max_pitches > 0,
        f"schedule.mask_epochs and both_epochs (0 or more, together 1 to {MOST:,})": min(
            schedule.mask_epochs, schedule.both_epochs
        )
        >= 0
        and 1 <= schedule.epochs <= MOST,
        f"schedule.niches (1 to {MOST:,})": 1 <= schedule.niches <= MOST,
        "schedule.lr (above 0)": 0 < schedule.lr < math.inf,
        "schedule.weight_decay (0 or more)": 0 <= schedule.weight_decay < math.inf,
        "schedule.max_norm (above 0)": schedule.max_norm > 0,
        "schedule.warmup_share (0 to 1)": 0 <= schedule.warmup_share <= 1,
        "schedule.save_every (at least 1)": schedule.save_every >= 1,
    }
    bad = [name for name, fine in checks.items() if not fine]
    if bad:
        msg = f"Out of range in the recipe: {', '.join(bad)}."
        raise RecipeError(msg)
    try:
        check_sizes(recipe.gene_tower, "gene_tower.")
    except ValueError as exc:
        msg = f"The recipe cannot be used: {exc}"
        raise RecipeError(msg) from exc
    check_context("", recipe.gene_tower, recipe.genes.n_genes)
