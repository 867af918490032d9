"""What a notebook's viewer can be given, and its slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stamp_index.errors import QueryError
from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.slides import Slide
from stamp_index.store import Store
from stamp_index.store.view import StoreView
from stamp_index.view.read_source import ReadSource
from stamp_index.view.sources import SlideSource, StoredSource

if TYPE_CHECKING:
    Given = StoreView | VectorSearcher | Slide


def opened(given: Given | Path | str) -> Given:
    """Open what was given as a path; all else is taken as it is.

    Raises
    ------
    StoreError
        If there is no store at the path.
    TypeError
        If it is nothing that has slides.
    """
    if isinstance(given, (str, Path)):
        return Store.open(given)
    if isinstance(given, (StoreView, VectorSearcher, Slide)):
        return given
    msg = (
        f"A {type(given).__name__} was given; expected a Store, a Searcher, the path of a store, or a Slide. An "
        "AnnData is written to a file and read by stamp_index.read, which looks for its image."
    )
    raise TypeError(msg)


def slide_ids_of(given: Given) -> tuple[str, ...]:
    """Ids of all slides.

    Raises
    ------
    QueryError
        If there are none.
    """
    if isinstance(given, Slide):
        return (given.slide_id,)
    store = given.store if isinstance(given, VectorSearcher) else given
    found = tuple(str(one) for one in store.slides()["slide_id"])
    if not found:
        msg = f"The store at {store.place} has no slides yet, so there is nothing to show. Add some first."
        raise QueryError(msg)
    return found


def source_of(given: Given, slide_id: str) -> SlideSource:
    """Open one of the slides.

    Raises
    ------
    QueryError
        If there is no such slide.
    """
    if isinstance(given, Slide):
        if slide_id != given.slide_id:
            msg = f"There is no slide '{slide_id}'; only {given.slide_id} was given."
            raise QueryError(msg)
        return ReadSource(given)
    if isinstance(given, VectorSearcher):
        return StoredSource(given.store, slide_id, given)
    return StoredSource(given, slide_id)
