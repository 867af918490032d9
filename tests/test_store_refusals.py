"""What a store refuses, and that it is then as it was."""

import json
import os
import shutil
from dataclasses import replace

import lance
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stamp_index.errors import (
    DuplicateGenesError,
    DuplicateSlideError,
    EncoderMismatchError,
    StoreError,
    StoreVersionError,
)
from stamp_index.store import EncoderCard, Store
from stamp_index.store.lock import write_lock
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store

TABLES = ("slides", "spots", "expression")


@pytest.fixture
def store(tmp_path):
    """One slide, S1, of 10 spots."""
    return toy_store(tmp_path, n_slides=1, n_spots=10)


def contents(path):
    """Every version file's bytes, and every table's newest version and rows."""
    files = {file.name: file.read_bytes() for file in (path / "versions").iterdir()}
    tables = [lance.dataset(str(path / f"{name}.lance")) for name in TABLES]
    return files, [(table.version, table.to_table()) for table in tables]


def refused(store, rows, error, match):
    """Check that `rows` are refused and nothing changes on disk or in the open store."""
    before = contents(store.path)
    with pytest.raises(error, match=match):
        store.add(rows)
    assert contents(store.path) == before
    assert (store.version, store.n_spots) == (2, 10)
    assert Store.open(store.path).version == 2


def newest(store):
    """File of the newest version."""
    return max((store.path / "versions").glob("*.json"))


def changed(vectors, value):
    """Copy whose spot 4 starts with `value`."""
    copy = vectors.copy()
    copy[4, 0] = value
    return copy


def test_a_slide_is_not_added_twice_by_id(store):
    refused(
        store,
        toy_rows(toy_slide("S1", 12, 5)),
        DuplicateSlideError,
        r"Slide 'S1' is in the store at .* already",
    )


def test_a_slide_is_not_added_twice_under_another_id(store):
    refused(
        store,
        toy_rows(toy_slide("S1b", 10, 0)),
        DuplicateSlideError,
        r"Slide 'S1b' has the same image and counts as slide 'S1'",
    )


def test_the_same_counts_stored_untidily_are_still_the_same_slide(store):
    slide = toy_slide("S1b", 10, 0)
    coo = slide.counts.tocoo()
    data = np.concatenate([coo.data - 1, np.ones_like(coo.data)])  # every count in two pieces
    indices = np.concatenate([coo.col, coo.col])
    order = np.argsort(np.concatenate([coo.row, coo.row]), kind="stable")
    counts = csr_matrix((data[order], indices[order], slide.counts.indptr * 2), slide.counts.shape)
    rows = toy_rows(slide)
    rows = replace(rows, slide=replace(slide, counts=counts))
    refused(store, rows, DuplicateSlideError, "same image and counts as slide 'S1'")


def test_another_encoders_vectors_are_refused_naming_both(store):
    rows = toy_rows(toy_slide("S2", 10, 1), ToyEncoder(seed=1))
    both = rf"{store.card.fingerprint}; slide 'S2' was embedded by {rows.fingerprint}"
    refused(store, rows, EncoderMismatchError, both)


@pytest.mark.parametrize("modality", ["image", "gene"])
def test_wrong_dimension_says_both_numbers(store, modality):
    rows = toy_rows(toy_slide("S2", 10, 1))
    rows = replace(rows, **{modality: getattr(rows, modality)[:, :31]})
    match = rf"{modality} .*shape \(10, 31\); expected float32 of shape \(10, 32\)"
    refused(store, rows, ValueError, match)


@pytest.mark.parametrize("modality", ["image", "gene"])
def test_wrong_number_of_rows_says_both_numbers(store, modality):
    rows = toy_rows(toy_slide("S2", 10, 1))
    rows = replace(rows, **{modality: getattr(rows, modality)[:9]})
    refused(
        store,
        rows,
        ValueError,
        rf"{modality} .*shape \(9, 32\); expected float32 of shape \(10, 32\)",
    )


@pytest.mark.parametrize("modality", ["image", "gene"])
@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (7.0, r"7\.\d+")])
def test_vectors_that_are_not_finite_unit_vectors_are_refused(store, modality, value, said):
    rows = toy_rows(toy_slide("S2", 10, 1))
    rows = replace(rows, **{modality: changed(getattr(rows, modality), value)})
    match = rf"1 of 10 {modality} embeddings of slide 'S2' .*spot 4 has length {said}\)"
    refused(store, rows, ValueError, match)


