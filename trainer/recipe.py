"""A recipe is data: towers, heads, weighted named losses, a batch sampler and an optimiser, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from stamp_index.encoders.model import ModelConfig
from stamp_index.slides import PatchSpec

_T = TypeVar("_T")
RECIPES: Final = Path(__file__).parent / "recipes"
LOSS_KINDS: Final = ("clip", "clip_one_way", "locate")
_TYPES: Final = {"int": int, "float": (int, float), "str": str}
SAMPLER_KINDS: Final = ("uniform", "same_slide_partner")


class RecipeError(ValueError):
    """A recipe has a field or a value that the trainer does not know."""


@dataclass(frozen=True)
class LossTerm:
    """One weighted loss.

    Attributes
    ----------
    kind : str
        ``clip`` (symmetric), ``clip_one_way`` (left finds right) or ``locate`` (patch in its region).
    weight : float
        Factor in the sum.
    left, right : str
        Which embeddings a clip loss compares: ``patch``, ``region``, ``gene``, or
        ``image``, the direction of patch + region that retrieval uses.
    """

    kind: str
    weight: float = 1.0
    left: str = ""
    right: str = ""

    @property
    def name(self) -> str:
        """Name in logs and plots."""
        return self.kind if self.kind == "locate" else f"{self.kind}({self.left}, {self.right})"


@dataclass(frozen=True)
class Sampler:
    """How batches are drawn: ``uniform``, or with one same-slide partner per spot (STAMP)."""

    kind: str = "same_slide_partner"
    batch_size: int = 128


@dataclass(frozen=True)
class Optimiser:
    """AdamW with linear warm-up and a cosine to zero.

    Attributes
    ----------
    epochs : int
    lr, weight_decay : float
    warmup_share : float
        Share of all steps spent in warm-up.
    max_norm : float
        Gradients are clipped to this norm.
    max_scale : float
        The logit scale is clamped here (CLIP: 100).
    """

    epochs: int = 30
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    max_norm: float = 1.0
    max_scale: float = 100.0


@dataclass(frozen=True)
class Genes:
    """Panel and gene dropout.

    Attributes
    ----------
    n_genes : int
        Size of the panel.
    full_share : float
        Share of spots that keep every gene in a step.
    short_share : float
        Share of spots that keep a short panel (down to four genes), as a typed query has. The rest keeps a
        uniform share of 30 to 100 %.
    """

    n_genes: int = 1000
    full_share: float = 0.4
    short_share: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """Everything that one training run is told, besides its slides."""

    name: str
    model: ModelConfig
    losses: tuple[LossTerm, ...]
    sampler: Sampler = field(default_factory=Sampler)
    optimiser: Optimiser = field(default_factory=Optimiser)
    genes: Genes = field(default_factory=Genes)
    n_placements: int = 9  # region placements prepared per spot, of the nine possible

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def load_recipe(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Load a recipe by name or from a file.

    Parameters
    ----------
    name_or_path : str or path
        ``stamp`` for ``trainer/recipes/stamp.toml``, or a path to a TOML file.
    overrides : tuple of str
        ``section.key=value`` with a TOML value, for example ``optimiser.epochs=5``.

    Raises
    ------
    RecipeError
        For an unknown recipe, section, key or value.
    """
    values = _read(name_or_path)
    for override in overrides:
        key, _, text = override.partition("=")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        _set(values, key.strip(), value)
    return _recipe(values)


