"""The tower for single spots against timm's ResNet with the stem changed, and its place in the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stamp_index.encoders.image_tower import TowerOutput
from stamp_index.encoders.small_resnet import SmallResNet
from stamp_index.encoders.torch_compat import declare_torchvision_ops


def _pixels(n, side=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def _timm_resnet(depth):
    declare_torchvision_ops()
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    layers = (2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)
    network = ResNet(BasicBlock if depth < 50 else Bottleneck, layers, num_classes=512)
    network.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = torch.nn.Identity()
    return network.eval()


def _in_order(names):
    """Sort names so that both networks list the same tensor at the same place: shortcuts after their block."""
    return sorted(names, key=lambda name: "downsample" in name or "shortcut" in name)


@pytest.mark.parametrize("depth", [18, 50])
def test_it_is_timms_resnet_with_a_small_stem(depth):
    torch.manual_seed(0)
    tower, other = SmallResNet(28, 84, depth=depth).eval(), _timm_resnet(depth)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    ours, theirs = tower.state_dict(), other.state_dict()
    pairs = zip(_in_order(ours), _in_order(theirs), strict=True)
    other.load_state_dict({name: ours[own] for own, name in pairs})
    pixels = torch.from_numpy(_pixels(2))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        found = tower(pixels)
        expected = other(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(found.cls, expected, rtol=1e-3, atol=1e-3)
    assert found.tokens.shape == (2, 4, 4, 512)  # 28, 28, 14, 7, 4


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return SmallResNet(28, 84, depth=18, base=8, width=16)


def test_it_speaks_the_protocol_of_image_towers(tiny):
    images = _pixels(3)
    assert (tiny.width, tiny.prepared_id) == (16, "pixels")
    assert tiny.prepare(images) is images
    out = tiny(torch.from_numpy(images))
    assert isinstance(out, TowerOutput)
    assert out.cls.shape == out.inserted.shape == (3, 16)
    torch.testing.assert_close(out.tokens.mean((1, 2)), out.cls)


def test_turned_images_are_seen_differently_but_upright(tiny):
    """Height and width are not swapped: a bright lower half lights up the lower tokens."""
    tiny.eval()
    images = np.zeros((1, 28, 28, 3), np.uint8)
    images[:, 14:] = 255
    plain = tiny(torch.zeros(1, 28, 28, 3)).tokens
    change = (tiny(torch.from_numpy(images)).tokens - plain).norm(dim=-1)[0]  # (4, 4)
    assert change[3].mean() > 2 * change[0].mean()
    torch.testing.assert_close(
        tiny(torch.from_numpy(images).transpose(1, 2)).tokens.shape, plain.shape
    )


def test_every_weight_is_trained(tiny):
    tiny(torch.from_numpy(_pixels(4))).cls.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tiny.parameters())
    assert all(name != "mean" and name != "std" for name in tiny.state_dict())


def test_it_can_tell_colours_apart_after_a_few_steps(tiny):
    labels = torch.arange(16) % 4
    colours = np.array([[180, 60, 120], [60, 60, 160], [230, 200, 220], [120, 160, 90]])
    noise = np.random.default_rng(0).normal(0, 25, (16, 28, 28, 3))
    images = torch.from_numpy(
        (colours[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8)
    )
    optimiser = torch.optim.AdamW(tiny.parameters(), lr=2e-3)
    for _ in range(12):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(tiny(images).cls[:, :4], labels)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_region_mode_unknown_depths_and_tiny_images_are_refused(tiny):
    pixels = torch.from_numpy(_pixels(1))
    with pytest.raises(ValueError, match=r"no region mode.*\[model.region_tower\]"):
        tiny(pixels, pixels)
    with pytest.raises(
        ValueError, match="depth of the small ResNet is 101; expected one of 18, 34, 50"
    ):
        SmallResNet(28, depth=101)
    with pytest.raises(ValueError, match="The patch is 4 px"):
        SmallResNet(4)
