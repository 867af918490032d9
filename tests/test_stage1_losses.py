"""Stage 1's losses and masking: parity with the released code, slow loops, and where they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.genes import MASK, PAD, TOKEN_OFFSET
from trainer.stage1 import losses
from trainer.stage1.losses import gene_loss, niche_loss
from trainer.stage1.masking import corrupt, mask_only
from trainer.stage1.model import Stage1Model


@pytest.fixture
def published(shared_data):
    """The released stage-1 model under our names, its inputs with our ids, and its losses."""
    folder = shared_data / "parity" / "stamp"
    state = load_file(folder / "stage1_state_dict.safetensors")
    table = state["embeddings.weight"]
    own = {f"tower.{name}": value for name, value in state.items() if name.startswith("encoder.")}
    own["tower.embed.weight"] = table.clone()
    own["tower.embed.weight"][[PAD, MASK, 1]] = table[[1, 0, 2]]  # released: MASK 0, PAD 1
    own["tower.rank"] = state["positional_embedding.weight"]
    for name, ours in (("classifier_head", "gene_head"), ("spatial_classifier_head", "niche_head")):
        own |= {f"{ours}.{part}": state[f"{name}.{part}"] for part in ("weight", "bias")}
    tower = RankTransformer(500, context=64, width=32, depth=3, heads=4, ffn=64)
    model = Stage1Model(tower, 500)
    model.load_state_dict(own)
    inputs = load_file(folder / "stage1_inputs.safetensors")
    shown = inputs["masked_indices"].clone()
    shown[inputs["masked_indices"] == 0] = MASK
    shown[inputs["masked_indices"] == 1] = PAD
    wanted = json.loads((folder / "stage1_losses.json").read_text())
    return model, shown, inputs["niches"], inputs["mask"] == 0, wanted


def test_losses_equal_those_of_the_released_code(published):
    """Far closer than the 1e-4 asked for, as the corrected niche loss differs by 3e-5 here."""
    model, shown, niches, chosen, wanted = published
    with torch.no_grad():
        features = model(shown)
        grouped = features.unflatten(0, (2, 9))
        own = gene_loss(features, niches.flatten(0, 1), chosen, model.gene_head).loss
        released = niche_loss(grouped, niches, model.niche_head, compat=True).loss
        corrected = niche_loss(grouped, niches, model.niche_head).loss
    assert float(own) == pytest.approx(wanted["train_ori_loss"], rel=2e-6)
    assert float(released) == pytest.approx(wanted["train_spatial_loss"], rel=2e-6)
    assert float(own + released) == pytest.approx(wanted["train_loss"], rel=2e-6)
    assert float(corrected) != pytest.approx(wanted["train_spatial_loss"], rel=2e-6)


def test_corrected_and_released_niche_losses_differ_exactly_where_a_neighbour_is_padded(published):
    model, shown, niches, _, _ = published
    with torch.no_grad():
        features = model(shown).unflatten(0, (2, 9))
        for niche in range(2):
            for rank in range(64):
                one = torch.zeros(2, 64, dtype=torch.bool)
                one[niche, rank] = True
                found = [
                    float(
                        niche_loss(
                            features, niches, model.niche_head, chosen=one, compat=compat
                        ).loss
                    )
                    for compat in (True, False)
                ]
                padded = bool((niches[niche, 1:, rank] == PAD).any())
                assert (abs(found[0] - found[1]) > 1e-5) == padded


def toy(k=3, t=6, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(k, 9, t, width, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, 20, (k, 9, t), generator=generator) + TOKEN_OFFSET
    lengths = torch.randint(1, t + 1, (k, 9, 1), generator=generator)
    tokens[torch.arange(t) >= lengths] = PAD
    tokens[0, 1:, -1] = PAD  # a rank that only the centre reaches
    tokens[0, 0] = 3 + TOKEN_OFFSET
    torch.manual_seed(seed)
    return features, tokens, nn.Linear(width, 20 + TOKEN_OFFSET).double()


@pytest.mark.parametrize("masked", [False, True])
def test_niche_loss_equals_a_slow_loop_in_float64(monkeypatch, masked):
    features, tokens, head = toy()
    keep_double(monkeypatch)
    chosen = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) < 0.5 if masked else None
    terms = []
    for niche in range(3):
        for rank in range(6):
            live = [k for k in range(1, 9) if tokens[niche, k, rank] != PAD]
            target = tokens[niche, 0, rank]
            if target == PAD or not live or (masked and not chosen[niche, rank]):
                continue
            around = sum(features[niche, k, rank] for k in live) / len(live)
            terms.append(-torch.log_softmax(head(around), dim=0)[target])
    score = niche_loss(features, tokens, head, chosen=chosen)
    assert score.n == len(terms)
    assert float(score.loss.detach()) == pytest.approx(
        float(sum(terms).detach()) / len(terms), abs=1e-6
    )


def test_gene_loss_equals_a_slow_loop_in_float64_and_counts_right_genes(monkeypatch):
    features, tokens, head = toy()
    keep_double(monkeypatch)
    features, tokens = features.flatten(0, 1), tokens.flatten(0, 1)
    chosen = (torch.rand(27, 6, generator=torch.Generator().manual_seed(1)) < 0.5) & (tokens != PAD)
    terms, right = [], 0
    for row, rank in zip(*np.nonzero(chosen.numpy()), strict=True):
        logits = head(features[row, rank])
        terms.append(-torch.log_softmax(logits, dim=0)[tokens[row, rank]])
        right += int(logits.argmax() == tokens[row, rank])
    score = gene_loss(features, tokens, chosen, head)
    assert (score.n, int(score.right)) == (len(terms), right)
    assert float(score.loss.detach()) == pytest.approx(
        float(sum(terms).detach()) / len(terms), abs=1e-6
    )


def keep_double(monkeypatch):
    """Logits are cast to float32 against bf16; a check in float64 has to do without."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)


