from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import SlideError
from stamp_index.readers.common.parquet import ParquetTable

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=10)
    return path


def read_all(path: Path) -> tuple[list[float], list[str]]:
    numbers: list[float] = []
    texts: list[str] = []
    with ParquetTable(path, ["x", "name"], what="points") as table:
        for batch in table.batches(["x", "name"], rows=7):
            assert len(batch) <= 7
            numbers += batch.numbers("x", np.float64).tolist()
            texts += batch.texts("name").to_pylist()
    return numbers, texts


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(pa.array([f"n{i}" for i in range(25)]), id="text"),
        pytest.param(pa.array([f"n{i}".encode() for i in range(25)]), id="bytes"),
        pytest.param(pa.array([f"n{i}" for i in range(25)], pa.large_string()), id="large"),
        pytest.param(pa.array([f"n{i}" for i in range(25)]).dictionary_encode(), id="categories"),
    ],
)
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int16(), pa.uint8()])
def test_columns_of_every_type_come_back_in_order(
    tmp_path: Path, names: pa.Array, kind: pa.DataType
) -> None:
    path = write(tmp_path / "t.parquet", x=pa.array(range(25)).cast(kind), name=names)
    assert read_all(path) == (list(map(float, range(25))), [f"n{i}" for i in range(25)])


@pytest.mark.parametrize(
    ("x", "name", "message"),
    [
        pytest.param(pa.array(["a"]), pa.array(["n"]), "column x is string", id="text_for_x"),
        pytest.param(pa.array([1.0]), pa.array([[1]]), "column name is list", id="list_for_name"),
        pytest.param(
            pa.array([1.0]), pa.array([b"\xff"]), "column name is binary .*UTF8", id="no_utf8"
        ),
        pytest.param(
            pa.array([1.0]),
            pa.array([None], pa.string()),
            r"column name is string \(1 rows have none\)",
            id="no_name",
        ),
        pytest.param(
            pa.array([1.0]),
            pa.Array.from_buffers(
                pa.string(),
                1,
                [None, pa.py_buffer(np.array([0, 1], dtype=np.int32)), pa.py_buffer(b"\xbc")],
            ),
            "column name is string .*UTF8",
            id="text_that_is_no_utf8",
        ),
    ],
)
def test_columns_of_a_wrong_type_are_named(
    tmp_path: Path, x: pa.Array, name: pa.Array, message: str
) -> None:
    path = write(tmp_path / "t.parquet", x=x, name=name)
    with pytest.raises(SlideError, match=f"points .*t.parquet: {message}"):
        read_all(path)


def test_missing_numbers_are_nan_or_refused_as_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", x=pa.array([1, None]), name=pa.array(["a", "b"]))
    with ParquetTable(path, ["x"], what="points") as table:
        (batch,) = table.batches(["x"])
        np.testing.assert_array_equal(batch.numbers("x", np.float64), [1, np.nan])
        with pytest.raises(SlideError, match="expected a number in every row"):
            batch.numbers("x", np.int32)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    write(path, x=pa.array(np.arange(25.0)), name=pa.array([f"n{i}" for i in range(25)]))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        numbers, texts = read_all(path)
    except SlideError:
        return
    assert len(numbers) == len(texts)
