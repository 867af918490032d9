"""What is left where a store was to be made in object storage, and whoever made it was killed.

Version 1 is created last, and once. So where there is none, nobody has a store yet: the next who makes one there writes
its tables over those that are there. That keeps their older versions, of which the other's version 1 would speak if it
came after all; then that one counts, and is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.remote.objects import open_objects, unreachable
from stamp_index.store.local_place import LocalPlace
from stamp_index.store.schema import TABLES

if TYPE_CHECKING:
    from stamp_index.store.places import Place

_OURS: Final = {*(f"{name}.lance" for name in TABLES), "folders", "objects", "dropped", "writer.json"}  # fmt: skip


def can_be_made(place: Place) -> bool:
    """Whether a store can be made: nothing lies there, or only what an unfinished making left."""
    if isinstance(place, LocalPlace):  # made elsewhere, and moved when it is whole
        return place.is_empty()
    return names_at(place) <= _OURS


def names_at(place: Place) -> set[str]:
    """First parts of the names of all that lies in an object storage below a store's address; empty for a folder."""
    if isinstance(place, LocalPlace):
        return set()
    import obstore

    with unreachable(place.name):
        found = obstore.list_with_delimiter(open_objects(place.name))
    names = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
    return {name.strip("/") for name in names}
