"""Deleting, replacing, labelling, a second encoder, compaction and clean-up."""

import gc

import lance
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import DuplicateSlideError, EncoderMismatchError, QueryError, StoreError
from stamp_index.store import EncoderCard, Store
from stamp_index.store.housekeeping import require_whole
from stamp_index.store.layout import Layout
from stamp_index.store.manifest import read_manifest
from stamp_index.store.schema import TABLES
from tests.store_world import after, assert_is, change, empty_store, random_step
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store

OTHER = ToyEncoder(dim=16, seed=5)


@pytest.fixture
def slides():
    return [toy_slide(f"S{number}", 10 + number, number) for number in (1, 2, 3)]


@pytest.fixture
def store(tmp_path, slides):
    return toy_store(tmp_path, slides=slides)


def assert_holds(store, slides, encoder=None):
    """Check every table against the slides that should be there."""
    encoder = encoder or ToyEncoder()
    require_whole(store.path, read_manifest(store.path, store.version))
    assert store.slides()["slide_id"].tolist() == [slide.slide_id for slide in slides]
    assert store.spots()["spot_id"].tolist() == [spot for s in slides for spot in s.spot_ids]
    dense = np.concatenate([slide.counts.toarray() for slide in slides])
    np.testing.assert_array_equal(store.counts(slides[0].genes), dense)
    np.testing.assert_array_equal(store.sparse_counts().toarray(), dense)
    rows = [toy_rows(slide, encoder) for slide in slides]
    assert store.thumbnails(store.rows()) == [jpeg for part in rows for jpeg in part.thumbnails]
    for modality in ("image", "gene"):
        expected = np.concatenate([getattr(part, modality) for part in rows]).astype(np.float16)
        np.testing.assert_array_equal(store.vectors(modality), expected)
        np.testing.assert_array_equal(np.flatnonzero(store.has_vector(modality)), store.rows())
    domains = [domain for slide in slides for domain in slide.spots["domain"]]
    assert store.labels()["domain"].tolist() == domains


def test_a_deleted_slide_is_gone_and_the_others_keep_their_row_ids(store, slides):
    before = dict(zip(store.spots()["spot_id"], store.rows(), strict=True))
    assert store.delete("S2") == 5
    assert_holds(store, [slides[0], slides[2]])
    assert (store.n_spots, store.n_rows) == (24, 36)
    after = dict(zip(store.spots()["spot_id"], store.rows(), strict=True))
    assert after == {spot: row for spot, row in before.items() if not spot.startswith("S2:")}
    with pytest.raises(ValueError, match=r"Row 12 is not .* rows 0 to 35 with gaps"):
        store.spots(rows=[12])
    with pytest.raises(QueryError, match=r"no spot 'S2:B0001-1'"):
        store.row_of("S2:B0001-1")


def test_a_row_id_is_never_given_again(store, slides):
    store.delete("S3")
    store.add(toy_rows(slides[2]))
    assert store.rows().tolist() == [*range(23), *range(36, 49)]
    assert_holds(store, slides)


def test_several_slides_are_deleted_in_one_step_and_all_can_be(store, slides):
    assert store.delete("S1", "S3") == 5
    assert_holds(store, [slides[1]])
    store.delete("S2")
    assert (store.n_spots, len(store.slides()), len(store.labels())) == (0, 0, 0)
    assert store.vectors("gene").shape == (0, 32)
    store.add(toy_rows(slides[0]))
    assert_holds(store, [slides[0]])


def test_a_slide_that_is_not_there_is_not_deleted_and_neither_are_the_others(store, slides):
    with pytest.raises(QueryError, match=r"1 of 2 slides .*\(X\).*slides are S1, S2, S3\."):
        store.delete("S1", "X")
    with pytest.raises(ValueError, match="No slide was named"):
        store.delete()
    assert store.refresh() == 4
    assert_holds(store, slides)


