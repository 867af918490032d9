"""Answers to what a notebook's viewer asks: tiles, places, values and cards, as its messages want them.

The same bytes as the app's routes give, from the same functions. A front end can send anything; whatever makes no sense is
answered with a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import QueryError, StampIndexError
from stamp_index.search.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.view.layers import Layer
    from stamp_index.view.sources import SlideSource

    Reply = tuple[dict[str, Any], list[bytes]]

SPOTS: Final = "spots"
MAX_TILES: Final = 400  # of some 40 kB
_MOST_SAID: Final = 300  # characters of a sentence


@dataclass(frozen=True)
class Desk:
    """What is shown now, ready to be asked for.

    Attributes
    ----------
    key : str
        Names this showing of a slide; questions about another are refused.
    source : SlideSource
    tiles : Kept of bytes
        JPEG of each tile that was asked for last.
    """

    key: str
    source: SlideSource
    tiles: Kept[bytes] = field(default_factory=lambda: Kept(MAX_TILES))

    def about(self) -> dict[str, Any]:
        """Tell the browser of the slide; it asks for tiles and places by itself."""
        places, zoom = self.source.places, self.source.zoom
        told: dict[str, Any] = {
            "key": self.key,
            "label": self.source.slide_id,
            "mpp": self.source.mpp,
        }
        told["image"] = zoom and {
            "width": zoom.width_px,
            "height": zoom.height_px,
            "tileSize": zoom.tile_px,
            "overlap": zoom.overlap_px,
            "maxLevel": zoom.max_level,
        }
        told["spots"] = {
            "n": len(places.rows),
            "diameter": places.diameter_px,
            "shape": places.shape,
            "path": SPOTS,
        }
        return told

    def answer(self, message: object, layers: Mapping[str, Layer | str]) -> Reply:
        """Answer one question.

        Parameters
        ----------
        message : object
            ``{"ask": "tile", "key": ..., "level": ..., "column": ..., "row": ...}``, or ``"ask"`` ``"bytes"`` or ``"json"``
            with a ``"path"``: ``"spots"``, ``"spots/<number>"``, or that of a layer. Its ``"id"`` comes back.
        layers : mapping of str to Layer or str
            Layers that are shown, by path; a sentence for one that could not be made.

        Returns
        -------
        (dict, list of bytes)
            Message and its buffers. What goes wrong is under ``"error"``; nothing is raised.
        """
        name = message.get("id") if isinstance(message, dict) else None
        told = {"id": name if isinstance(name, str) else None}
        try:
            more, buffers = self._answer(message, layers)
        except (StampIndexError, OSError, ValueError) as error:
            return told | {"error": str(error)[:_MOST_SAID]}, []
        return told | more, buffers

    def _answer(self, message: object, layers: Mapping[str, Layer | str]) -> Reply:
        if not isinstance(message, dict):
            msg = f"A message is a {type(message).__name__}; expected an object with `ask`."
            raise QueryError(msg)
        if message.get("key") != self.key:
            msg = "Another slide is shown by now. Ask again."
            raise QueryError(msg)
        asked, path = message.get("ask"), message.get("path")
        if asked == "tile":
            return {}, [self._tile(_number(message, "level"), message)]
        if asked == "bytes" and path == SPOTS:
            return {}, [self.source.places.xy_px.astype("<f4").tobytes()]
        if asked == "bytes" and isinstance(path, str) and path in layers:
            return _codes(layers[path])
        if asked == "json" and isinstance(path, str) and path.startswith(f"{SPOTS}/"):
            return {"json": self.source.card(_index(path))}, []
        msg = f"There is no answer to {asked!r} of {path!r}."[:_MOST_SAID]
        raise QueryError(msg)

    def _tile(self, level: int, message: Mapping[str, Any]) -> bytes:
        place = level, _number(message, "column"), _number(message, "row")
        zoom = self.source.zoom
        if zoom is None:
            msg = f"Slide {self.source.slide_id} has no picture."
            raise QueryError(msg)
        zoom.box(*place)  # raises where there is no such tile, before anything is opened
        return self.tiles.get(place, lambda: zoom.tile(self.source.picture, *place))


def _codes(layer: Layer | str) -> Reply:
    if isinstance(layer, str):
        raise QueryError(layer)
    return {"meta": layer.meaning.to_dict()}, [layer.codes.astype("<u2").tobytes()]


def _number(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"`{name}` of a tile is a {type(value).__name__}; expected a whole number."
        raise QueryError(msg)
    return value


def _index(path: str) -> int:
    digits = path.removeprefix(f"{SPOTS}/")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        msg = f"{path[:40]!r} names no spot; expected spots/<number>."
        raise QueryError(msg)
    return int(digits)