def _read(name_or_path: str | Path) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.toml")))
        msg = f"There is no recipe {str(name_or_path)!r}. Known recipes: {known}; or give a .toml file."
        raise RecipeError(msg)
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as exc:
        msg = f"The recipe {path} is not valid TOML: {exc}."
        raise RecipeError(msg) from exc
    base = values.pop("extends", None)
    if base is None:
        return values
    parent = path.parent / f"{base}.toml"
    return _merge(_read(parent if parent.is_file() else base), values)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        # A tower of another kind brings its own settings and takes none over.
        same = (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = _merge(old, value) if same else value
    return merged


def _set(values: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            msg = f"Cannot set {key!r}: {section!r} is a value, not a section."
            raise RecipeError(msg)
    values[last] = value


def _recipe(values: dict[str, Any]) -> Recipe:
    values = dict(values)
    try:
        name = str(values.pop("name"))
        model = dict(values.pop("model"))
        patch_um = float(model.pop("patch_um"))
        patch_px, region_px = int(model.pop("patch_px")), int(model.pop("region_px"))
        config = ModelConfig(
            PatchSpec(patch_um, patch_px), PatchSpec(3 * patch_um, region_px), int(model.pop("dim")),
            dict(model.pop("image_tower")), dict(model.pop("gene_tower")),
            bool(model.pop("region_ref_leak", True)),
        )  # fmt: skip
        losses = tuple(_make(LossTerm, term, "losses") for term in values.pop("losses"))
    except KeyError as exc:
        msg = f"The recipe has no {exc}. Start from trainer/recipes/stamp.toml."
        raise RecipeError(msg) from exc
    except ValueError as exc:
        msg = f"The recipe cannot be used: {exc}"
        raise RecipeError(msg) from exc
    recipe = Recipe(
        name,
        config,
        losses,
        _make(Sampler, values.pop("sampler", {}), "sampler"),
        _make(Optimiser, values.pop("optimiser", {}), "optimiser"),
        _make(Genes, values.pop("genes", {}), "genes"),
        int(values.pop("n_placements", 9)),
    )
    unknown = [*values, *(f"model.{key}" for key in model)]
    if unknown:
        msg = f"The recipe has unknown fields: {', '.join(unknown)}."
        raise RecipeError(msg)
    _check(recipe)
    return recipe


def _make(kind: type[_T], values: dict[str, Any], section: str) -> _T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        msg = f"[{section}] has unknown fields: {', '.join(unknown)}; expected {', '.join(sorted(known))}."
        raise RecipeError(msg)
    try:
        made = kind(**values)
    except TypeError as exc:
        msg = f"[{section}] is incomplete: {exc}."
        raise RecipeError(msg) from exc
    for name, value in vars(made).items():
        wanted = _TYPES[str(kind.__annotations__[name])]
        if isinstance(value, bool) or not isinstance(value, wanted):
            msg = f"{section}.{name} is {value!r}; expected a value of type {kind.__annotations__[name]}."
            raise RecipeError(msg)
    return made


def _check(recipe: Recipe) -> None:
    for term in recipe.losses:
        if term.kind not in LOSS_KINDS:
            msg = f"Unknown loss {term.kind!r}; expected one of {', '.join(LOSS_KINDS)}."
            raise RecipeError(msg)
        sides = {term.left, term.right} - {"patch", "region", "image", "gene"}
        if term.kind != "locate" and sides:
            msg = f"Loss {term.name} compares {', '.join(map(repr, sides))}; expected patch, region, image or gene."
            raise RecipeError(msg)
    if not recipe.losses:
        msg = "The recipe has no losses."
        raise RecipeError(msg)
    if recipe.sampler.kind not in SAMPLER_KINDS:
        msg = (
            f"Unknown sampler {recipe.sampler.kind!r}; expected one of {', '.join(SAMPLER_KINDS)}."
        )
        raise RecipeError(msg)
    checks = {
        "optimiser.epochs": recipe.optimiser.epochs >= 1,
        "optimiser.lr": recipe.optimiser.lr > 0,
        "sampler.batch_size": recipe.sampler.batch_size >= 2,
        "n_placements (1 to 9)": 1 <= recipe.n_placements <= 9,
        "genes.n_genes": recipe.genes.n_genes >= 2,
        "genes.full_share + genes.short_share (0 to 1)": 0
        <= recipe.genes.full_share + recipe.genes.short_share
        <= 1,
    }
    bad = [name for name, fine in checks.items() if not fine]
    if bad:
        msg = f"Out of range in the recipe: {', '.join(bad)}."
        raise RecipeError(msg)