def test_a_slide_id_is_data_and_not_a_predicate(tmp_path):
    names = ["it's", "x' OR '1'='1", 'say "hi"']
    store = toy_store(tmp_path, slides=[toy_slide(name, 5, at) for at, name in enumerate(names)])
    store.delete(names[1])
    assert store.slides()["slide_id"].tolist() == [names[0], names[2]]


def test_a_replaced_slide_is_the_new_one_at_the_end(store, slides):
    new = toy_slide("S1", 8, 77)
    with pytest.raises(DuplicateSlideError, match="'S1' is in the store .* replace it"):
        store.add(toy_rows(new))
    assert store.add(toy_rows(new), replace=True) == 5
    assert_holds(store, [slides[1], slides[2], new])
    assert store.n_spots == 12 + 13 + 8
    store.add(toy_rows(new), replace=True)  # the same again is no duplicate of itself
    assert_holds(store, [slides[1], slides[2], new])


def test_a_replacement_equal_to_another_slide_is_refused(store, slides):
    with pytest.raises(DuplicateSlideError, match="same image and counts as slide 'S2'"):
        store.add(toy_rows(toy_slide("S1", 12, 2)), replace=True)
    assert_holds(Store.open(store.path), slides)


def test_replace_adds_a_slide_that_is_new(store, slides):
    new = toy_slide("S9", 8, 77)
    store.add(toy_rows(new), replace=True)
    assert_holds(store, [*slides, new])


def test_the_newest_label_is_read_and_older_versions_read_the_older(store):
    store.annotate("S1", "region", ["tumour"] * 5 + [None] * 6, author="ann")
    first = store.version
    store.annotate("S1", "region", ["stroma"] * 11, author="bob", source="app")
    assert store.label_names == ("domain", "region")
    assert store.label("region", [0, 10, 11]).tolist() == ["stroma", "stroma", None]
    older = Store.open(store.path, version=first)
    assert older.label("region", [0, 10]).tolist() == ["tumour", None]


def test_numbers_are_labels_too_and_missing_ones_are_nan(store):
    store.annotate("S2", "grade", [1.5, None, *range(10)], author="ann")
    grade = store.label("grade")
    assert grade.dtype == np.float64
    assert grade[11:14].tolist()[::2] == [1.5, 0.0]
    assert grade.isna().sum() == 36 - 11


def test_labels_that_do_not_fit_are_refused(store):
    with pytest.raises(ValueError, match="label has 2 values; slide 'S1' has 11 spots"):
        store.annotate("S1", "region", ["a", "b"], author="ann")
    with pytest.raises(QueryError, match="no slide 'X' .* slides are S1, S2, S3"):
        store.annotate("X", "region", ["a"], author="ann")
    with pytest.raises(ValueError, match="needs a name and an author; got 'region' and ''"):
        store.annotate("S1", "region", ["a"] * 11, author="")
    with pytest.raises(QueryError, match="no label 'depth' .* labels are domain"):
        store.label("depth")
    assert store.refresh() == 4


def test_what_people_said_stays_with_the_barcodes_of_a_replaced_slide(store):
    store.annotate("S1", "region", [f"r{at}" for at in range(11)], author="ann")
    store.annotate("S1", "grade", [float(at) for at in range(11)], author="ann")
    shorter = toy_slide("S1", 6, 40)
    store.add(toy_rows(shorter), replace=True)
    rows = store.rows()[-6:]
    assert store.label("region", rows).tolist() == [f"r{at}" for at in range(6)]
    assert store.label("grade", rows).tolist() == [float(at) for at in range(6)]
    assert store.label("domain", rows).tolist() == shorter.spots["domain"].tolist()
    longer = toy_slide("S1", 9, 41)
    store.add(toy_rows(longer), replace=True)
    assert store.label("region", store.rows()[-9:]).tolist()[4:] == ["r4", "r5", None, None, None]
    store.delete("S1")
    store.add(toy_rows(longer))
    assert "region" not in store.label_names


