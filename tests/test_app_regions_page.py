"""The page of similar regions: progress, shared genes, the picked hit, and the gene of both viewers."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pandas as pd
import pytest
import shapely

from stamp_index.addresses import encode_polygon
from stamp_index.search.sharing import rings_of
from stamp_index.view import contrast
from tests.browser.app_pages import PAGES, edit, errors, run, start
from tests.plain_world import mixed_store
from tests.support import ToyEncoder

pytest.importorskip("streamlit")

asking = importlib.import_module("app.region_asking")
genes = importlib.import_module("app.region_genes")
progress = importlib.import_module("app.region_progress")
stores = importlib.import_module("app.stores")

BAND = shapely.box(30, 30, 120, 290)  # the first of the four bands of a toy slide
BAND_TEXT = encode_polygon(shapely.get_coordinates(BAND)[:-1])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return mixed_store(tmp_path_factory.mktemp("app"), measured=3)[0]


@pytest.fixture
def opened(store):
    asking._made = type(asking._made)(
        asking.MAX_KEPT, lambda _: 1
    )  # nothing is kept of other tests
    stores.use_encoder(ToyEncoder())
    return stores.open_store(str(store.path))


@pytest.fixture
def told(monkeypatch):
    """What the page's progress line is told, which goes on to say it."""
    heard = []
    for name in ("slides", "hits"):
        usual = getattr(progress.Working, name)

        def tell(self, done, total, name=name, usual=usual):
            heard.append((name, done, total))
            usual(self, done, total)

        monkeypatch.setattr(progress.Working, name, tell)
    return heard


def regions_page(store, **query: str):
    return start(store, PAGES["regions"], s="M0", poly=BAND_TEXT, **query)


def viewers(at) -> list[dict]:
    """Data of the query's viewer and the hit's."""
    parts = [c.proto for c in at.get("bidi_component") if c.proto.component_name == "stamp_viewer"]
    return [json.loads(part.json) for part in parts]


def captions(at) -> str:
    return "\n".join(one.value.replace("\\", "") for one in at.caption)


def answer_of(opened, **options):
    asked = asking.asked_shape("M0", BAND, "the lasso")
    question = asking.RegionQuestion(k=4, exclude_own="slide", by="image")
    return asked, asking.ask_region(opened, asked, question, **options)


# ---- progress --------------------------------------------------------------------------------


def test_the_page_tells_slides_while_it_works_and_leaves_nothing_behind(store, opened, told):
    at = regions_page(store)
    slides = [one[1:] for one in told if one[0] == "slides"]
    assert slides == [(done, 3) for done in range(4)]  # all slides but the query's own
    assert not at.get("progress")
    told.clear()
    run(at)
    assert not [one for one in told if one[0] == "slides"]


def test_the_progress_line_counts_from_one(opened):
    from streamlit.testing.v1 import AppTest

    def script():
        from app.region_progress import Working

        Working().slides(3, 12)

    at = AppTest.from_function(script).run()
    assert at.get("progress")[0].proto.text == "Looking at slide 4 of 12 …"
    assert at.get("progress")[0].proto.value == 25  # per cent


def test_a_kept_answer_is_not_searched_for_again(opened):
    told = []
    asked, first = answer_of(opened, told=lambda *at: told.append(at))
    assert told[-1] == (3, 3)
    told.clear()
    assert answer_of(opened, told=lambda *at: told.append(at))[1] is first
    assert told == []
    rings = rings_of(asked.shape())
    assert first.request.outlines == rings


# ---- shared genes ----------------------------------------------------------------------------


def shared_slowly(opened, asked, answer, at: int) -> list[str]:
    """Genes that are among the 30 first of both contrasts and higher inside."""
    sides = []
    for slide_id, rows in (
        (asked.slide_id, answer.hits.query_rows),
        (answer.table["slide_id"][at], answer.hits.rows[at]),
    ):
        slide = opened.slides.loc[slide_id]
        every = np.arange(slide["first_spot"], slide["first_spot"] + slide["n_spots"])
        table = contrast.region_contrast(opened.store, rows, np.setdiff1d(every, rows))
        sides.append([row.gene for row in table[:30].itertuples() if row.log2fc > 0])
    return [gene for gene in sides[0] if gene in sides[1]]


