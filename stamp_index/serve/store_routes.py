"""Routes that read: what the store holds, and pictures of it."""

# ruff: noqa: TC001 - FastAPI reads the annotations of routes

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Response

from stamp_index.client.connection import NO_IMAGE
from stamp_index.errors import QueryError
from stamp_index.serve import plain
from stamp_index.serve.answers import (
    ColumnsAnswer,
    ExpressionAnswer,
    GenesAnswer,
    SlideAnswer,
    SlidesAnswer,
    StoreAnswer,
    ThumbnailsAnswer,
)
from stamp_index.serve.asks import ExpressionAsk, LabelsAsk, RowsAsk, SpotRowsAsk
from stamp_index.serve.problems import NotThereError, RefusedError
from stamp_index.store.view import SPOT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.serve.live import Opened
    from stamp_index.serve.service import Service


def store_router(service: Service) -> APIRouter:
    """Routes under ``/v1`` that read."""
    router = APIRouter(prefix="/v1", tags=["store"])
    _of_the_store(router, service)
    _of_slides(router, service)
    _of_spots(router, service)
    _of_one_spot(router, service)
    return router


def _of_the_store(router: APIRouter, service: Service) -> None:
    @router.get("/store", response_model=StoreAnswer)
    async def store() -> Response:
        """Say what is served: the store's name, version, encoders and indexes."""
        return await service.read(plain.store_answer)

    @router.get("/genes", response_model=GenesAnswer)
    async def genes() -> Response:
        """Every gene that was measured on any slide."""
        return await service.read(
            lambda opened: (
                plain.of_version(opened)
                | {"genes": list(opened.store.genes), "gene_ids": list(opened.store.gene_ids)}
            )
        )


def _of_slides(router: APIRouter, service: Service) -> None:
    def shown(opened: Opened, slide_ids: list[str]) -> list[dict[str, Any]]:
        records = plain.slides_answer(opened.slides.loc[slide_ids])
        for record in records:  # readers write notes, which may name files
            record["notes"] = [service.shown.text(note) for note in record["notes"]]
        return records

    @router.get("/slides", response_model=SlidesAnswer)
    async def slides() -> Response:
        """All slides, in the order in which they were added."""
        return await service.read(
            lambda opened: (
                plain.of_version(opened) | {"slides": shown(opened, list(opened.slides.index))}
            )
        )

    @router.get("/slides/{slide_id}", response_model=SlideAnswer)
    async def slide(slide_id: str) -> Response:
        """One slide."""
        return await service.read(lambda opened: shown(opened, [_known(opened, slide_id)])[0])

    @router.get("/slides/{slide_id}/genes", response_model=GenesAnswer)
    async def slide_genes(slide_id: str) -> Response:
        """Genes that were measured on one slide, in its own order."""

        def work(opened: Opened) -> dict[str, Any]:
            genes = opened.store.genes_of(_known(opened, slide_id))
            ids = dict(zip(opened.store.genes, opened.store.gene_ids, strict=True))
            named = {"genes": list(genes), "gene_ids": [ids.get(gene, "") for gene in genes]}
            return plain.of_version(opened) | named

        return await service.read(work)

    @router.get("/slides/{slide_id}/overview", response_class=JPEG)
    async def overview(slide_id: str) -> Response:
        """JPEG of a whole slide; its scale is its own width over the slide's `width_px`."""

        def work(opened: Opened) -> bytes:
            picture = opened.store.overview(_known(opened, slide_id))
            if picture is None:
                msg = f"Slide '{slide_id}' has no image."
                raise RefusedError(404, NO_IMAGE, msg)
            return picture

        return await service.picture(work)


