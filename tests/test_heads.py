"""Heads and the two dense gene towers: shapes, published forms, and refusals that name what is known."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from stamp_index.encoders.heads import HEADS, make_head
from stamp_index.encoders.niche_tower import NicheTransformer
from stamp_index.encoders.profile_tower import ProfileTower


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_maps_the_last_axis_and_learns(kind):
    head = make_head(kind, 12, 12)
    features = torch.randn(3, 5, 12, requires_grad=True)
    out = head(features)
    assert out.shape == (3, 5, 12)
    out.square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in head.parameters())


def _weights(head):
    return dict(head.named_parameters())


def test_the_adapter_adds_a_fifth_of_a_bottleneck_without_biases():
    head = make_head("adapter", 6, 8)
    w = _weights(head)
    assert {name: tuple(x.shape) for name, x in w.items()} == {
        "linear.weight": (8, 6),
        "linear.bias": (8,),
        "adapter.0.weight": (2, 8),
        "adapter.2.weight": (8, 2),
    }
    features = torch.randn(5, 6)
    for i in range(5):
        e = w["linear.weight"] @ features[i] + w["linear.bias"]
        adapted = (w["adapter.2.weight"] @ (w["adapter.0.weight"] @ e).clamp(min=0)).clamp(min=0)
        torch.testing.assert_close(head(features)[i], 0.8 * e + 0.2 * adapted)


def test_the_projection_adds_its_first_map_and_ends_in_a_layer_norm():
    head = make_head("projection", 6, 8).eval()
    w = _weights(head)
    features = torch.randn(5, 6)
    first = features @ w["project.weight"].T + w["project.bias"]
    second = functional.gelu(first) @ w["refine.1.weight"].T + w["refine.1.bias"]
    total = first + second
    centred = total - total.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(
        head(features).norm(dim=1), torch.full((5,), 8**0.5), rtol=1e-3, atol=0
    )
    assert not torch.equal(head.train()(features), expected)  # dropout


def test_the_mlp_head_has_st_aligns_sizes_by_default():
    shapes = [tuple(x.shape) for x in make_head("mlp", 4096, 1024).parameters()]
    assert shapes == [(2048, 4096), (2048,), (1024, 2048), (1024,)]
    small = make_head("mlp", 4, 3, hidden=5)
    w = list(small.parameters())
    x = torch.randn(2, 4)
    torch.testing.assert_close(small(x), (x @ w[0].T + w[1]).relu() @ w[2].T + w[3])


def test_the_identity_head_hands_features_on_and_needs_equal_lengths():
    x = torch.randn(2, 4)
    assert make_head("identity", 4, 4)(x) is x
    with pytest.raises(ValueError, match="features of length 6 to embeddings of length 4"):
        make_head("identity", 6, 4)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            "conv",
            {},
            "Unknown head 'conv'; expected one of linear, adapter, mlp, projection, identity",
        ),
        (
            "linear",
            {"hidden": 3},
            r"The linear head of \[model.head\] has no setting hidden; it knows no settings",
        ),
        ("adapter", {"ratio": 1}, "no setting ratio; it knows share, reduction"),
        ("adapter", {"share": 2.0}, r"share of the adapter head is 2.0; it must lie in \[0, 1\]"),
        ("adapter", {"reduction": 9}, "reduction of the adapter head is 9"),
        ("mlp", {"width": 3}, "multiple values|no setting width"),
    ],
)
def test_a_wrong_head_is_refused_and_the_known_are_named(kind, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_head(kind, 8, 8, **settings)


def test_the_profile_itself_is_a_feature_where_nothing_is_asked_for():
    tower = ProfileTower(30)
    profile = torch.randn(4, 30)
    assert tower.width == 30
    assert list(tower.parameters()) == []
    assert torch.equal(tower(torch.zeros(4, 8, dtype=torch.int), profile), profile)


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({"hidden": [16, 8]}, 8),
        ({"width": 5}, 5),
        ({"hidden": [16], "width": 5, "dropout": 0.2}, 5),
    ],
)
def test_a_profile_tower_is_as_wide_as_its_last_layer(settings, width):
    tower = ProfileTower(30, **settings)
    assert tower.width == width
    assert tower(torch.zeros(4, 8, dtype=torch.int), torch.randn(4, 30)).shape == (4, width)


def test_the_niche_tower_gives_one_feature_for_each_spot_whatever_the_others_are():
    tower = NicheTransformer(30, width=16, n_tokens=4, depth=2, heads=4, hidden=(12,)).eval()
    tokens, profile = torch.zeros(5, 8, dtype=torch.int), torch.randn(5, 30)
    for block in tower.blocks:  # blocks start as the identity; make them do something
        torch.nn.init.normal_(block.out.weight, std=0.5)
    whole = tower(tokens, profile)
    assert whole.shape == (5, tower.width) == (5, 16)
    for i in range(5):
        torch.testing.assert_close(tower(tokens[i : i + 1], profile[i : i + 1])[0], whole[i])


def test_the_niche_tower_is_by_default_the_published_size_and_mixes_its_tokens():
    tower = NicheTransformer(40)
    assert (len(tower.blocks), tower.blocks[0].heads, tower.n_tokens, tower.width) == (6, 8, 8, 512)
    assert [tuple(layer.weight.shape) for layer in tower.tokens if hasattr(layer, "weight")] == [
        (1024, 40),
        (512, 1024),
        (4096, 512),
    ]
    small = NicheTransformer(30, width=8, n_tokens=3, depth=1, heads=2, hidden=()).eval()
    torch.nn.init.normal_(small.blocks[0].out.weight)
    x = small.tokens(torch.randn(1, 30)).reshape(1, 3, 8)
    moved = torch.cat([x[:, :2], torch.randn(1, 1, 8)], dim=1)
    assert not torch.allclose(small.blocks[0](x)[:, 0], small.blocks[0](moved)[:, 0])


def test_heads_that_do_not_divide_the_niche_tower_are_refused():
    with pytest.raises(ValueError, match="548 wide with 8 heads"):
        NicheTransformer(30, width=548)
