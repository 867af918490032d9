"""A probe's result from the JSON that it was written as."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.probe.result import (
    ClassScore,
    Level,
    ProbeCounts,
    ProbeFold,
    ProbePredictions,
    ProbeResult,
    ProbeSource,
)
from stamp_index.evaluate.probe.settings import ProbeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


def settings_from(values: dict[str, Any]) -> ProbeSettings:
    """Make settings of their plain values, as ``dataclasses.asdict`` and JSON have them."""
    given: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in values.items()
    }
    return ProbeSettings(**given)


def result_from_json(text: str, drawn: Mapping[int, str] | None = None) -> ProbeResult:
    """Inverse of ``ProbeResult.to_json(predictions=True)``.

    Parameters
    ----------
    text : str
        With the predictions of every spot.
    drawn : mapping of int to str, optional
        Labels by row that were given instead of stored ones; the JSON does not hold them.

    Returns
    -------
    ProbeResult

    Raises
    ------
    ValueError
        If it is no JSON.
    KeyError
        If it has no predictions.
    """
    held = json.loads(text)
    return ProbeResult(
        settings=settings_from(held["settings"]),
        source=ProbeSource(**held["source"]),
        counts=ProbeCounts(**held["counts"]),
        classes=tuple(held["classes"]),
        folds=tuple(_fold(one) for one in held["folds"]),
        level=_level(held["level"]),
        pooled=_numbers(held["pooled"]),
        levels={name: _level(one) for name, one in held["levels"].items()},
        per_class=tuple(ClassScore(**_numbers(one)) for one in held["per_class"]),
        confusion=np.array(held["confusion"], np.int64).reshape((len(held["classes"]),) * 2),
        predictions=_predictions(held["predictions"], is_gene=not held["classes"]),
        notes=tuple(held["notes"]),
        warnings=tuple(held["warnings"]),
        drawn=drawn,
    )


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Put NaN back where JSON has null."""
    return {name: float("nan") if one is None else one for name, one in values.items()}


def _level(values: dict[str, Any]) -> Level:
    return Level(_numbers(values["mean"]), _numbers(values["sd"]))


def _fold(values: dict[str, Any]) -> ProbeFold:
    held_out, scores = tuple(values["held_out"]), _numbers(values["scores"])
    return ProbeFold(**{**values, "held_out": held_out, "scores": scores})


def _predictions(values: dict[str, Any], *, is_gene: bool) -> ProbePredictions:
    types: dict[str, Any] = {"rows": np.int64, "fold": np.int64, "output": np.float64}
    said = np.float64 if is_gene else object
    arrays = {
        one.name: np.array(
            values[one.name],
            types.get(one.name, said if one.name in ("truth", "predicted") else object),
        )
        for one in fields(ProbePredictions)
    }
    return ProbePredictions(**arrays)
