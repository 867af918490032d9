"""Every route, and the addresses that pages give to what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.routing import Route

from app.api import frontend, genes, patches, runs, slides
from app.api.answers import of_store, refusal
from app.api.tokens import mint
from app.settings import settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from app.stores import Opened

STORE = "/api/{store_id}/{version:count}"
SLIDE = STORE + "/slides/{number:count}"


class CountConvertor(IntegerConvertor):
    """Whole numbers of at most twelve digits: Python refuses to read thousands of them."""

    regex = "[0-9]{1,12}"


register_url_convertor("count", CountConvertor())


def routes() -> list[Route]:
    """All routes, below the base path."""
    base = settings().base_path
    found = {
        f"{SLIDE}/tiles/{{level:count}}/{{column:count}}_{{row:count}}.jpg": of_store(slides.tile),
        f"{SLIDE}/spots": of_store(slides.spots),
        f"{SLIDE}/spots/{{index:count}}": of_store(slides.spot),
        f"{SLIDE}/layer": of_store(slides.layer),
        f"{SLIDE}/run": of_store(runs.layer),
        f"{STORE}/patches/{{row:count}}.jpg": of_store(patches.patch),
        f"{STORE}/genes": of_store(genes.complete),
        "/assets/{release}/{name:path}": frontend.asset,
        "/api/{rest:path}": _unknown,
        "/assets/{rest:path}": _unknown,
    }
    return [Route(base + path, endpoint, methods=["GET"]) for path, endpoint in found.items()]


async def _unknown(request: Request) -> Response:
    return refusal(404, "There is nothing at this address.")


def store_address(opened: Opened) -> str:
    """What the addresses of a store's routes start with."""
    store = opened.store
    return f"{settings().base_path}/api/{quote(store.store_id, safe='')}/{store.version}"


def slide_address(opened: Opened, slide_id: str) -> str:
    """What the addresses of a slide's routes start with."""
    return f"{store_address(opened)}/slides/{int(opened.slides.index.get_loc(slide_id))}"


def patch_address(opened: Opened, row: int, *, user: str = "") -> str:
    """Address of a spot's picture."""
    return f"{store_address(opened)}/patches/{row}.jpg?t={mint(user)}"


def asset_address(name: str) -> str:
    """Address of a file of the browser's own code."""
    return f"{settings().base_path}/assets/{frontend.release()}/{name}"
