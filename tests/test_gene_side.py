"""Genes of a slide meet those of an encoder: by what they mean, or not at all, and that is said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stamp_index.embed import ingest
from stamp_index.embed.gene_side import GeneSettings, for_encoder, with_current_names
from stamp_index.errors import MissingGenesError
from stamp_index.genes import GenePanel
from stamp_index.search import Searcher
from stamp_index.store import EncoderCard, Store
from tests.support import TOY_GENES, ToyEncoder, toy_slide


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", EncoderCard.of(ToyEncoder()))


def renamed(slide, names, ids=()):
    return replace(slide, genes=tuple(names), gene_ids=tuple(ids))


def test_a_slide_that_measures_little_of_the_panel_is_embedded_by_its_images(store):
    slide = toy_slide("A", 20, genes=TOY_GENES[:20])
    ingest(store, ToyEncoder(), slide)
    assert store.has_vector("image").all()
    assert not store.has_vector("gene").any()
    assert not np.isnan(store.counts(["CD8A"])).any()  # what was measured stays
    (note,) = store.slides()["notes"].iloc[0]
    assert note.startswith("Its gene profiles are not embedded, its images are.")
    assert "20 of the panel's 60 genes (33.3%)" in note


def test_without_an_image_it_is_refused_and_the_store_stays(store):
    slide = toy_slide("A", 20, genes=TOY_GENES[:20], image=False)
    with pytest.raises(MissingGenesError, match="20 of the panel's 60 genes"):
        ingest(store, ToyEncoder(), slide)
    assert Store.open(store.path).n_spots == 0


def test_a_lower_share_can_be_allowed(store):
    slide = toy_slide("A", 20, genes=TOY_GENES[:20], image=False)
    ingest(store, ToyEncoder(), slide, genes=GeneSettings(min_coverage=0.3))
    assert store.has_vector("gene").all()


def test_what_became_of_genes_stands_with_the_slide(store):
    ingest(store, ToyEncoder(), toy_slide("A", 20))
    said = json.loads(store.slides()["provenance"].iloc[0])["genes"]
    assert sum(said["fates"].values()) == 60
    assert said["fates"]["unchanged"] >= 58
    assert said["panel_share"] == 1.0


def test_old_names_and_ids_embed_as_the_panels_own(store):
    encoder, slide = ToyEncoder(), toy_slide("A", 20)
    other = {"MS4A1": "CD20", "EPCAM": "TACSTD1", "CD8A": "ENSG00000153563.17"}
    old = renamed(slide, [other.get(gene, gene) for gene in slide.genes])
    named, note, report = for_encoder(old, encoder, GeneSettings())
    assert note == ""
    assert report.coverage.share == 1.0
    assert np.allclose(encoder.encode_spots(named), encoder.encode_spots(slide))


def test_the_store_keeps_current_names_whatever_the_panel_calls_them(tmp_path):
    slide = toy_slide("A", 40)
    old = {"CD8A": "ENSG00000153563", "EPCAM": "TACSTD1"}
    encoder = ToyEncoder()
    encoder.panel = GenePanel(
        genes=tuple("TACSTD1" if gene == "EPCAM" else gene for gene in TOY_GENES),
        means=(100.0,) * len(TOY_GENES),
    )
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    given = renamed(slide, [old.get(gene, gene) for gene in slide.genes])
    ingest(store, encoder, with_current_names(given))
    assert {"CD8A", "EPCAM"} <= set(store.genes)
    assert not {"TACSTD1", "ENSG00000153563"} & set(store.genes)
    seen = []
    encoder.encode_signature = lambda weights: (
        seen.append(dict(weights)) or np.eye(encoder.dim, dtype=np.float32)[0]
    )
    searcher = Searcher(store, encoder)
    for name in ("EPCAM", "TACSTD1"):
        hits = searcher.search_genes(f"{name} high", k=5)
        assert hits.genes == ("EPCAM",), name
        assert hits.table["EPCAM"].notna().all()
        assert {"TACSTD1": 1.0} in seen  # what the encoder calls it


def test_genes_of_no_known_species_stay_as_they_are():
    slide = toy_slide("A", 5)
    strange = renamed(slide, [f"locus_{i:04d}" for i in range(len(slide.genes))])
    strange = replace(strange, species="dog")
    kept = with_current_names(strange)
    assert kept.genes == strange.genes
    assert "kept as they are" in kept.notes[-1]


def test_two_columns_of_one_gene_are_summed_by_id():
    slide = toy_slide("A", 5)
    counts = csr_matrix(np.hstack([slide.counts.toarray(), slide.counts[:, :1].toarray()]))
    first = slide.genes[0]
    doubled = replace(
        slide,
        counts=counts,
        genes=(*slide.genes, "TACSTD1"),
        gene_ids=("ENSG00000119888", *("",) * (len(slide.genes) - 1), "ENSG00000119888"),
    )
    assert first == "EPCAM"
    kept = with_current_names(doubled)
    column = kept.genes.index("EPCAM")
    assert kept.counts[:, column].sum() == 2 * slide.counts[:, 0].sum()


def test_orthologs_may_be_asked_for_a_batch_of_both_species(store):
    slide = replace(toy_slide("A", 20), species="human")
    named, _, report = for_encoder(slide, ToyEncoder(), GeneSettings(orthologs="table"))
    assert named is not None
    assert report.orthologs == ""
