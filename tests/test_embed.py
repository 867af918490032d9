"""Slides to rows: what ingest embeds, refuses and leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.embed import embed_slide, ingest
from stamp_index.embed.folder import embed_into
from stamp_index.embed.ingest import n_steps
from stamp_index.encoders import FeatureCache
from stamp_index.errors import DuplicateSlideError, EncoderMismatchError, StoreError
from stamp_index.slides import read_patches
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_slide


@pytest.fixture
def store(tmp_path):
    encoder = ToyEncoder()
    return Store.create(tmp_path / "s", EncoderCard.of(encoder))


class CountingEncoder(ToyEncoder):
    calls = 0

    def encode_images(self, patches, regions=None):
        type(self).calls += 1
        return super().encode_images(patches, regions)


def test_rows_hold_what_the_encoder_says_of_patch_and_region(store):
    encoder, slide = ToyEncoder(), toy_slide("A", n_spots=20, seed=0)
    ingest(store, encoder, slide)
    patches, regions = read_patches(slide, encoder.patch), read_patches(slide, encoder.region)
    expected = encoder.encode_images(patches, regions)
    np.testing.assert_allclose(store.vectors("image").astype(np.float32), expected, atol=1e-3)
    np.testing.assert_allclose(
        store.vectors("gene").astype(np.float32), encoder.encode_spots(slide), atol=1e-3
    )
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in store.thumbnails(range(20)))
    assert store.overview("A").startswith(b"\xff\xd8")


def test_a_slide_that_is_there_is_refused_before_anything_is_embedded(store):
    slide = toy_slide("A", n_spots=20, seed=0)
    ingest(store, ToyEncoder(), slide)
    version = store.version
    CountingEncoder.calls = 0
    with pytest.raises(DuplicateSlideError, match="'A' is in the store"):
        ingest(store, CountingEncoder(), slide)
    assert CountingEncoder.calls == 0
    assert Store.open(store.path).version == version


def test_another_encoder_is_refused_with_both_fingerprints(store):
    other = ToyEncoder(seed=5)
    with pytest.raises(EncoderMismatchError, match=other.fingerprint) as caught:
        ingest(store, other, toy_slide("A", n_spots=10, seed=0))
    assert store.card.fingerprint in str(caught.value)
    assert Store.open(store.path).n_spots == 0


def test_a_second_encoder_embeds_beside_the_first(store):
    first, other = ToyEncoder(), ToyEncoder(dim=16, seed=5)
    slides = [toy_slide("A", n_spots=20, seed=0), toy_slide("B", n_spots=20, seed=1)]
    ingest(store, first, slides[0])
    beside = Store.open(store.path, encoder=store.add_encoder(EncoderCard.of(other)))
    for slide in slides:  # A is there, B is new
        ingest(beside, other, slide)
    expected = np.concatenate([other.encode_spots(slide) for slide in slides])
    np.testing.assert_array_equal(beside.vectors("gene"), expected.astype(np.float16))
    with pytest.raises(DuplicateSlideError, match="'A' is in the store"):
        ingest(beside, other, slides[0])
    store.refresh()
    assert store.has_vector("gene").sum() == 20
    ingest(store, first, slides[1])
    assert store.has_vector("gene").sum() == 40


def test_a_slide_is_replaced_where_that_is_asked_for(store):
    ingest(store, ToyEncoder(), toy_slide("A", n_spots=20, seed=0))
    new = toy_slide("A", n_spots=10, seed=3)
    ingest(store, ToyEncoder(), new, replace=True)
    assert store.spots()["spot_id"].tolist() == new.spot_ids


def test_a_slide_without_an_image_has_gene_embeddings_only():
    from dataclasses import replace

    slide = replace(toy_slide("A", n_spots=10, seed=0), image=None)
    image, gene = embed_slide(ToyEncoder(), slide)
    assert image is None
    assert gene.shape == (10, ToyEncoder().dim)


def test_a_new_store_needs_an_encoder(tmp_path):
    with pytest.raises(StoreError, match="say with which encoder: --encoder"):
        embed_into(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()


class PreparedEncoder(ToyEncoder):
    """An encoder whose images can be prepared: they are kept as they are."""

    def prepared_id(self, side):
        return "pixels"

    def prepare(self, images, side):
        return images

    def encode_prepared(self, patches, regions=None):
        return self.encode_images(np.asarray(patches), None if regions is None else regions)


class PatchEncoder(PreparedEncoder):
    sees_regions = False


@pytest.mark.parametrize(
    ("kind", "image", "cached", "steps"),
    [
        (ToyEncoder, True, False, 4),
        (PreparedEncoder, True, True, 4),
        (PatchEncoder, True, False, 3),
        (PatchEncoder, True, True, 3),
        (ToyEncoder, False, False, 1),
    ],
    ids=["regions", "regions, cached", "patches", "patches, cached", "no image"],
)
def test_every_image_and_embedding_is_told_also_when_it_was_there(
    tmp_path, kind, image, cached, steps
):
    slide, told = toy_slide("A", n_spots=200, seed=0, image=image), []
    for _ in range(2):
        features = FeatureCache(tmp_path, kind(), progress=told.append) if cached else None
        embed_slide(kind(), slide, features=features, progress=told.append)
    assert n_steps(kind(), slide) == steps * 200
    assert sum(told) == 2 * steps * 200


def test_prepared_images_embed_in_parts_as_they_do_at_once(tmp_path):
    encoder, slide = PreparedEncoder(), toy_slide("A", n_spots=300, seed=0)
    features = FeatureCache(tmp_path, encoder)
    image, _ = embed_slide(encoder, slide, features=features)
    patches, regions = read_patches(slide, encoder.patch), read_patches(slide, encoder.region)
    np.testing.assert_allclose(image, encoder.encode_images(patches, regions), atol=1e-6)


def test_embedding_into_a_store_tells_how_far_it_is_of_how_much(tmp_path, monkeypatch):
    encoder, told = ToyEncoder(), []
    Store.create(tmp_path / "s", EncoderCard.of(encoder))
    monkeypatch.setattr("stamp_index.encoders.load_encoder", lambda path: encoder)
    slides = [toy_slide("A", n_spots=100, seed=0), toy_slide("B", n_spots=50, seed=1, image=False)]
    embed_into(
        tmp_path / "s", slides, encoder_path=tmp_path, progress=lambda *now: told.append(now)
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {100 * 5 + 50}  # with thumbnails
    assert told[-1] == (550, 550)
    assert len(told) > len(slides)
