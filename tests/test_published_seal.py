"""Published SEAL weights: the released gene model's numbers, LoRA merged into a backbone, and the encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix

from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.base import Encoder
from stamp_index.encoders.published.assets import GeneList, read_gene_list
from stamp_index.encoders.published.seal_encoder import PublishedSealEncoder, SealVision
from stamp_index.encoders.published.seal_model import (
    build_vae,
    linear,
    merge_lora,
    projection_of,
    published_seal_state,
)
from stamp_index.encoders.published.state import read_published
from stamp_index.errors import EncoderError, MissingGenesError
from tests.published_files import random_like, seal_state, write_seal
from tests.support import toy_slide

BACKBONE = "timm:test_vit"  # width 64
GENES = tuple(f"GENE{n}" for n in range(30))


def test_the_released_gene_model_is_reproduced_without_its_noise(shared_data):
    folder = shared_data / "parity" / "seal"
    vae = build_vae(published_seal_state(read_published(folder / "vae_state_dict.safetensors")))
    published = load_file(folder / "vae_inputs_outputs.safetensors")
    with torch.inference_mode():
        mu, logvar = vae.posterior(published["x"])
        z, log_det = vae.flow(mu)
        found = {"mu": mu, "logvar": logvar, "z": z, "y": vae.decode(z), "total_log_det": log_det}
    for name, value in found.items():
        torch.testing.assert_close(value, published[name], rtol=1e-4, atol=1e-6, msg=name)
    with torch.inference_mode():
        torch.testing.assert_close(vae(torch.zeros(8, 1), published["x"]), z)


def test_the_vae_equals_its_formulas_layer_by_layer():
    state = seal_state()
    vae = build_vae(published_seal_state(state))
    x = torch.randn(5, 30, dtype=torch.float64)
    s = {name: value.double() for name, value in state.items()}
    h = x
    for first, norm in ((0, 1), (4, 5)):
        h = h @ s[f"encoder.{first}.weight"].T + s[f"encoder.{first}.bias"]
        h = (h - s[f"encoder.{norm}.running_mean"]) / (
            s[f"encoder.{norm}.running_var"] + 1e-5
        ).sqrt()
        h = (h * s[f"encoder.{norm}.weight"] + s[f"encoder.{norm}.bias"]).clamp(min=0)
    z = h @ s["fc_mu.weight"].T + s["fc_mu.bias"]
    for n in range(3):
        z = z + s[f"flows.{n}.u"] * torch.tanh(z @ s[f"flows.{n}.w"] + s[f"flows.{n}.b"])[:, None]
    with torch.inference_mode():
        found = vae.flow(vae.posterior(x.float())[0])[0]
    torch.testing.assert_close(found.double(), z, rtol=1e-4, atol=1e-5)


def _list(stats=False):
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 2, 30) if stats else np.zeros(30)
    std = rng.uniform(0.1, 1, 30) if stats else np.ones(30)
    return GeneList(GENES, mean.astype(np.float32), std.astype(np.float32))


def _encoder(*, stats=False, **options):
    return PublishedSealEncoder(
        build_vae(published_seal_state(seal_state())), _list(stats), **options
    )


@pytest.fixture(scope="module")
def encoder():
    return _encoder()


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _counts(genes, n=6, seed=0):
    return csr_matrix(np.random.default_rng(seed).poisson(2.0, (n, len(genes))).astype(np.float32))


def test_counts_go_in_as_log_of_their_share_of_all_genes_measured(encoder):
    genes = ("other", *GENES[::-1], "Blank-1", "gene3", "NegControl_7")
    counts = _counts(genes)
    dense = counts.toarray()
    total = dense[:, :31].sum(
        axis=1, keepdims=True
    )  # without controls and the second spelling of GENE3
    expected = np.log1p(dense[:, 1:31][:, ::-1] / total * 10_000)
    np.testing.assert_allclose(encoder.inputs(counts, genes), expected, rtol=1e-5)
    mixed = [gene.title() for gene in GENES]
    np.testing.assert_allclose(
        encoder.inputs(counts[:, 1:31], mixed), encoder.inputs(counts[:, 1:31], GENES)
    )


def test_genes_that_were_not_measured_stand_at_their_mean():
    with_stats = _encoder(stats=True)
    x = with_stats.inputs(_counts(GENES[:4]), GENES[:4])
    np.testing.assert_array_equal(x[:, 4:], np.tile(with_stats.genes.mean[4:], (6, 1)))
    assert not np.allclose(x[:, :4], with_stats.genes.mean[:4])


def test_embeddings_are_the_latent_after_the_flows_and_repeat_exactly(encoder):
    assert isinstance(encoder, Encoder)
    counts = _counts(GENES)
    found = encoder.encode_counts(counts, GENES)
    with torch.inference_mode():
        x = torch.from_numpy(encoder.inputs(counts, GENES))
        z = encoder.vae.flow(encoder.vae.posterior(x)[0])[0].numpy()
    np.testing.assert_allclose(found, _unit(z), atol=1e-5)
    np.testing.assert_array_equal(found, encoder.encode_counts(counts, GENES))
    assert encoder.encode_counts(counts[:0], GENES).shape == (0, 64)


def test_spots_are_smoothed_over_neighbours_in_microns():
    slide = toy_slide(n_spots=40)  # 100 um apart, ten a line
    toy = GeneList(slide.genes[:30], np.zeros(30, np.float32), np.ones(30, np.float32))
    encoder = PublishedSealEncoder(build_vae(published_seal_state(seal_state())), toy)
    counts = slide.counts.toarray()
    smooth = np.empty_like(counts)
    at = slide.xy_um
    for spot in range(40):
        distance = np.linalg.norm(at - at[spot], axis=1)
        near = [n for n in np.argsort(distance, kind="stable")[1:7] if distance[n] <= 150]
        smooth[spot] = 0.6 * counts[spot] + 0.4 * counts[near].mean(axis=0)
    inner = [
        spot for spot in range(40) if spot % 10 in (0, 9) or spot // 10 in (0, 3)
    ]  # no ties at six
    found = encoder.encode_spots(slide)
    expected = encoder.encode_counts(csr_matrix(smooth), slide.genes)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
    assert not np.allclose(found, encoder.encode_counts(slide.counts, slide.genes), atol=1e-3)


def test_slides_that_share_hardly_a_gene_are_refused(encoder):
    slide = toy_slide(n_spots=10)
    with pytest.raises(MissingGenesError, match="Only 0 of the model's 30 human genes"):
        encoder.encode_spots(slide)
    with pytest.raises(MissingGenesError, match="Only 0 of"):
        encoder.encode_counts(slide.counts, slide.genes)


@pytest.mark.parametrize("stats", [False, True])
def test_a_signature_points_from_the_opposite_signature(stats):
    encoder = _encoder(stats=stats)
    asked = {"GENE1": 1.0, "GENE7": -0.5}
    x = np.tile(encoder.genes.mean, (2, 1))
    for side, sign in enumerate((1, -1)):
        for gene, weight in asked.items():
            at = GENES.index(gene)
            x[side, at] = max(
                0.0, encoder.genes.mean[at] + 4 * sign * weight * encoder.genes.std[at]
            )
    with torch.inference_mode():
        mu = encoder.vae.posterior(torch.from_numpy(x))[0]
        towards, away = _unit(encoder.vae.flow(mu)[0].numpy())
    expected = (towards - away) / np.linalg.norm(towards - away)
    np.testing.assert_allclose(encoder.encode_signature(asked), expected, atol=1e-5)
    back = {gene: -weight for gene, weight in asked.items()}
    np.testing.assert_allclose(encoder.encode_signature(back), -expected, atol=1e-5)
    with pytest.raises(MissingGenesError, match="NOPE"):
        encoder.encode_signature({"NOPE": 1.0})
    for weights in ({}, {"GENE1": 0.0}):
        with pytest.raises(EncoderError, match="no direction .* a signature of no gene"):
            encoder.encode_signature(weights)


def test_images_are_refused_without_the_image_side(encoder):
    with pytest.raises(EncoderError, match="cannot see images.*--vision, --backbone"):
        encoder.encode_images(np.zeros((1, 224, 224, 3), np.uint8))


# --- the image side ---

LAYERS = {"blocks.5.attn.qkv": (64, 192), "blocks.5.mlp.fc2": (192, 64)}


def _vision_state(projection=False):
    wrapped = "encoder.base_model.model."
    shapes = {"decoder.decoder.0.weight": (5, 64), f"{wrapped}norm.weight": (64,)}
    for layer, (n_in, n_out) in LAYERS.items():
        shapes[f"{wrapped}{layer}.lora_A.default.weight"] = (4, n_in)
        shapes[f"{wrapped}{layer}.lora_B.default.weight"] = (n_out, 4)
    if projection:
        shapes |= {"projection_head.0.weight": (64, 64), "projection_head.0.bias": (64,)}
    return random_like(shapes, seed=3)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone(BACKBONE)


def test_merged_lora_equals_the_two_paths_beside_each_other(backbone):
    merged = load_backbone(BACKBONE)
    merged.network.load_state_dict(backbone.network.state_dict())
    state = _vision_state()
    assert merge_lora(merged.network, state) == 2

    def add_path(layer, name):
        a, b = (
            state[f"encoder.base_model.model.{name}.lora_{side}.default.weight"] for side in "AB"
        )
        return layer.register_forward_hook(
            lambda _, inputs, out: out + (8 / 4) * (inputs[0] @ a.T) @ b.T  # alpha 8, r 4
        )

    modules = dict(backbone.network.named_modules())
    hooks = [add_path(modules[name], name) for name in LAYERS]
    images = torch.randn(2, 3, 160, 160)
    backbone.eval(), merged.eval()
    with torch.inference_mode():
        expected = backbone(images)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(merged(images), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(backbone(images), expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.clear(), "LoRA of 0 layers"),
        (
            lambda s: s.update({"adapter.down.weight": torch.zeros(1)}),
            r"1 tensors that are not.*adapter",
        ),
        (
            lambda s: s.update(
                {
                    f"encoder.base_model.model.blocks.99.attn.qkv.lora_{k}.default.weight": torch.zeros(
                        4, 4
                    )
                    for k in "AB"
                }
            ),
            "blocks.99.attn.qkv is of shape 4 x 4, but the backbone has no such layer",
        ),
        (
            lambda s: s.update(
                {
                    "encoder.base_model.model.blocks.5.mlp.fc2.lora_A.default.weight": torch.zeros(
                        4, 9
                    )
                }
            ),
            r"is of shape 64 x 9, but the backbone has \(64, 192\) there",
        ),
    ],
)
def test_lora_that_does_not_fit_is_refused_and_changes_nothing(backbone, change, message):
    state = _vision_state()
    change(state)
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    with pytest.raises(EncoderError, match=message):
        merge_lora(backbone.network, state)
    for name, value in backbone.network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_both_sides_survive_saving_in_parts(backbone):
    projection = random_like({"weight": (64, 64), "bias": (64,)})
    encoder = _encoder(
        stats=True,
        vision=SealVision(BACKBONE, backbone, linear(projection)),
        projection=linear(dict(projection)),
    )
    again = PublishedSealEncoder.from_parts(
        json.loads(json.dumps(encoder.settings())),
        encoder.panel,
        encoder.arrays_to_save(),
        ("seal", "ff"),
    )
    images = np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), np.uint8)
    found = encoder.encode_images(images)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(again.encode_images(images), found)
    counts = _counts(GENES)
    np.testing.assert_array_equal(
        again.encode_counts(counts, GENES), encoder.encode_counts(counts, GENES)
    )
    with torch.inference_mode():
        raw = encoder.vision.backbone(encoder.vision.backbone.normal(torch.from_numpy(images)))
        expected = _unit((raw @ projection["weight"].T + projection["bias"]).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sides_of_different_lengths_are_refused(backbone):
    vae = build_vae(published_seal_state(seal_state(latent=16)))
    with pytest.raises(EncoderError, match="length 16, those of backbone timm:test_vit 64"):
        PublishedSealEncoder(vae, _list(), vision=SealVision(BACKBONE, backbone))


def test_a_projection_is_one_linear_layer_or_none():
    assert projection_of(seal_state()) == {}
    assert projection_of(_vision_state(projection=True)).keys() == {"weight", "bias"}
    with pytest.raises(EncoderError, match=r"0\.weight|2\.weight"):
        projection_of(
            {"projection_head.0.weight": torch.zeros(1), "projection_head.2.weight": torch.zeros(1)}
        )


def test_a_state_dict_of_another_gene_model_is_refused():
    with pytest.raises(
        EncoderError, match=r"not of SEAL's gene model: it has no encoder\.0\.weight"
    ):
        published_seal_state({"embedding.weight": torch.zeros(1)})
    state = published_seal_state(seal_state())
    state["decoder.1.weight"] = torch.zeros(8)  # batch norm in the decoder
    with pytest.raises(EncoderError, match=r"1 unknown \(decoder\.1\.weight\)"):
        build_vae(state)


@pytest.mark.parametrize("shape", [(), (0,), (360,), (0, 8), (1, 1, 1)], ids=str)
def test_whatever_tensor_has_another_shape_the_gene_model_is_refused(shape):
    for name in seal_state():
        if name.endswith("num_batches_tracked"):
            continue  # any single number
        state = {**seal_state(), name: torch.zeros(shape)}
        with pytest.raises(EncoderError, match="do not fit"):
            build_vae(published_seal_state(state))


def test_factors_and_projections_of_other_shapes_are_refused(backbone):
    factor = "encoder.base_model.model.blocks.5.mlp.fc2.lora_{}.default.weight"
    for side, shape in (("A", ()), ("A", (4,)), ("B", ()), ("B", (64,)), ("B", (64, 3))):
        state = _vision_state()
        state[factor.format(side)] = torch.zeros(shape)
        with pytest.raises(EncoderError, match=r"blocks\.5\.mlp\.fc2 does not fit itself"):
            merge_lora(backbone.network, state)
    with pytest.raises(EncoderError, match="do not fit SEAL's projection head"):
        linear({"weight": torch.zeros(4), "bias": torch.zeros(4)})


def test_a_gene_list_may_begin_with_a_mark_of_byte_order(tmp_path):
    _, assets = write_seal(tmp_path)
    path = assets / "genes.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_gene_list(assets, 30).genes == GENES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"GENE1,1", r"Line 2 of .*genes\.txt is 'GENE1,1'"),
        (b"GENE1\t1", r"Line 2 of .*genes\.txt is 'GENE1\\t1'"),
        (b"GENE\x001", r"Line 2 of .*genes\.txt"),
        (b"GENE1\x1c", r"Line 2 of .*genes\.txt"),
        (b"G\xc9NE1", r"genes\.txt is no readable list.*UTF-8"),
    ],
)
def test_a_gene_list_that_is_a_table_or_no_text_is_refused_by_line(tmp_path, line, message):
    _, assets = write_seal(tmp_path)
    path = assets / "genes.txt"
    path.write_bytes(path.read_bytes().replace(b"\nGENE1\n", b"\n" + line + b"\n"))
    with pytest.raises(EncoderError, match=message):
        read_gene_list(assets, 30)


def test_the_gene_list_has_to_be_given_and_to_fit(tmp_path):
    _, assets = write_seal(tmp_path, stats=True)
    found = read_gene_list(assets, 30)
    assert found.genes == GENES
    assert found.mean[3] == pytest.approx(0.6)
    assert found.std[3] == pytest.approx(0.15)
    with pytest.raises(EncoderError, match="has 30 genes, but the weights take 31"):
        read_gene_list(assets, 31)
    (assets / "gene_stats.csv").write_text("gene,mean,std\nGENE0,1,0\n")
    with pytest.raises(EncoderError, match="lacks 29 genes"):
        read_gene_list(assets, 30)
    (assets / "genes.txt").unlink()
    with pytest.raises(EncoderError, match="have not published the list"):
        read_gene_list(assets, 30)
