"""Filters over a real store: what is read is what is there, also after changes."""

import numpy as np
import pytest

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.genes import GeneResolver
from stamp_index.search import Searcher, parse_filter
from stamp_index.search.filtering import evaluate
from stamp_index.store import Store
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store

OTHER_GENES = ("ACTB", "EPCAM", "KRT8")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five slides were added, one is gone, one is replaced, rows have moved; two labels differ by slide."""
    slides = [
        toy_slide("A", 20, 1, patient_id="P1", organ="breast"),
        toy_slide("B", 15, 2, patient_id="P2", organ="skin"),
        toy_slide("C", 12, 3, patient_id="P2", organ="skin", genes=OTHER_GENES),
        toy_slide("D", 18, 4, patient_id="", organ="breast", image=False),
        toy_slide("E", 10, 5, patient_id="P3", organ="lung"),
    ]
    store = toy_store(tmp_path_factory.mktemp("filters"), slides=slides)
    store.delete("B")
    store.compact()
    store.add(toy_rows(toy_slide("A", 22, 6, patient_id="P1", organ="breast")), replace=True)
    store.annotate("C", "grade", [float(spot % 4) for spot in range(12)], author="ann")
    store.annotate("E", "region", ["tumour", None] * 5, author="ann")
    return store


def as_frame(store):
    """Everything that a filter can ask for, one row per spot."""
    frame = store.spots().join(store.labels()).assign(row=store.rows())
    mpp = store.slides().set_index("slide_id")["mpp"]
    frame["mpp"] = frame["slide_id"].map(mpp)
    for gene in ("CD8A", "EPCAM"):
        frame[f"count_{gene}"] = store.counts([gene])[:, 0]
        frame[f"expr_{gene}"] = store.expression([gene])[:, 0].astype(np.float64)
    return frame


CASES = {
    'organ == "breast"': lambda f: f["organ"] == "breast",
    "patient is missing": lambda f: f["patient_id"] == "",
    "patient != 'P1' and slide in ('A', 'C', 'E')": lambda f: f["slide_id"].isin(["C", "E"]),
    "mpp > 1": lambda f: f["mpp"] > 1,
    "mpp is missing": lambda f: f["mpp"].isna(),
    "x_um <= 300 or y_px > 150": lambda f: (f["x_um"] <= 300) | (f["y_px"] > 150),
    "n_counts > 250 and n_genes < 50": lambda f: (f["n_counts"] > 250) & (f["n_genes"] < 50),
    "expr('CD8A') > 6": lambda f: f["expr_CD8A"] > 6,
    "not expr('CD8A') > 6": lambda f: f["expr_CD8A"] <= 6,
    "count('CD8A') is missing": lambda f: f["count_CD8A"].isna(),
    "count('EPCAM') >= 3 and organ != 'lung'": lambda f: (
        (f["count_EPCAM"] >= 3) & (f["organ"] != "lung")
    ),
    "label('grade') >= 2": lambda f: f["grade"] >= 2,
    "label('region') == 'tumour' or label('domain') == 'fat'": lambda f: (
        (f["region"] == "tumour") | (f["domain"] == "fat")
    ),
    "label('region') is missing": lambda f: f["region"].isna(),
    "spot == 'A:B0003-1' or barcode == 'B0001-1'": lambda f: (
        (f["spot_id"] == "A:B0003-1") | (f["barcode"] == "B0001-1")
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_a_filter_lets_pass_what_the_table_says(store, text):
    frame = as_frame(store)
    expected = frame.loc[CASES[text](frame), "row"].tolist()
    columns = store.columns(GeneResolver(store.genes, store.gene_ids))
    allowed = evaluate(parse_filter(text), columns)
    assert allowed.n == len(expected)
    assert np.flatnonzero(allowed.mask).tolist() == expected
    per_slide = frame.loc[CASES[text](frame), "slide_id"].value_counts()
    slides = store.slides()["slide_id"]
    assert allowed.n_per_slide.tolist() == [per_slide.get(slide, 0) for slide in slides]


def test_hits_are_what_passes_the_filter(store):
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    text = "label('domain') == 'lymphoid' and expr('CD8A') is known"
    hits = searcher.search_genes("EPCAM high", against="gene", k=50, filters=text)
    frame = as_frame(store).set_index("row").loc[hits.rows]
    assert set(frame["domain"]) == {"lymphoid"}
    assert set(frame["slide_id"]) == {"A", "D", "E"}
    assert 'pass the filter label("domain") == "lymphoid" and expr' in hits.notes[0]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("organ == 'lnug'", QueryError, "organ .*lnug.*Close: .*lung"),
        ("organ == 'liver'", QueryError, "It has .*breast.*lung.*skin"),
        ("expr('CD8B') > 1", MissingGenesError, "CD8B"),
        ("label('regoin') == 'tumour'", QueryError, "no spot of the store|No spot of the store"),
        ("label('region') == 'stroma'", QueryError, "It has .*tumour"),
        ("slide == 'B'", QueryError, "It has .*A"),
        ("spot == 'A:nowhere'", QueryError, "no such spot"),
    ],
)
def test_what_the_store_does_not_have_is_refused_with_what_it_has(store, text, error, match):
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    with pytest.raises(error, match=match):
        searcher.search_genes("CD8A high", filters=text)


def test_an_older_version_is_filtered_by_what_it_had(store):
    older = Store.open(store.path, version=6)
    assert "grade" not in older.label_names
    columns = older.columns(GeneResolver(older.genes, older.gene_ids))
    with pytest.raises(QueryError, match="has a label .*grade"):
        evaluate(parse_filter("label('grade') > 1"), columns)
    assert evaluate(parse_filter("slide == 'B'"), columns).n == 15
