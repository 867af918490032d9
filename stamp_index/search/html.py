"""Hits as a table of pictures for notebooks. Everything that comes from data is escaped."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING, Any, Final

from stamp_index.search.hits import gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.search.hits import Hits

_SHOWN: Final = 48  # a notebook is saved with its pictures
_GENES_SHOWN: Final = 4


def hits_html(hits: Hits) -> str:
    """HTML of the first hits, with nothing that is fetched from elsewhere."""
    records = hits.table.head(_SHOWN).to_dict("records")
    pictures = hits.store.thumbnails(hits.rows[:_SHOWN])
    tiles = "".join(
        _tile(hit, jpeg, hits.genes) for hit, jpeg in zip(records, pictures, strict=True)
    )
    notes = "".join(f"<div><i>{escape(note)}</i></div>" for note in hits.notes)
    more = f", first {_SHOWN} shown" if len(hits) > _SHOWN else ""
    by = "cosine" if hits.ranked_by == "score" else "measured expression"
    return (
        f"<div><b>{escape(hits.query)}</b>: {len(hits)} hits by {by}{more}; store version "
        f"{hits.store_version}, encoder {escape(hits.fingerprint[:12])}</div>{notes}"
        f'<div style="display:flex;flex-wrap:wrap;gap:8px">{tiles}</div>'
    )


def _tile(hit: Mapping[Any, Any], jpeg: bytes | None, genes: tuple[str, ...]) -> str:
    spot_id = escape(str(hit["spot_id"]))
    if jpeg is None:
        picture = '<div style="width:112px;height:112px;background:#eee">no picture</div>'
    else:
        data = base64.b64encode(jpeg).decode("ascii")
        picture = (
            f'<img src="data:image/jpeg;base64,{data}" width="112" height="112" '
            f'alt="patch of {spot_id}">'
        )
    readings = "".join(
        f"<br>{escape(gene)} {_reading(float(hit[gene_column(gene)]))}"
        for gene in genes[:_GENES_SHOWN]
    )
    return (
        f'<div style="width:116px;font-size:11px;overflow-wrap:anywhere">{picture}'
        f"<br>#{int(hit['rank'])} {float(hit['score']):.3f}<br>{spot_id}{readings}</div>"
    )


def _reading(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "not measured"
