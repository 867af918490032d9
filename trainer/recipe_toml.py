"""Recipes as TOML files: found by name, extended, laid over and overridden, as plain values."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

RECIPES: Final = Path(__file__).parent / "recipes"
OVERLAYS: Final = RECIPES / "overlays"
_STAGE1: Final = "stage1"  # recipes of the other stage begin with this word
_LONGEST_NAME: Final = 200  # of a recipe, in a message
_DEEPEST: Final = 20  # levels of a recipe; the deepest that means anything has four


def recipe_values(
    name_or_path: str | Path, overrides: Sequence[str] = (), overlays: Sequence[str] = ()
) -> dict[str, Any]:
    """Values of a recipe over those that it extends, under overlays and overrides.

    Parameters
    ----------
    name_or_path, overrides, overlays
        See `trainer.recipe_file.load_recipe`.

    Raises
    ------
    RecipeError
        For an unknown recipe, a file that is no TOML, or an override that leads nowhere.
    """
    values = _read(name_or_path)
    for overlay in overlays:
        named = Path(overlay).suffix != ".toml"
        values = _merge(values, _read(OVERLAYS / f"{overlay}.toml" if named else overlay))
    for override in overrides:
        key, _, text = override.partition("=")
        _set(values, key.strip(), _override_value(override, text))
    _refuse_depth("The recipe with its overrides", values)
    return values


def overlay_names() -> list[str]:
    """Names of the overlays that come with the trainer."""
    return sorted(path.stem for path in OVERLAYS.glob("*.toml"))


def recipe_names() -> list[str]:
    """Names of the recipes that come with the trainer."""
    return sorted(p.stem for p in RECIPES.glob("*.toml") if not p.stem.startswith(_STAGE1))


def stage1_names() -> list[str]:
    """Names of the recipes of stage 1 that come with the trainer."""
    return sorted(path.stem for path in RECIPES.glob(f"{_STAGE1}*.toml"))


def _read(name_or_path: str | Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Values of a recipe over those that it extends; `extending` are the files that led here."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not _is_there(path):
        which = f", which {extending[-1]} extends" if extending else ""
        msg = (
            f"There is no recipe or overlay {_shortened(path.stem)!r}{which}. Known recipes: {', '.join(recipe_names())}; "
            f"of stage 1: {', '.join(stage1_names())}; overlays: {', '.join(overlay_names())}; or give a .toml file."
        )
        raise RecipeError(msg)
    chain = (*extending, path.resolve())
    if chain[-1] in extending:
        msg = f"The recipe extends itself: {' -> '.join(map(str, chain))}. Take one `extends` away."
        raise RecipeError(msg)
    values = _read_toml(path)
    merged: dict[str, Any] = {}
    for base in _bases(path, values.pop("extends", [])):
        merged = _merge(merged, _read(base, chain))
    return _merge(merged, values)


def _bases(path: Path, extends: object) -> list[str | Path]:
    """Each recipe that a file extends: another file in its folder, or else one by name."""
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = (
            f"extends in {path} is {extends!r}; expected the name of a recipe, or a list of names."
        )
        raise RecipeError(msg)
    beside = [path.parent / f"{name.removesuffix('.toml')}.toml" for name in names]
    # A stamp.toml of one's own that extends stamp means the trainer's.
    return [
        near if _is_there(near) and near.is_file() and near.resolve() != path.resolve() else name
        for name, near in zip(names, beside, strict=True)
    ]


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a recipe's file as it stands.

    Raises
    ------
    RecipeError
        If it cannot be read, is no TOML in UTF-8, or nests too deeply.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as exc:
        msg = f"The recipe {path} is not text in UTF-8 ({exc}). Save it as UTF-8."
        raise RecipeError(msg) from exc
    except RecursionError as exc:
        msg = f"The recipe {path} nests too deeply to be read. Take the inner brackets away."
        raise RecipeError(msg) from exc
    except ValueError as exc:  # TOML's own, or that of a whole number with thousands of digits
        msg = f"The recipe {path} is not valid TOML: {exc}."
        raise RecipeError(msg) from exc
    except OSError as exc:
        msg = f"The recipe {path} cannot be read: {exc.strerror}. Give a .toml file."
        raise RecipeError(msg) from exc
    _refuse_depth(f"The recipe {path}", values)
    return values


def _merge(base: dict[str, Any], over: dict[str, Any], *, in_model: bool = False) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = value
        if isinstance(old, dict) and isinstance(value, dict):
            other = in_model and _is_other_kind(old, value.get("kind", old.get("kind")))
            if not other:
                merged[key] = _merge(old, value, in_model=in_model or key == "model")
    return merged


def _is_other_kind(section: dict[str, Any], kind: object) -> bool:
    """Whether a part of the model becomes another, which brings its own settings and takes none over."""
    return bool(kind != section.get("kind"))


def _set(values: dict[str, Any], key: str, value: object) -> None:
    """Set one value of nested tables and lists; an empty table takes a section away."""
    *sections, last = key.split(".")
    place: Any = values
    for section in sections:
        if isinstance(place, list) and section.isdigit() and int(section) < len(place):
            place = place[int(section)]
        elif isinstance(place, dict):
            place = place.setdefault(section, {})
        else:
            msg = f"Cannot set {key!r}: {section!r} is a value, not a section."
            raise RecipeError(msg)
    if not isinstance(place, dict):
        msg = f"Cannot set {key!r}: {'.'.join(sections)!r} is a value, not a section."
        raise RecipeError(msg)
    if last == "kind" and sections[:1] == ["model"] and _is_other_kind(place, value):
        place.clear()
    place[last] = value


def _override_value(override: str, text: str) -> object:
    """Read what an override sets: a TOML value, or else the text itself.

    Raises
    ------
    RecipeError
        If the value nests too deeply to be read.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # besides TOML's own, that of a whole number with thousands of digits
        return text
    except RecursionError as exc:
        msg = f"{_shortened(override)} nests too deeply; give a plain value."
        raise RecipeError(msg) from exc


def _refuse_depth(what: str, values: object) -> None:
    """Refuse tables and lists in each other beyond any meaning: what walks through them would fail.

    Raises
    ------
    RecipeError
        Beginning with `what`.
    """
    level: list[Any] = [values]
    for _ in range(_DEEPEST):
        parts = (place.values() if isinstance(place, dict) else place for place in level)
        level = [held for part in parts for held in part if isinstance(held, (dict, list))]
    if level:
        msg = f"{what} nests too deeply: more than {_DEEPEST} levels. Take the inner ones away."
        raise RecipeError(msg)


def _shortened(text: str) -> str:
    """Text for a message, whose end a very long one loses."""
    return text if len(text) <= _LONGEST_NAME else f"{text[:40]}... ({len(text):,} letters)"


def _is_there(path: Path) -> bool:
    """Whether a file exists; one whose name the system does not take is not there."""
    try:
        return path.exists()
    except OSError:
        return False
