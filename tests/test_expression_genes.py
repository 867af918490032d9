"""Gene lists chosen on training spots."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingGenesError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import (
    GeneLevels,
    GeneList,
    all_genes,
    given_genes,
    highly_expressed,
    highly_variable,
)

GENES = ("ACTB", "CD8A", "EPCAM", "KRT8", "MYH9")


def _counts(n=40, seed=0):
    rng = np.random.default_rng(seed)
    rate = np.array([200.0, 2.0, 20.0, 5.0, 0.0]) * rng.gamma(2, 0.5, (n, 5)) ** [0, 1, 3, 1, 1]
    return rng.poisson(rate).astype(np.float32)


def _levels(counts):
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts.astype(np.float64) / total * 1e4)


def test_lists_equal_slow_sorting_of_dense_levels_in_one_part_or_many():
    counts = _counts()
    levels = _levels(counts)
    by_variance = [GENES[i] for i in np.argsort(-levels.var(axis=0), kind="stable")]
    by_mean = [GENES[i] for i in np.argsort(-levels.mean(axis=0), kind="stable")]
    for parts in ([counts], [counts[:7], counts[7:8], counts[8:]]):
        train = GeneLevels.of((csr_matrix(part) for part in parts), GENES)
        np.testing.assert_allclose(train.mean, levels.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(train.variance, levels.var(axis=0), rtol=1e-5, atol=1e-9)
        assert highly_variable(train, 3).names == tuple(by_variance[:3])
        assert highly_expressed(train, 2).names == tuple(by_mean[:2])
        assert all_genes(train).names == tuple(sorted(GENES[:4]))  # no spot has MYH9
        assert train.n_spots == 40


def test_a_gene_that_does_not_vary_is_not_variable_and_equal_genes_go_by_name():
    counts = np.array([[3, 1, 0, 6], [1, 3, 0, 6]], np.float32)
    train = GeneLevels.of([csr_matrix(counts)], ("B", "A", "none", "same"))
    assert highly_variable(train, 9).names == ("A", "B")


def test_a_choice_among_some_genes_keeps_levels_of_whole_spots():
    train = GeneLevels.of([csr_matrix(_counts())], GENES)
    some = train.among({"KRT8", "ACTB", "unheard of"})
    assert some.genes == ("ACTB", "KRT8")
    np.testing.assert_array_equal(some.variance, train.variance[[0, 3]])
    assert set(highly_variable(some, 9).names) <= {"ACTB", "KRT8"}


def test_a_list_says_its_rule_and_its_hash_is_that_of_its_genes_in_any_order():
    train = GeneLevels.of([csr_matrix(_counts())], GENES)
    found = highly_variable(train, 3)
    assert found.label == "HVG-3"
    assert "variance of log1p CP10K over 40 training spots" in found.rule
    text = "\n".join(sorted(found.names)).encode()
    assert found.hash == hashlib.sha256(text).hexdigest()[:16]
    assert GeneList("x", found.names[::-1], "x").hash == found.hash
    assert GeneList("x", found.names[:2], "x").hash != found.hash
    assert found.to_dict()["hash"] == found.hash


def test_given_genes_that_are_not_there_are_named_with_close_ones():
    assert given_genes(["KRT8", "ACTB"], GENES).names == ("KRT8", "ACTB")
    with pytest.raises(MissingGenesError, match=r"1 of 2 genes .*\(KRT9\).*Close names: KRT8"):
        given_genes(["KRT9", "ACTB"], GENES)
    with pytest.raises(EvaluationError, match="names ACTB more than once"):
        given_genes(["ACTB", "ACTB"], GENES)
    with pytest.raises(EvaluationError, match="is empty"):
        given_genes([], GENES)


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(EvaluationError, match="no training spots"):
        GeneLevels.of([], GENES)
    silent = GeneLevels.of([csr_matrix((4, 5), dtype=np.float32)], GENES)
    with pytest.raises(EvaluationError, match="No gene varies"):
        highly_variable(silent)
    with pytest.raises(ValueError, match="n is 0"):
        highly_variable(GeneLevels.of([csr_matrix(_counts())], GENES), 0)
