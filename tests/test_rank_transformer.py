"""The published gene encoder: parity with the released code, padding, and refusals."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.genes import PAD, TOKEN_OFFSET

TINY = {"context": 12, "width": 16, "depth": 2, "heads": 4, "ffn": 24}
TOWERS = {
    "rank": lambda: RankTransformer(40, **TINY),
    "rank_profile": lambda: GeneTower(40, context=12, width=16, depth=2, heads=4, dropout=0.0),
}


def spots(lengths, context=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.stack([torch.randperm(40, generator=generator)[:context] for _ in lengths])
    tokens += TOKEN_OFFSET
    for row, length in enumerate(lengths):
        tokens[row, length:] = PAD
    return tokens


def opened(kind, seed=0):
    """A tower whose blocks do something; ours start as the identity."""
    torch.manual_seed(seed)
    tower = TOWERS[kind]()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        tower.embed.weight[PAD] = 7.0  # loud, so that it would be heard
    return tower.eval()


@pytest.fixture
def published(shared_data):
    folder = shared_data / "parity" / "stamp"
    state = load_file(folder / "tiny_state_dict.safetensors")
    prefix = "spot_backbone."
    own = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(f"{prefix}encoder.")
    }
    own["embed.weight"] = state[f"{prefix}embeddings.weight"].clone()
    own["embed.weight"][[0, 1, 2]] = state[f"{prefix}embeddings.weight"][[1, 2, 0]]
    own["rank"] = state[f"{prefix}positional_embedding.weight"]
    inputs = load_file(folder / "tiny_inputs.safetensors")["tokens"]
    features = load_file(folder / "tiny_outputs.safetensors")["spot_features"]
    return own, inputs, features


@pytest.mark.parametrize("training", [True, False])
def test_compat_pooling_gives_the_features_of_the_released_code(published, training):
    state, tokens, features = published
    tower = RankTransformer(500, context=64, width=32, depth=3, heads=4, ffn=64, pool="compat")
    tower.load_state_dict(state)
    with torch.no_grad():
        ours = tower.train(training)(tokens, None)
    torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-5)


def test_mean_pooling_keeps_the_top_genes_and_leaves_out_padding(published):
    state, tokens, features = published
    tower = RankTransformer(500, context=64, width=32, depth=3, heads=4, ffn=64)
    tower.load_state_dict(state)
    with torch.no_grad():
        outputs = tower.positions(tokens)
        ours = tower(tokens, None)
    for row, output, feature in zip(tokens, outputs, ours, strict=True):
        slow = sum(output[rank] for rank in range(64) if row[rank] != PAD) / int((row != PAD).sum())
        torch.testing.assert_close(feature, slow)
    assert (ours - features).abs().max() > 0.01


@pytest.mark.parametrize("kind", TOWERS)
def test_padding_changes_nothing(kind):
    tower = opened(kind)
    short, full = spots([5, 8]), spots([12, 12])
    with torch.no_grad():
        alone = tower.positions(short[:, :8])
        among = tower.positions(torch.cat([short, full]))[:2]
    torch.testing.assert_close(alone[0, :5], among[0, :5])
    torch.testing.assert_close(alone[1, :8], among[1, :8])


@pytest.mark.parametrize("kind", TOWERS)
def test_every_rank_is_returned_in_evaluation_mode_too(kind):
    tower = opened(kind)
    with torch.no_grad():
        assert tower.positions(spots([3, 4])).shape == (2, 12, 16)


@pytest.mark.parametrize("kind", TOWERS)
def test_the_same_genes_in_another_order_are_another_spot(kind):
    tower = opened(kind)
    tokens = spots([12])
    with torch.no_grad():
        forward, backward = (tower(t, torch.zeros(1, 40)) for t in (tokens, tokens.flip(1)))
    assert (forward - backward).abs().max() > 1e-3


@pytest.mark.parametrize("kind", TOWERS)
def test_a_spot_without_genes_gives_numbers_and_gradients(kind):
    tower = opened(kind).train()
    features = tower(spots([0, 4]), torch.zeros(2, 40))
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters() if p.grad is not None)
    if kind == "rank":
        assert not features[0].any()


@pytest.mark.parametrize("kind", TOWERS)
def test_bfloat16_gives_nearly_the_same_features(kind):
    tower = opened(kind)
    tokens, profile = spots([12, 5]), torch.zeros(2, 40)
    with torch.no_grad():
        exact = tower(tokens, profile)
        with torch.autocast("cpu", torch.bfloat16):
            rough = tower(tokens, profile)
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)


def test_stage_one_features_of_the_default_tower_do_not_see_the_profile():
    tower = opened("rank_profile")
    tokens = spots([12, 7])
    with torch.no_grad():
        before = tower.positions(tokens)
        tower.profile.weight += 1.0
        tower.profile.bias += 1.0
        torch.testing.assert_close(tower.positions(tokens), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", TOWERS)
def test_more_tokens_than_ranks_are_refused(kind):
    with pytest.raises(ValueError, match=r"\(1, 13\).*at most 12"):
        TOWERS[kind]().positions(torch.ones(1, 13, dtype=torch.int64))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"heads is 3.*width, 16"):
        RankTransformer(40, **{**TINY, "heads": 3})
    with pytest.raises(ValueError, match="pool is 'max'"):
        RankTransformer(40, **TINY, pool="max")
