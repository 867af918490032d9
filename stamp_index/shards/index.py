"""An index whose rows lie in shards, to be searched like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from stamp_index.errors import ShardError, StalePlanError
from stamp_index.index import Index
from stamp_index.index.background import Background
from stamp_index.index.card import IndexCard
from stamp_index.index.exact import score
from stamp_index.index.files import check_file
from stamp_index.index.folder import BACKGROUND, CARD, ROWS, SLIDES, read_json
from stamp_index.index.generation import Generation
from stamp_index.shards.engine import ShardedEngine
from stamp_index.shards.plan import part_folder, read_plan, shards_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.index import Prepared, Settings
    from stamp_index.shards.plan import ShardPlan
    from stamp_index.shards.service import ShardService
    from stamp_index.store import Modality, Store

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]


class ShardedIndex(Index):
    """Nearest rows of a store by one of its embeddings, asked of shards.

    Made by `ShardedIndex.connect`. Everything is as in `Index`: rows that were added since the index was divided are read
    from the store and searched here, and rows that were deleted are passed over. At a recall of 1 its answers are the
    same to the last bit; otherwise at least as good.

    A shard that does not answer is an error, unless the caller listens: see `stamp_index.shards.silence`.
    """

    def __init__(
        self, store: Store, modality: Modality, generation: Generation, service: ShardService
    ) -> None:
        super().__init__(store, modality, generation)
        self._service = service

    @classmethod
    def connect(cls, store: Store, modality: Modality, service: ShardService) -> Self:
        """Open a store's index that was divided, over what serves its shards.

        Of the index itself only the row ids, slides and backgrounds are read here.

        Raises
        ------
        ShardError
            If the service does not serve this modality, or another store or encoder.
        AnnIndexError
            If the plan that it serves does not lie in the store any more, or is damaged.
        """
        return cls(store, modality, _open(store, modality, service), service)

    def refresh(self) -> None:
        """Go over to the shards that are served now.

        Raises
        ------
        ShardError, AnnIndexError
            As `connect`.
        """
        served = self._service.plans().get(self.modality, {}).get("name")
        if served != self._state.generation.folder.name:
            generation = _open(self.store, self.modality, self._service)
            self._state = self._compare(generation, None)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | Prepared | None = None,
        settings: Settings | None = None,
        recall: float | None = None,
    ) -> Hits:
        """Find the rows of highest cosine: see `Index.search`.

        Raises
        ------
        ShardError
            If no shard answers, or some do not and nobody listens.
        """
        ready = self.prepare(allowed) if isinstance(allowed, np.ndarray) else allowed
        ready = ready or self.prepare(None)
        try:
            return super().search(queries, k, allowed=ready, settings=settings, recall=recall)
        except StalePlanError:
            self.refresh()
        carried = self.prepare(self._rows_of(ready))
        return super().search(queries, k, allowed=carried, settings=settings, recall=recall)

    def cosines(self, rows: ArrayLike, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of some rows with one query: see `Index.cosines`.

        The vectors of shards that do not answer are read from the store.
        """
        try:
            cosines = super().cosines(rows, query)
        except StalePlanError:
            self.refresh()
            cosines = super().cosines(rows, query)
        left = np.flatnonzero(np.isnan(cosines))
        if len(left):
            vectors = self.store.vectors(self.modality, np.asarray(rows)[left])
            unit = np.ascontiguousarray(query, np.float32)
            cosines[left] = score(vectors, np.arange(len(left)), unit)
        return cosines

    def _rows_of(self, ready: Prepared) -> NDArray[np.bool_]:
        """Row ids that a filter allows which was made ready for other shards, (store.n_rows,), bool."""
        rows = ready.generation.rows
        if ready.old is not None:
            bits = np.unpackbits(ready.old.bits, count=len(rows), bitorder="little")
            rows = rows[bits.view(np.bool_)]
        newer = ready.since.rows if ready.newer is None else ready.since.rows[ready.newer]
        mask = np.zeros(self.store.n_rows, np.bool_)
        for some in (rows, newer):
            mask[some[some < len(mask)]] = True
        return mask


def _open(store: Store, modality: Modality, service: ShardService) -> Generation:
    plan = _served_plan(store, modality, service)
    folder = shards_folder(store, modality) / plan.name
    for name, written in plan.files.items():
        check_file(folder / name, [written], None)
    card = IndexCard.from_dict(read_json(folder / CARD))
    settings = None if card.kind == "flat" else card.settings_for(card.target_recall)
    held = [name for name in plan.files if name.endswith(BACKGROUND)]
    return Generation(
        folder=folder,
        card=card,
        rows=_rows(folder, plan),
        slides=[tuple(slide) for slide in read_json(folder / SLIDES)],
        engine=ShardedEngine(plan, service, settings),
        backgrounds={
            name.removesuffix(BACKGROUND): Background.load(folder / name) for name in held
        },
    )


def _served_plan(store: Store, modality: Modality, service: ShardService) -> ShardPlan:
    """Read the plan that is served from the store, after comparing what it is of."""
    facts = service.plans().get(modality)
    if facts is None:
        msg = f"The shards that are served have no {modality} index. Divide it (`stamp-index shard STORE`) and serve again."
        raise ShardError(msg)
    for name, words, own in (
        ("store_id", "store", store.store_id),
        ("fingerprint", "encoder", store.card.fingerprint),
        ("modality", "modality", modality),
    ):
        if facts.get(name) != own:
            msg = (
                f"The shards that are served are of {words} {facts.get(name)}; the store at {store.place} is {own}. Serve "
                f"the shards of this store (`stamp-index serve-shards`)."
            )
            raise ShardError(msg)
    plan = read_plan(shards_folder(store, modality), facts.get("name", ""))
    if plan.facts != dict(facts):
        msg = f"The shards that are served are {dict(facts)}; the store's plan {plan.name} is {plan.facts}. Serve them again."
        raise ShardError(msg)
    return plan


def _rows(folder: Path, plan: ShardPlan) -> NDArray[np.int64]:
    """Row id of each position, from the files of all shards."""
    rows = [np.empty(0, np.int64)]
    for number, part in enumerate(plan.parts):
        path = part_folder(folder, number) / ROWS
        check_file(path, [part.files[ROWS]], None)
        rows.append(np.load(path, allow_pickle=False))
    return np.concatenate(rows)
