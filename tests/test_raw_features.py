"""Raw features: what they are, that every part of a report has them, and what cannot give them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("torch")

from stamp_index.cli import main
from stamp_index.embed.folder import embed_into
from stamp_index.encoders.checkpoint import save_encoder
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.ridge_encoder import RidgeEncoder, mean_token
from stamp_index.encoders.trunk import load_trunk
from stamp_index.errors import EncoderError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.raw_features import PATCH, WIDE, _pooled, raw_views
from stamp_index.evaluate.split import split_by_patient
from stamp_index.evaluate.suite.asked import SuiteSettings
from stamp_index.evaluate.suite.run import evaluate_store
from stamp_index.genes import GenePanel
from stamp_index.slides import ArrayImage, PatchSpec, open_image, read_patches
from stamp_index.store import Store
from tests.support import TOY_MPP, toy_slide

SPECS = (PatchSpec(112.0, 64), PatchSpec(336.0, 64))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four slides of two patients, their pictures in files, and a ridge encoder fitted on the first patient's."""
    folder = tmp_path_factory.mktemp("raw")
    slides = []
    for number in range(4):
        slide = toy_slide(f"S{number}", n_spots=40, seed=number, patient_id=f"P{number // 2}")
        pixels = slide.image.overview(max(slide.image.size_px))
        Image.fromarray(pixels).save(folder / f"S{number}.png")
        image = open_image(folder / f"S{number}.png")
        slides.append(dataclasses.replace(slide, image=image, mpp=TOY_MPP))
    taught = slides[:2]
    gene_input = GeneInput.fit(GenePanel.fit(taught, None, min_spots=2), taught, 8)
    profiles = np.concatenate([gene_input.slide_batch(slide).profile for slide in taught])
    features = tuple(np.concatenate([_slow(slide, spec) for slide in taught]) for spec in SPECS)
    encoder = RidgeEncoder.fit(gene_input, profiles, features, SPECS, dim=8)
    (folder / "checkpoint").mkdir()
    save_encoder(encoder, folder / "checkpoint")
    store = embed_into(folder / "store", slides, encoder_path=folder / "checkpoint")
    return store, slides


def _slow(slide, spec):
    return mean_token(load_trunk().tokens(read_patches(slide, spec)))


@pytest.mark.parametrize("cached", [False, True])
def test_raw_features_are_the_mean_tokens_of_every_spots_patch_and_region(world, tmp_path, cached):
    store, slides = world
    views = raw_views(store, ["S2", "S1"], cache=tmp_path if cached else None)
    rows = store.mask_of(store.slides()["slide_id"].isin(["S1", "S2"]).to_numpy())
    np.testing.assert_array_equal(views[PATCH].has_vector("image"), rows)
    for slide in slides[1:3]:
        here = np.flatnonzero(store.mask_of((store.slides()["slide_id"] == slide.slide_id).to_numpy()))  # fmt: skip
        expected = np.hstack([_slow(slide, spec) for spec in SPECS])
        # Networks differ in the last bits with the size of a batch, and a cache holds half precision.
        np.testing.assert_allclose(views[WIDE].vectors("image", here), expected, atol=0.01)
        half = expected.shape[1] // 2
        np.testing.assert_allclose(
            views[PATCH].vectors("image", here), expected[:, :half], atol=0.01
        )
    np.testing.assert_array_equal(
        views[PATCH].vectors("gene", [3, 5]), store.vectors("gene", [3, 5])
    )


def test_every_part_of_a_report_has_them_as_baselines(world):
    store, _ = world
    split = split_by_patient(store.slides(), ["P1"])
    raw = raw_views(store, (*split.train, *split.test))
    found = evaluate_store(store, split, SuiteSettings(label="domain"), raw=raw)
    encoders = {row["encoder"] for row in found.rows("Retrieval")}
    assert {f"PCA + ridge on {PATCH}", f"CCA on {WIDE}"} <= encoders
    methods = {row["method"]: row["kind"] for row in found.rows("Expression")}
    assert methods[f"PCA 256 + ridge on {WIDE}"] == "baseline"
    assert methods[f"neighbours by {PATCH}, mean of 50"] == "baseline"
    probes = {row["features"]: row for row in found.rows("Linear probe")}
    assert list(probes) == ["image", "gene", "both", PATCH, WIDE]
    # Domains are colours, which a network sees without having learnt any gene.
    assert probes[PATCH]["balanced_accuracy"] > probes[PATCH]["chance"] + 0.3
    carried = {
        row["features"] for row in found.rows("Linear probe, from training slides to test slides")
    }
    assert carried == set(probes)
    domains = pd.DataFrame(found.rows("Spatial domains: domain"))
    assert {PATCH, WIDE} <= set(domains["features"])
    assert not any("--raw-features" in note for note in found.notes)