def test_what_people_said_outranks_what_came_with_a_replaced_slide(store):
    store.annotate("S1", "domain", ["tumour"] * 11, author="ann")
    assert set(store.label("domain", range(11))) == {"tumour"}
    store.add(toy_rows(toy_slide("S1", 11, 40)), replace=True)
    assert set(store.label("domain", store.rows()[-11:])) == {"tumour"}


def test_two_encoders_live_side_by_side(store, slides):
    name = store.add_encoder(EncoderCard.of(OTHER))
    assert name == f"toy_{OTHER.fingerprint[:8]}"
    assert list(store.encoders) == ["toy", name]
    second = Store.open(store.path, encoder=name)
    assert second.card.fingerprint == OTHER.fingerprint
    assert not second.has_vector("gene").any()
    for slide in slides[1:]:
        second.fill(toy_rows(slide, OTHER))
    np.testing.assert_array_equal(np.flatnonzero(second.has_vector("image")), np.arange(11, 36))
    assert (second.vectors("gene")[:11] == 0).all()
    second.fill(toy_rows(slides[0], OTHER))
    assert_holds(second, slides, OTHER)
    store.refresh()
    assert_holds(store, slides)
    new = toy_slide("new", 9, 50)
    second.add(toy_rows(new, OTHER))
    store.refresh()
    assert store.has_vector("gene").sum() == 36
    store.fill(toy_rows(new))
    second.refresh()
    for view, encoder in ((store, ToyEncoder()), (second, OTHER)):
        assert_holds(view, [*slides, new], encoder)


def test_one_file_that_holds_several_slides_is_filled_slide_by_slide(store, slides):
    store.compact()
    name = store.add_encoder(EncoderCard.of(OTHER))
    for slide in (slides[1], slides[0], slides[2]):
        store.fill(toy_rows(slide, OTHER))
    assert_holds(Store.open(store.path, encoder=name), slides, OTHER)
    assert_holds(store, slides)


def test_an_encoder_that_is_there_is_not_added_again(store):
    assert store.add_encoder(EncoderCard.of(ToyEncoder())) == "toy"
    assert store.refresh() == 4


def test_checkpoints_of_both_encoders_travel_with_the_store(tmp_path, store):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    with pytest.raises(StoreError, match="nowhere is not a folder"):
        store.add_encoder(EncoderCard.of(OTHER), checkpoint=tmp_path / "nowhere")
    name = store.add_encoder(EncoderCard.of(OTHER), checkpoint=folder)
    assert (Store.open(store.path, encoder=name).encoder_path / "card.json").read_text() == "{}"
    with pytest.raises(StoreError, match="made without its encoder"):
        _ = store.encoder_path


def test_filling_what_does_not_fit_is_refused(store, slides):
    with pytest.raises(DuplicateSlideError, match="'S1' .* has its vectors of encoder 'toy'"):
        store.fill(toy_rows(slides[0]))
    with pytest.raises(EncoderMismatchError, match=rf"embedded by {OTHER.fingerprint}"):
        store.fill(toy_rows(slides[0], OTHER))
    name = store.add_encoder(EncoderCard.of(OTHER))
    with pytest.raises(QueryError, match="no slide 'S1' of this image and these counts"):
        store.fill(toy_rows(toy_slide("S1", 11, 9), OTHER))
    with pytest.raises(StoreError, match=f"no embeddings of encoder 'x'; it has .* toy, {name}"):
        Store.open(store.path, encoder="x")


def test_compaction_joins_files_and_keeps_rows_ids_and_answers(store, slides):
    store.delete("S2")
    rows = store.rows()
    assert store.compact() == 6
    assert len(lance.dataset(str(store.path / "spots.lance")).get_fragments()) == 1
    np.testing.assert_array_equal(store.rows(), rows)
    assert_holds(store, [slides[0], slides[2]])
    store.add(toy_rows(slides[1]))
    assert_holds(store, [slides[0], slides[2], slides[1]])


