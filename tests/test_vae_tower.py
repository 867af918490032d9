"""SEAL's gene model: the published numbers, planar flows against automatic Jacobians, and no noise at inference."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from stamp_index.encoders.vae_tower import PlanarFlow, VaeTower


def _own_name(published: str) -> str:
    """Our name of a published tensor: the same, but for the two maps into the latent."""
    return published.replace("fc_mu.", "mu.").replace("fc_logvar.", "logvar.")


@pytest.fixture(scope="module")
def published(shared_data):
    folder = shared_data / "parity" / "seal"
    if not folder.is_dir():
        pytest.skip(f"no published numbers at {folder}")
    state = load_file(folder / "vae_state_dict.safetensors")
    tower = VaeTower(60, hidden=(40, 24), latent=16)
    tower.load_state_dict({_own_name(name): value for name, value in state.items()})
    return tower.eval(), load_file(folder / "vae_inputs_outputs.safetensors")


def test_every_output_is_the_published_one(published):
    tower, numbers = published
    state = tower.encode_full(numbers["x"])
    tolerance = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(state.mu, numbers["mu"], **tolerance)
    torch.testing.assert_close(state.logvar, numbers["logvar"], **tolerance)
    torch.testing.assert_close(state.z, numbers["z"], **tolerance)
    torch.testing.assert_close(state.log_det, numbers["total_log_det"], **tolerance)
    torch.testing.assert_close(tower.decode(state.z), numbers["y"], **tolerance)
    tokens = torch.zeros(8, 4, dtype=torch.int)
    assert torch.equal(tower(tokens, numbers["x"]), state.z)


def test_a_spot_has_one_embedding_at_inference_and_many_in_training():
    torch.manual_seed(0)
    tower, profile = VaeTower(20, hidden=(12,), latent=6), torch.randn(4, 20)
    tokens = torch.zeros(4, 2, dtype=torch.int)
    assert not torch.equal(tower(tokens, profile), tower(tokens, profile))
    tower.eval()
    alone = tower(tokens[:1], profile[:1])
    assert torch.equal(alone, tower(tokens[:1], profile[:1]))
    torch.testing.assert_close(alone[0], tower(tokens, profile)[0])


def test_the_noise_has_the_deviation_that_logvar_says():
    torch.manual_seed(0)
    tower = VaeTower(20, hidden=(12,), latent=3, n_flows=0).train()
    profile = torch.randn(2, 20)
    # Repeated rows leave the statistics of batch normalisation as they are.
    draws = tower.encode_full(profile.repeat(4000, 1)).z.reshape(4000, 2, 3)
    mu, logvar = tower.posterior(profile)
    torch.testing.assert_close(draws.mean(0), mu, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.exp(logvar / 2), atol=0, rtol=0.1)


def test_the_log_determinant_of_the_flows_is_that_of_their_jacobian():
    torch.manual_seed(0)
    tower = VaeTower(20, hidden=(12,), latent=5).double()
    for planar in tower.flows:
        torch.nn.init.normal_(planar.u)
        torch.nn.init.normal_(planar.w)
    z0 = torch.randn(4, 5, dtype=torch.float64)
    z, log_det = tower.flow(z0)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda x: tower.flow(x[None])[0][0], z0[i])
        assert log_det[i].item() == pytest.approx(
            torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-5
        )
    assert (z - z0).abs().max() > 0.1


def test_a_planar_flow_is_its_formula_coordinate_by_coordinate():
    torch.manual_seed(0)
    planar, z = PlanarFlow(3), torch.randn(2, 3)
    torch.nn.init.normal_(planar.u)
    torch.nn.init.normal_(planar.w)
    torch.nn.init.constant_(planar.b, 0.3)
    u, w, moved = planar.u.tolist(), planar.w.tolist(), planar(z)[0]
    for i in range(2):
        active = math.tanh(sum(w[k] * z[i, k].item() for k in range(3)) + 0.3)
        for k in range(3):
            assert moved[i, k].item() == pytest.approx(z[i, k].item() + u[k] * active, abs=1e-6)


def test_the_divergence_has_the_closed_form_without_flows():
    torch.manual_seed(0)
    tower = VaeTower(20, hidden=(12,), latent=4, n_flows=0).train()
    profile = torch.randn(2, 20)
    value = tower.divergence(tower.encode_full(profile.repeat(40_000, 1))).mean()
    mu, logvar = tower.posterior(profile)
    exact = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    assert value.item() == pytest.approx(exact.item(), rel=0.05)


def test_the_divergence_is_that_of_the_density_after_the_flows():
    """One latent dimension, where the density after the flow can be integrated."""
    torch.manual_seed(0)
    tower = VaeTower(6, hidden=(4,), latent=1, n_flows=1).double().train()
    planar = tower.flows[0]
    planar.u.data[:], planar.w.data[:] = 1.5, 0.8
    profile = torch.randn(2, 6, dtype=torch.float64)
    mu, logvar = (x.detach() for x in tower.posterior(profile))
    expected = 0.0
    for i in range(2):
        std = math.exp(logvar[i].item() / 2)
        z0 = mu[i].item() + std * torch.linspace(-8, 8, 20_001, dtype=torch.float64)
        weight = torch.exp(-(((z0 - mu[i].item()) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
        z, log_det = tower.flow(z0[:, None])
        log_q = weight.log() - log_det
        log_p = -(z[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2
        expected += torch.trapezoid(weight * (log_q - log_p), z0).item() / 2
    value = tower.divergence(tower.encode_full(profile.repeat(20_000, 1))).mean().item()
    assert value == pytest.approx(expected, abs=0.03)


def test_a_runaway_log_variance_gives_finite_noise():
    tower = VaeTower(20, hidden=(12,), latent=4)
    torch.nn.init.constant_(tower.logvar.bias, 500.0)
    assert torch.isfinite(tower(torch.zeros(3, 1, dtype=torch.int), torch.randn(3, 20))).all()


def test_the_default_is_the_published_size():
    tower = VaeTower(2000)
    linear = [tuple(m.weight.shape) for m in tower.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == [
        *[(1024, 2000), (512, 1024), (512, 512), (512, 512)],
        *[(512, 512), (1024, 512), (2000, 1024)],
    ]
    assert (len(tower.flows), tower.width) == (3, 512)


def test_a_tower_without_hidden_layers_is_refused():
    with pytest.raises(ValueError, match="has no hidden layers"):
        VaeTower(20, hidden=[])
