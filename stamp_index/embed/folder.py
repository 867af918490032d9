"""Stores and indexes on disk, from slides: what the command line and the demo call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.embed.gene_side import with_current_names
from stamp_index.embed.ingest import ingest, n_steps
from stamp_index.embed.progress import Counter
from stamp_index.errors import StoreError
from stamp_index.index import Keeper, build_index, load_recipe
from stamp_index.store import EncoderCard, Store
from stamp_index.store.places import place_of
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stamp_index.encoders.checkpoint import Trained
    from stamp_index.index import IndexCard
    from stamp_index.slides import Slide
    from stamp_index.store.places import Place, Where


def embed_into(
    store_path: Path | str,
    slides: Sequence[Slide],
    *,
    encoder_path: Path | str | None = None,
    features: Path | str | None = None,
    beside: bool = False,
    replace: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Store:
    """Embed slides into a store, which is made with the given encoder if it is missing.

    Indexes that the store has are kept up meanwhile, in a thread of their own: see `keep_up`.

    Parameters
    ----------
    store_path : path
        Folder of the store.
    slides : sequence of Slide
        Added one transaction each; those before a failing one stay.
    encoder_path : path, optional
        Checkpoint folder, or ``published:NAME`` of an imported model. A store carries a copy of its encoder, so this is needed only to make one.
    features : path, optional
        The trainer's feature cache.
    beside : bool
        Where the store has other encoders only, put this one's embeddings beside theirs: slides that are there get
        them too. Without it another encoder is refused.
    replace : bool
        Put a slide in the place of one of its id that is there.
    progress : callable, optional
        Called with the steps done so far, and with those that there are in all: images that are prepared (or found in
        the cache), embeddings and thumbnails.

    Returns
    -------
    Store
        At its new version.

    Raises
    ------
    StoreError
        If there is no store and no encoder was given.
    EncoderMismatchError
        If the given encoder is not the store's.
    """
    from stamp_index.encoders import FeatureCache

    store, encoder = open_or_make(store_path, encoder_path, beside=beside)
    n_thumbnails = sum(slide.n_spots for slide in slides if slide.image is not None)
    count = Counter(n_thumbnails + sum(n_steps(encoder, slide) for slide in slides), progress)
    cache = None if features is None else FeatureCache(features, encoder, progress=count.add)
    with Keeper(store.place, store.encoder) as keeper:
        for slide in slides:
            try:
                slide = with_current_names(slide)
                ingest(store, encoder, slide, features=cache, replace=replace, progress=count.add)
            except Exception as exc:
                exc.add_note(f"while embedding slide {slide.slide_id} from {slide.source}")
                raise
            keeper.nudge()
    return store


def open_or_make(
    store_path: Where, encoder_path: Path | str | None, *, beside: bool = False
) -> tuple[Store, Trained]:
    """Open a store and the encoder to embed with, or make the store with that encoder.

    Parameters
    ----------
    store_path, encoder_path, beside
        As in `embed_into`.

    Raises
    ------
    StoreError
        If there is no store and no encoder was given.
    """
    from stamp_index.encoders import load_encoder
    from stamp_index.encoders.published.locate import resolve_encoder

    place = place_of(store_path)
    checkpoint = None if encoder_path is None else resolve_encoder(encoder_path)
    if not place.is_free():
        return _open(place, checkpoint, beside=beside)
    if checkpoint is None:
        msg = f"There is no store at {place}. To make one, say with which encoder: --encoder RUN/encoder."
        raise StoreError(msg)
    encoder = load_encoder(checkpoint)
    card = EncoderCard.of(encoder, checkpoint=checkpoint.name)
    return Store.create(place, card, checkpoint=checkpoint), encoder


def _open(place: Place, encoder_path: Path | None, *, beside: bool) -> tuple[Store, Trained]:
    """Open a store and the encoder to embed with, which gets columns of its own if it is to stand `beside`."""
    from stamp_index.encoders import load_encoder

    store = Store.open(place)
    if encoder_path is None:
        return store, load_encoder(store.encoder_path)
    encoder = load_encoder(encoder_path)
    card = EncoderCard.of(encoder, checkpoint=encoder_path.name)
    if beside:
        name = store.add_encoder(card, checkpoint=encoder_path)
        return Store.open(place, encoder=name), encoder
    names = [name for name, held in store.encoders.items() if held.fingerprint == card.fingerprint]
    return Store.open(place, encoder=names[0] if names else None), encoder


def build_indexes(
    store_path: Path | str, recipe: str | None = None, *, seed: int = 0
) -> list[IndexCard]:
    """Build the image and the gene index of a store.

    Parameters
    ----------
    store_path : path
        Folder of the store.
    recipe : str, optional
        Name or file; ``auto`` by default.
    seed : int
        Of training and measuring.

    Returns
    -------
    list of IndexCard
        One per modality that the store has vectors of.
    """
    store = Store.open(store_path)
    wanted = None if recipe is None else load_recipe(recipe)
    sides = [side for side in MODALITIES if store.has_vector(side).any()]
    return [build_index(store, side, wanted, seed=seed) for side in sides]
