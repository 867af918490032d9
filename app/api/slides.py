"""Routes of one slide: its tiles, places of spots, layers of values, and one spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response

from app.api import images
from app.api.answers import FOREVER, NotThereError, json_answer
from app.predictions import prediction
from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.view import gene_layer, label_layer, spot_places
from stamp_index.view.cards import spot_card
from stamp_index.view.layers import UNIT, continuous

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.stores import Opened
    from stamp_index.view import Layer

BINARY = "application/octet-stream"
MAX_NAME = 200  # characters of a gene or label


def slide_of(opened: Opened, request: Request) -> str:
    """Id of the slide whose number in the store's table the address has.

    Raises
    ------
    NotThereError
        If there is no such number.
    """
    number = request.path_params["number"]
    if not 0 <= number < len(opened.slides):
        msg = f"There is no slide {number}; the store has {len(opened.slides)}."
        raise NotThereError(msg)
    return str(opened.slides.index[number])


def tile(opened: Opened, request: Request) -> Response:
    """JPEG of a tile."""
    place = tuple(request.path_params[name] for name in ("level", "column", "row"))
    try:
        jpeg = images.tile(opened, slide_of(opened, request), place)
    except QueryError as error:
        raise NotThereError(str(error)) from error
    return Response(jpeg, media_type="image/jpeg", headers=FOREVER)


def spots(opened: Opened, request: Request) -> Response:
    """Places of all spots: float32, x and y in level-0 pixels, one after the other."""
    places = spot_places(opened.store, slide_of(opened, request))
    return Response(places.xy_px.astype("<f4").tobytes(), media_type=BINARY, headers=FOREVER)


def layer(opened: Opened, request: Request) -> Response:
    """Codes of a gene or label at all spots, uint16; what they mean is JSON in the header X-Meaning."""
    slide_id = slide_of(opened, request)
    made = _layer(opened, slide_id, request)
    meaning = json.dumps(made.meaning.to_dict())  # ASCII
    return Response(
        made.codes.astype("<u2").tobytes(),
        media_type=BINARY,
        headers={**FOREVER, "X-Meaning": meaning},
    )


def _layer(opened: Opened, slide_id: str, request: Request) -> Layer:
    gene, label = (request.query_params.get(name, "")[:MAX_NAME] for name in ("gene", "label"))
    if label:
        return label_layer(opened.store, slide_id, label)
    if gene in opened.store.genes_of(slide_id):
        return gene_layer(opened.store, slide_id, gene)
    if not gene or gene not in opened.measured:
        msg = f"No slide of the store measured '{gene}'."
        raise NotThereError(msg)
    try:
        made = prediction(opened, slide_id, gene)
    except MissingGenesError as error:
        raise NotThereError(str(error)) from error
    return continuous(made.values, name=gene, unit=UNIT, note=made.note)


def spot(opened: Opened, request: Request) -> Response:
    """Id of one spot of a slide, by its number there, and its value of a gene."""
    slide_id = slide_of(opened, request)
    gene = request.query_params.get("gene", "")[:MAX_NAME]
    index = request.path_params["index"]
    try:
        card = spot_card(opened.store, opened.slides.loc[slide_id], index, gene=gene)
    except QueryError as error:
        raise NotThereError(str(error)) from error
    return json_answer(card)
