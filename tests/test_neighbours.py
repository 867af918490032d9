"""Spots around a spot: averaging weights, profiles at several scales, and spatial autocorrelation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stamp_index.encoders.gene_input import Around, GeneInput
from stamp_index.encoders.neighbours import ITSELF, Neighbourhood
from stamp_index.errors import MissingPixelSizeError
from stamp_index.genes import GenePanel
from stamp_index.genes.variable import choose_genes, morans_i
from tests.support import toy_slide


def slow_weights(xy, k, radius, own):
    """The averaging matrix by its definition, one spot after the other."""
    n = len(xy)
    made = np.zeros((n, n))
    for i in range(n):
        others = sorted((math.dist(xy[i], xy[j]), j) for j in range(n) if j != i)
        near = [j for distance, j in others[:k] if distance <= radius]
        made[i, i] = own if near else 1.0
        for j in near:
            made[i, j] = (1 - own) / len(near)
    return made


@pytest.mark.parametrize("k", [1, 3, 8, 50])
@pytest.mark.parametrize("radius", [60.0, 150.0, 1e6])
def test_weights_are_those_of_a_loop_and_rows_sum_to_one(k, radius):
    xy = np.random.default_rng(k).uniform(0, 600, size=(30, 2))
    fast = Neighbourhood(k, radius, 0.3).weights(xy).toarray()
    np.testing.assert_allclose(fast, slow_weights(xy, k, radius, 0.3), atol=1e-12)
    np.testing.assert_allclose(fast.sum(axis=1), 1.0)


def test_a_spot_without_neighbours_stands_for_itself():
    xy = np.array([[0.0, 0], [10, 0], [5_000, 0]])
    weights = Neighbourhood(2, 100.0, 0.25).weights(xy).toarray()
    np.testing.assert_allclose(weights, [[0.25, 0.75, 0], [0.75, 0.25, 0], [0, 0, 1]])


@pytest.mark.parametrize("n_same", [2, 5])
def test_spots_at_one_place_never_count_themselves_and_never_more_than_k(n_same):
    xy = np.concatenate([np.zeros((n_same, 2)), [[10.0, 0], [0, 10]]])
    weights = Neighbourhood(2, 100.0, 0.5).weights(xy).toarray()
    np.testing.assert_allclose(weights.diagonal(), 0.5)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert np.all((weights > 0).sum(axis=1) == 3)


@pytest.mark.parametrize("n", [0, 1])
def test_one_spot_or_none_needs_no_neighbours(n):
    weights = Neighbourhood(3, 100.0).weights(np.zeros((n, 2)))
    np.testing.assert_array_equal(weights.toarray(), np.eye(n))


@pytest.mark.parametrize("wrong", [(-1, 10.0, 0.5), (3, 0.0, 0.5), (3, 10.0, 1.5)])
def test_a_neighbourhood_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"k = {wrong[0]}, .* means nothing"):
        Neighbourhood(*wrong)


def scattered(slide, seed=0):
    """The slide with spots moved by a few pixels, so that no two distances tie."""
    moved = np.random.default_rng(seed).uniform(-9, 9, size=(slide.n_spots, 2))
    at = slide.xy_px + moved
    return replace(slide, spots=slide.spots.assign(x_px=at[:, 0], y_px=at[:, 1]))


@pytest.fixture(scope="module")
def slide():
    return scattered(toy_slide("A", n_spots=40, seed=3))


@pytest.fixture(scope="module")
def panel(slide):
    return GenePanel.fit([slide], 30, min_spots=2)


AROUND = Around((ITSELF, Neighbourhood(8, 150.0, 0.2)), Neighbourhood(3, 150.0, 0.25))


def slow_profile(scale, slide, fitted, std):
    """Deviations from the slide's (leaning) mean of log1p CP10K of averaged counts, in loops over spots."""
    aligned = fitted.panel.align(slide.counts, slide.genes).toarray()
    weights = slow_weights(slide.xy_um, scale.k, scale.radius_um, scale.self_weight)
    n, g = aligned.shape
    expression = np.zeros((n, g))
    for i in range(n):
        mixed = sum(weights[i, j] * aligned[j] for j in range(n))
        expression[i] = np.log1p(mixed / mixed.sum() * 1e4)
    reference = (expression.sum(axis=0) + 20 * fitted.mean) / (n + 20)
    return np.clip((expression - reference) / std, -6, 6)


def test_each_scale_and_the_niche_are_the_loop_over_averaged_counts(slide, panel):
    fitted = GeneInput.fit(panel, [slide], 8, AROUND)
    batch = fitted.slide_batch(slide)
    assert batch.profile.shape == (40, 60)
    assert fitted.width == 60
    for number, scale in enumerate(AROUND.scales):
        slow = slow_profile(scale, slide, fitted, fitted.std[number])
        np.testing.assert_allclose(
            batch.profile[:, 30 * number : 30 * number + 30], slow, atol=2e-4
        )
    np.testing.assert_allclose(
        batch.niche, slow_profile(AROUND.niche, slide, fitted, fitted.std[0]), atol=2e-4
    )