def _of_spots(router: APIRouter, service: Service) -> None:
    @router.post("/spots", response_model=ColumnsAnswer)
    async def spots(ask: SpotRowsAsk) -> Response:
        """Spots with their slide, position and totals."""

        def work(opened: Opened) -> dict[str, Any]:
            rows = _rows_of(opened, ask, service)
            columns = _once(SPOT_COLUMNS if ask.columns is None else ask.columns)
            _check_table(service, rows, columns)
            frame = opened.store.spots(columns, rows)
            return _columns(opened, rows, {name: frame[name] for name in frame})

        return await service.read(work)

    @router.post("/labels", response_model=ColumnsAnswer)
    async def labels(ask: LabelsAsk) -> Response:
        """Labels of spots; null where a spot has none."""

        def work(opened: Opened) -> dict[str, Any]:
            rows = _rows(opened, ask.rows, service)
            names = _once(opened.store.label_names if ask.names is None else ask.names)
            _check_table(service, rows, names)
            found = {name: opened.store.label(name, rows) for name in names}
            return _columns(opened, rows, found)

        return await service.read(work)

    @router.post("/expression", response_model=ExpressionAnswer)
    async def expression(ask: ExpressionAsk) -> Response:
        """Expression of some genes at some spots."""

        def work(opened: Opened) -> dict[str, Any]:
            rows = _rows(opened, ask.rows, service)
            service.check("genes", ask.genes)
            service.check("cells", len(ask.genes) * len(rows))
            read = opened.store.counts if ask.raw else opened.store.expression
            values = plain.table_of_numbers(read(ask.genes, rows))
            said = {"genes": ask.genes, "rows": rows.tolist(), "values": values}
            return plain.of_version(opened) | said

        return await service.read(work)

    @router.post("/thumbnails", response_model=ThumbnailsAnswer)
    async def thumbnails(ask: RowsAsk) -> Response:
        """JPEGs of several spots' patches, in base64."""

        def work(opened: Opened) -> dict[str, Any]:
            service.check("k", ask.rows)
            found = opened.store.thumbnails(_rows(opened, ask.rows, service))
            said = [None if one is None else base64.b64encode(one).decode("ascii") for one in found]
            return plain.of_version(opened) | {"thumbnails": said}

        return await service.read(work)


def _of_one_spot(router: APIRouter, service: Service) -> None:
    @router.get("/spots/{row}", response_model=ColumnsAnswer)
    async def spot(row: int) -> Response:
        """One spot, by its row."""

        def work(opened: Opened) -> dict[str, Any]:
            rows = _known_row(opened, row)
            frame = opened.store.spots(None, rows)
            return _columns(opened, rows, {name: frame[name] for name in frame})

        return await service.read(work)

    @router.get("/thumbnails/{row}", response_class=JPEG)
    async def thumbnail(row: int) -> Response:
        """JPEG of a spot's patch."""

        def work(opened: Opened) -> bytes:
            picture = opened.store.thumbnails(_known_row(opened, row))[0]
            if picture is None:
                msg = f"The slide of row {row} has no image."
                raise RefusedError(404, NO_IMAGE, msg)
            return picture

        return await service.picture(work)


class JPEG(Response):
    """A picture."""

    media_type = "image/jpeg"


def _once(names: Sequence[str]) -> list[str]:
    """Each name once: an answer has one column of a name, and each is read from the disk."""
    return list(dict.fromkeys(names))


def _check_table(service: Service, rows: NDArray[np.int64], names: list[str]) -> None:
    service.check("cells", max(1, len(rows)) * len(names))


def _columns(opened: Opened, rows: NDArray[np.int64], columns: dict[Any, Any]) -> dict[str, Any]:
    said = {str(name): plain.listed(values) for name, values in columns.items()}
    return plain.of_version(opened) | {"rows": rows.tolist(), "columns": said}


def _known(opened: Opened, slide_id: str) -> str:
    if slide_id not in opened.slides.index:
        msg = f"There is no slide '{slide_id}' in the store."
        raise NotThereError(msg)
    return slide_id


def _known_row(opened: Opened, row: int) -> NDArray[np.int64]:
    first, n = opened.slides["first_spot"], opened.slides["n_spots"]
    if not bool(((first <= row) & (row < first + n)).any()):
        msg = f"There is no spot with row {row} in the store."
        raise NotThereError(msg)
    return np.array([row], np.int64)


def _rows_of(opened: Opened, ask: SpotRowsAsk, service: Service) -> NDArray[np.int64]:
    if (ask.rows is None) == (ask.spot_ids is None):
        msg = "Give either rows or spot_ids."
        raise QueryError(msg)
    if ask.rows is not None:
        return _rows(opened, ask.rows, service)
    service.check("queries", ask.spot_ids)
    return np.array([opened.store.row_of(one) for one in ask.spot_ids or ()], np.int64)


def _rows(opened: Opened, rows: list[int], service: Service) -> NDArray[np.int64]:
    service.check("rows", rows)
    most = opened.store.n_rows
    wrong = [row for row in rows if not 0 <= row < most]
    if wrong:
        msg = f"Row {wrong[0]} is not in the store, which has given rows 0 to {most - 1}."
        raise ValueError(msg)
    return np.array(rows, np.int64)