def test_scoring_in_chunks_changes_neither_loss_nor_gradients(monkeypatch):
    features, tokens, head = toy()
    results = []
    for size in (10_000, 7):
        monkeypatch.setattr(losses, "CHUNK", size)
        inputs = features.float().requires_grad_()
        head.float().zero_grad()
        score = niche_loss(inputs, tokens, head)
        score.loss.backward()
        results.append((score.loss.detach(), score.right, inputs.grad, head.weight.grad.clone()))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts)


def test_no_position_to_predict_gives_zero_with_a_gradient():
    features, tokens, head = toy()
    features.requires_grad_()
    score = niche_loss(features, torch.zeros_like(tokens), head)
    score.loss.backward()
    assert float(score.loss.detach()) == 0.0
    assert score.n == 0
    assert not features.grad.any()


def rank_lists(n=400, t=50, n_genes=300, seed=0):
    rng = np.random.default_rng(seed)
    tokens = np.argsort(rng.random((n, n_genes)), axis=1)[:, :t].astype(np.int32) + TOKEN_OFFSET
    tokens[np.arange(t) >= rng.integers(t // 2, t + 1, (n, 1))] = PAD
    return tokens


def test_masking_is_fifteen_percent_and_exactly_eighty_ten_ten():
    tokens = rank_lists()
    hidden = corrupt(tokens, 300, 0.15, np.random.default_rng(1))
    n = int(hidden.chosen.sum())
    assert n / (tokens != PAD).sum() == pytest.approx(0.15, abs=0.01)
    assert (hidden.tokens == MASK).sum() == round(0.8 * n)
    replaced = hidden.chosen & (hidden.tokens != MASK) & (hidden.tokens != tokens)
    # A drawn gene is the rank's own one time in 300.
    assert 0.09 * n < replaced.sum() <= round(0.9 * n) - round(0.8 * n)


def test_masking_never_touches_padding_and_draws_real_genes_only():
    tokens = rank_lists()
    hidden = corrupt(tokens, 300, 0.5, np.random.default_rng(1))
    np.testing.assert_array_equal(hidden.targets, tokens)
    np.testing.assert_array_equal(hidden.tokens == PAD, tokens == PAD)
    assert not hidden.chosen[tokens == PAD].any()
    np.testing.assert_array_equal(hidden.tokens[~hidden.chosen], tokens[~hidden.chosen])
    drawn = hidden.tokens[hidden.chosen & (hidden.tokens != MASK)] - TOKEN_OFFSET
    assert drawn.min() >= 0
    assert drawn.max() < 300
    everything = corrupt(np.full((1, 3000), 30), 4, 1.0, np.random.default_rng(0)).tokens
    assert set(np.unique(everything)) == {MASK, 30, 31, 32, 33}


def test_masking_is_decided_by_its_seed():
    tokens = rank_lists()
    one, same, other = (
        corrupt(tokens, 300, 0.15, np.random.default_rng(s)).tokens for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_measuring_shows_mask_wherever_a_gene_is_asked_for():
    tokens = rank_lists()
    hidden = mask_only(tokens, 0.15, np.random.default_rng(1))
    assert (hidden.tokens[hidden.chosen] == MASK).all()
    np.testing.assert_array_equal(hidden.tokens[~hidden.chosen], tokens[~hidden.chosen])
