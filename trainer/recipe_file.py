"""From the values of a TOML file to a recipe, checked in words."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from stamp_index.encoders.layers import MOST_PIXELS, WIDEST, check_whole
from stamp_index.encoders.model_config import SIDES, ModelConfig
from stamp_index.encoders.settings import refuse_unknown
from stamp_index.encoders.towers import random_network, trained_part
from stamp_index.slides import PatchSpec
from trainer.recipe import LossTerm, Recipe, RecipeError
from trainer.recipe_toml import recipe_values
from trainer.reconstruction import RECONSTRUCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

_MOST: Final = {"patch_px": MOST_PIXELS, "region_px": MOST_PIXELS, "dim": WIDEST}
_WIDTHS_UM: Final = (1, 100_000)
_USUAL_CONTEXT: Final = 64
_GIVEN_OTHERWISE: Final = ("patch", "region", "sides", "localised", "region_sees_patch")
_MODEL_KEYS: Final = (
    *("patch_um", "patch_px", "region_um", "region_px", "region_ref_leak"),
    *(field.name for field in fields(ModelConfig) if field.name not in _GIVEN_OTHERWISE),
)
_MODEL_SECTIONS: Final = tuple(
    field.name for field in fields(ModelConfig) if str(field.type).startswith("dict")
)


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), overlays: Sequence[str] = ()
) -> Recipe:
    """Load a recipe by name or from a file.

    Parameters
    ----------
    name_or_path : str or path
        ``stamp`` for ``trainer/recipes/stamp.toml``, or a path to a TOML file.
    overrides : sequence of str
        ``section.key=value`` with a TOML value, for example ``optimiser.epochs=5``. A part of the key that is
        a number picks a member of a list: ``losses.1.weight=0``. Another ``kind`` of a part of the model drops
        that part's other settings, so what the new kind is told comes after it; ``false`` takes a part away.
    overlays : sequence of str
        Partial recipes laid over it before that, by name (``legacy_st``) or path.

    Raises
    ------
    RecipeError
        For an unknown recipe, section, key or value.
    """
    return make_recipe(recipe_values(name_or_path, overrides, overlays))


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """Build a recipe from the values of a TOML file.

    Raises
    ------
    RecipeError
        As `load_recipe`.
    """
    values = dict(values)
    try:
        losses = _terms(values.get("losses", []))
        model = _model(values.pop("model"), losses)
        recipe = Recipe(**{**values, "losses": losses, "model": model})
    except KeyError as exc:
        start = "Start from trainer/recipes/stamp.toml."
        if values.get("stage") == 1:
            start = "It is one of stage 1: give it to stamp-index pretrain."
        msg = f"The recipe has no {exc}. {start}"
        raise RecipeError(msg) from exc
    except ValidationError as exc:
        raise RecipeError(in_words(exc, Recipe)) from exc
    except (TypeError, ValueError) as exc:
        msg = f"The recipe cannot be used: {exc}"
        raise RecipeError(msg) from exc
    if not recipe.losses:
        msg = "The recipe has no losses, or every weight is 0."
        raise RecipeError(msg)
    _check_losses(recipe)
    _check_weights(recipe.model)
    _check_own_decoder(recipe.model)
    if not recipe.genes.stage1:  # which brings its own panel
        check_context("model.", recipe.model.gene_tower, recipe.genes.n_genes)
    return recipe


def _terms(given: object) -> tuple[LossTerm, ...]:
    """Losses that weigh anything."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(term, dict) for term in given):
        msg = f"losses is {given!r}; expected a section [[losses]], in double brackets, for each loss."
        raise RecipeError(msg)
    terms = [LossTerm(**term) for term in given]
    return tuple(term for term in terms if term.weight)