def test_the_command_line_reads_the_images_again_where_it_is_asked(world, tmp_path):
    store, _ = world
    asked = ["evaluate", str(store.path), "--test-patient", "P1", "--suite", "retrieval", "--quiet"]
    plain = CliRunner().invoke(main, asked)
    assert plain.exit_code == 0, plain.output
    assert "ask for them by --raw-features" in plain.output
    assert WIDE not in plain.output
    with_raw = CliRunner().invoke(main, [*asked, "--raw-features", "--features", str(tmp_path)])
    assert with_raw.exit_code == 0, with_raw.output
    assert f"PCA + ridge on {WIDE}" in with_raw.output
    assert list(tmp_path.glob("S0-*.npy"))
    refused = CliRunner().invoke(main, [*asked, "--features", str(tmp_path)])
    assert refused.exit_code == 2
    assert "--features belongs to" in refused.output


def test_pictures_that_are_gone_or_others_are_named(world, tmp_path):
    store, slides = world
    path = Path(slides[0].image.uri)
    held = path.read_bytes()
    try:
        Image.new("RGB", (50, 60)).save(path)
        with pytest.raises(EvaluationError, match="S0 .* is not the picture that was embedded"):
            raw_views(store, ["S0"])
        path.write_bytes(b"no picture")
        with pytest.raises(EvaluationError, match="image of slide S0 cannot be read"):
            raw_views(store, ["S0"])
    finally:
        path.write_bytes(held)


def test_networks_that_were_trained_as_a_whole_have_none():
    with pytest.raises(EvaluationError, match="trained as a whole"):
        _pooled(np.zeros((2, 8, 8, 3), np.uint8))


def test_slides_without_pictures_have_none(tmp_path, world):
    store, slides = world
    blind = dataclasses.replace(slides[0], slide_id="blind", image=None, mpp=None)
    made = embed_into(tmp_path / "store", [blind], encoder_path=store.encoder_path)
    with pytest.raises(EvaluationError, match="None of the slides has image embeddings"):
        raw_views(Store.open(made.path), ["blind"])


def test_another_picture_of_the_same_size_is_not_taken_for_the_one_that_was_embedded(world):
    store, slides = world
    path = Path(slides[1].image.uri)
    held = path.read_bytes()
    with Image.open(path) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_180).copy()
    try:
        turned.save(path)
        with pytest.raises(EvaluationError, match="S1 .* is not the picture that was embedded"):
            raw_views(store, ["S1"])
    finally:
        path.write_bytes(held)


def test_damaged_caches_unknown_slides_and_spots_without_features_are_refused(world, tmp_path):
    store, _ = world
    views = raw_views(store, ["S0"], cache=tmp_path)
    with pytest.raises(EvaluationError, match="40 of the spots have no raw features"):
        views[PATCH].vectors("image", np.arange(80))
    with pytest.raises(EvaluationError, match="no slide 'zz'"):
        raw_views(store, ["zz"])
    for damage in (b"", b"garbage"):
        for path in tmp_path.glob("*.npy"):
            path.write_bytes(damage)
        with pytest.raises(EncoderError, match=r"S0-.*\.npy are damaged"):
            raw_views(store, ["S0"], cache=tmp_path)


def test_a_picture_that_a_reader_changed_is_given(world, tmp_path):
    store, slides = world
    path = Path(slides[0].image.uri)
    held = path.read_bytes()
    images = {"S0": ArrayImage(np.asarray(Image.open(path).convert("RGB")), uri=str(path))}
    try:
        Image.new("RGB", images["S0"].size_px).save(path)
        with pytest.raises(EvaluationError, match="S0 .* is not the picture"):
            raw_views(store, ["S0"])
        views = raw_views(store, ["S0"], images=images)
    finally:
        path.write_bytes(held)
    expected = raw_views(store, ["S0"])[PATCH].vectors("image", np.arange(40))
    np.testing.assert_allclose(views[PATCH].vectors("image", np.arange(40)), expected, atol=0.01)
