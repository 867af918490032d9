"""Route of gene names while they are typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.answers import json_answer
from app.gene_names import completer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from app.stores import Opened

MAX_TYPED = 60
MAX_NAMES = 12


def complete(opened: Opened, request: Request) -> Response:
    """Genes that what was typed may mean, best first."""
    typed = request.query_params.get("q", "")[:MAX_TYPED]
    found = completer(opened).complete(typed, limit=MAX_NAMES)
    return json_answer(
        [
            {
                "symbol": one.symbol,
                "matched": one.matched,
                "kind": one.kind,
                "note": one.note,
                "measured": one.measured,
            }
            for one in found
        ]
    )
