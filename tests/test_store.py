"""What goes into a store comes out again."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stamp_index.encoders.base import Encoder
from stamp_index.errors import MissingGenesError, QueryError, StoreError
from stamp_index.slides.slide import Slide
from stamp_index.store import EncoderCard, SlideRows, Store
from stamp_index.store.arrow import expression_table, spots_batches
from stamp_index.store.rows import canonical_counts, content_hash
from tests.support import (
    TOY_GENES,
    ToyEncoder,
    random_store,
    toy_rows,
    toy_slide,
    toy_slides,
    toy_store,
)

OTHER_GENES = ("ACTB", "EPCAM", "KRT8")  # in another order than TOY_GENES, and far fewer


@pytest.fixture(scope="module")
def slides():
    """Two like slides, one without image, one with other genes."""
    return [
        *toy_slides(2, 20),
        toy_slide("N", 12, 7, image=False, organ="skin"),
        toy_slide("O", 15, 8, genes=OTHER_GENES, patient_id="P9"),
    ]


@pytest.fixture(scope="module")
def store(slides, tmp_path_factory):
    """A store of those slides; no test changes it."""
    return toy_store(tmp_path_factory.mktemp("toy"), slides=slides)


def slow_counts(slides, genes):
    """Counts of some genes, one value at a time; NaN where a slide did not measure the gene."""
    rows = []
    for slide in slides:
        dense = slide.counts.toarray()
        for spot in range(slide.n_spots):
            rows.append(
                [
                    dense[spot, slide.genes.index(gene)] if gene in slide.genes else np.nan
                    for gene in genes
                ]
            )
    return np.array(rows)


def test_toy_encoder_implements_the_encoder_protocol():
    encoder, slide = ToyEncoder(), toy_slide()
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode_spots(slide)
    assert vectors.shape == (40, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_spots_come_back_with_their_positions_and_totals(store, slides):
    spots = store.spots()
    assert store.n_spots == len(spots) == sum(slide.n_spots for slide in slides) == 67
    assert spots["spot_id"].tolist() == [spot for slide in slides for spot in slide.spot_ids]
    np.testing.assert_array_equal(
        spots[["x_px", "y_px"]], np.concatenate([slide.xy_px for slide in slides])
    )
    measured = [np.asarray(slide.counts.sum(axis=1)).ravel() for slide in slides]
    np.testing.assert_array_equal(spots["n_counts"], np.concatenate(measured))
    present = [(slide.counts.toarray() > 0).sum(axis=1) for slide in slides]
    np.testing.assert_array_equal(spots["n_genes"], np.concatenate(present))
    with_mpp = spots["slide_id"] != "N"
    np.testing.assert_allclose(spots["x_um"][with_mpp], spots["x_px"][with_mpp] * 2.0)
    assert spots["x_um"][~with_mpp].isna().all()


def test_rows_come_back_in_the_order_asked_for_even_twice(store):
    rows = [41, 3, 66, 3]
    everything = store.spots()
    expected = everything.iloc[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(store.spots(rows=rows), expected)
    columns = ["organ", "spot_id"]
    pd.testing.assert_frame_equal(store.spots(columns, rows), expected[columns])
    assert len(store.spots(rows=[])) == 0


def test_slides_say_where_their_rows_are(store, slides):
    table = store.slides()
    assert table["slide_id"].tolist() == ["S1", "S2", "N", "O"]
    assert table["first_spot"].tolist() == [0, 20, 40, 52]
    assert table["n_spots"].tolist() == [20, 20, 12, 15]
    assert table["organ"].tolist() == ["breast", "breast", "skin", "breast"]
    assert table["content_hash"].tolist() == [content_hash(slide) for slide in slides]
    assert table["width_px"].isna().tolist() == [False, False, True, False]


def test_a_changed_copy_of_the_slides_table_does_not_change_the_store(store):
    copy = store.slides()
    copy["slide_id"] = "changed"
    assert store.slides()["slide_id"].tolist() == ["S1", "S2", "N", "O"]


def test_vectors_come_back_as_float16_unit_vectors(store, slides):
    encoder = ToyEncoder()
    for modality in ("image", "gene"):
        given_vectors = [getattr(toy_rows(slide, encoder), modality) for slide in slides]
        blank = np.zeros((12, 32), np.float32)
        expected = np.concatenate([blank if part is None else part for part in given_vectors])
        vectors = store.vectors(modality)
        assert vectors.dtype == np.float16
        np.testing.assert_array_equal(vectors, expected.astype(np.float16))
        rows = [41, 3, 66, 3]
        np.testing.assert_array_equal(store.vectors(modality, rows), vectors[rows])
        present = np.linalg.norm(vectors.astype(np.float32), axis=1) > 0.5
        np.testing.assert_array_equal(store.has_vector(modality), present)
    assert store.has_vector("image").sum() == 67 - 12
    assert store.has_vector("gene").all()


def test_unknown_modality_is_refused(store):
    for read in (store.vectors, store.has_vector):
        with pytest.raises(ValueError, match=r"no modality 'rna'; give one of image, gene"):
            read("rna")


def test_expression_equals_a_slow_dense_log1p_cp10k(store, slides):
    genes = ["EPCAM", "HLA-DRA", "ACTB", "CD8A"]
    counts = slow_counts(slides, genes)
    totals = np.concatenate([slide.counts.toarray().sum(axis=1) for slide in slides])
    expected = np.log1p(counts / totals[:, None] * 10_000)
    np.testing.assert_array_equal(store.counts(genes), counts)
    expression = store.expression(genes)
    assert expression.dtype == np.float32
    np.testing.assert_allclose(expression, expected, rtol=1e-6)
    rows = [66, 0, 45, 0]
    np.testing.assert_array_equal(store.expression(genes, rows), expression[rows])


def test_expression_is_nan_where_the_slide_did_not_measure_the_gene(store):
    expression = store.expression(["CD8A", "EPCAM"])
    assert not np.isnan(expression[:52]).any()
    assert np.isnan(expression[52:, 0]).all()
    assert not np.isnan(expression[52:, 1]).any()
    assert store.has_gene("CD8A").tolist() == [True, True, True, False]


def test_an_empty_spot_has_expression_zero_and_part_counts_keep_their_total(tmp_path):
    image = gene = np.eye(2, dtype=np.float32)
    store = random_store(tmp_path, image, gene, n_slides=1)
    slide = toy_slide("Z", 2, image=False, genes=TOY_GENES[:2])
    object.__setattr__(slide, "counts", csr_matrix(np.array([[0, 0], [0.25, 0.25]], np.float32)))
    store.add(SlideRows(slide, None, gene, None, None, store.card.fingerprint))
    expression = store.expression(TOY_GENES[:2], [2, 3])
    np.testing.assert_allclose(expression, [[0, 0], [np.log1p(5_000)] * 2], rtol=1e-6)
    assert store.labels([0, 1])["domain"].isna().all()  # slides of `random_store` have no labels


def test_sparse_counts_are_the_dense_counts_with_zero_where_not_measured(store, slides):
    rows = [60, 1, 30]
    dense = np.nan_to_num(slow_counts(slides, store.genes))
    np.testing.assert_array_equal(store.sparse_counts().toarray(), dense)
    np.testing.assert_array_equal(store.sparse_counts(rows).toarray(), dense[rows])


def test_genes_are_the_union_in_order_of_first_appearance(tmp_path):
    parts = [toy_slide("O", 5, genes=OTHER_GENES), toy_slide("S", 5, 1, genes=TOY_GENES[:4])]
    store = toy_store(tmp_path, slides=parts)
    assert store.genes == ("ACTB", "EPCAM", "KRT8", "KRT18", "KRT19")
    assert store.gene_ids[1] == "ENSG00000000000"


def test_unknown_gene_names_itself_and_a_close_one(store):
    with pytest.raises(MissingGenesError, match=r"1 of 2 genes .*\(EPCAN\).*EPCAM"):
        store.expression(["CD8A", "EPCAN"])


def test_pictures_come_back_byte_for_byte(store, slides):
    rows = toy_rows(slides[0])
    assert store.thumbnails([19, 0, 45, 19]) == [
        *(rows.thumbnails[19], rows.thumbnails[0], None, rows.thumbnails[19])
    ]
    assert store.overview("S1") == rows.overview
    assert store.overview("N") is None
    with pytest.raises(QueryError, match="no slide 'X' in the store; it has S1, S2, N, O"):
        store.overview("X")


def test_labels_come_back_by_row(store, slides):
    labels = store.labels([2, 25, 66])
    expected = [slides[0].spots["domain"].iloc[2], slides[1].spots["domain"].iloc[5]]
    assert labels["domain"].tolist()[:2] == expected
    assert list(labels.index) == [0, 1, 2]


def test_row_of_finds_every_spot(store):
    assert [store.row_of(spot) for spot in store.spots()["spot_id"]] == list(range(67))


def test_row_of_names_close_ids(store):
    with pytest.raises(QueryError, match=r"no spot 'S1:B003-1'.*Close ids: .*S1:B0003-1"):
        store.row_of("S1:B003-1")
    with pytest.raises(QueryError, match=r"no spot 'T1:B0003-1'.*slides: .*S1"):
        store.row_of("T1:B0003-1")


@pytest.mark.parametrize("row", [-1, 67])
def test_row_outside_the_store_is_refused(store, row):
    with pytest.raises(ValueError, match=rf"Row {row} is not in the store, .* rows 0 to 66"):
        store.spots(rows=[0, row])


def test_rows_must_be_row_numbers_and_columns_must_exist(store):
    with pytest.raises(ValueError, match="got bool of shape"):
        store.counts(["CD8A"], np.ones(67, bool))
    with pytest.raises(ValueError, match=r"no columns \['mass'\]"):
        store.spots(["mass"])


def test_store_without_slides_behaves(tmp_path):
    store = Store.create(tmp_path / "store", EncoderCard.of(ToyEncoder()))
    assert (store.version, store.versions, store.n_spots) == (1, [1], 0)
    assert store.genes == store.gene_ids == ()
    assert len(store.slides()) == len(store.spots()) == len(store.labels()) == 0
    assert "spot_id" in store.spots().columns
    assert "slide_id" in store.slides().columns
    for modality in ("image", "gene"):
        assert store.vectors(modality).shape == (0, 32)
        assert store.has_vector(modality).shape == (0,)
    assert store.expression([]).shape == (0, 0)
    assert store.sparse_counts().shape == (0, 0)
    assert store.thumbnails([]) == []
    with pytest.raises(MissingGenesError, match="CD8A"):
        store.expression(["CD8A"])
    with pytest.raises(ValueError, match="Row 0 .* no rows yet"):
        store.spots(rows=[0])
    with pytest.raises(QueryError, match="'S1:B'.* no slides yet"):
        store.row_of("S1:B")


def test_card_and_checkpoint_travel_with_the_store(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "card.json").write_text("{}")
    card = EncoderCard.of(ToyEncoder(), checkpoint="my run")
    Store.create(tmp_path / "store", card, checkpoint=checkpoint)
    (checkpoint / "card.json").unlink()
    store = Store.open(tmp_path / "store")
    assert store.card == card
    assert (store.encoder_path / "card.json").read_text() == "{}"


def test_store_without_checkpoint_says_so(store):
    with pytest.raises(StoreError, match="made without its encoder"):
        _ = store.encoder_path


def test_readers_of_an_old_version_keep_seeing_it(tmp_path):
    writer = toy_store(tmp_path, n_slides=2, n_spots=10)
    reader, pinned = Store.open(writer.path), Store.open(writer.path, version=2)
    before = reader.spots(), reader.vectors("gene"), reader.counts(["CD8A"])
    assert writer.add(toy_rows(toy_slide("new", 10, 9))) == 4
    assert (writer.n_spots, reader.n_spots, pinned.n_spots) == (30, 20, 10)
    pd.testing.assert_frame_equal(reader.spots(), before[0])
    np.testing.assert_array_equal(reader.vectors("gene"), before[1])
    np.testing.assert_array_equal(reader.counts(["CD8A"]), before[2])
    assert reader.refresh() == 4
    assert reader.n_spots == 30
    assert pinned.refresh() == 2
    assert pinned.slides()["slide_id"].tolist() == ["S1"]
    with pytest.raises(StoreError, match="opened at version 2, for reading"):
        pinned.add(toy_rows(toy_slide("other", 10, 10)))


@st.composite
def untidy_counts(draw):
    """Sparse counts with duplicates, stored zeros and columns in any order, and their dense form."""
    n, g = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cell = st.tuples(st.integers(0, g - 1), st.integers(0, 1_000))
    rows = draw(st.lists(st.lists(cell, max_size=6), min_size=n, max_size=n))
    dense = np.zeros((n, g), np.float32)
    for row, cells in enumerate(rows):
        for column, count in cells:
            dense[row, column] += count
    flat = [cell for cells in rows for cell in cells]
    indptr = np.cumsum([0, *(len(cells) for cells in rows)])
    data = np.array([count for _, count in flat], np.float64)
    indices = np.array([column for column, _ in flat], np.int64)
    return csr_matrix((data, indices, indptr), shape=(n, g)), dense


def as_slide(counts):
    """A slide of these counts."""
    n, g = counts.shape
    barcodes = pd.Index([f"B{i}" for i in range(n)], name="barcode")
    spots = pd.DataFrame({"x_px": np.arange(n) * 1.0, "y_px": np.zeros(n)}, index=barcodes)
    return Slide("U", spots, counts, TOY_GENES[:g], None, None, 55.0)


@given(untidy_counts())
def test_canonical_counts_are_the_same_numbers_in_one_form(case):
    counts, dense = case
    given_data = counts.data.copy()
    tidy = canonical_counts(counts)
    np.testing.assert_array_equal(tidy.toarray(), dense)
    np.testing.assert_array_equal(counts.data, given_data)
    assert tidy.dtype == np.float32
    assert (tidy.data != 0).all()
    for row in range(len(dense)):
        columns = tidy.indices[tidy.indptr[row] : tidy.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()
    assert content_hash(as_slide(counts)) == content_hash(as_slide(csr_matrix(dense)))


@given(untidy_counts())
def test_both_tables_of_counts_decode_to_the_dense_counts(case):
    counts, dense = case
    slide = as_slide(counts)
    vectors = np.tile(np.float32([1, 0]), (len(dense), 1))
    by_spot, by_gene = np.zeros_like(dense), np.zeros_like(dense)
    rows = SlideRows(slide, None, vectors, None, None, "f")
    spots = spots_batches(rows, {"toy": 2}, "toy").read_all()
    for row, spot in enumerate(spots.to_pylist()):
        by_spot[row, spot["gene_indices"]] = spot["gene_counts"]
    for column, gene in enumerate(expression_table(slide).to_pylist()):
        assert gene["gene"] == TOY_GENES[column]
        by_gene[gene["spot_offsets"], column] = gene["counts"]
    np.testing.assert_array_equal(by_spot, dense)
    np.testing.assert_array_equal(by_gene, dense)
