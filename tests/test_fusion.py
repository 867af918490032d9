"""ST-Align's fusion against the paper's equations written as loops."""

from __future__ import annotations

import math

import pytest
import torch

from stamp_index.encoders.fusion import AttentionFusion, Tokeniser

S, L, HEADS, DIM_HEAD = 4, 6, 2, 5


def _matrix(x):
    return x.tolist()


def _times(a, b):
    return [
        [sum(a[i][k] * b[k][j] for k in range(len(b))) for j in range(len(b[0]))]
        for i in range(len(a))
    ]


def _norm(rows, weight, bias):
    out = []
    for row in rows:
        mean = sum(row) / len(row)
        variance = sum((v - mean) ** 2 for v in row) / len(row)
        scaled = [(v - mean) / math.sqrt(variance + 1e-5) for v in row]
        out.append([w * v + b for v, w, b in zip(scaled, weight, bias, strict=True)])
    return out


def _slow_direction(part, asking, asked, norm):
    """softmax((I W_q)(G W_k)' / sqrt(d)) (G W_v) W_I of one spot, head by head."""
    if norm:
        asking = _norm(asking, part.norm_query.weight.tolist(), part.norm_query.bias.tolist())
        asked = _norm(asked, part.norm_other.weight.tolist(), part.norm_other.bias.tolist())
    w_q, w_k, w_v, w_out = (
        _matrix(layer.weight.T) for layer in (part.query, part.key, part.value, part.out)
    )
    q, k, v = _times(asking, w_q), _times(asked, w_k), _times(asked, w_v)
    joined = [[] for _ in asking]
    for head in range(HEADS):
        cut = slice(head * DIM_HEAD, (head + 1) * DIM_HEAD)
        for i in range(len(asking)):
            logits = [
                sum(x * y for x, y in zip(q[i][cut], k[j][cut], strict=True)) / math.sqrt(DIM_HEAD)
                for j in range(len(asked))
            ]
            total = sum(math.exp(value) for value in logits)
            weights = [math.exp(value) / total for value in logits]
            joined[i] += [
                sum(weights[j] * v[j][cut][d] for j in range(len(asked))) for d in range(DIM_HEAD)
            ]
    return _times(joined, w_out)


def _fusion(**settings):
    torch.manual_seed(0)
    fusion = AttentionFusion(L, S, heads=HEADS, dim_head=DIM_HEAD, **settings).double().eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    return fusion


@pytest.mark.parametrize("norm", [True, False], ids=["code: layer norm", "paper: none"])
def test_fused_tokens_are_the_papers_equations(norm):
    fusion = _fusion(norm=norm)
    image, gene = torch.randn(2, 3, S, L, dtype=torch.float64)
    fused = fusion(image, gene)
    assert fused.shape == (3, S, L)
    for b in range(3):
        i, g = _matrix(image[b]), _matrix(gene[b])
        halves = _slow_direction(fusion.image, i, g, norm), _slow_direction(fusion.gene, g, i, norm)
        slow = torch.tensor([x + y for x, y in zip(*halves, strict=True)], dtype=torch.float64)
        torch.testing.assert_close(fused[b], slow, rtol=0, atol=1e-6)


def test_the_directions_have_their_own_weights():
    fusion = _fusion()
    image, gene = torch.randn(2, 3, S, L, dtype=torch.float64)
    ahead, back = fusion(image, gene), fusion(gene, image)
    assert not torch.allclose(ahead[..., : L // 2], back[..., L // 2 :])
    fusion.gene.load_state_dict(fusion.image.state_dict())
    ahead, back = fusion(image, gene), fusion(gene, image)
    torch.testing.assert_close(ahead[..., : L // 2], back[..., L // 2 :])


def test_what_is_fused_depends_on_both_sides():
    fusion = _fusion()
    image, gene = (
        x.requires_grad_() for x in torch.randn(2, 3, S, L, dtype=torch.float64).unbind()
    )
    for half in (slice(None, L // 2), slice(L // 2, None)):
        grads = torch.autograd.grad(fusion(image, gene)[..., half].sum(), (image, gene))
        assert all(grad.abs().sum() > 1e-3 for grad in grads)


def test_dropout_is_for_training():
    fusion = _fusion(dropout=0.5)
    image, gene = torch.randn(2, 3, S, L, dtype=torch.float64)
    assert torch.equal(fusion(image, gene), fusion(image, gene))
    fusion.train()
    assert not torch.equal(fusion(image, gene), fusion(image, gene))


def test_the_default_is_the_published_size():
    shapes = {name: tuple(x.shape) for name, x in AttentionFusion(512).image.named_parameters()}
    assert shapes == {
        "norm_query.weight": (512,),
        "norm_query.bias": (512,),
        "norm_other.weight": (512,),
        "norm_other.bias": (512,),
        "query.weight": (512, 512),
        "key.weight": (512, 512),
        "value.weight": (512, 512),
        "out.weight": (256, 512),
    }


def test_tokens_of_a_feature_are_not_copies_of_one_vector():
    torch.manual_seed(0)
    tokens = Tokeniser(32, n_tokens=8, token_width=16)(torch.randn(5, 32))
    assert tokens.shape == (5, 8, 16)
    assert all(torch.linalg.matrix_rank(spot) == 8 for spot in tokens)


def test_a_token_is_its_own_rows_of_the_linear_map():
    torch.manual_seed(0)
    tokeniser, x = Tokeniser(5, n_tokens=3, token_width=4), torch.randn(2, 5)
    weight, bias = tokeniser.linear.weight, tokeniser.linear.bias
    for t in range(3):
        rows = slice(4 * t, 4 * t + 4)
        torch.testing.assert_close(tokeniser(x)[:, t], x @ weight[rows].T + bias[rows])


def test_odd_tokens_and_tokens_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="token_width of the fusion is 7; it must be even"):
        AttentionFusion(7)
    image, gene = torch.randn(2, 3, S, L, dtype=torch.float64)
    with pytest.raises(ValueError, match="The gene tokens are 3 x 6; the fusion takes 4 x 6"):
        _fusion()(image, gene[:, :3])