def _model(section: object, losses: Sequence[LossTerm]) -> ModelConfig:
    """Model section: widths become patch specs; heads are those that losses and retrieval ask for."""
    if not isinstance(section, dict):
        msg = f"model is {section!r}; expected a section [model]."
        raise RecipeError(msg)
    given = dict(section)
    refuse_unknown("[model]", given, _MODEL_KEYS)
    _check_values(given)
    _fill_sections(given)
    patch_um = float(given.pop("patch_um"))
    patch = PatchSpec(patch_um, given.pop("patch_px"))
    region = PatchSpec(float(given.pop("region_um", 3 * patch_um)), given.pop("region_px"))
    given["region_sees_patch"] = given.pop("region_ref_leak", True)
    localised = any(term.kind == "locate" for term in losses)
    retrieval = given.setdefault("retrieval", "patch")
    named = {side for term in losses for side in (term.left, term.right)}
    if "image" in named and retrieval != "joint":
        msg = 'A loss compares image, which needs retrieval = "joint" in [model].'
        raise RecipeError(msg)
    sides = {"patch", "gene"} | named
    if retrieval != "patch" or localised or "image" in named:
        sides.add("region")
    if retrieval == "concat":
        sides.add("niche")
    if given.get("fusion"):
        sides |= set(SIDES)
    ordered = tuple(side for side in SIDES if side in sides)
    return ModelConfig(patch, region, sides=ordered, localised=localised, **given)


def _check_values(given: Mapping[str, Any]) -> None:
    """Refuse impossible values of the keys that stand in [model] itself."""
    for key in ("patch_px", "region_px", "dim"):
        if key in given:
            check_whole(f"model.{key}", given[key], most=_MOST[key])
    narrowest, widest = _WIDTHS_UM
    for key in ("patch_um", "region_um"):
        width = given.get(key, 1.0)
        is_number = isinstance(width, (int, float)) and not isinstance(width, bool)
        if not is_number or not narrowest <= width <= widest:
            msg = (
                f"model.{key} is {width!r}; expected a width in microns, above 0: anything from {narrowest} to "
                f"{widest:,}."
            )
            raise RecipeError(msg)
    if not isinstance(given.get("region_ref_leak", True), bool):
        msg = f"model.region_ref_leak is {given['region_ref_leak']!r}; expected true or false."
        raise RecipeError(msg)


def _fill_sections(given: dict[str, Any]) -> None:
    """Make sections that were taken away empty, and refuse a value where a section stands."""
    for section in _MODEL_SECTIONS:
        if given.get(section) is False:
            given[section] = {}
    tables = {f"model.{section}": given.get(section, {}) for section in _MODEL_SECTIONS}
    decoders = given.get("decoders", {})
    if isinstance(decoders, dict):
        tables |= {f"model.decoders.{side}": settings for side, settings in decoders.items()}
    for name, table in tables.items():
        if not isinstance(table, dict):
            msg = f"{name} is {table!r}; expected a section [{name}] of settings."
            raise RecipeError(msg)
        if not isinstance(table.get("kind", ""), str):
            msg = f"{name}.kind is {table['kind']!r}; expected text, the name of a kind."
            raise RecipeError(msg)


def _check_weights(model: ModelConfig) -> None:
    """Refuse to keep the random weights of a network that is there for its pretrained ones."""
    for section in ("image_tower", "region_tower"):
        tower = getattr(model, section)
        name = random_network(tower)
        if name and trained_part(tower) != "full":
            msg = (
                f'[model.{section}] has train = "{trained_part(tower)}" but no weights for {name}, so most of it would '
                'stay random. Set weights = "hub" or a local .safetensors file, or train = "full".'
            )
            raise RecipeError(msg)


def _check_own_decoder(model: ModelConfig) -> None:
    """Refuse settings of a decoder in whose place the VAE's own is used; encoders that have them still load."""
    settings = model.decoders.get("gene")
    if settings and model.gene_tower["kind"] == "vae":
        msg = (
            f"[model.decoders.gene] has {', '.join(settings)}, but the gene tower is of kind vae: the VAE decodes by "
            "itself. Leave the section empty."
        )
        raise RecipeError(msg)


