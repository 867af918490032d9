"""The direct path from a summary into the space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stamp_index.encoders.direct import DirectPath
from stamp_index.encoders.linear_maps import shrunk_components


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(40, 12)).astype(np.float32)


def test_before_training_it_is_the_linear_map_of_its_components(rows):
    path = DirectPath(12, 5, components=8, hidden=16).eval()
    fitted = shrunk_components(rows, 8)
    path.fit_axes(fitted.mean, fitted.axes)
    with torch.no_grad():
        weight, bias = path.linear.weight.numpy(), path.linear.bias.numpy()
        found = path(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, fitted(rows) @ weight.T + bias, atol=1e-5)


def test_components_that_the_training_spots_do_not_have_stay_silent(rows):
    path = DirectPath(12, 5, components=10).eval()
    fitted = shrunk_components(rows[:4], 10)
    assert fitted.axes.shape == (12, 3)
    path.fit_axes(fitted.mean, fitted.axes)
    with torch.no_grad():
        before = path(torch.from_numpy(rows))
        path.linear.weight[:, 3:] += 7.0
        torch.testing.assert_close(path(torch.from_numpy(rows)), before)


def test_the_perceptron_learns_what_the_linear_map_cannot():
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    target = (x[:, :1] * x[:, 1:2]).expand(-1, 2)  # no linear map has it

    def left_over(hidden):
        path = DirectPath(4, 2, hidden=hidden, dropout=0.0)
        optimiser = torch.optim.Adam(path.parameters(), lr=1e-2)
        for _ in range(300):
            loss = ((path(x) - target) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return loss.item()

    assert left_over(64) < 0.2 * left_over(0)


def test_training_hides_components_and_searching_does_not(rows):
    path = DirectPath(12, 5, dropout=0.5)
    x = torch.from_numpy(rows)
    assert not torch.equal(path.train()(x), path(x))
    assert torch.equal(path.eval()(x), path(x))


@pytest.mark.parametrize(
    "settings", [{"components": 0}, {"hidden": -1}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_impossible_settings_are_refused_with_what_was_expected(settings):
    with pytest.raises(ValueError, match="expected components of at least 1"):
        DirectPath(12, 5, **settings)