def test_clean_up_removes_old_versions_and_what_only_they_need(store, slides):
    store.delete("S2")
    store.compact()
    files = set(store.path.rglob("*"))
    assert store.clean_up() == 5
    assert store.versions == [6]
    assert set(store.path.rglob("*")) < files
    for table in TABLES:
        assert len(lance.dataset(str(store.path / f"{table}.lance")).versions()) == 1
    assert_holds(Store.open(store.path), [slides[0], slides[2]])
    with pytest.raises(StoreError, match="no version 4"):
        Store.open(store.path, version=4)


def test_clean_up_leaves_a_version_that_somebody_reads(store, slides):
    reader = Store.open(store.path)
    store.delete("S2")
    store.compact()
    assert store.clean_up() == 4
    assert store.versions == [4, 6]
    assert_holds(reader, slides)
    del reader
    gc.collect()
    assert store.clean_up() == 1
    assert store.versions == [6]


def test_clean_up_keeps_as_many_as_asked(store):
    assert store.clean_up(keep=3) == 1
    assert store.versions == [2, 3, 4]
    assert Store.open(store.path, version=2).n_spots == 11
    with pytest.raises(ValueError, match="keep is 0"):
        store.clean_up(keep=0)


def test_text_columns_can_be_filtered_by_lance_and_use_an_index(store):
    store.compact()
    table = lance.dataset(str(store.path / "spots.lance"))
    assert "ScalarIndexQuery" in table.scanner(filter="organ = 'breast'").explain_plan()
    assert table.count_rows(filter="organ = 'breast' AND n_counts >= 0") == 36


@given(st.data())
def test_layout_is_what_a_list_of_ids_says(data):
    sizes = data.draw(st.lists(st.integers(1, 4), max_size=6))
    gaps = data.draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)))
    first = np.cumsum(gaps) + np.cumsum(sizes) - np.array(sizes, np.int64)
    stretches = [list(range(a, a + n)) for a, n in zip(first, sizes, strict=True)]
    table = [row for stretch in data.draw(st.permutations(stretches)) for row in stretch]
    layout = Layout(first.astype(np.int64), np.array(sizes, np.int64), np.array(table, np.int64))
    assert layout.rows.tolist() == sorted(table)
    assert layout.places(np.array(table, np.int64)).tolist() == list(range(len(table)))
    owner = {row: at for at, stretch in enumerate(stretches) for row in stretch}
    asked = np.arange(-1, 45)
    assert layout.stretch_of(asked).tolist() == [owner.get(row, -1) for row in asked]
    odd = np.arange(len(first)) % 2 == 1
    assert np.flatnonzero(layout.mask(odd, 60)).tolist() == [
        r for r in sorted(owner) if owner[r] % 2
    ]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ([0, 1, 5], "3 rows, but its slides say 4"),
        ([0, 1, 6, 7], "5 to 6, of one slide, do not stand together|no row 5"),
        ([0, 5, 6, 1], "rows 0 to 1, of one slide, do not stand together"),
        ([5, 6, 7, 8], "no row 0"),
    ],
)
def test_layout_refuses_a_table_that_does_not_have_its_rows(table, match):
    with pytest.raises(StoreError, match=match):
        Layout(np.array([0, 5]), np.array([2, 2]), np.array(table))


def test_compaction_may_move_slides_in_the_table_and_nobody_sees_it(tmp_path):
    held, moved = {}, False
    store, rng = empty_store(tmp_path), np.random.default_rng(1)
    for number in range(40):
        step = random_step(rng, held, number)
        change(store, step)
        held = after(held, step)
        assert_is(store, held)
        table = store._tables.table("spots").to_table(columns=[], with_row_id=True)
        moved |= (np.diff(table["_rowid"].to_numpy().astype(int)) < 0).any()
    assert moved  # or the test shows nothing


def test_a_label_of_mixed_values_is_text(store):
    store.annotate("S1", "note", ["a", *[None] * 10], author="ann")
    store.annotate("S2", "note", [1.0] * 12, author="ann")
    assert store.label("note", [0, 1, 11]).tolist() == ["a", None, 1.0]
    assert isinstance(store.labels(), pd.DataFrame)
