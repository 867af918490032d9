"""Every index recipe measured on a store's own vectors."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.evaluate.suite.asked import SuiteSettings
from stamp_index.evaluate.suite.run import evaluate_store
from stamp_index.index import build_index, load_recipe, measure_recipes, read_card
from tests.support import random_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 32))
    image, gene = (
        (centres[rng.integers(0, 30, 1200)] + 0.5 * rng.normal(size=(1200, 32))) for _ in range(2)
    )
    unit = [
        (side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32)
        for side in (image, gene)
    ]
    return random_store(tmp_path_factory.mktemp("recipes"), *unit, n_slides=3)


def test_each_recipe_is_built_and_what_it_finds_is_told(store):
    told = []
    found = measure_recipes(store, "gene", progress=lambda *at: told.append(at))
    names = [one.recipe for one in found]
    assert names == ["flat", "hnsw_sq8", "ivf_pq", "ivf_rabitq", "ivf_sq8"]
    assert told == [(at, 5) for at in range(6)]
    for one in found:
        assert one.kind == one.recipe
        assert one.n == 1200
        assert (one.bytes_per_row == 0) == (one.kind == "flat")
        for choice in one.calibration.choices:
            assert set(choice.recall) == {"image", "gene"}
            assert all(0.5 < value <= 1 for value in choice.recall.values())
    assert found[0].calibration.choices[-1].recall == {"image": 1.0, "gene": 1.0}
    again = measure_recipes(store, "gene", ["ivf_sq8"])[0]
    recalls = [rung.recall for rung in found[-1].calibration.rungs]
    assert [rung.recall for rung in again.calibration.rungs] == recalls


def test_the_index_that_the_store_has_stays_as_it_is(store):
    build_index(store, "image", load_recipe("flat"))
    card = read_card(store, "image")
    measure_recipes(store, "image", ["ivf_sq8"])
    assert read_card(store, "image") == card


def test_a_report_has_recipes_targets_and_curves(store, tmp_path):
    report = evaluate_store(store, settings=SuiteSettings(parts=("ann",)))
    rows = report.rows("Index recipes")
    assert {row["index of"] for row in rows} == {"image", "gene"}
    assert {row["target"] for row in rows} == {0.95, 0.99}
    (section,) = report.sections
    assert len(section["plots"]) == 4
    for plot in section["plots"]:
        for one in plot["data"]["series"]:
            assert (np.diff(one["cost"]) > 0).all()
            assert (np.diff(one["values"]) > 0).all()
    assert "ann_recall@10" in report.save(tmp_path)["html"].read_text()


def test_recipes_that_cannot_be_compared_are_refused(store):
    with pytest.raises(AnnIndexError, match="no index recipe 'fast'"):
        measure_recipes(store, "gene", ["fast"])
    with pytest.raises(AnnIndexError, match="auto chooses among the others"):
        measure_recipes(store, "gene", ["auto"])
    with pytest.raises(ValueError, match="modality"):
        measure_recipes(store, "sound")
