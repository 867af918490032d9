from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.legacy.tables import is_counts_table, is_spotfile, read_counts, spot_xy

if TYPE_CHECKING:
    from pathlib import Path

COUNT = st.integers(0, 2**24)
TEXTS = st.sampled_from(["{}", "{}.0", "{}.00", "0{}", "{}e0"])


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.tuples(COUNT, TEXTS), min_size=width, max_size=width), min_size=1
        )
    ),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_counts_are_read_however_they_are_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[int, str]]], ending: str
) -> None:
    genes = [f"G{i}" for i in range(len(rows[0]))]
    lines = ["\t".join(["", *genes])]
    for number, row in enumerate(rows):
        lines.append("\t".join([f"{number}x1", *(text.format(count) for count, text in row)]))
    path = tmp_path_factory.mktemp("counts") / "a.tsv.gz"
    path.write_bytes(gzip.compress((ending.join(lines) + ending).encode()))
    barcodes, names, counts = read_counts(path)
    assert (barcodes, list(names)) == ([f"{i}x1" for i in range(len(rows))], genes)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), [[count for count, _ in row] for row in rows])


@given(st.floats(0, 99, allow_nan=False).map(lambda v: round(v, 3)), st.integers(1, 66))
def test_places_are_read_from_names(x: float, y: int) -> None:
    for between in "x_":
        assert spot_xy([f"{x}{between}{y}"], "here").tolist() == [[x, y]]


@pytest.mark.parametrize("name", ["12", "x", "12x", "-1x3", "12x7x1", "AAACGT-1", "1e3x4"])
def test_a_name_that_is_no_place_is_refused(name: str) -> None:
    with pytest.raises(BarcodeMismatchError, match="here names 1 spots that are no array"):
        spot_xy(["1x2", name], "here")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        pytest.param("", "could not convert string to float: ''", id="empty"),
        pytest.param("a", "could not convert string to float: 'a'", id="letter"),
        pytest.param("1.x", "could not convert", id="almost_a_number"),
        pytest.param("\u00e4\u00e4", "could not convert", id="not_ascii"),
    ],
)
def test_a_field_that_is_no_number_names_its_line(tmp_path: Path, field: str, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"\tG1\tG2\tG3\n1x1\t1\t2\t3\n2x2\t1\t{field}\t3\n", encoding="utf-8")
    with pytest.raises(SlideError, match=rf"line 3 \(2x2\): {message}"):
        read_counts(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "have no lines below the first", id="empty"),
        pytest.param("\tG1\n", "have no lines below the first", id="no_spots"),
        pytest.param("\tG1\n1x1\t1\n\n", r"line 3 \(\) have 0 values for 1 genes", id="blank_line"),
        pytest.param("\tG1\n1x1\t1\t2\n", r"line 2 \(1x1\) have 2 values", id="too_many"),
    ],
)
def test_a_table_of_the_wrong_shape_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(text)
    with pytest.raises(SlideError, match=message):
        read_counts(path)


def test_tables_are_told_by_their_first_lines(tmp_path: Path) -> None:
    texts = {
        "counts.tsv": "\tG1\n16.92x9.015\t1\n",
        "spots.tsv": "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\n1\t1\t1\t1\t9\t9\n",
        "annotation.tsv": "\t18_12\nNerve\t1\n",
        "genes.tsv": "gene_id\tgene_name\nENSG1\tA\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "junk.tsv.gz").write_bytes(b"junk")
    paths = sorted(tmp_path.iterdir())
    assert [p.name for p in paths if is_counts_table(p)] == ["counts.tsv"]
    assert [p.name for p in paths if is_spotfile(p)] == ["spots.tsv"]


def test_many_values_of_real_counts_agree_with_pandas(shared_data: Path) -> None:
    import pandas as pd

    path = shared_data / "mob_stahl/counts/Rep11_MOB_count_matrix-1.tsv.gz"
    barcodes, genes, counts = read_counts(path)
    table = pd.read_csv(path, sep="\t", index_col=0, nrows=20)
    assert (barcodes[:20], list(genes)) == (list(table.index), list(table.columns))
    np.testing.assert_array_equal(counts[:20].toarray(), table)
