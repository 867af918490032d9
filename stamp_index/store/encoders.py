"""Several encoders side by side in one store."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from stamp_index.errors import StoreError
from stamp_index.store.drafts import draft_of
from stamp_index.store.schema import SPOTS, vector_fields
from stamp_index.store.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stamp_index.store.card import EncoderCard
    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Where
    from stamp_index.store.transaction import Transaction

ENCODERS = "encoders"  # folder of the checkpoints' copies inside the store
_NO_NAME: Final = re.compile(r"[/\\:\0]")  # what separates the parts of a path, on any system


def require_names(store: Where, names: Iterable[str]) -> None:
    """Refuse names of encoders that are no names of a folder: they become paths below the store.

    Raises
    ------
    StoreError
        Naming one.
    """
    for name in names:
        if name in ("", ".", "..") or _NO_NAME.search(name):
            msg = (
                f"The store at {store} names an encoder {name[:80]!r}, which is no name of a folder. Whoever made the "
                "store may want to read or write elsewhere: do not use it."
            )
            raise StoreError(msg)


def add_encoder(
    where: Where, card: EncoderCard, checkpoint: Path | None, lock_timeout_s: float
) -> tuple[str, Manifest]:
    """Add empty embedding columns of an encoder, and a copy of its checkpoint; returns its name in the store.

    Raises
    ------
    StoreError
        If the card's name is none of a folder, `checkpoint` is not a folder, or as `transact`.
    """
    require_names(where, [card.name])

    def step(change: Transaction) -> tuple[str, Manifest]:
        held = change.before.encoders
        for name in held:
            if held[name]["fingerprint"] == card.fingerprint:
                return name, change.before
        name = card.name if card.name not in held else f"{card.name}_{card.fingerprint[:8]}"
        if checkpoint is not None:
            copy_checkpoint(checkpoint, change.place.folder / ENCODERS / name)
            change.place.push(f"{ENCODERS}/{name}")
        table = change.table(SPOTS)
        before = table.version
        table.add_columns(pa.schema(vector_fields(name, card.dim)))
        change.require_next(SPOTS, before, table.version)
        words = f"added encoder {name}"
        return name, change.commit(words, encoders={**held, name: card.to_dict()})

    return transact(where, lock_timeout_s, step)


def copy_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint, whole or not at all; what a writer that ended left there is replaced.

    Raises
    ------
    StoreError
        If it is not a folder.
    """
    if not checkpoint.is_dir():
        msg = f"The checkpoint {checkpoint} is not a folder. Give the folder that training wrote."
        raise StoreError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(folder)
    try:
        shutil.copytree(checkpoint, draft)
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)  # of no encoder that a manifest names
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
