"""A slide viewer for notebooks: the app's own viewer, fed by messages of the kernel. No server, no port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stamp_index.errors import QueryError, StampIndexError
from stamp_index.view.figures import slide_figure
from stamp_index.view.given_values import given_layer
from stamp_index.view.marking import Outline, region_outlines, shape_of
from stamp_index.view.opening import slide_ids_of
from stamp_index.view.shown_widget import ShownWidget

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.export import SlideFigure
    from stamp_index.export.spot_values import Origin
    from stamp_index.search import Hits, RegionHits
    from stamp_index.slides import Slide
    from stamp_index.view.layers import Layer
    from stamp_index.view.opening import Given


class SlideViewer(ShownWidget):
    """Look at a slide in a notebook: deep zoom, spots coloured by a gene, a label or own values, and a lasso.

    Parameters
    ----------
    given : Store, Searcher, path or Slide
        A store that is open, what searches one, the folder of one, or a slide that `stamp_index.read` gave.
    slide_id : str, optional
        The first slide by default.
    gene, label : str, optional
        What spots are coloured by. A gene that this slide did not measure is predicted, if other slides did.
    values : array of shape (n,) or Series, optional
        The same, with values of your own: see `values`.
    height_px : int
        Height in screen pixels.

    Attributes
    ----------
    slide_id, gene, label, height_px
        Set them to show something else; `observe` tells of changes.
    lasso : tuple of (x, y), or None
        Polygon in level-0 pixels that was drawn, or that is to be shown.
    selected_spot : str or None
        Id of the spot that was clicked, or that is to be shown as selected.
    selected_outline : str or None
        Name of the outline that was clicked.
    view : (left, top, right, bottom) or None
        What is seen, in level-0 pixels; None until the slide was moved. Set it to go there.

    Raises
    ------
    ValueError
        If more than one of `gene`, `label` and `values` is given.
    QueryError
        If there is no such slide, gene or label.
    StampIndexError
        If the store cannot be opened, or OpenSeadragon is not installed.

    Examples
    --------
    >>> viewer = si.SlideViewer("stamp-demo/store", gene="EPCAM")  # doctest: +SKIP
    >>> viewer  # draw a lasso # doctest: +SKIP
    >>> viewer.selection()  # doctest: +SKIP
    AnnData object with n_obs x n_vars = 213 x 655
    """

    def __init__(
        self,
        given: Given | Path | str,
        slide_id: str | None = None,
        *,
        gene: str | None = None,
        label: str | None = None,
        values: ArrayLike | pd.Series[Any] | None = None,
        height_px: int = 520,
    ) -> None:
        if sum(one is not None for one in (gene, label, values)) > 1:
            msg = "Spots are coloured by one thing at a time. Give one of gene, label and values."
            raise ValueError(msg)
        super().__init__(given, slide_id, height_px=height_px)
        try:
            with self.hold_sync():
                if values is not None:
                    self.values = values
                else:
                    self.gene, self.label = gene, label
        except StampIndexError:
            self.close()  # it is registered with the kernel by now
            raise

    @classmethod
    def from_slide(
        cls,
        slide: Slide,
        *,
        gene: str | None = None,
        label: str | None = None,
        values: ArrayLike | pd.Series[Any] | None = None,
        height_px: int = 520,
    ) -> SlideViewer:
        """Show a slide that was read from its files and is in no store.

        Examples
        --------
        >>> slide = si.read("visium/outs")  # doctest: +SKIP
        >>> si.SlideViewer.from_slide(slide, gene="EPCAM")  # doctest: +SKIP
        """
        return cls(slide, gene=gene, label=label, values=values, height_px=height_px)

    def __repr__(self) -> str:
        shown = self._named_layer
        return f"SlideViewer(slide_id={self.slide_id!r}{f', {shown[0]}={shown[1]!r}' if shown else ''})"

    # ---- what is shown -----------------------------------------------------------------------

    @property
    def slide_ids(self) -> tuple[str, ...]:
        """Slides that can be shown."""
        return slide_ids_of(self._given)

    @property
    def values(self) -> Layer | None:
        """Own values that spots are coloured by; set an array (n,) in the order of `all_spot_ids`, a Series, or None.

        A Series whose index holds spot ids or barcodes is put into that order; spots that it lacks are grey. Numbers get a
        range of colours, text and categories one colour each.
        """
        return self._values

    @values.setter
    def values(self, values: ArrayLike | pd.Series[Any] | None) -> None:
        made = None if values is None else given_layer(self._desk.source, values)
        with self.hold_sync():
            self.gene = self.label = None
            self._values = made
            self._n += 1
            self._tell()

    def show_hits(self, hits: Hits | None) -> None:
        """Put rings at the hits that lie on the slide that is shown; None takes them away."""
        self._hits = hits
        self._tell()

    def show_regions(self, regions: RegionHits | None) -> None:
        """Outline the regions that were found on the slide that is shown; None takes them away."""
        kept = [one for one in self._outlines if one.kind != "hit"]
        self._outlines = kept + ([] if regions is None else list(region_outlines(regions)))
        self._tell()

    def add_outline(self, outline: ArrayLike | Polygon | MultiPolygon, name: str = "") -> None:
        """Outline a shape on the slide that is shown.

        Parameters
        ----------
        outline : array of shape (n, 2), or Polygon or MultiPolygon
            In level-0 pixels.
        name : str
            Stands at the outline, and in `selected_outline` when it is clicked.

        Raises
        ------
        ValueError
            If it has no area.
        """
        self._outlines.append(Outline(self.slide_id, name, shape_of(outline)))
        self._tell()

    def clear_outlines(self) -> None:
        """Take away every outline, those of regions too."""
        self._outlines = []
        self._tell()

    # ---- what was chosen ---------------------------------------------------------------------

    @property
    def all_spot_ids(self) -> list[str]:
        """Id of every spot of the slide, in its order."""
        return self._desk.source.spot_ids()

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the store of the spots inside the lasso, ascending; for a slide in no store, their numbers on it."""
        found: NDArray[np.int64] = self._desk.source.places.rows[self._inside]
        return found

    @property
    def spot_ids(self) -> list[str]:
        """Ids of the spots inside the lasso."""
        return self._desk.source.spot_ids(self._inside)

    def selection(self) -> AnnData:
        """Spots inside the lasso, with counts, labels and places; of a store as `to_anndata` gives them.

        Raises
        ------
        QueryError
            If no lasso is drawn.
        """
        if self.lasso is None:
            msg = "No lasso is drawn. Draw one on the slide, or set `lasso` to its corners."
            raise QueryError(msg)
        return self._desk.source.annotated(self._inside)

    def figure(self, *, values_are: Literal["measured", "predicted"] | None = None) -> SlideFigure:
        """Figure of what is shown, with the lasso and outlines: the slide at the present view, spots by the present layer.

        Parameters
        ----------
        values_are : {"measured", "predicted"}, optional
            What `values` are, which the title says; needed for numbers of your own.

        Returns
        -------
        SlideFigure
            Draw it by its `png` or `svg`.

        Raises
        ------
        QueryError
            If the slide is in no store, or `values_are` is needed.
        """
        layer = self._layer
        shapes = [one.shape for one in self._here]
        if self.lasso is not None:
            shapes.append(shape_of(self.lasso))
        return slide_figure(
            self._desk.source,
            layer,
            origin=self._origin(layer, values_are),
            outlines=shapes,
            box_px=self.view,
        )

    def _origin(
        self, layer: Layer | None, values_are: Literal["measured", "predicted"] | None
    ) -> Origin:
        """Where the values of the present layer are from."""
        if layer is None or self.label is not None:
            return "label"
        if self._values is None:
            return "predicted" if layer.meaning.note else "measured"
        is_number = layer.meaning.kind == "continuous"
        if values_are not in ("measured", "predicted") and (is_number or values_are is not None):
            msg = "The figure's title says what the values are. Give values_are='measured' or 'predicted'."
            raise QueryError(msg)
        return values_are or "label"