def test_wrong_number_of_thumbnails_is_refused(store):
    rows = toy_rows(toy_slide("S2", 10, 1))
    rows = replace(rows, thumbnails=rows.thumbnails[:7])
    refused(store, rows, ValueError, "has 10 spots but 7 thumbnails")


def test_a_gene_that_stands_twice_is_refused(store):
    slide = toy_slide("S2", 10, 1)
    rows = toy_rows(slide)
    slide = replace(slide, genes=("CD8A", "CD8A", *slide.genes[2:]))
    refused(store, replace(rows, slide=slide), DuplicateGenesError, r"more than once \(CD8A\)")


def with_spots(slide, **changes):
    """The slide with its spots' columns changed."""
    return replace(slide, spots=slide.spots.assign(**changes))


CONTRADICTIONS = {
    "needs a slide_id that is not empty": lambda slide: replace(slide, slide_id=""),
    "and has no ':', where it ends": lambda slide: replace(slide, slide_id="a:b"),
    "has 1 genes without a name, such as None": lambda slide: replace(
        slide, genes=(None, *slide.genes[1:])
    ),
    "has counts of dtype complex64": lambda slide: replace(
        slide, counts=slide.counts.astype(np.complex64)
    ),
    r"counts that are not numbers from 0 to 1,000,000,000, such as 9.99": lambda slide: replace(
        slide, counts=slide.counts.minimum(1) * np.float32(1e37)
    ),
    "has mpp 0.0; expected 0.001 to 1000": lambda slide: replace(slide, mpp=0.0),
    "has mpp inf; expected 0.001 to 1000": lambda slide: replace(slide, mpp=float("inf")),
    "has no spots": lambda slide: replace(slide, spots=slide.spots[:0], counts=slide.counts[:0]),
    r"counts of shape \(9, 60\); expected \(10, 60\)": lambda slide: replace(
        slide, counts=slide.counts[:9]
    ),
    "has 59 gene_ids for 60 genes": lambda slide: replace(slide, gene_ids=slide.gene_ids[1:]),
    "has barcode 'B' more than once": lambda slide: replace(
        slide, spots=slide.spots.set_axis(pd.Index(["B"] * 10))
    ),
    r"counts that are not numbers .* such as -\d": lambda slide: replace(
        slide, counts=-slide.counts
    ),
    "counts that are not numbers .* such as nan": lambda slide: replace(
        slide, counts=slide.counts * np.float32(np.nan)
    ),
    "has 10 spots without a position within 100,000,000 px, such as 0": lambda slide: with_spots(
        slide, x_px=np.nan
    ),
    "has 10 spots without a position": lambda slide: with_spots(slide, x_px=1e308),
}


@pytest.mark.parametrize("match", CONTRADICTIONS)
def test_a_slide_that_contradicts_itself_is_refused(store, match):
    rows = toy_rows(toy_slide("S2", 10, 1))
    rows = replace(rows, slide=CONTRADICTIONS[match](rows.slide))
    refused(store, rows, ValueError, match)


def test_a_locked_store_says_who_writes(store):
    rows = toy_rows(toy_slide("S2", 10, 1))
    before = contents(store.path)
    with (
        write_lock(store.path, 0),
        pytest.raises(StoreError, match=rf"by process {os.getpid()}, waited 0.1 s"),
    ):
        store.add(rows, lock_timeout_s=0.1)
    assert contents(store.path) == before
    assert store.add(rows) == 3


def test_adding_to_a_store_that_was_removed_says_so(store):
    shutil.rmtree(store.path)
    with pytest.raises(StoreError, match="There is no store at"):
        store.add(toy_rows(toy_slide("S2", 10, 1)))


def test_no_store_at_a_path(tmp_path):
    with pytest.raises(StoreError, match="no store at .*nowhere.*Give the path"):
        Store.open(tmp_path / "nowhere")


def test_create_refuses_a_path_that_is_taken_and_leaves_it(store):
    before = contents(store.path)
    with pytest.raises(StoreError, match="something at .*store already"):
        Store.create(store.path, store.card)
    assert contents(store.path) == before


