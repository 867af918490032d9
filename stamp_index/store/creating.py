"""Making an empty store, whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from stamp_index.errors import StoreError
from stamp_index.store.card import check_card
from stamp_index.store.drafts import draft_of
from stamp_index.store.encoders import ENCODERS, copy_checkpoint
from stamp_index.store.guarded import unwritten
from stamp_index.store.local_place import LocalPlace
from stamp_index.store.lock import WAIT_S
from stamp_index.store.manifest import Manifest, write_manifest
from stamp_index.store.places import place_of
from stamp_index.store.schema import (
    BITMAP_COLUMNS,
    BTREE_COLUMNS,
    EXPRESSION,
    LABELS,
    SLIDES,
    SPOTS,
    expression_schema,
    labels_schema,
    slides_schema,
    spots_schema,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from stamp_index.store.card import EncoderCard
    from stamp_index.store.places import Place, Where


def create_store(where: Where, card: EncoderCard, checkpoint: Path | None) -> None:
    """Write version 1: a folder beside the place and move it there at the end, or version 1 as the last of the objects.

    What somebody left in an object storage who was killed before version 1, which comes last and once, is written over.

    Raises
    ------
    StoreError
        If there is something already, somebody else makes a store there meanwhile, or `checkpoint` is not a folder.
    """
    place = place_of(where)
    if checkpoint is not None and not checkpoint.is_dir():
        msg = f"The checkpoint {checkpoint} is not a folder. Give the folder that training wrote."
        raise StoreError(msg)
    if checkpoint is not None and place.folder.resolve().is_relative_to(checkpoint.resolve()):
        msg = f"The store {place} would lie in the checkpoint {checkpoint}, which is copied into it. Choose another path."
        raise StoreError(msg)
    try:
        check_card(card)
    except ValueError as exc:
        msg = f"No store can be made of this encoder: {exc}."
        raise StoreError(msg) from exc
    _require_free(place)
    to_do = "Choose another path, or open the store that somebody else is making there."
    with unwritten(place, f"No store can be made at {place}", to_do):
        _make(place, card, checkpoint)


def _require_free(place: Place) -> None:
    if not place.is_free():
        msg = (
            f"There is something at {place} already. Open it with Store.open if it is a store, or choose a path that does "
            f"not exist."
        )
        raise StoreError(msg)


def _make(place: Place, card: EncoderCard, checkpoint: Path | None) -> None:
    if not isinstance(place, LocalPlace):
        with place.writing(WAIT_S):  # who makes one at the same time finds this one
            _require_free(place)
            _fill(place, card, checkpoint)
        return
    path = place.folder
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        draft.mkdir()
        _fill(LocalPlace(draft), card, checkpoint)
        with suppress(FileNotFoundError):
            path.rmdir()  # empty, or another process got here first and this fails
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_table(draft: Place, name: str, schema: pa.Schema) -> int:
    """Make an empty table with its indexes, over one that somebody may have left there; returns its version.

    The versions of that one stay: if its maker only slept, and creates version 1 after all, that speaks of them.
    """
    import lance

    make = partial(
        lance.write_dataset, schema.empty_table(), draft.table(name), schema=schema, enable_stable_row_ids=True
    )  # fmt: skip
    try:
        table = make(mode="create")
    except OSError as exc:
        if "already exists" not in str(exc):
            raise
        table = make(mode="overwrite")
    if name == SPOTS:
        for column in BITMAP_COLUMNS:
            table.create_scalar_index(column, "BITMAP")
        for column in BTREE_COLUMNS:
            table.create_scalar_index(column, "BTREE")
    version: int = table.version
    return version


def _fill(draft: Place, card: EncoderCard, checkpoint: Path | None) -> None:
    schemas: dict[str, pa.Schema] = {
        SLIDES: slides_schema(),
        SPOTS: spots_schema({card.name: card.dim}),
        EXPRESSION: expression_schema(),
        LABELS: labels_schema(),
    }
    versions = {name: _make_table(draft, name, schema) for name, schema in schemas.items()}
    if checkpoint is not None:
        copy_checkpoint(checkpoint, draft.folder / ENCODERS / card.name)
        draft.push(f"{ENCODERS}/{card.name}")
    first = Manifest(
        store_id=uuid.uuid4().hex,
        version=1,
        tables=versions,
        n_slides=0,
        n_spots=0,
        n_rows=0,
        encoders={card.name: card.to_dict()},
        change="created",
        created_at=datetime.now(UTC).isoformat(),
    )
    try:
        write_manifest(draft, first)
    except FileExistsError:
        msg = f"Somebody else made a store at {draft} meanwhile. Open it with Store.open, or choose another path."
        raise StoreError(msg) from None