def test_a_wider_scale_varies_less_and_has_deviations_of_its_own(slide, panel):
    fitted = GeneInput.fit(panel, [slide], 8, AROUND)
    assert np.all(fitted.std[1] <= fitted.std[0])
    assert fitted.slide_batch(slide).profile[:, 30:].std() == pytest.approx(1.0, abs=0.15)


def test_without_a_niche_the_niche_is_the_first_scale(slide, panel):
    batch = GeneInput.fit(panel, [slide], 8).slide_batch(slide)
    np.testing.assert_array_equal(batch.niche, batch.profile)


def test_signatures_and_loose_counts_repeat_themselves_at_every_scale(slide, panel):
    fitted = GeneInput.fit(panel, [slide], 8, AROUND)
    asked = fitted.signature({panel.genes[2]: 1.0, panel.genes[5]: -0.5})
    loose = fitted.batch(slide.counts, slide.genes)
    for made in (asked, loose):
        np.testing.assert_array_equal(made.profile, np.tile(made.niche, 2))
    assert asked.profile.sum() == pytest.approx(2 * (4.0 - 2.0))
    plain = GeneInput.fit(panel, [slide], 8).batch(slide.counts, slide.genes)
    np.testing.assert_array_equal(loose.niche, plain.profile)


def test_scales_survive_the_way_through_json(slide, panel):
    fitted = GeneInput.fit(panel, [slide], 8, AROUND)
    again = GeneInput.from_parts(fitted.settings(), panel, fitted.arrays())
    assert again.around == AROUND
    np.testing.assert_array_equal(
        again.slide_batch(slide).profile, fitted.slide_batch(slide).profile
    )


def test_surroundings_of_a_slide_without_a_pixel_size_are_refused(slide, panel):
    fitted = GeneInput.fit(panel, [slide], 8, AROUND)
    blind = replace(slide, image=None, mpp=None)
    with pytest.raises(MissingPixelSizeError, match="no microns per pixel"):
        fitted.slide_batch(blind)
    plain = GeneInput.fit(panel, [slide], 8)
    assert len(plain.slide_batch(blind).profile) == 40  # alone, a spot needs no distance


def slow_moran(slide, gene):
    counts, xy = slide.counts.toarray(), slide.xy_px.tolist()
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)[:, slide.genes.index(gene)]
    z = x - x.mean()
    n, k, total = len(x), min(8, len(x) - 1), 0.0
    for i in range(n):
        near = sorted((math.dist(xy[i], xy[j]), j) for j in range(n) if j != i)
        total += sum(z[i] * z[j] / k for _, j in near[:k])
    return total / (z**2).sum() if z.any() else 0.0


def test_morans_i_is_the_loop_over_the_eight_nearest_spots():
    slide = scattered(toy_slide("A", n_spots=30, seed=4))
    counts = slide.counts.toarray()
    counts[:, 7] = 0
    slide = replace(slide, counts=csr_matrix(counts))
    asked = slide.genes[:20]
    found = dict(zip(slide.genes, morans_i(slide, asked), strict=True))
    for gene in asked:
        assert found[gene] == pytest.approx(slow_moran(slide, gene), abs=1e-5)
    assert found[slide.genes[7]] == 0
    assert not any(found[gene] for gene in slide.genes[20:])


def test_a_spot_at_the_place_of_another_is_no_neighbour_of_itself_in_morans_i():
    slide = scattered(toy_slide("A", n_spots=12, seed=5))
    at = np.repeat(slide.xy_px[::2], 2, axis=0)  # spots in pairs
    counts = slide.counts.toarray()
    counts[:, 0] = np.tile([0, 30], 6)  # one of each pair has the gene
    slide = replace(
        slide, spots=slide.spots.assign(x_px=at[:, 0], y_px=at[:, 1]), counts=csr_matrix(counts)
    )
    gene = slide.genes[0]
    # Which spot of the last pair is the eighth is open; with itself among them it would be near 0.
    assert morans_i(slide, {gene})[0] == pytest.approx(slow_moran(slide, gene), abs=0.01)


def test_a_spatial_ranking_prefers_a_gene_with_a_pattern_to_a_loud_one_without():
    slide = toy_slide("A", n_spots=60, seed=6)
    counts = slide.counts.toarray()
    counts[:, 0] = np.random.default_rng(0).integers(0, 2, 60) * 200  # salt and pepper
    slide = replace(slide, counts=csr_matrix(counts))
    loud = slide.genes[0]
    kwargs = {"min_spots": 2, "always": ()}
    assert loud in choose_genes([slide], 5, ranking="variance", **kwargs)
    assert loud not in choose_genes([slide], 20, ranking="spatial", **kwargs)
    assert loud in choose_genes([slide], 5, min_spots=2, always=(loud,), ranking="spatial")
    with pytest.raises(ValueError, match="ranking is 'best'; expected one of variance, spatial"):
        choose_genes([slide], 5, ranking="best", **kwargs)