def test_create_refuses_a_checkpoint_that_is_not_a_folder_and_leaves_nothing(tmp_path):
    card = EncoderCard.of(ToyEncoder())
    with pytest.raises(StoreError, match="checkpoint .*missing is not a folder"):
        Store.create(tmp_path / "store", card, checkpoint=tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_create_refuses_a_checkpoint_that_would_hold_the_store(tmp_path):
    card = EncoderCard.of(ToyEncoder())
    with pytest.raises(StoreError, match="would lie in the checkpoint"):
        Store.create(tmp_path / "in" / "store", card, checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": -1}, "dim -1; expected a whole number from 1"),
        ({"dim": True}, "dim True"),
        ({"dim": 10**9}, "dim 1000000000"),
        ({"name": ""}, "name ''; expected 1 to 100"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"fingerprint": None}, "fingerprint None"),
    ],
)
def test_create_refuses_a_card_that_makes_no_columns(tmp_path, change, said):
    with pytest.raises(StoreError, match=said):
        Store.create(tmp_path / "store", replace(EncoderCard.of(ToyEncoder()), **change))
    assert list(tmp_path.iterdir()) == []


def test_create_fills_an_empty_folder(tmp_path):
    assert Store.create(tmp_path, EncoderCard.of(ToyEncoder())).n_spots == 0


def test_a_version_that_is_not_there_is_refused(store):
    with pytest.raises(StoreError, match="no version 9; it has 1 to 2"):
        Store.open(store.path, version=9)


def test_a_newer_format_is_refused_naming_both_versions(store):
    values = json.loads(newest(store).read_text())
    newest(store).write_text(json.dumps(values | {"format_version": 99, "new": 1}))
    with pytest.raises(StoreVersionError, match=r"format version 99; .* up to 3\. Upgrade"):
        Store.open(store.path)


def test_a_format_that_is_too_old_is_refused_naming_what_is_read(store):
    values = json.loads(newest(store).read_text())
    newest(store).write_text(json.dumps(values | {"format_version": 1}))
    with pytest.raises(StoreVersionError, match=r"format version 1; .* reads 3 to 3\. Embed"):
        Store.open(store.path)


DAMAGE = {
    "JSONDecodeError": lambda text: text[: len(text) // 2],
    "KeyError: 'format_version'": lambda _: "{}",
    "TypeError": lambda _: "[1, 2]",
    r"names tables \['slides'\]": lambda text: json.dumps(
        json.loads(text) | {"tables": {"slides": 2}}
    ),
    "says version 7, its name says 2": lambda text: json.dumps(json.loads(text) | {"version": 7}),
    "row counts .*'ten'": lambda text: json.dumps(json.loads(text) | {"n_spots": "ten"}),
    "names no encoder": lambda text: json.dumps(json.loads(text) | {"encoders": {}}),
    "missing .*fingerprint": lambda text: json.dumps(
        json.loads(text) | {"encoders": {"a": {"name": "a"}}}
    ),
}


@pytest.mark.parametrize("match", DAMAGE)
def test_a_damaged_version_says_what_to_do(store, match):
    newest(store).write_text(DAMAGE[match](newest(store).read_text()))
    with pytest.raises(StoreError, match=rf"00000002.json is not .*{match}") as error:
        Store.open(store.path)
    assert "Restore this file from a copy, or open the store with version=1." in str(error.value)
    assert Store.open(store.path, version=1).n_spots == 0


def test_a_slides_table_with_other_columns_is_refused_by_name(store):
    table = lance.dataset(str(store.path / "slides.lance"))
    table.drop_columns(["embedded"])
    values = json.loads(newest(store).read_text())
    values["tables"]["slides"] = table.version
    newest(store).write_text(json.dumps(values))
    other = Store.open(store.path)
    match = r"slides table .* in: embedded\. Make the store again"
    with pytest.raises(StoreError, match=match):
        other.has_vector("image")
    refused(other, toy_rows(toy_slide("S2", 10, 1)), StoreError, match)


def test_a_store_without_any_version_is_refused(store):
    for file in (store.path / "versions").iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="There is no store at .*no version in 'versions'"):
        Store.open(store.path)


def test_a_store_that_lost_its_newest_version_goes_on_from_the_one_before(store):
    newest(store).unlink()
    again = Store.open(store.path)
    assert (again.version, again.n_spots) == (1, 0)
    assert again.add(toy_rows(toy_slide("S2", 12, 1))) == 2
    assert again.spots()["slide_id"].unique().tolist() == ["S2"]
    assert again.counts(["CD8A"]).shape == (12, 1)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_is_named(store, table):
    shutil.rmtree(store.path / f"{table}.lance")
    with pytest.raises(StoreError, match=rf"Table '{table}' .*damaged, gone or .*: restore"):
        Store.open(store.path)
