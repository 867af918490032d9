"""What the app tells of a spot."""

from __future__ import annotations

import importlib

import pytest

from tests.support import toy_slides, toy_store

pytest.importorskip("streamlit")
facts = importlib.import_module("app.facts")
stores = importlib.import_module("app.stores")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"array_row": 12.0, "array_col": 8.0}, "row 12, column 8"),
        ({"array_row": 12.0}, None),
        ({"array_row": "a", "array_col": "b"}, None),
    ],
)
def test_the_place_on_the_array_is_told_where_it_is_known(tmp_path, values, told):
    store = toy_store(tmp_path / "store", slides=toy_slides(1, 10))
    for name, value in values.items():
        store.annotate("S1", name, [value] * 10, author="reader", source="file")
    opened = stores.open_store(str(store.path))
    assert dict(facts.spot_facts(opened, "S1", 3)).get("Array") == told
