"""Published STAMP weights: the numbers of the released code, and where the corrected form departs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from torch.nn.functional import cross_entropy, normalize

from stamp_index.encoders.base import Encoder
from stamp_index.encoders.image_tower import pool_cells
from stamp_index.encoders.published.assets import read_vocabulary
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder
from stamp_index.encoders.published.stamp_model import (
    PublishedStamp,
    StampOptions,
    published_gene_state,
    published_stamp_state,
    scrambled_cells,
    stamp_heads,
)
from stamp_index.encoders.published.state import below, read_published
from stamp_index.encoders.published.vocabulary import Vocabulary
from stamp_index.errors import (
    DuplicateGenesError,
    EncoderError,
    MissingGenesError,
)
from stamp_index.genes import compat_means
from tests.published_files import GENE_IDS, STAMP_HEADS, SYMBOLS, stamp_means, stamp_state


@pytest.fixture(scope="module")
def parity(shared_data):
    return shared_data / "parity" / "stamp"


@pytest.fixture(scope="module")
def tiny_inputs(parity):
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(parity / "tiny_inputs.safetensors").items()
    }


def _tiny(parity, compat=True):
    state = read_published(parity / "tiny_state_dict.safetensors")
    heads = stamp_heads(state, gene=4, vision=4)
    return PublishedStamp.from_published(state, StampOptions(*heads, compat=compat))


@pytest.fixture(scope="module")
def tiny(parity):
    return _tiny(parity)


@pytest.fixture(scope="module")
def outputs(tiny, tiny_inputs):
    return _outputs(tiny, tiny_inputs)


def _outputs(model, inputs):
    with torch.inference_mode():
        found = {
            "spot_features": model.gene(inputs["tokens"], torch.zeros(6, 0)),
            "patch_features": model.vision(inputs["images"]).cls,
            "spot_embeddings": model.embed_spots(inputs["tokens"]),
            "patch_embeddings": model.embed_patches(inputs["images"]),
        }
        region = model.embed_regions(inputs["regions"], inputs["refs"])
    names = ("region_embeddings", "ref_embeddings", "pooled_region_embeddings")
    return found | dict(zip(names, region, strict=True))


def test_every_output_of_the_released_model_is_reproduced(parity, outputs):
    published = load_file(parity / "tiny_outputs.safetensors")
    assert published.keys() == outputs.keys()
    for name, value in published.items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_four_losses_of_the_released_model_are_reproduced(parity, tiny, tiny_inputs, outputs):
    unit = {name: normalize(value, dim=-1) for name, value in outputs.items()}
    scale = tiny.log_scale.exp()
    own = torch.arange(6)

    def one_way(a, b):
        return cross_entropy(scale * unit[f"{a}_embeddings"] @ unit[f"{b}_embeddings"].T, own)

    cells = scale * torch.einsum(
        "bd,bkd->bk", unit["ref_embeddings"], unit["pooled_region_embeddings"]
    )
    losses = {
        "train_patch_spot_loss": (one_way("patch", "spot") + one_way("spot", "patch")) / 2,
        "train_patch_region_loss": one_way("patch", "region"),
        "train_region_spot_loss": (one_way("region", "spot") + one_way("spot", "region")) / 2,
        "train_positioning_loss": cross_entropy(cells, tiny_inputs["pos_label"]),
    }
    losses["train_loss"] = sum(losses.values())
    published = json.loads((parity / "tiny_losses.json").read_text())
    assert float(scale) == pytest.approx(published["logit_scale_exp"], rel=1e-4)
    assert published["losses"].keys() == losses.keys()
    for name, value in published["losses"].items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4), name


@pytest.fixture(scope="module")
def vocabulary(parity):
    return read_vocabulary(parity)


@pytest.fixture(scope="module")
def c2(shared_data):
    from stamp_index.readers import read

    return read(shared_data / "her2st" / "ST-cnts" / "C2.tsv.gz")


def test_tokens_of_a_real_section_are_reproduced(parity, vocabulary, c2):
    published = np.load(parity / "tokens_her2st_C2_first20.npz")
    tokens = vocabulary.tokens(c2.counts[:20], c2.genes, 1500, compat=True)
    aligned = vocabulary.align(c2.counts[:20], c2.genes).toarray().astype(np.float64)
    ratio = aligned / aligned.sum(axis=1, keepdims=True) * 10_000
    ratio /= compat_means(vocabulary.panel.means)
    own = np.take_along_axis(ratio, np.maximum(tokens - 30, 0), axis=1)
    theirs = published["tokens"]
    np.testing.assert_array_equal(tokens == 0, theirs == 0)
    np.testing.assert_allclose(
        np.where(tokens > 0, own, 0.0), published["rank_values"], rtol=1e-4
    )  # ties may stand either way
    for row in range(20):
        last = published["rank_values"][row][theirs[row] > 0].min()
        sure = published["rank_values"][row] > last * 1.0001
        assert set(tokens[row][sure]) == set(theirs[row][sure])


def test_with_whole_means_the_corrected_tokens_of_a_section_are_others(vocabulary, c2):
    compat, corrected = (
        vocabulary.tokens(c2.counts[:20], c2.genes, 1500, compat=compat) for compat in (True, False)
    )
    assert (compat != corrected).any(axis=1).all()
    np.testing.assert_array_equal(compat == 0, corrected == 0)


# --- where compat and corrected differ: recipes 1.8 B, C, D, F, P ---


def test_b_compat_pooling_leaves_three_genes_out_and_counts_padding(parity, tiny, tiny_inputs):
    tokens = tiny_inputs["tokens"]
    corrected = _tiny(parity, compat=False)
    length = tokens.shape[1]
    live = (tokens != 0).sum(dim=1)
    assert len(set(live.tolist())) > 1
    nothing = torch.zeros(6, 0)
    with torch.inference_mode():
        each = tiny.gene.positions(tokens)
        compat, mean = tiny.gene(tokens, nothing), corrected.gene(tokens, nothing)
    for row in range(6):
        first = each[row, :3].sum(0)
        padding = each[row, live[row] :].sum(0)
        torch.testing.assert_close(
            (length - 3) * compat[row],
            live[row] * mean[row] - first + padding,
            rtol=1e-4,
            atol=1e-3,
        )
        assert not torch.allclose(compat[row], mean[row], rtol=1e-3)


def test_b_only_compat_features_depend_on_how_much_padding_follows(parity, tiny, tiny_inputs):
    corrected = _tiny(parity, compat=False)
    shortest = int((tiny_inputs["tokens"] != 0).sum(dim=1).argmin())
    tokens = tiny_inputs["tokens"][shortest][None]
    live = int((tokens != 0).sum())
    assert live < tokens.shape[1]
    nothing = torch.zeros(1, 0)
    with torch.inference_mode():
        for model, is_same in ((corrected, True), (tiny, False)):
            cut, whole = model.gene(tokens[:, :live], nothing), model.gene(tokens, nothing)
            assert torch.allclose(cut, whole, rtol=1e-4, atol=1e-5) == is_same


def _one(values, genes=GENE_IDS):
    row = np.zeros((1, len(genes)), dtype=np.float32)
    for gene, value in values.items():
        row[0, genes.index(gene)] = value
    return csr_matrix(row)


def test_c_rounding_the_means_changes_the_order_and_nothing_else():
    means = np.full(40, 2.0)
    means[:3] = 0.2, 1.4, 2.6  # rounded: 1 (not 0), 1, 3
    table = Vocabulary.from_tables(GENE_IDS, means, SYMBOLS)
    counts = _one(dict.fromkeys(GENE_IDS[:4], 6.0))
    ratios = {True: [6, 6, 2, 3], False: [30, 6 / 1.4, 6 / 2.6, 3]}
    for compat, ratio in ratios.items():
        order = np.argsort(-np.array(ratio), kind="stable") + 30
        np.testing.assert_array_equal(
            table.tokens(counts, GENE_IDS, 6, compat=compat)[0], [*order, 0, 0]
        )
    near = _one({GENE_IDS[1]: 6.0, GENE_IDS[3]: 7.5})  # 6 against 3.75, and 4.29 against 3.75
    for compat in (True, False):
        assert table.tokens(near, GENE_IDS, 2, compat=compat)[0].tolist() == [31, 33]
    flipped = _one({GENE_IDS[1]: 5.0, GENE_IDS[3]: 8.0})  # 5 > 4, but 5 / 1.4 < 4
    assert table.tokens(flipped, GENE_IDS, 2, compat=True)[0].tolist() == [31, 33]
    assert table.tokens(flipped, GENE_IDS, 2, compat=False)[0].tolist() == [33, 31]


def test_c_whole_means_give_the_same_tokens_either_way():
    rng = np.random.default_rng(0)
    table = Vocabulary.from_tables(GENE_IDS, rng.integers(1, 9, 40), SYMBOLS)
    counts = csr_matrix(rng.poisson(2.0, (20, 40)).astype(np.float32))
    both = [table.tokens(counts, GENE_IDS, 12, compat=compat) for compat in (True, False)]
    np.testing.assert_array_equal(*both)


def test_d_compat_cells_are_the_right_values_in_the_wrong_places(parity):
    published = load_file(parity / "grid_pooling.safetensors")
    tokens = published["tokens"].reshape(2, 14, 14, 8)
    scrambled, right = scrambled_cells(tokens), pool_cells(tokens)
    torch.testing.assert_close(scrambled, published["pooled"], rtol=1e-4, atol=1e-6)
    for cell in range(9):
        row, column = divmod(cell, 3)
        window = tokens[:, 4 * row : 4 * row + 6, 4 * column : 4 * column + 6]
        torch.testing.assert_close(right[:, cell], window.mean(dim=(1, 2)), rtol=1e-4, atol=1e-6)
        for channel in range(8):
            place, slot = divmod(9 * channel + cell, 8)
            torch.testing.assert_close(scrambled[:, place, slot], right[:, cell, channel])
    assert not torch.allclose(scrambled, right)
    torch.testing.assert_close(scrambled_cells(tokens[..., :1]), right[..., :1])


def test_d_only_the_cells_differ_between_compat_and_corrected(parity, tiny_inputs, outputs):
    corrected = _outputs(_tiny(parity, compat=False), tiny_inputs)
    differs = {name: not torch.allclose(value, corrected[name]) for name, value in outputs.items()}
    expected = {"spot_features", "spot_embeddings", "pooled_region_embeddings"}  # B and D
    assert {name for name, value in differs.items() if value} == expected


# --- the encoder, on stand-ins ---


def _encoder(**options):
    options = StampOptions(*STAMP_HEADS, **options)
    model = PublishedStamp.from_published(stamp_state(), options)
    table = Vocabulary.from_tables(GENE_IDS, np.nan_to_num(stamp_means()), SYMBOLS)
    return PublishedStampEncoder(model, table, options)


@pytest.fixture(scope="module")
def encoder():
    return _encoder()


def _counts(n=9, k=40, seed=0):
    rng = np.random.default_rng(seed)
    return csr_matrix(rng.poisson(0.4, (n, k)).astype(np.float32))


def test_it_is_an_encoder_with_the_published_widths(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.patch.width_um, encoder.patch.size_px) == (112.0, 32)
    assert encoder.region.width_um == 336.0
    assert encoder.dim == 10
    assert encoder.panel.genes[:2] == ("GENE0", "GENE1")
    assert encoder.panel.genes[38:] == GENE_IDS[38:]  # no symbol means them


def test_f_turned_colours_are_those_of_the_turned_image(encoder):
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    turned = _encoder(bgr=True)
    np.testing.assert_allclose(
        turned.encode_images(images), encoder.encode_images(images[..., ::-1]), atol=1e-6
    )
    assert not np.allclose(turned.encode_images(images), encoder.encode_images(images), atol=1e-3)


def test_images_are_normalised_embedded_and_made_unit(encoder):
    images = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)
    found = encoder.encode_images(images, regions=images[::-1])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        raw = encoder.model.embed_patches(torch.tensor(normal, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images[7:8]), found[7:8], atol=1e-5)
    assert encoder.encode_images(images[:0]).shape == (0, 10)


def test_images_of_another_size_are_shrunk(encoder):
    flat = np.full((1, 64, 64, 3), 90, np.uint8)
    np.testing.assert_allclose(
        encoder.encode_images(flat), encoder.encode_images(flat[:, :32, :32]), atol=1e-5
    )


def test_counts_are_embedded_whatever_their_column_order_and_names(encoder):
    counts = _counts()
    found = encoder.encode_counts(counts, GENE_IDS)
    tokens = encoder.vocabulary.tokens(counts, GENE_IDS, 12, compat=True)
    with torch.inference_mode():
        raw = encoder.model.embed_spots(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
    order = np.random.default_rng(1).permutation(40)
    versioned = [f"{GENE_IDS[at]}.{at}" for at in order]
    np.testing.assert_allclose(encoder.encode_counts(counts[:, order], versioned), found, atol=1e-6)
    by_symbol = encoder.encode_counts(counts, encoder.panel.genes)
    np.testing.assert_allclose(by_symbol, found, atol=1e-6)


def test_p_counts_under_two_names_of_a_gene_are_summed(encoder):
    split = csr_matrix(np.array([[2.0, 1.0, 4.0, 3.0]], dtype=np.float32))
    whole = csr_matrix(np.array([[3.0, 4.0, 3.0]], dtype=np.float32))
    np.testing.assert_array_equal(
        encoder.vocabulary.align(split, ("GENE3", "OLDNAME", "GENE1", "other")).toarray()[
            0, [3, 1]
        ],
        [3.0, 4.0],
    )
    np.testing.assert_array_equal(
        encoder.encode_counts(split, ("GENE3", "OLDNAME", "GENE1", GENE_IDS[9])),
        encoder.encode_counts(whole, ("GENE3", "GENE1", "GENE9")),
    )


def test_a_spot_without_counts_has_a_unit_embedding(encoder):
    for compat in (True, False):
        found = _encoder(compat=compat).encode_counts(
            csr_matrix((2, 40), dtype=np.float32), GENE_IDS
        )
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_counts_of_another_species_or_with_double_names_are_refused(encoder):
    mouse = [f"Gene{n}" for n in range(40)]
    with pytest.raises(MissingGenesError, match="knows 0 of the 40 genes.*check the species"):
        encoder.encode_counts(_counts(), mouse)
    with pytest.raises(DuplicateGenesError, match="GENE1"):
        encoder.encode_counts(_counts(k=2), ("GENE1", "GENE1"))


def test_a_signature_points_from_its_low_genes_to_its_high_ones(encoder):
    found = encoder.encode_signature({"GENE1": 1.0, "GENE2": 2.0, "GENE7": -1.0})
    tokens = torch.zeros(2, 12, dtype=torch.int64)
    tokens[0, :2] = torch.tensor([32, 31])  # the heavier gene first
    tokens[1, 0] = 37
    with torch.inference_mode():
        high, low = normalize(encoder.model.embed_spots(tokens), dim=-1).numpy()
    np.testing.assert_allclose(found, (high - low) / np.linalg.norm(high - low), atol=1e-5)
    back = encoder.encode_signature({"GENE1": -1.0, "GENE2": -2.0, "GENE7": 1.0})
    np.testing.assert_allclose(back, -found, atol=1e-5)


def test_an_empty_side_of_a_signature_is_masked_genes(encoder):
    found = encoder.encode_signature({"GENE1": 1.0, "GENE2": 0.5})
    tokens = torch.zeros(2, 12, dtype=torch.int64)
    tokens[0, :2] = torch.tensor([31, 32])
    tokens[1, :2] = 2
    with torch.inference_mode():
        high, masked = normalize(encoder.model.embed_spots(tokens), dim=-1).numpy()
    np.testing.assert_allclose(found, (high - masked) / np.linalg.norm(high - masked), atol=1e-5)
    low = encoder.encode_signature({"GENE1": -1.0, "GENE2": -0.5})
    np.testing.assert_allclose(low, -found, atol=1e-5)


def test_signatures_that_name_nothing_or_something_unknown_are_refused(encoder):
    for weights in ({}, {"GENE1": 0.0}):
        with pytest.raises(EncoderError, match="no direction .* a signature of no gene"):
            encoder.encode_signature(weights)
    with pytest.raises(MissingGenesError, match="NOTAGENE"):
        encoder.encode_signature({"GENE1": 1.0, "NOTAGENE": -1.0})


def test_the_parts_that_are_saved_make_the_same_encoder(encoder):
    again = PublishedStampEncoder.from_parts(
        json.loads(json.dumps(encoder.settings())),
        encoder.panel,
        encoder.arrays_to_save(),
        ("stamp", "abc"),
    )
    assert (again.name, again.fingerprint) == ("stamp", "abc")
    counts = _counts()
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(
        again.encode_counts(counts, GENE_IDS), encoder.encode_counts(counts, GENE_IDS)
    )
    np.testing.assert_array_equal(again.encode_images(images), encoder.encode_images(images))
    assert again.encode_counts(csr_matrix([[1.0]]), ["OLDNAME"]).shape == (1, 10)


# --- state dicts ---


def test_reserved_rows_of_the_gene_table_are_moved_to_our_ids():
    state = below(stamp_state(), "spot_backbone.")
    theirs, ours = state["embeddings.weight"], published_gene_state(state)["embed.weight"]
    for own, published in ((0, 1), (2, 0), (1, 2)):  # padding, mask, CLS
        torch.testing.assert_close(ours[own], theirs[published])
    torch.testing.assert_close(ours[3:], theirs[3:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("logit_scale"), "not of STAMP: it has no logit_scale"),
        (lambda s: s.pop("visual_backbone.p_visual"), "STAMP's vision model: it has no p_visual"),
        (
            lambda s: s.pop("spot_backbone.encoder.layers.1.norm2.bias"),
            "1 tensors missing .*layers.1.norm2",
        ),
        (lambda s: s.pop("visual_backbone.base_model.norm.bias"), "1 tensors missing .*norm.bias"),
        (lambda s: s.update(adapter=torch.zeros(1)), r"1 unknown \(adapter\)"),
        (
            lambda s: s.update(
                {"visual_backbone.base_model.blocks.99999999.norm1.weight": torch.zeros(16)}
            ),
            r"1 unknown .*blocks\.99999999",
        ),
        (
            lambda s: s.update({"patch_projection.weight": torch.zeros(10, 17)}),
            r"heads.patch.weight \(10, 17\) instead of \(10, 16\)",
        ),
        (
            lambda s: s.update({"spot_backbone.embeddings.weight": torch.zeros(20, 16)}),
            "has 20 rows",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    state = stamp_state()
    change(state)
    with pytest.raises(EncoderError, match=message):
        PublishedStamp.from_published(state, StampOptions(*STAMP_HEADS))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (0, 16), (1, 2, 1, 1, 1)], ids=str)
def test_whatever_tensor_has_another_shape_the_checkpoint_is_refused(shape):
    unused = ("spot_backbone.encoder_layer", "spot_backbone.classifier", "spot_backbone.spatial")
    used = [name for name in stamp_state() if not name.startswith(unused)]
    for name in used:
        if (name, shape) == ("logit_scale", ()):
            continue  # its own
        state = {**stamp_state(), name: torch.zeros(shape)}
        with pytest.raises(EncoderError, match="do not fit"):
            _import(state)


def _import(state):
    heads = stamp_heads(state, gene=4, vision=2)
    return PublishedStamp.from_published(state, StampOptions(*heads))


def test_heads_are_those_of_the_published_sizes_or_have_to_be_told():
    published = {
        "spot_backbone.embeddings.weight": torch.empty(40, 512, device="meta"),
        "visual_backbone.base_model.patch_embed.proj.weight": torch.empty(
            1024, 3, 16, 16, device="meta"
        ),
    }
    assert stamp_heads(published) == (16, 16)
    assert stamp_heads(published, gene=8, vision=32) == (8, 32)
    with pytest.raises(
        EncoderError, match="512, which 7 heads do not divide. Correct --gene-heads"
    ):
        stamp_heads(published, gene=7)
    with pytest.raises(EncoderError, match="width 16 cannot be read.*--gene-heads N"):
        stamp_heads(stamp_state())
    with pytest.raises(EncoderError, match="--vision-heads N"):
        stamp_heads(stamp_state(), gene=4)


def test_weights_and_vocabulary_of_different_models_are_refused(encoder):
    table = Vocabulary.from_tables(GENE_IDS[:39], np.ones(39), {})
    with pytest.raises(EncoderError, match="embed 40 genes, but the vocabulary has 39"):
        PublishedStampEncoder(encoder.model, table, encoder.options)


def test_nothing_of_the_stage_1_heads_is_kept():
    assert not [name for name in published_stamp_state(stamp_state()) if "classifier" in name]