def check_context(section: str, gene_tower: Mapping[str, Any], n_genes: int) -> None:
    """Refuse more rank tokens than a panel has genes: all beyond are padding, which attention pays for squared.

    Parameters
    ----------
    section : str
        Stands before ``gene_tower`` in the message.
    gene_tower : mapping
        Its settings.
    n_genes : int
        Most genes of the panel; 0: whatever is expressed.

    Raises
    ------
    RecipeError
        If the context is longer than that and than the towers' default, which a small panel may leave as it is.
    """
    context = gene_tower.get("context", 0)
    if n_genes and context > max(n_genes, _USUAL_CONTEXT):
        msg = (
            f"{section}gene_tower.context is {context:,}, but a panel of genes.n_genes = {n_genes:,} gives a spot at "
            f"most {n_genes:,} rank tokens; the rest would be padding. Set {section}gene_tower.context={n_genes} or "
            "less, or raise genes.n_genes."
        )
        raise RecipeError(msg)


def _check_losses(recipe: Recipe) -> None:
    """Every loss finds the outputs that it needs, and none is named twice."""
    there = _outputs(recipe.model)
    for term in recipe.losses:
        if recipe.model.fusion and term.kind in ("reconstruct", "kl"):
            msg = (
                f"Loss {term.name} does not go with [model.fusion]: a model with fusion embeds the four sides and the "
                "two fused pairs, and nothing else. Take the loss away, or [model.fusion]."
            )
            raise RecipeError(msg)
        missing = sorted(term.needs - there)
        if missing:
            needed = ", ".join(sorted({_maker(name) for name in missing}))
            msg = f"Loss {term.name} needs {', '.join(missing)}, which the model does not make; add {needed}."
            raise RecipeError(msg)
        if term.kind == "clip_paired" and recipe.sampler.kind != "cluster_negatives":
            msg = (
                f"Loss {term.name} needs the sampler cluster_negatives, not {recipe.sampler.kind}."
            )
            raise RecipeError(msg)
        if term.kind == "reconstruct" and term.form not in RECONSTRUCTIONS:
            msg = f"Unknown form {term.form!r} of reconstruct; expected one of {', '.join(RECONSTRUCTIONS)}."
            raise RecipeError(msg)
    names = [term.name for term in recipe.losses]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        msg = f"The recipe names the loss {', '.join(doubled)} twice; add their weights."
        raise RecipeError(msg)


def _outputs(model: ModelConfig) -> set[str]:
    """Names of all that a model can be asked for."""
    there = {*model.sides, *(f"decoded_{side}" for side in model.decoders)}
    there |= {"image"} if model.retrieval == "joint" else set()
    there |= {"reference", "cells"} if model.localised else set()
    there |= {"kl_gene"} if model.gene_tower["kind"] == "vae" else set()
    there |= {"fused_spot", "fused_niche"} if model.fusion else set()
    return there


def _maker(output: str) -> str:
    """Name the part of a recipe that makes an output."""
    makers = {
        "fused": "[model.fusion]",
        "decoded": "[model.decoders.SIDE]",
        "niche": "[model.niche_tower]",
        "kl": "a gene tower of kind vae",
    }
    return makers.get(output.split("_")[0], "a tower")


def in_words(error: ValidationError, recipe: type[BaseModel]) -> str:
    """One sentence per wrong field of a recipe: where, what, and what was expected."""
    parts = []
    for found in error.errors():
        where = ".".join(map(str, found["loc"]))
        section = recipe.model_fields.get(str(found["loc"][0])) if found["loc"] else None
        if found["type"] == "extra_forbidden":
            kind = section.annotation if section is not None and len(found["loc"]) > 1 else recipe
            if error.title == "LossTerm":
                kind = LossTerm
            known = ", ".join(getattr(kind, "model_fields", {}))
            parts.append(f"{where} is unknown (known: {known})")
        elif found["type"] == "missing":
            parts.append(f"{where} is missing")
        else:
            parts.append(f"{where} is {found['input']!r}: {found['msg']}")
    return f"The recipe cannot be used: {'; '.join(parts)}."
