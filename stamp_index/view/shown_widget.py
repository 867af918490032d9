"""What a notebook's viewer and the browser tell each other: traits, questions and answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anywidget
import numpy as np
import traitlets

from stamp_index.errors import QueryError, StampIndexError
from stamp_index.search.kept import Kept
from stamp_index.view.marking import Box, Outline, box_of, corners_of, hit_marks, inside
from stamp_index.view.messages import Desk
from stamp_index.view.notebook_module import notebook_module, notebook_style
from stamp_index.view.opening import opened, slide_ids_of, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.search import Hits
    from stamp_index.view.layers import Layer
    from stamp_index.view.opening import Given

MAX_CORNERS: Final = 500  # of a lasso that the browser sends
LAYERS_KEPT: Final = 8


class ShownWidget(anywidget.AnyWidget):
    """A slide in the browser, and what the user does on it; `SlideViewer` says what the traits are.

    One trait goes to the browser, `_shown`; what the user does comes back as messages, so that whatever comes can be refused
    with a sentence.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    _shown = traitlets.Dict().tag(sync=True)
    slide_id = traitlets.Unicode()
    gene = traitlets.Unicode(None, allow_none=True)
    label = traitlets.Unicode(None, allow_none=True)
    lasso = traitlets.Any(None)
    selected_spot = traitlets.Unicode(None, allow_none=True)
    selected_outline = traitlets.Unicode(None, allow_none=True)
    view = traitlets.Any(None)
    height_px = traitlets.Int(520)

    def __init__(self, given: Given | Path | str, slide_id: str | None, *, height_px: int) -> None:
        module, style = notebook_module(), notebook_style()
        self._given = opened(given)
        self._values: Layer | None = None
        self._layers: Kept[Layer] = Kept(LAYERS_KEPT)
        self._hits: Hits | None = None
        self._outlines: list[Outline] = []
        self._stamps = {"lasso": "0", "box": "0"}
        self._box: Box | None = None  # where Python sent the view
        self._selected: int | None = None  # number on the slide
        self._n = 0  # counts changes that the browser must notice
        self._by = ""  # who in the browser caused the change that is being made
        first = slide_ids_of(self._given)[0] if slide_id is None else slide_id
        self._desk = Desk("0", source_of(self._given, first))
        super().__init__(_esm=module, _css=style, height_px=height_px)
        self.slide_id = first
        self._tell()
        self.on_msg(self._hear)

    def close(self) -> None:
        """Take the viewer off the page, and free the slide's picture and tiles."""
        desk = self.__dict__.get("_desk")  # None where making it failed
        if desk is not None:
            self.on_msg(self._hear, remove=True)
            desk.source.close()
            self._desk = Desk(desk.key, desk.source)
        super().close()

    # ---- traits ------------------------------------------------------------------------------

    @traitlets.validate("slide_id")
    def _slide_that_is_there(self, proposal: dict[str, Any]) -> str:
        return source_of(self._given, proposal["value"]).slide_id

    @traitlets.validate("gene", "label")
    def _layer_that_is_there(self, proposal: dict[str, Any]) -> str | None:
        name = proposal["value"] or None
        return None if name is None else self._made(proposal["trait"].name, name).meaning.name

    @traitlets.validate("lasso")
    def _polygon(self, proposal: dict[str, Any]) -> tuple[tuple[float, float], ...] | None:
        return None if proposal["value"] is None else corners_of(proposal["value"])

    @traitlets.validate("selected_spot")
    def _spot_that_is_there(self, proposal: dict[str, Any]) -> str | None:
        if proposal["value"] is not None:
            self._desk.source.index_of(proposal["value"])
        return proposal["value"]  # type: ignore[no-any-return]

    @traitlets.validate("view")
    def _box_with_area(self, proposal: dict[str, Any]) -> Box | None:
        return None if proposal["value"] is None else box_of(proposal["value"])

    @traitlets.observe("slide_id")
    def _open(self, change: dict[str, Any]) -> None:
        self._n += 1
        if self._desk.source.slide_id != change["new"]:
            self._desk.source.close()
            self._desk = Desk(str(self._n), source_of(self._given, change["new"]))
        self._values = self._box = self._selected = None
        with self.hold_sync():
            self.lasso = self.selected_spot = self.selected_outline = self.view = None
            self._tell()

    @traitlets.observe("gene", "label")
    def _colour(self, change: dict[str, Any]) -> None:
        with self.hold_sync():
            if change["new"] is not None:
                self._values = None
                setattr(self, "label" if change["name"] == "gene" else "gene", None)
            self._tell()

    @traitlets.observe("lasso", "view")
    def _move(self, change: dict[str, Any]) -> None:
        self._n += 1
        if change["name"] == "lasso":
            self._stamps["lasso"] = self._by or f"python:{self._n}"
        elif not self._by:
            self._stamps["box"] = f"python:{self._n}"
            self._box = change["new"]
        self._tell()

    @traitlets.observe("selected_spot", "height_px")
    def _say(self, _: dict[str, Any]) -> None:
        spot = self.selected_spot
        self._selected = None if spot is None else self._desk.source.index_of(spot)
        self._tell()

    # ---- the browser -------------------------------------------------------------------------

    def _hear(self, _: object, message: object, __: object) -> None:
        """Answer a message of the browser; whatever it holds, nothing is raised."""
        if isinstance(message, dict) and "said" in message:
            try:
                self._said(message)
            except (StampIndexError, ValueError, TypeError, traitlets.TraitError) as error:
                self.send({"id": None, "error": str(error)[:300]})
            return
        layer = self._named_layer
        layers = {} if layer is None else {self._path: self._layer_or_why()}
        self.send(*self._desk.answer(message, layers))

    def _said(self, message: dict[str, Any]) -> None:
        """Take what the user did; of another slide than the one shown it is nothing."""
        if message.get("key") != self._desk.key:
            return
        said, value = message["said"], message.get("value")
        with self._heard(str(message.get("by", "browser"))[:40]):
            if said == "lasso":
                self.lasso = None if not value else corners_of(value, most=MAX_CORNERS)
            elif said == "spot":
                self.selected_spot = None if value is None else self._id_of(value)
            elif said == "outline":
                named = {str(i): one.name for i, one in enumerate(self._here)}
                self.selected_outline = named.get(str(value))
            elif said == "view":
                self.view = box_of(value)
            else:
                msg = f"Nothing is known of {str(said)[:40]!r}."
                raise QueryError(msg)

    @contextmanager
    def _heard(self, by: str) -> Iterator[None]:
        """Know that what changes meanwhile was the user's doing in the browser."""
        self._by = by
        try:
            yield
        finally:
            self._by = ""

    def _id_of(self, index: object) -> str:
        n = len(self._desk.source.places.rows)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < n:
            msg = f"There is no spot {str(index)[:40]} on slide {self.slide_id}, which has {n}."
            raise QueryError(msg)
        return self._desk.source.spot_ids(np.array([index]))[0]

    def _tell(self) -> None:
        """Tell the browser what is shown."""
        layer = self._named_layer
        self._shown = {
            **self._desk.about(),
            "height": self.height_px,
            "layer": None if layer is None else {"path": self._path, "name": layer[1]},
            "marks": [] if self._hits is None else hit_marks(self._hits, self.slide_id),
            "regions": [one.to_dict(str(i)) for i, one in enumerate(self._here)],
            "selected": self._selected,
            "lasso": self.lasso,
            "lassoStamp": self._stamps["lasso"],
            "box": self._box,
            "boxStamp": self._stamps["box"],
        }

    # ---- what is shown now -------------------------------------------------------------------

    @property
    def _inside(self) -> NDArray[np.int64]:
        """Numbers on the slide of the spots inside the lasso."""
        if self.lasso is None:
            return np.empty(0, np.int64)
        return inside(self.lasso, self._desk.source.places.xy_px)

    @property
    def _here(self) -> list[Outline]:
        """Outlines on the slide that is shown."""
        return [one for one in self._outlines if one.slide_id == self.slide_id]

    @property
    def _named_layer(self) -> tuple[str, str] | None:
        """What spots are coloured by: kind and name."""
        if self._values is not None:
            return "values", self._values.meaning.name
        if self.gene is not None:
            return "gene", self.gene
        return None if self.label is None else ("label", self.label)

    @property
    def _path(self) -> str:
        """Names the codes of the layer that is shown; other values of the same name have another."""
        kind, name = self._named_layer or ("none", "")
        return f"{kind}/{self._n if kind == 'values' else name}"

    def _made(self, kind: str, name: str) -> Layer:
        """Layer of a gene or label of the slide; the last ones are kept."""
        source = self._desk.source
        make = source.gene_layer if kind == "gene" else source.label_layer
        return self._layers.get((source.slide_id, kind, name), lambda: make(name))

    @property
    def _layer(self) -> Layer | None:
        if self._values is not None or self._named_layer is None:
            return self._values
        return self._made(*self._named_layer)

    def _layer_or_why(self) -> Layer | str:
        """Layer that is shown, or why this slide has none: a gene of the slide before may not be on it."""
        try:
            layer = self._layer
        except StampIndexError as error:
            return str(error)
        return "Nothing colours the spots." if layer is None else layer
