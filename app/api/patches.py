"""Route of patches: the stored picture of a spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from app.api.answers import FOREVER, NotThereError

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.stores import Opened


def patch(opened: Opened, request: Request) -> Response:
    """JPEG of a spot's patch, by its row id."""
    row = request.path_params["row"]
    if not opened.has_row(row):
        msg = f"Row {row} is not in the store."
        raise NotThereError(msg)
    jpeg = opened.store.thumbnails([row])[0]
    if jpeg is None:
        msg = f"No picture is stored for row {row}."
        raise NotThereError(msg)
    return Response(jpeg, media_type="image/jpeg", headers=FOREVER)
