"""Python that repeats a search. Every text in it is a literal, so that no name of a gene or slide can be code."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.search.regions.settings import RegionSettings
from stamp_index.search.sharing.requests import (
    GeneRequest,
    ImageRequest,
    RegionRequest,
    Request,
    SpotRequest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.store import Store

STORE_PATH: Final = "path/to/store"
_INDENT: Final = "    "


def python_snippet(request: Request, store: Store, *, store_path: Path | str = STORE_PATH) -> str:
    """Write Python that asks the same of the same store.

    Parameters
    ----------
    request : Request
        What was asked.
    store : Store
        Where; its name, version and encoder are said.
    store_path : path
        What the code opens. The app gives none, as a server's paths are nobody's business.

    Returns
    -------
    str
        Code that ends with the hits in ``hits``. A picture is read from the file that the request names.
    """
    lines = [
        f"# Asked of the store {ascii(store.place.label)} at version {store.version}, with encoder "
        f"{ascii(store.card.name)} {ascii(store.card.fingerprint)}.",
        *_imports(request),
        "",
        f"searcher = si.Searcher.open({_literal(str(store_path))}, encoder={_literal(store.encoder)})",
        *_prepared(request),
        f"hits = searcher.{request.method}(",
        f"{_INDENT}{_subject(request)},",
        *(f"{_INDENT}{name}={_literal(value)}," for name, value in request.arguments().items()),
        ")",
        "print(hits.to_pandas())",
    ]
    return "\n".join(lines) + "\n"


def _imports(request: Request) -> list[str]:
    lines = ["import stamp_index as si"]
    if isinstance(request, RegionRequest) and request.outlines:
        lines.insert(0, "import shapely")
        lines.insert(1, "")
    if isinstance(request, ImageRequest):
        lines.append("from stamp_index.slides import safe_open")
    return lines


def _prepared(request: Request) -> list[str]:
    """Lines that make what is asked with, where it is no literal."""
    if isinstance(request, ImageRequest):
        name = request.file_name.replace("\\", "/").rpartition("/")[
            2
        ]  # of a folder of this machine
        return [f"patch = safe_open({_literal(name)})"]
    if not isinstance(request, RegionRequest) or request.spot_ids:
        return []
    parts = []
    for outer, *holes in request.outlines:
        parts.append(f"{_INDENT}shapely.Polygon({_literal(outer)}, {_literal(holes)}),")
    shape = "parts[0]" if len(parts) == 1 else "shapely.MultiPolygon(parts)"
    asked = f"si.Region({_literal(request.slide_id)}, {shape}, 'px')  # level-0 pixels"
    return ["parts = [", *parts, "]", f"region = {asked}"]


def _subject(request: Request) -> str:
    """First argument, as code."""
    if isinstance(request, GeneRequest):
        return _literal(request.signature)
    if isinstance(request, SpotRequest):
        return _literal(request.spot_id)
    if isinstance(request, RegionRequest):
        return _literal(list(request.spot_ids)) if request.spot_ids else "region"
    return "patch"


def _literal(value: Any) -> str:  # noqa: ANN401 - whatever an argument is
    """Python for a value, in ASCII: letters that look alike, or turn the line around, are escaped.

    Raises
    ------
    TypeError
        If it is nothing that can be written.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return ascii(str(value))
    if isinstance(value, dict):
        inner = ", ".join(f"{_literal(name)}: {_literal(held)}" for name, held in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, RegionSettings):
        held = ((one.name, getattr(value, one.name)) for one in fields(value))
        return f"si.RegionSettings({', '.join(f'{name}={_literal(v)}' for name, v in held)})"
    msg = f"{type(value).__name__} cannot be written as Python; expected text, numbers, lists or dicts."
    raise TypeError(msg)
