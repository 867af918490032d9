"""Shapes that JSON must have, and what is wrong with values of another shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Kind(NamedTuple):
    """A kind of value: in words, and how it is told."""

    words: str
    fits: Callable[[Any], bool]


class Absent(NamedTuple):
    """A value that may be missing: what it stands for has a default."""

    shape: Any


class Null(NamedTuple):
    """A value that may be null."""

    shape: Any


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


TEXT: Final = Kind("a text", lambda value: isinstance(value, str))
FLAG: Final = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE: Final = Kind("a whole number", is_whole)
NUMBER: Final = Kind("a number", _is_number)
TABLE: Final = Kind("an object", lambda value: isinstance(value, dict))
TEXTS: Final = Kind(
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
)
NUMBERS: Final = Kind(
    "a list of numbers",
    lambda value: isinstance(value, list) and all(map(_is_number, value)),
)
TEXT_BY_KEY: Final = Kind(
    "an object of texts",
    lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
)


def flaw(values: object, shape: Any, where: str) -> str:  # noqa: ANN401 - shapes nest
    """Say what values lack, or hold in the place of something else, as a part of a sentence; empty: nothing.

    Parameters
    ----------
    values : object
        As read from JSON.
    shape : dict, list, Kind, Absent or Null
        An object with these keys (and others), a list of one shape that is not empty, or a single value.
    where : str
        Their place, for the sentence: ``config.model``.
    """
    if isinstance(shape, Null):
        return "" if values is None else flaw(values, shape.shape, where)
    if isinstance(shape, Absent):
        return flaw(values, shape.shape, where)
    if isinstance(shape, Kind):
        return "" if shape.fits(values) else f"{where} is not {shape.words}"
    if isinstance(shape, list):
        if not isinstance(values, list) or not values:
            return f"{where} is not a list of at least one"
        found = (flaw(value, shape[0], f"{where}.{at}") for at, value in enumerate(values))
        return next(filter(None, found), "")
    if not isinstance(values, dict):
        return f"{where} is not an object"
    return next(filter(None, _flaws(values, shape, where)), "")


def _flaws(values: Mapping[str, Any], shape: Mapping[str, Any], where: str) -> list[str]:
    """Flaws of an object's members, those that are fine among them as empty texts."""
    needed = [key for key, part in shape.items() if not isinstance(part, Absent)]
    missing = [f"{where} has no {key}" for key in needed if key not in values]
    there = [(key, part) for key, part in shape.items() if key in values]
    return missing + [flaw(values[key], part, f"{where}.{key}") for key, part in there]
