"""Reconstruction losses against the published ones, and against loops where a number could hide a slip."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stamp_index.encoders.decoders import DECODERS, ImageDecoder, make_decoder
from trainer.reconstruction import RECONSTRUCTIONS


@pytest.fixture(scope="module")
def published(shared_data):
    folder = shared_data / "parity" / "seal"
    if not folder.is_dir():
        pytest.skip(f"no published numbers at {folder}")
    inputs = load_file(folder / "loss_inputs.safetensors")
    std = torch.tensor(pd.read_csv(folder / "gene_stats.csv")["std"].to_numpy())
    losses = json.loads((folder / "losses.json").read_text())
    return inputs["prediction"], inputs["target"], std.float(), losses


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_loss_is_the_published_one(published, name):
    prediction, target, std, losses = published
    if "std" in name or "standardized" in name:  # ours are given deviations, SEAL's divides
        prediction, target = prediction / std, target / std
    value = RECONSTRUCTIONS[name](prediction, target).item()
    assert value == pytest.approx(losses[name]["loss"], abs=1e-4)


def test_every_published_number_has_its_loss(published):
    assert set(published[3]) == set(RECONSTRUCTIONS)


def _batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(9, 6)), rng.normal(size=(9, 6)) + 0.5


def _slow(name, y, x):
    b, g = y.shape
    own = [np.corrcoef(y[:, j], x[:, j])[0, 1] for j in range(g)]
    soft = 0.05 * sum((1 - c) ** 2 for c in own)
    cross = sum(
        np.corrcoef(y[:, i], x[:, j])[0, 1] ** 2 for i in range(g) for j in range(g) if i != j
    )
    error = [[y[i, j] - x[i, j] for j in range(g)] for i in range(b)]
    squares = np.mean([[e**2 for e in row] for row in error])

    def kernel(a, c):
        return np.mean(
            [
                sum(np.exp(-((p - q) ** 2).sum() / (2 * w)) for w in (10, 15, 20, 50))
                for p in a.T
                for q in c.T
            ]
        )

    return {
        "mse": squares,
        "standardized_mse": squares,
        "pcc": 1 - np.mean([np.corrcoef(y[i], x[i])[0, 1] for i in range(b)]),
        "barlow": soft + 0.05 * 0.005 * cross,
        "barlow_soft": soft,
        "barlow_mse": soft + squares,
        "barlow_std_mse": soft + 5 * squares,
        "mmd": kernel(y, y) + kernel(x, x) - 2 * kernel(y, x),
        "l1": np.mean([[abs(e) for e in row] for row in error]),
        "huber": np.mean(
            [[e**2 / 2 if abs(e) < 1 else abs(e) - 0.5 for e in row] for row in error]
        ),
    }[name]


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_loss_is_the_loop_over_spots_and_genes(name):
    y, x = _batch()
    fast = RECONSTRUCTIONS[name](*map(torch.from_numpy, (y, x))).item()
    assert fast == pytest.approx(_slow(name, y, x), abs=1e-6)


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_a_perfect_prediction_costs_nothing_but_other_genes_likeness(name):
    x = torch.from_numpy(_batch()[1])
    slack = 0.05 * 0.005 * 30 if name == "barlow" else 1e-6
    assert abs(RECONSTRUCTIONS[name](x, x).item()) <= slack


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_constant_predictions_and_unmeasured_genes_give_finite_gradients(name):
    x = torch.from_numpy(_batch()[1]).float()
    x[:, 2] = 0.0
    y = torch.zeros(9, 6, requires_grad=True)
    RECONSTRUCTIONS[name](y, x).backward()
    assert torch.isfinite(y.grad).all()


def test_each_loss_leads_a_decoder_to_the_genes_it_can_know():
    torch.manual_seed(0)
    embedding = torch.randn(64, 5)
    target = embedding @ torch.randn(5, 12)
    decoder = make_decoder("mlp", dim=5, n_genes=12, hidden=64)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = RECONSTRUCTIONS["barlow_std_mse"](decoder(embedding), target)
        loss.backward()
        optimiser.step()
    correlation = torch.stack(
        [
            torch.corrcoef(torch.stack(pair))[0, 1]
            for pair in zip(decoder(embedding).T, target.T, strict=True)
        ]
    )
    assert correlation.min() > 0.95


def test_the_decoder_has_the_published_layers_and_its_last_relu_is_an_option():
    torch.manual_seed(0)
    embedding = torch.randn(16, 8)
    plain = ImageDecoder(8, 20)
    shapes = [tuple(weight.shape) for weight in plain.parameters()]
    assert shapes == [(512, 8), (512,), (20, 512), (20,)]
    clipped = ImageDecoder(8, 20, relu=True)
    clipped.load_state_dict(plain.state_dict())
    assert plain(embedding).min() < 0
    assert torch.equal(clipped(embedding), plain(embedding).clamp(min=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vae"}, "Unknown decoder 'vae'; expected one of mlp, linear"),
        ({"hiden": 3}, "The mlp decoder has no setting hiden; it knows hidden, dropout, relu"),
        ({"kind": "linear", "hidden": 3}, "no setting hidden; it knows no settings"),
    ],
)
def test_a_wrong_decoder_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_decoder(dim=4, n_genes=3, **settings)


@pytest.mark.parametrize("kind", DECODERS)
def test_every_decoder_maps_embeddings_to_genes(kind):
    assert make_decoder(kind, dim=4, n_genes=3)(torch.zeros(2, 4)).shape == (2, 3)
