"""CSV files of the app: no cell is a formula, and each says what it is of."""

from __future__ import annotations

import importlib
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stamp_index.embed import ingest
from stamp_index.evaluate import ProbeSettings, run_probe
from stamp_index.export import spots_csv, table_csv
from stamp_index.search import Region
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_slide

pytest.importorskip("streamlit")

asking = importlib.import_module("app.asking")
expression_panel = importlib.import_module("app.expression_panel")
probe_table = importlib.import_module("app.probe_table")
region_files = importlib.import_module("app.region_files")
shortlist_panel = importlib.import_module("app.shortlist_panel")
stores = importlib.import_module("app.stores")

EVIL = "=cmd|' /C calc'!A0"
SQUARE = [(90, 90), (290, 90), (290, 290), (90, 290)]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Two slides, of which one has a hostile name, organ, patient and label."""
    encoder = ToyEncoder()
    store = Store.create(tmp_path_factory.mktemp("csv") / "store", EncoderCard.of(encoder))
    ingest(store, encoder, toy_slide("S1", 80, 1, patient_id="P2"))
    ingest(store, encoder, toy_slide(EVIL, 80, 2, patient_id="-2+3", organ="@organ"))
    for slide_id in ("S1", EVIL):
        classes = [EVIL if i % 10 < 5 else "+b" for i in range(80)]
        store.annotate(slide_id, "hostile", classes, author="reader")
    stores.use_encoder(encoder)
    return stores.open_store(str(store.path))


def checked(content: bytes, opened, numbers=()) -> pd.DataFrame:
    """The table of a CSV without a formula, which says the store and encoder it is of."""
    assert content.count(b"\r\n") == content.count(b"\n")
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    for name in set(table.columns) - set(numbers):
        assert not table[name].str.startswith(("=", "+", "-", "@", "\t", "\r")).any(), name
        assert not name.startswith(("=", "+", "-", "@"))
    assert set(table["store_id"]) == {opened.store.store_id}
    assert set(table["store_version"]) == {str(opened.store.version)}
    assert set(table["encoder"]) == {opened.store.card.fingerprint}
    assert f"'{EVIL}" in set(table.to_numpy().ravel())
    return table


def test_regions_and_their_spots(opened):
    hits = opened.searcher.search_region(Region("S1", SQUARE, "px"), k=3, exclude_own="slide")
    assert EVIL in set(hits.table["slide_id"])
    named = replace(hits, query=EVIL)
    table = checked(region_files.regions_csv(named, "image"), opened)
    assert set(table["query"]) == {f"'{EVIL}"}
    assert set(table["searched"]) == {"image"}
    assert "'@organ" in set(table["organ"])
    np.testing.assert_allclose(table["score"].astype(float), hits.scores)
    spots = checked(region_files.region_spots_csv(hits, "gene"), opened, numbers=["match"])
    assert len(spots) == sum(len(rows) for rows in hits.rows)
    assert set(spots["searched"]) == {"gene"}


def test_the_shortlist(opened):
    ids = [f"{EVIL}:B0003-1", "S1:B0001-1"]
    held = {spot_id: opened.store.row_of(spot_id) for spot_id in ids}
    table = checked(shortlist_panel.csv(opened, held, {"CD8A": 1.0, "NOPE": 1.0}), opened)
    assert table["spot_id"].tolist() == [f"'{ids[0]}", ids[1]]
    assert table["patient_id"].tolist() == ["'-2+3", "P2"]
    measured = opened.store.expression(["CD8A"], list(held.values()))[:, 0]
    np.testing.assert_allclose(table["CD8A"].astype(float), measured, rtol=1e-6)


def test_a_gene_with_the_name_of_a_column_of_the_shortlist_does_not_replace_it(tmp_path):
    genes = ("organ", "encoder", "=1+1", *toy_slide().genes[3:])
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "store", EncoderCard.of(encoder))
    ingest(store, encoder, replace(toy_slide(EVIL, 40), genes=genes, gene_ids=()))
    opened = stores.open_store(str(store.path))
    weights = dict.fromkeys(genes[:3], 1.0)
    table = checked(shortlist_panel.csv(opened, {f"{EVIL}:B0003-1": 3}, weights), opened)
    assert table["organ"].tolist() == ["breast"]
    assert {"expr(organ)", "expr(encoder)", "'=1+1"} <= set(table.columns)


def test_the_prediction(opened):
    answer = asking.ask_spot(opened, f"{EVIL}:B0003-1", "slide", asking.Question("image", 10))
    table = expression_panel.predicted(opened, answer.rows, answer.scores)
    table["gene"] = [EVIL, *table["gene"][1:]]
    answer = replace(answer, query=EVIL)
    read = checked(expression_panel.csv(opened, answer, table), opened)
    assert set(read["query"]) == {f"'{EVIL}"}
    assert set(read["searched"]) == {"image"}
    assert len(read) == len(table)
    assert "z" not in read


def test_spots_of_a_probe(opened):
    result = run_probe(opened.store, ProbeSettings(label="hostile", split="slide"))
    table = checked(probe_table.spots_csv(result), opened)
    assert list(table.columns[:3]) == ["row", "spot_id", "slide_id"]
    assert set(table["truth"]) == {f"'{EVIL}", "'+b"}
    assert set(table["query"]) == {"hostile from image embeddings, by slide"}


def test_spots_of_a_slide(opened):
    checked(spots_csv(opened.store, opened.store.rows()), opened)


def test_columns_of_one_name_are_refused():
    table = pd.DataFrame({"a": [1], "encoder": [2]})
    with pytest.raises(ValueError, match="Two columns are called 'encoder'"):
        table_csv(table, encoder="x")
    with pytest.raises(ValueError, match="Two columns are called 'a'"):
        table_csv(table.set_axis(["a", "a"], axis=1))


def test_constant_columns_stand_in_a_table_without_rows():
    assert table_csv(pd.DataFrame({"=a": []}), query="x") == b"'=a,query\r\n"