def test_the_table_names_the_genes_that_query_and_hit_share(store, opened):
    asked, answer = answer_of(opened)
    at = regions_page(store, k="4")
    column = at.dataframe[0].value["shared_genes"].tolist()
    assert len(column) == len(answer.table) > 1
    for place, words in enumerate(column):
        if answer.table["slide_id"][place] == "W":
            assert words == "not measured"
            continue
        expected = shared_slowly(opened, asked, answer, place)
        assert words.split(" +")[0] == ", ".join(expected[: genes.NAMED])
        assert words.endswith(f" +{len(expected) - genes.NAMED}")
    assert "over at most 3,000 spots a side" in captions(at)


def test_a_gene_that_is_lower_inside_is_not_called_raised():
    table = pd.DataFrame({"gene": ["A", "B", "C", "D"], "log2fc": [2.0, 1.0, 0.0, -1.0]})
    assert genes.raised(table) == ["A", "B"]
    other = pd.DataFrame({"gene": ["C", "B", "A", "D"], "log2fc": [1.0, 0.5, -0.5, -1.0]})
    assert genes.shared(table, other) == ["B"]


def test_of_many_hits_only_the_first_are_compared_at_once(opened, monkeypatch):
    asked, answer = answer_of(opened)
    monkeypatch.setattr(genes, "COMPARED", 1)
    told = []
    words = genes.column(opened, asked, answer, lambda *at: told.append(at))
    assert words[1:] == [genes.NOT_YET] * (len(answer.table) - 1)
    assert words[0] != genes.NOT_YET
    assert told == [(0, 1)]


# ---- the picked hit --------------------------------------------------------------------------


def stepper(at) -> dict:
    """Data of the two buttons; its key is the table's too."""
    steps = [c.proto for c in at.get("bidi_component") if c.proto.component_name == "stamp_stepper"]
    return json.loads(steps[0].json)


def test_a_picked_row_is_the_hit_in_the_viewer_and_of_the_genes(store):
    at = regions_page(store, k="4")
    assert "#1 on slide" in captions(at)
    at.session_state[stepper(at)["key"]] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    run(at)
    slide_id = at.dataframe[0].value["slide_id"][1]
    assert f"#2 on slide {slide_id}" in captions(at)
    assert viewers(at)[1]["label"] == slide_id
    assert stepper(at)["picked"] == 2


# ---- colours ---------------------------------------------------------------------------------


def test_spots_are_bare_until_a_gene_is_asked_for(store):
    at = regions_page(store)
    assert [one["layer"] for one in viewers(at)] == [None, None]
    edit(at, "CD8A", key="genebox")
    assert at.query_params["gene"] in ("CD8A", ["CD8A"])
    assert [one["layer"]["name"] for one in viewers(at)] == ["CD8A", "CD8A"]


def test_both_viewers_have_the_same_gene_and_the_same_ends_of_the_colours(store, opened):
    at = regions_page(store, gene="CD8A")
    query, hit = (one["layer"] for one in viewers(at))
    assert query == hit
    measured = opened.store.expression(["CD8A"])[:, 0]
    measured = measured[np.isfinite(measured)]
    assert query["range"]["low"] == 0
    assert (measured <= query["range"]["high"]).mean() == pytest.approx(0.99, abs=0.01)


def test_a_slide_that_did_not_measure_the_gene_stays_bare_and_says_so_once(store):
    at = regions_page(store, gene="CD8A", where='slide == "W"')
    query, hit = viewers(at)
    assert query["layer"]["name"] == "CD8A"
    assert hit["label"] == "W"
    assert hit["layer"] is None
    assert captions(at).count("Slide W did not measure CD8A") == 1


def test_an_unknown_gene_is_a_sentence_and_the_regions_are_there_all_the_same(store):
    at = regions_page(store, gene="CD8X")
    assert "Did you mean CD8A" in errors(at)
    assert [one["layer"] for one in viewers(at)] == [None, None]
    assert len(at.dataframe[0].value) > 0
