"""A contact sheet: the patches of hits in a grid, each with what is known about it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stamp_index.errors import QueryError
from stamp_index.export.drawing import (
    FADED,
    INK,
    RESEARCH,
    RULE,
    SOFT,
    drawable,
    font_path,
    scale_bar,
    source_line,
)
from stamp_index.export.hit_tables import searched_text
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.export.hit_tables import HitList, Searched

MAX_HITS: Final = 200
MAX_GENES: Final = 3  # below each patch
_COLUMNS: Final = 6
_SIDE: Final = 240  # of a patch, pixels: twice what a screen shows
_GAP: Final = 28
_MARGIN: Final = 48
_TEXT: Final = 18
_LINE: Final = 26
_HEAD: Final = 140
_FOOT: Final = 80


def contact_sheet(hits: HitList, searched: Searched = "", *, columns: int = _COLUMNS) -> bytes:
    """Draw the patches of hits, best first, as PNG.

    Parameters
    ----------
    hits : Hits
        At most 200.
    searched : {"image", "gene"} or mapping, optional
        What `against` was.
    columns : int
        Patches in a row, 1 to 12.

    Returns
    -------
    bytes
        Each patch with rank, score, slide, measured expression of the first three genes asked for, and a scale bar; above
        them the query, store, version and encoder. A hit without a stored picture has an empty square.

    Raises
    ------
    QueryError
        If there are no hits, or more than 200.
    ValueError
        If `columns` is no such number.
    """
    n = len(hits.rows)
    if not 1 <= n <= MAX_HITS:
        msg = f"A contact sheet of {n:,} hits is asked for; expected 1 to {MAX_HITS}. Ask for as many."
        raise QueryError(msg)
    if not 1 <= columns <= 12:
        msg = f"columns is {columns}; expected 1 to 12."
        raise ValueError(msg)
    lines = 2 + min(len(_columns_of_genes(hits)), MAX_GENES)
    cell = (_SIDE + _GAP, _SIDE + 8 + lines * _LINE + _GAP)
    across = max(min(columns, n), 4 if columns >= 4 else columns)  # room for what stands above
    size = (
        2 * _MARGIN + across * cell[0] - _GAP,
        _HEAD + math.ceil(n / columns) * cell[1] - _GAP + _FOOT,
    )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    _write_head(pen, hits, searched, width=size[0] - 2 * _MARGIN)
    bar = scale_bar(_SIDE, hits.store.card.patch_width_um / _SIDE, share=0.34)
    pictures = hits.store.thumbnails(hits.rows)
    for at, (hit, jpeg) in enumerate(zip(hits.table.to_dict("records"), pictures, strict=True)):
        row, column = divmod(at, columns)
        corner = (_MARGIN + column * cell[0], _HEAD + row * cell[1])
        _draw_patch(sheet, corner, jpeg, bar)
        _write_hit(pen, (corner[0], corner[1] + _SIDE + _LINE), hit, _columns_of_genes(hits))
    _write_foot(pen, size, n)
    content = io.BytesIO()
    sheet.save(content, "PNG", dpi=(200, 200), compress_level=3)  # higher ones save 1 %
    return content.getvalue()


def _columns_of_genes(hits: HitList) -> dict[str, str]:
    """Column of the table of each gene that is reported."""
    return {gene: f"expr({gene})" if f"expr({gene})" in hits.table else gene for gene in hits.genes}


# ---- parts ---------------------------------------------------------------------------------------


def _write_head(
    pen: ImageDraw.ImageDraw, hits: HitList, searched: Searched, *, width: float
) -> None:
    y = _MARGIN + 22
    _write(pen, (_MARGIN, y), hits.query, size=32, bold=True, width=width)
    where = searched_text(searched)
    said = f"{len(hits.rows)} hits" + (f" in {where} embeddings" if where else "")
    line = f"{said} \u00b7 {source_line(hits.store)}"
    _write(pen, (_MARGIN, y + 36), line, size=19, colour=SOFT, width=width)


def _draw_patch(
    sheet: Image.Image, corner: tuple[int, int], jpeg: bytes | None, bar: tuple[float, str]
) -> None:
    """Draw a patch with its scale bar, or an empty square where no picture is kept."""
    pen = ImageDraw.Draw(sheet)
    box = (*corner, corner[0] + _SIDE - 1, corner[1] + _SIDE - 1)
    if jpeg is None:
        pen.rectangle(box, fill=FADED, outline=RULE, width=2)
        place = (corner[0] + _SIDE / 2, corner[1] + _SIDE / 2)
        pen.text(place, "no picture stored", fill=SOFT, font=_font(_TEXT), anchor="mm")
        return
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        sheet.paste(picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), corner)
    length, label = bar
    wide = max(length, pen.textlength(label, font=_font(15))) + 16
    left, foot = corner[0] + 8, corner[1] + _SIDE - 8
    pen.rounded_rectangle((left, foot - 36, left + wide, foot), radius=4, fill="white")
    pen.text((left + wide / 2, foot - 13), label, fill=INK, font=_font(15), anchor="ms")
    middle = left + wide / 2
    pen.rectangle((middle - length / 2, foot - 9, middle + length / 2, foot - 6), fill=INK)


def _write_hit(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], hit: Mapping[Any, Any], genes: Mapping[str, str]
) -> None:
    """Rank and score, slide, and one line for each gene: names to the left, values to the right."""
    x, y = at
    _write(pen, at, f"#{hit[Keys.RANK]}", size=_TEXT, bold=True, width=_SIDE / 2)
    _write_right(pen, (x + _SIDE, y), f"{hit[Keys.SCORE]:.3f}", colour=INK)
    _write(pen, (x, y + _LINE), str(hit[Keys.SLIDE_ID]), size=_TEXT, colour=SOFT, width=_SIDE)
    for line, (gene, column) in enumerate(list(genes.items())[:MAX_GENES], start=2):
        value = float(hit[column])
        known = np.isfinite(value)
        words = f"{value:.1f}" if known else "not measured"
        free = _SIDE - pen.textlength(words, font=_font(_TEXT)) - 12
        _write(pen, (x, y + line * _LINE), gene, size=_TEXT, width=free)
        _write_right(pen, (x + _SIDE, y + line * _LINE), words, colour=INK if known else SOFT)


def _write_foot(pen: ImageDraw.ImageDraw, size: tuple[int, int], n: int) -> None:
    y = size[1] - _MARGIN + 4
    said = "Score: cosine. Genes: measured log1p CP10K." if n else ""
    pen.text((_MARGIN, y), said, fill=SOFT, font=_font(_TEXT), anchor="ls")
    pen.text((size[0] - _MARGIN, y), RESEARCH, fill=SOFT, font=_font(_TEXT), anchor="rs")


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    size: int,
    width: float,
    bold: bool = False,
    colour: str = INK,
) -> None:
    """Write text on a baseline, shortened to `width` pixels with an ellipsis."""
    font, line = _font(size, bold=bold), drawable(text)
    if pen.textlength(line, font=font) > width:
        short = len(line)
        while short and pen.textlength(f"{line[:short]}\u2026", font=font) > width:
            short -= 1
        line = f"{line[:short].rstrip()}\u2026"
    pen.text(at, line, fill=colour, font=font, anchor="ls")


def _write_right(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, colour: str
) -> None:
    pen.text(at, text, fill=colour, font=_font(_TEXT), anchor="rs")


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_path(bold=bold), size, layout_engine=ImageFont.Layout.BASIC)
