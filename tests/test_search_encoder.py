"""Searching a store with the encoder that it carries."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from stamp_index.encoders.checkpoint import load_encoder, save_encoder
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.ridge_encoder import RidgeEncoder, mean_token
from stamp_index.encoders.trunk import load_trunk
from stamp_index.genes import GenePanel
from stamp_index.search import Searcher
from stamp_index.slides import PatchSpec, read_patches
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.support import TOY_MARKERS, toy_slide


@pytest.fixture(scope="module")
def slide():
    return toy_slide("A", n_spots=30, seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory, slide):
    """A store with a small ridge encoder, fitted on its only slide."""
    folder = tmp_path_factory.mktemp("carried")
    panel = GenePanel.fit([slide], None, min_spots=2)
    gene_input = GeneInput.fit(panel, [slide], 8)
    profiles = gene_input.slide_batch(slide).profile
    specs = (PatchSpec(112.0, 64), PatchSpec(336.0, 64))
    patches, regions = (read_patches(slide, spec) for spec in specs)
    features = tuple(mean_token(load_trunk().tokens(images)) for images in (patches, regions))
    encoder = RidgeEncoder.fit(gene_input, profiles, features, specs, dim=8)
    (folder / "checkpoint").mkdir()
    save_encoder(encoder, folder / "checkpoint")
    encoder = load_encoder(folder / "checkpoint")
    store = Store.create(
        folder / "store", EncoderCard.of(encoder), checkpoint=folder / "checkpoint"
    )
    image, gene = encoder.encode_images(patches, regions), encoder.encode_spots(slide)
    store.add(SlideRows(slide, image, gene, None, None, encoder.fingerprint))
    return store


def test_encoder_of_the_store_answers_every_kind_of_query(store, slide):
    searcher = Searcher.open(store.path)
    assert searcher.encoder.fingerprint == store.card.fingerprint
    asked = ", ".join(f"{gene} high" for gene in TOY_MARKERS["lymphoid"][:3])
    hits = searcher.search_genes(asked, against="gene", k=5)
    assert set(store.labels(hits.rows)["domain"]) == {"lymphoid"}
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[12]
    picture = slide.image.read(x - 90, y - 90, 180, 180)
    hits = searcher.search_image(picture, mpp=slide.mpp, against="image", k=30)
    assert hits.scores[hits.rows == 12] > 0.95
    assert len(searcher.search_spot("A:B0012-1", against="gene", k=5)) == 5
    counts = dict(zip(slide.genes, slide.counts[3].toarray()[0].tolist(), strict=True))
    assert len(searcher.search_profile(counts, k=5)) == 5
