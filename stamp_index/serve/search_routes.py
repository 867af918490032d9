"""Routes that search: each is one method of `Searcher`."""

# ruff: noqa: TC001 - FastAPI reads the annotations of routes

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response

from stamp_index.errors import ImageFormatError
from stamp_index.search.regions import RegionSettings
from stamp_index.serve import plain
from stamp_index.serve.answers import HitsAnswer, ManyAnswer, NearestAnswer, RegionsAnswer
from stamp_index.serve.asks import (
    GenesAsk,
    ImageAsk,
    NearestAsk,
    PictureAsk,
    ProfileAsk,
    RegionAsk,
    SpotsAsk,
    VectorAsk,
    VectorsAsk,
)
from stamp_index.serve.shapes import region_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from stamp_index.serve.live import Opened
    from stamp_index.serve.service import Service


def search_router(service: Service) -> APIRouter:
    """Routes under ``/v1/search``."""
    router = APIRouter(prefix="/v1/search", tags=["search"])
    _by_what_an_encoder_embeds(router, service)
    _by_pictures(router, service)
    _by_vectors(router, service)
    _by_what_is_stored(router, service)
    return router


def _arguments(service: Service, ask: BaseModel, *subjects: str) -> dict[str, Any]:
    """Keyword arguments of a searcher's method, within the limits."""
    found = {name: getattr(ask, name) for name in type(ask).model_fields if name not in subjects}
    service.check("k", found["k"])
    service.check("genes", found.get("genes"))
    if "k" in found and "genes" in found:
        service.check("cells", found["k"] * len(found["genes"]))
    return found


def _by_what_an_encoder_embeds(router: APIRouter, service: Service) -> None:
    @router.post("/genes", response_model=HitsAnswer)
    async def genes(ask: GenesAsk) -> Response:
        """Find spots that look (or read) as if they expressed a signature."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "signature")
            return plain.hits_answer(opened.asking.search_genes(ask.signature, **given))

        return await service.search(work)

    @router.post("/profile", response_model=HitsAnswer)
    async def profile(ask: ProfileAsk) -> Response:
        """Find spots for a measured expression profile."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "counts")
            return plain.hits_answer(opened.asking.search_profile(ask.counts, **given))

        return await service.search(work)


def _by_pictures(router: APIRouter, service: Service) -> None:
    @router.post("/image", response_model=HitsAnswer)
    async def image(ask: ImageAsk) -> Response:
        """Find spots for a picture of tissue, its file in base64."""
        return await service.search(
            lambda opened: _pictured(service, opened, ask, _decoded(ask.image_base64))
        )

    @router.post(
        "/picture",
        response_model=HitsAnswer,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    f"image/{kind}": {"schema": {"type": "string", "format": "binary"}}
                    for kind in ("png", "jpeg", "tiff")
                },
            }
        },
    )
    async def picture(request: Request, ask: Annotated[PictureAsk, Query()]) -> Response:
        """Find spots for a picture of tissue: the body is the file itself, the rest goes into the address."""
        data = await request.body()
        return await service.search(lambda opened: _pictured(service, opened, ask, data))


def _pictured(
    service: Service, opened: Opened, ask: ImageAsk | PictureAsk, data: bytes
) -> dict[str, Any]:
    from stamp_index.slides import safe_open

    given = _arguments(service, ask, "image_base64")
    if given.get("centre_px") is not None:
        given["centre_px"] = tuple(given["centre_px"])
    return plain.hits_answer(opened.asking.search_image(safe_open(data), **given))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "image_base64 is not base64. Encode the bytes of a PNG, JPEG or TIFF file."
        raise ImageFormatError(msg) from error


def _by_vectors(router: APIRouter, service: Service) -> None:
    @router.post("/vector", response_model=HitsAnswer)
    async def vector(ask: VectorAsk) -> Response:
        """Find spots for an embedding."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "vector")
            return plain.hits_answer(opened.searcher.search_vector(ask.vector, **given))

        return await service.search(work)

    @router.post("/vectors", response_model=ManyAnswer)
    async def vectors(ask: VectorsAsk) -> Response:
        """Find spots for several embeddings at once."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "vectors")
            _check_many(service, ask.vectors, ask.k, len(ask.genes))
            found = opened.searcher.search_vectors(cast("Any", ask.vectors), **given)
            return plain.many_answer(opened, found)

        return await service.search(work)

    @router.post("/nearest", response_model=NearestAnswer)
    async def nearest(ask: NearestAsk) -> Response:
        """Find rows for several embeddings, and nothing about them."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "vectors")
            _check_many(service, ask.vectors, ask.k)
            scores, rows = opened.searcher.nearest(cast("Any", ask.vectors), **given)
            numbers = {"scores": plain.table_of_numbers(scores), "rows": rows.tolist()}
            return plain.of_version(opened) | numbers

        return await service.search(work)


def _check_many(service: Service, queries: list[Any], k: int, n_genes: int = 0) -> None:
    service.check("queries", queries)
    service.check("cells", len(queries) * k * max(1, n_genes))


def _by_what_is_stored(router: APIRouter, service: Service) -> None:
    @router.post("/spots", response_model=ManyAnswer)
    async def spots(ask: SpotsAsk) -> Response:
        """Find spots like stored ones, which are never their own hits."""

        def work(opened: Opened) -> dict[str, Any]:
            given = _arguments(service, ask, "spot_ids")
            _check_many(service, ask.spot_ids, ask.k, len(ask.genes))
            return plain.many_answer(opened, opened.searcher.search_spots(ask.spot_ids, **given))

        return await service.search(work)

    @router.post("/region", response_model=RegionsAnswer)
    async def region(ask: RegionAsk) -> Response:
        """Find regions like one of a slide: connected groups of spots with as much of the same kinds."""
        stop = service.stopper()

        def work(opened: Opened) -> dict[str, Any]:
            subjects = ("slide_id", "polygons", "unit", "spot_ids", "rows", "settings")
            given = _arguments(service, ask, *subjects)
            if ask.settings is not None:
                given["settings"] = RegionSettings(**ask.settings.model_dump())
            asked = region_of(ask, service)
            found = opened.searcher.search_region(asked, **given, progress=stop)
            # how many spots they have is known no sooner
            service.check("found_spots", sum(len(rows) for rows in found.rows))
            return plain.regions_answer(found)

        return await service.search(work)
