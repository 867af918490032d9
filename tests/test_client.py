"""The client: each query over HTTP answers what it answers here, and fails as it fails here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stamp_index as si
from stamp_index.errors import RemoteError
from stamp_index.index import build_index
from stamp_index.index.recipes import IvfSq8Recipe
from stamp_index.search import Region, RegionSettings, Searcher, parse_filter, predict_expression
from stamp_index.serve.settings import Limits
from tests.serve_world import served, until
from tests.support import TOY_GENES, ToyEncoder, toy_rows, toy_slide, toy_slides, toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    plain = toy_slide("P1", 40, 9, image=False, patient_id="P9", genes=TOY_GENES[:20])
    made = toy_store(tmp_path_factory.mktemp("client"), slides=[*toy_slides(4, 80), plain])
    build_index(made, "image", IvfSq8Recipe(nlist=4, n_queries=8, rerank_ladder=(50,)))
    return made


@pytest.fixture(scope="module")
def here(store):
    return Searcher.open(store.path, encoder=ToyEncoder())


@pytest.fixture(scope="module")
def there(store):
    with served(store.path) as url, si.connect(url) as found:
        yield found


def same(one, two):
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
    assert (one.query, one.notes, one.store_version, one.fingerprint) == (two.query, two.notes, two.store_version, two.fingerprint)  # fmt: skip


def same_hits(one, two):
    same(one, two)
    np.testing.assert_array_equal(one.rows, two.rows)
    assert (one.genes, one.ranked_by) == (two.genes, two.ranked_by)


HALVES = {"image": 0.5, "gene": 0.5}
QUERIES = {
    "genes": lambda s: s.search_genes("CD8A high, EPCAM low", k=7),
    "weights": lambda s: s.search_genes({"CD8A": 2, "EPCAM": -0.5}, against="gene", k=7),
    "signature": lambda s: s.search_genes(si.parse_signature("CD8A, CD3E"), against=HALVES),
    "measured": lambda s: s.search_genes("CD8A", rank_by="measured", against="gene", k=200),
    "filtered": lambda s: s.search_genes("CD8A", filters='organ == "skin" and expr("CD8A") > 0.5'),
    "condition": lambda s: s.search_genes("CD8A", filters=parse_filter('slide in ("S1", "S3")')),
    "reported": lambda s: s.search_genes("CD8A", genes=["KRT8", "COL1A1"], k=9),
    "spread": lambda s: s.search_genes("CD8A", one_per=250.0, recall=1.0),
    "per slide": lambda s: s.search_genes("CD8A", one_per="slide", k=9),
    "image": lambda s: s.search_image(PICTURE, mpp=2.0, k=5),
    "placed": lambda s: s.search_image(PICTURE, mpp=2.0, k=5, centre_px=(60.0, 70), against=HALVES),
    "profile": lambda s: s.search_profile({"CD8A": 4, "CD3E": np.float32(2.5)}, k=np.int64(5)),
    "series": lambda s: s.search_profile(pd.Series({"CD8A": 4, "NONE": 3}), k=5),
    "spot": lambda s: s.search_spot("S1:B0003-1", query="gene", exclude_own="patient", k=6),
    "vector": lambda s: s.search_vector(np.arange(32), k=5),
    "few": lambda s: s.search_spot("S1:B0003-1", filters='spot in ("S2:B0000-1", "S2:B0001-1")'),
}
PICTURE = toy_slide().image.read(0, 0, 300, 150)


@pytest.mark.parametrize("ask", QUERIES.values(), ids=QUERIES)
def test_a_query_answers_the_same_there_as_here(here, there, ask):
    same_hits(ask(there), ask(here))


@pytest.mark.parametrize("ask", [
    lambda s: s.search_spots(["S1:B0003-1", "S3:B0004-1"], genes=["CD8A"], k=3),
    lambda s: s.search_vectors(np.eye(3, 32), k=3, against="gene"),
])  # fmt: skip
def test_several_queries_answer_the_same_there_as_here(here, there, ask):
    for one, two in zip(ask(there), ask(here), strict=True):
        same_hits(one, two)


def test_nearest_rows_are_the_same_there_as_here(here, there):
    for more in (
        {"k": 5},
        {"k": 9, "one_per": "slide"},
        {"k": 300, "recall": 1.0, "against": "gene"},
    ):
        for one, two in zip(
            there.nearest(np.eye(3, 32), **more), here.nearest(np.eye(3, 32), **more), strict=True
        ):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)


SHAPE = shapely.Polygon(
    [(0, 0), (500, 0), (500, 500), (0, 500)], [[(190, 190), (210, 190), (200, 210)]]
)
REGIONS = {
    "corners": Region("S1", [(0, 0), (1000, 0), (1000, 1000), (0, 1000)]),
    "shape": Region("S2", SHAPE, "px"),
    "parts": Region("S1", shapely.MultiPolygon([SHAPE, shapely.box(510, 0, 520, 520)]), "px"),
    "ids": [f"S1:B{i:04d}-1" for i in range(12)],
    "rows": np.arange(90, 110),
}


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_a_region_answers_the_same_there_as_here(here, there, region):
    how = {"k": 4, "settings": RegionSettings(n_slides=3), "exclude_own": "nothing"}
    one, two = (searcher.search_region(region, **how) for searcher in (there, here))
    same(one, two)
    for name in ("rows", "matches"):
        for left, right in zip(getattr(one, name), getattr(two, name), strict=True):
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(one.query_rows, two.query_rows)
    np.testing.assert_array_equal(one.query_matches, two.query_matches)
    assert one.outlines == two.outlines
    assert one.slides == two.slides
    pd.testing.assert_frame_equal(one.spots(), two.spots())
    assert one.to_geojson() == two.to_geojson()


WRONG = {
    "gene": lambda s: s.search_genes("CD8Q"),
    "nothing": lambda s: s.search_genes(""),
    "level": lambda s: s.search_genes({"CD8A": float("nan")}),
    "filter": lambda s: s.search_genes("CD8A", filters="organ is"),
    "no filter": lambda s: s.search_genes("CD8A", filters=3),
    "nobody": lambda s: s.search_genes("CD8A", filters='organ == "skin" and organ == "breast"'),
    "k": lambda s: s.search_genes("CD8A", k=0),
    "k text": lambda s: s.search_genes("CD8A", k="3"),
    "k many": lambda s: s.search_genes("CD8A", k=500),
    "recall": lambda s: s.search_genes("CD8A", recall=0.9),
    "against": lambda s: s.search_genes("CD8A", against="both"),
    "weights": lambda s: s.search_genes("CD8A", against={"image": -1.0}),
    "one per": lambda s: s.search_genes("CD8A", one_per=-3.0),
    "report": lambda s: s.search_genes("CD8A", genes=["CD8Q"]),
    "report text": lambda s: s.search_genes("CD8A", genes="CD8A"),
    "rank": lambda s: s.search_genes("CD8A", rank_by="beauty"),
    "no picture": lambda s: s.search_image([[1]], mpp=1.0),
    "grey": lambda s: s.search_image(PICTURE[:, :, 0], mpp=1.0),
    "mpp": lambda s: s.search_image(PICTURE, mpp=0.0),
    "small": lambda s: s.search_image(PICTURE, mpp=0.1),
    "centre": lambda s: s.search_image(PICTURE, mpp=2.0, centre_px=(0.0, 0.0)),
    "no counts": lambda s: s.search_profile({}),
    "negative": lambda s: s.search_profile({"CD8A": -1}),
    "list": lambda s: s.search_profile(["CD8A"]),
    "unknown": lambda s: s.search_profile({"NONE": 1}),
    "spot": lambda s: s.search_spot("S1:none"),
    "spot number": lambda s: s.search_spots([3]),
    "no image": lambda s: s.search_spot("P1:B0000-1"),
    "own": lambda s: s.search_spot("S1:B0000-1", exclude_own="friends"),
    "vector": lambda s: s.search_vector(np.ones(3)),
    "zeros": lambda s: s.search_vector(np.zeros(32)),
    "infinite": lambda s: s.search_vector(np.full(32, np.inf)),
    "region slide": lambda s: s.search_region(Region("S9", SHAPE)),
    "region text": lambda s: s.search_region("S1"),
    "region shape": lambda s: s.search_region(Region("S1", [(0, 0), (1, 1)])),
    "crossing": lambda s: s.search_region(Region("S1", [(0, 0), (9, 9), (0, 9), (9, 0)])),
    "empty": lambda s: s.search_region([]),
    "outside": lambda s: s.search_region(Region("S1", shapely.box(-9, -9, -1, -1))),
    "rows": lambda s: s.search_region([9_999, 1, 2, 3, 4]),
    "two slides": lambda s: s.search_region(np.arange(78, 84)),
}


@pytest.mark.parametrize("ask", WRONG.values(), ids=WRONG)
def test_a_wrong_query_is_refused_there_as_here(here, there, ask):
    refusal = outcome(ask, here)
    assert isinstance(refusal, type)
    assert outcome(ask, there) is refusal


def outcome(ask, *asked):
    """What comes out, or the type of the error."""
    try:
        return ask(*asked)
    except (si.StampIndexError, ValueError, TypeError) as error:
        return type(error)


# ---- anything at all ------------------------------------------------------------------------------

_genes = st.sampled_from(["CD8A", "EPCAM", "cd3e", "ENSG00000000001", "KRT8", "NONE", "A-1"])
_terms = st.tuples(_genes, st.sampled_from(["", " high", " low", ":2", "=-0.5", " 0", "+"]))
_signatures = st.lists(_terms, max_size=4).map(lambda terms: ", ".join(map("".join, terms)))
_conditions = st.sampled_from([
    'organ == "breast"', 'organ != "skin"', 'patient in ("P1", "P9")', 'expr("CD8A") > 1', 'count("KRT8") >= 2',
    'label("domain") == "fat"', "x_um < 500", "n_counts is known", 'slide == "S9"', 'expr("NONE") > 1', "mpp is missing",
    "organ ==", "not", 'barcode == "B0001-1"',
])  # fmt: skip
_filters = st.one_of(
    st.none(),
    st.lists(_conditions, min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from([" and ", " or ", " and not "]).map(
            lambda word: word.join(parts)
        )
    ),
    st.text(max_size=20),
)


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    _signatures,
    st.fixed_dictionaries({
        "filters": _filters,
        "k": st.integers(-1, 400),
        "against": st.sampled_from(["image", "gene", HALVES, {"gene": 1}, "x"]),
        "recall": st.sampled_from([0.95, 0.99, 1.0, 1, 0.5]),
        "one_per": st.sampled_from([None, "slide", "patient", 150.0, 0]),
    }),
)  # fmt: skip
def test_whatever_is_asked_comes_out_alike(here, there, signature, asked):
    one, two = (outcome(lambda s=s: s.search_genes(signature, **asked)) for s in (here, there))
    if isinstance(one, type) or isinstance(two, type):
        assert one is two
    else:
        same_hits(two, one)


# ---- the store ------------------------------------------------------------------------------------


def test_the_store_reads_the_same_there_as_here(here, there):
    one, two = there.store, here.store
    for name in (
        "version",
        "store_id",
        "encoder",
        "n_spots",
        "n_rows",
        "genes",
        "gene_ids",
        "label_names",
    ):
        assert getattr(one, name) == getattr(two, name), name
    assert one.card == two.card
    assert one.encoders == two.encoders
    held = two.slides()
    pd.testing.assert_frame_equal(one.slides(), held[one.slides().columns])
    assert set(held.columns) - set(one.slides().columns) == {
        "image_uri",
        "source",
        "provenance",
        "first_gene",
    }
    np.testing.assert_array_equal(one.rows(), two.rows())
    rows = np.array([300, 5, 350, 5])
    for some in (None, rows):
        pd.testing.assert_frame_equal(one.spots(rows=some), two.spots(rows=some))
        pd.testing.assert_frame_equal(one.labels(some), two.labels(some))
        np.testing.assert_array_equal(
            one.expression(["CD8A", "EPCAM"], some), two.expression(["CD8A", "EPCAM"], some)
        )
    pd.testing.assert_frame_equal(
        one.spots(["x_um", "spot_id"], rows), two.spots(["x_um", "spot_id"], rows)
    )
    pd.testing.assert_series_equal(one.label("domain", rows), two.label("domain", rows))
    np.testing.assert_array_equal(one.counts(["CD8A"], rows), two.counts(["CD8A"], rows))
    assert one.thumbnails(rows) == two.thumbnails(rows)
    assert one.overview("S1") == two.overview("S1")
    assert one.overview("P1") is None
    assert one.genes_of("P1") == two.genes_of("P1")
    assert one.row_of("S2:B0001-1") == two.row_of("S2:B0001-1")


def test_what_is_not_in_the_store_is_refused_there_as_here(here, there):
    for ask in (lambda s: s.overview("S9"), lambda s: s.genes_of("S9"), lambda s: s.row_of("S1:none"), lambda s: s.label("no"),
                lambda s: s.expression(["CD8Q"], [1]), lambda s: s.spots(["no"], [1]), lambda s: s.spots(None, [9_999]),
                lambda s: s.thumbnails([0.5])):  # fmt: skip
        refusal = outcome(ask, here.store)
        assert isinstance(refusal, type)
        assert outcome(ask, there.store) is refusal


def test_what_only_files_can_do_is_said(there):
    with pytest.raises(RemoteError, match=r"Store\.delete needs the store's files"):
        there.store.delete("S1")
    with pytest.raises(AttributeError):
        _ = there.store.nonsense


def test_hits_from_there_are_shown_exported_and_predicted_from(here, there):
    one, two = (searcher.search_genes("CD8A", k=4) for searcher in (there, here))
    assert one.thumbnails() == two.thumbnails()
    assert one._repr_html_() == two._repr_html_()
    assert one.to_arrow().equals(two.to_arrow(), check_metadata=True)
    pd.testing.assert_frame_equal(one.to_anndata().obs, two.to_anndata().obs)
    pd.testing.assert_frame_equal(
        predict_expression(one, one.store, ["KRT8"]), predict_expression(two, two.store, ["KRT8"])
    )


def test_the_store_is_described_anew_when_an_answer_is_of_a_newer_version(tmp_path):
    store = toy_store(tmp_path)
    with served(store.path) as url, si.connect(url) as there:
        before = there.search_genes("CD8A", k=3)
        assert len(before.store.slides()) == 3
        store.add(toy_rows(toy_slide("S9", 20, 77)))
        until(lambda: there.search_genes("CD8A", k=3).store_version == store.version)
        assert "S9" in set(there.store.slides()["slide_id"])
        assert "S9" not in set(before.store.slides()["slide_id"])


def test_labels_are_asked_for_in_parts_that_the_server_allows(store, here, monkeypatch):
    monkeypatch.setattr("stamp_index.client.store._CELLS_AT_ONCE", 10)
    rows = np.arange(25)
    with served(store.path, limits=Limits(cells=10)) as url, si.connect(url) as there:
        pd.testing.assert_frame_equal(there.store.labels(rows), here.store.labels(rows))
