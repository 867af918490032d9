"""Route of a probe's answer at every spot of a slide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from starlette.responses import Response

from app.api.answers import FOREVER, NotThereError
from app.api.slides import BINARY, slide_of
from app.api.tokens import check
from app.jobs import JobError
from app.probe_runs import result_of
from stamp_index.view import spot_places
from stamp_index.view.layers import categories, continuous

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.stores import Opened
    from stamp_index.evaluate import ProbeResult
    from stamp_index.view import Layer

WRONG, RIGHT = "wrong", "right"
MAX_TICKET = 100
_UNIT = "log1p CP10K"


def layer(opened: Opened, request: Request) -> Response:
    """Codes of a run's answer at all spots, as a slide's ``layer``; only for the run's owner."""
    slide_id = slide_of(opened, request)
    asked = request.query_params
    try:
        result = result_of(asked.get("job", "")[:MAX_TICKET], check(asked.get("t", "")))
    except JobError as error:
        raise NotThereError(str(error)) from error
    made = answer_layer(opened, slide_id, result, asked.get("show", ""))
    return Response(
        made.codes.astype("<u2").tobytes(),
        media_type=BINARY,
        headers={**FOREVER, "X-Meaning": json.dumps(made.meaning.to_dict())},
    )


def answer_layer(opened: Opened, slide_id: str, result: ProbeResult, show: str) -> Layer:
    """What a probe said of a slide's spots: ``right``, ``predicted`` or ``truth``.

    Of a gene, ``right`` is the prediction less what was measured. Spots are found by their ids, so that a run shows
    on later versions of its store too.

    Raises
    ------
    NotThereError
        If the run was on another store, or there is nothing of that name.
    """
    if result.source.store_id != opened.store.store_id or show not in (
        "right",
        "predicted",
        "truth",
    ):
        msg = f"This run has nothing to show as '{show[:20]}' on this store."
        raise NotThereError(msg)
    held = result.predictions
    rows = spot_places(opened.store, slide_id).rows
    ids = opened.store.spots(["spot_id"], rows)["spot_id"]
    if not result.classes:
        return _of_gene(result, show, ids)
    if show == "right":
        said = np.where(held.truth == held.predicted, RIGHT, WRONG)
        # wrong comes first: the viewer's first colour is its strongest
        return categories(_at(ids, held.spot_ids, said), name="Result", order=(WRONG, RIGHT))
    said = held.predicted if show == "predicted" else held.truth
    name = "Predicted" if show == "predicted" else "Truth"
    return categories(_at(ids, held.spot_ids, said), name=name, order=result.classes)


def _of_gene(result: ProbeResult, show: str, ids: pd.Series) -> Layer:
    held, gene = result.predictions, result.settings.gene
    if show == "truth":
        values, name = held.truth, f"{gene}, measured"
    elif show == "predicted":
        values, name = held.predicted, f"{gene}, predicted"
    else:
        values, name = held.predicted - held.truth, f"{gene}, predicted less measured"
    return continuous(_at(ids, held.spot_ids, values).to_numpy(float), name=name, unit=_UNIT)


def _at(ids: pd.Series, spot_ids: np.ndarray, values: np.ndarray) -> pd.Series:
    """Values in the order of `ids`, missing where a spot has none."""
    return pd.Series(values, index=spot_ids).reindex(ids)
