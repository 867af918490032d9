"""Every real data set in one store, by one manifest: what is added, what is not and why, and a query over all of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from stamp_index.embed.add import add_slides
from stamp_index.embed.manifest import entries_of
from stamp_index.genes import GenePanel
from stamp_index.readers import read
from stamp_index.search import Searcher
from stamp_index.slides.overlay import draw_overlay
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder

pytestmark = pytest.mark.slow

ROWS = (
    ("her2st", {}),
    ("mob_stahl", {"organ": "olfactory bulb"}),
    ("mob_2k", {"organ": "olfactory bulb"}),
    ("visium_muscle/Vis5A_2dpi", {"organ": "muscle"}),
    ("visium_brain_crop/test_data.h5ad", {"organ": "brain"}),
    ("xenium_lung_crop/NCBI858.h5ad", {"organ": "lung", "mpp": "2.0"}),
    ("wsi", {}),
    ("wsi/tcga-cr-7395-01a-01-ts1.svs", {"mpp": "0.5", "slide_id": "tcga"}),
    ("wsi/kidney-48-5.tif", {"mpp": "8.0"}),
)
REFUSED = {
    "boxes.tiff": "has no microns per pixel",
    "boxes_dicom": "less than one place",
    "broken.svs": "is not an image that can be read",
    "small.svs": "less than one place",
    "unopenable.tiff": "cannot open",
    "unreadable.svs": "its pixels cannot be read",
}


class WideEncoder(ToyEncoder):
    """The toy encoder with a panel of HER2ST's genes, so that sections of real tissue cover it."""

    def __init__(self, genes):
        super().__init__()
        self.panel = GenePanel(genes=tuple(genes), means=(1.0,) * len(genes))
        self._profile = np.random.default_rng(1).normal(size=(len(genes), self.dim))

    def encode_counts(self, counts, genes):
        aligned = self.panel.align(counts, genes).toarray()
        profile = np.log1p(aligned / np.maximum(aligned.sum(axis=1, keepdims=True), 1) * 1e4)
        offset = self._profile[0]  # a spot without any count of the panel is somewhere too
        return self._embed(np.zeros((len(profile), 4)), profile @ self._profile + offset)


@pytest.fixture(scope="module")
def added(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    c2 = read(shared_data / "her2st/ST-cnts/C2.tsv.gz")
    most = np.argsort(-np.asarray(c2.counts.sum(axis=0)).ravel())[:500]
    encoder = WideEncoder([c2.genes[i] for i in most])
    store = Store.create(folder / "store", EncoderCard.of(encoder))
    (store.path / "encoders" / store.encoder).mkdir(parents=True)
    columns = ("path", "organ", "mpp", "slide_id")
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for path, said in ROWS:
            writer.writerow({"path": str(shared_data / path), **said})
    with pytest.MonkeyPatch.context() as patch:
        # an encoder without checkpoint; everything else is real
        patch.setattr("stamp_index.encoders.load_encoder", lambda path: encoder)
        entries = entries_of([folder / "manifest.csv"])
        held, outcomes = add_slides(store.path, entries)
        again = add_slides(store.path, entries)[1]
    return held, encoder, outcomes, again


def test_every_slide_is_added_or_refused_with_its_reason(added):
    _, _, outcomes, _ = added
    failed = {Path(one.path).name: one.reason for one in outcomes if one.state == "failed"}
    assert set(failed) == set(REFUSED)
    for name, words in REFUSED.items():
        assert words in failed[name]
    by_platform = {}
    for one in outcomes:
        if one.state == "added":
            by_platform[one.platform] = by_platform.get(one.platform, 0) + 1
    assert by_platform == {"Legacy ST": 30, "Visium": 2, "": 1, "H&E": 3}


def test_what_is_there_is_left_as_it_is(added):
    held, _, outcomes, again = added
    assert {one.state for one in again} == {"there", "failed"}
    assert sum(one.state == "there" for one in again) == sum(
        one.state == "added" for one in outcomes
    )
    assert Store.open(held.path).version == held.version


def test_genes_that_do_not_fit_the_panel_are_not_embedded_and_said(added):
    _, _, outcomes, _ = added
    sides = {one.slide_id: one.embedded for one in outcomes}
    assert sides["C2"] == "image and gene"
    assert sides["A3"] == "gene"
    assert sides["MOB1"] == "image"  # 1,000 genes of a mouse
    assert sides["tcga"] == "image"


def test_a_gene_query_finds_measured_sections_and_plain_slides(added):
    held, encoder, _, _ = added
    searcher = Searcher(held, encoder)
    gene = encoder.panel.genes[0]
    vector = held.vectors("image", [held.row_of("tcga:x00018_y00010")])[0].astype(np.float32)
    hits = searcher.search_vector(vector, against="image", k=1000, genes=[gene])
    platforms = held.slides().set_index("slide_id").loc[hits.table["slide_id"], "platform"]
    assert {"H&E", "Legacy ST"} <= set(platforms)
    plain = (platforms == "H&E").to_numpy()
    assert hits.table.loc[plain, gene].isna().all()


def test_spots_lie_on_tissue_and_shifted_ones_are_seen(added):
    held, _, _, _ = added
    spots = held.spots(["slide_id", "tissue_fraction", "outside_fraction"])
    mean = spots.groupby("slide_id")["tissue_fraction"].mean()
    for slide_id in ("C2", "C3", "C4", "C5", "A1", "mob_stahl_11", "test_data"):
        assert mean[slide_id] > 0.85, slide_id
    assert mean["A2"] < mean["A1"] - 0.05  # the image that is shifted against its spots


def test_overlays_of_every_kind_can_be_drawn(shared_data):
    for path in ("her2st/ST-cnts/C2.tsv.gz", "visium_muscle/Vis5A_2dpi", "mob_2k/MOB1.tsv.gz"):
        slide = read(shared_data / path)
        assert max(draw_overlay(slide, max_px=400).size) == 400
