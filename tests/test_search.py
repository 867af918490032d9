"""Every kind of query against exact numpy, and every refusal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stamp_index.errors import (
    DuplicateGenesError,
    EmptyQueryError,
    EncoderMismatchError,
    MissingGenesError,
    QueryError,
)
from stamp_index.genes import GenePanel, Signature
from stamp_index.search import Searcher, field_in
from tests.support import TOY_GENES, TOY_MPP, ToyEncoder, toy_slide, toy_slides, toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("search"), n_slides=3, n_spots=40)


@pytest.fixture(scope="module")
def searcher(store):
    return Searcher.open(store.path, encoder=ToyEncoder())


def check_exact(hits, vector, k, against, allowed=None):
    """Hits are those of a loop over rows and a sort; rows that tie in float32 may change places."""
    vectors = hits.store.vectors(against).astype(np.float64)
    vector = np.asarray(vector, np.float64) / np.linalg.norm(vector)
    score = [float(stored @ vector) for stored in vectors]
    rows = [row for row in range(len(vectors)) if allowed is None or allowed[row]]
    expected = sorted(rows, key=lambda row: -score[row])[:k]
    assert set(hits.rows) <= set(rows)
    assert len(set(hits.rows)) == len(expected)
    best = [score[row] for row in expected]
    np.testing.assert_allclose([score[row] for row in hits.rows], best, rtol=0, atol=3e-7)
    np.testing.assert_allclose(hits.scores, best, rtol=0, atol=1e-6)


def crop(slide, row, width_um):
    side = round(width_um / TOY_MPP)
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[row]
    return slide.image.read(x - side / 2, y - side / 2, side, side)


# ---- kinds of query --------------------------------------------------------------------------


@pytest.mark.parametrize("against", ["image", "gene"])
@pytest.mark.parametrize(
    "signature",
    [
        "CD8A high, EPCAM low",
        {"CD8A": 1, "EPCAM": -1.0},
        Signature((("cd8a", 1.0), ("ENSG00000000000", -1.0))),
    ],
)
def test_gene_query_finds_what_exact_search_finds(searcher, store, against, signature):
    hits = searcher.search_genes(signature, against=against, k=20)
    vector = ToyEncoder().encode_signature({"CD8A": 1.0, "EPCAM": -1.0})
    check_exact(hits, vector, 20, against)
    assert hits.query == "CD8A high, EPCAM low"
    assert hits.genes == ("CD8A", "EPCAM")


def test_gene_query_finds_the_domain_of_its_markers(searcher, store):
    hits = searcher.search_genes("CD8A high", k=10)
    assert set(store.labels(hits.rows)["domain"]) == {"lymphoid"}


@pytest.mark.parametrize("against", ["image", "gene"])
def test_vector_query_finds_what_exact_search_finds(searcher, store, against):
    vector = np.random.default_rng(0).normal(size=32)
    hits = searcher.search_vector(vector, against=against, k=120)
    check_exact(hits, vector, 120, against)
    assert hits.notes == ()


@pytest.mark.parametrize("against", ["image", "gene"])
@pytest.mark.parametrize("query", ["image", "gene"])
@pytest.mark.parametrize("own", ["nothing", "slide", "patient"])
def test_spot_query_leaves_out_itself_and_what_is_asked(searcher, store, query, against, own):
    row = 53  # S2 of P1
    hits = searcher.search_spot(
        store.spots(["spot_id"], [row])["spot_id"].iloc[0],
        query=query,
        against=against,
        exclude_own=own,
        k=30,
    )
    spots = store.spots()
    allowed = np.ones(120, bool)
    allowed[row] = False
    if own == "slide":
        allowed &= (spots["slide_id"] != "S2").to_numpy()
    if own == "patient":
        allowed &= (spots["patient_id"] != "P1").to_numpy()
    vector = store.vectors(query)[row].astype(np.float32)
    check_exact(hits, vector, 30, against, allowed)
    assert hits.query == f"{query} of spot S2:B0013-1"


def test_profile_query_finds_what_exact_search_finds(searcher, store):
    slide = toy_slides(3, 40)[1]
    counts = dict(zip(slide.genes, slide.counts[7].toarray()[0].tolist(), strict=True))
    hits = searcher.search_profile(counts, against="gene", k=10)
    assert hits.spot_ids[0] == "S2:B0007-1"
    vector = ToyEncoder().encode_counts(slide.counts[[7]], slide.genes)[0]
    check_exact(hits, vector, 10, "gene")
    assert hits.notes == ()


def test_profile_by_id_is_the_profile_and_unknown_genes_are_noted(searcher):
    by_id = searcher.search_profile({"ENSG00000000013.4": 5, "NOPE1": 3, "nope2": 0}, k=3)
    by_name = searcher.search_profile(pd.Series({TOY_GENES[13]: 5}), k=3)
    assert by_id.rows.tolist() == by_name.rows.tolist()
    assert by_id.notes[0] == (
        "2 of 3 genes of the profile are not in the encoder's panel and were not used "
        "(NOPE1, nope2)."
    )


@pytest.mark.parametrize("against", ["image", "gene"])
def test_picture_with_its_region_is_the_stored_spot(searcher, store, against):
    picture = crop(toy_slides(3, 40)[1], 14, 340.0)
    hits = searcher.search_image(picture, mpp=TOY_MPP, against=against, k=8)
    assert hits.notes == ()
    spot = searcher.search_vector(store.vectors("image")[54], against=against, k=8)
    assert hits.spot_ids[0] == spot.spot_ids[0]
    np.testing.assert_allclose(hits.scores[0], spot.scores[0], atol=2e-3)


def test_centre_of_a_large_picture_can_be_chosen(searcher):
    slide = toy_slides(3, 40)[1]
    whole = slide.image.read_box(0, 0, slide.image.size_px, slide.image.size_px)
    for row in (12, 24, 25, 37):  # neither stroma nor fat is in the middle
        x, y = slide.spots[["x_px", "y_px"]].to_numpy()[row]
        hits = searcher.search_image(whole, mpp=TOY_MPP, against="image", k=120, centre_px=(x, y))
        score = hits.scores[hits.rows == 40 + row]  # of the spot that lies there
        assert score > 0.999
        assert hits.scores[0] - score < 1e-3


def test_picture_at_another_pixel_size_is_the_same_tissue(searcher):
    picture = crop(toy_slides(3, 40)[1], 14, 340.0)
    finer = picture.repeat(4, axis=0).repeat(4, axis=1)
    one = searcher.search_image(picture, mpp=TOY_MPP, against="image", k=5)
    other = searcher.search_image(finer, mpp=TOY_MPP / 4, against="image", k=5)
    np.testing.assert_allclose(one.scores, other.scores, atol=5e-3)


def test_picture_as_wide_as_a_patch_is_searched_without_its_region(searcher):
    picture = crop(toy_slides(3, 40)[1], 14, 112.0)
    hits = searcher.search_image(picture, mpp=TOY_MPP, against="image", k=5)
    vector = ToyEncoder().encode_images(resampled(picture))[0]
    check_exact(hits, vector, 5, "image")
    assert hits.notes == (
        "The picture does not show the 336 um around the middle of the patch: its surroundings were not used. "
        "Give a larger picture to search with them.",
    )
    assert hits.query == "picture of 112 x 112 um at 2 um per pixel"


def resampled(picture):
    """56 px to 16 px with the edge repeated, by Pillow alone."""
    from PIL import Image

    padded = Image.fromarray(np.pad(picture, ((20, 20), (20, 20), (0, 0)), mode="edge"))
    resized = padded.resize((16, 16), Image.Resampling.BILINEAR, box=(20, 20, 76, 76))
    return np.asarray(resized)[None]


def test_edge_of_a_picture_is_not_mixed_with_white(searcher):
    from stamp_index.search.pictures import cut_query

    dark = np.full((56, 60, 3), 40, np.uint8)
    cut = cut_query(dark, ToyEncoder(), mpp=2.0)
    assert cut.patch.shape == (1, 16, 16, 3)
    assert (cut.patch == 40).all()
    assert cut.region is None


# ---- genes that are reported -----------------------------------------------------------------


def test_more_genes_are_reported_where_they_are_asked_for(searcher, store):
    hits = searcher.search_genes("CD8A high", k=4, genes=["actb", "CD8A"])
    assert hits.genes == ("CD8A", "ACTB")
    values = hits.to_pandas()[["CD8A", "ACTB"]].to_numpy()
    assert np.array_equal(values, store.expression(["CD8A", "ACTB"], hits.rows))
    with pytest.raises(MissingGenesError, match=r"ACTBB.*ACTB"):
        searcher.search_genes("CD8A high", k=4, genes=["ACTBB"])
    with pytest.raises(TypeError, match="'ACTB'"):
        searcher.search_genes("CD8A high", k=4, genes="ACTB")


def test_unknown_gene_is_refused_with_close_names(searcher):
    with pytest.raises(MissingGenesError, match=r"1 of 2 .*\(CD8\).*CD8A"):
        searcher.search_genes("CD8 high, EPCAM low")


def test_gene_that_the_encoder_lacks_is_refused_and_not_dropped(store):
    encoder = ToyEncoder()
    kept = [gene for gene in TOY_GENES if gene != "KRT8"]
    encoder.panel = GenePanel(genes=kept, means=(1.0,) * len(kept))
    searcher = Searcher.open(store.path, encoder=encoder)
    with pytest.raises(MissingGenesError, match=r"KRT8.*'toy' \(59 genes\) lacks it.*KRT18"):
        searcher.search_genes("EPCAM high, KRT8 high")


@pytest.mark.parametrize("signature", ["", " , ;", {}])
def test_signature_without_genes_is_refused(searcher, signature):
    with pytest.raises(EmptyQueryError, match="names no gene"):
        searcher.search_genes(signature)


def test_two_names_of_one_gene_that_contradict_are_refused(searcher):
    with pytest.raises(QueryError, match="EPCAM is asked for both high and low"):
        searcher.search_genes("EPCAM high, ENSG00000000000 low")


# ---- k and filters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    [
        'organ == "skin"',
        field_in("organ", ["skin"]),
        "patient == 'P2'",
        "slide not in ('S1', 'S2')",
        "slide == 'S3' or not slide != 'S3'",
    ],
)
def test_filter_is_applied_within_the_search(searcher, store, filters):
    hits = searcher.search_genes("CD8A high", k=30, filters=filters)
    allowed = np.arange(120) >= 80
    vector = ToyEncoder().encode_signature({"CD8A": 1.0})
    check_exact(hits, vector, 30, "image", allowed)


def test_filter_that_leaves_fewer_gives_all_of_them_and_says_so(searcher):
    hits = searcher.search_genes("CD8A high", k=48, filters="slide == 'S2'")
    assert len(hits) == 40
    assert hits.notes == (
        'Only 40 of 120 spots pass the filter slide == "S2": 40 hits instead of 48.',
    )
    spot = searcher.search_spot("S1:B0000-1", k=120)
    assert spot.notes == (
        "Only 119 of 120 spots are not the query spot itself: 119 hits instead of 120.",
    )


def test_filter_that_leaves_nothing_is_named(searcher):
    nothing = 'organ == "skin" and patient == "P1"'
    with pytest.raises(QueryError, match=f"None of the 120 spots .* filter {nothing}"):
        searcher.search_genes("CD8A high", filters=nothing)
    with pytest.raises(QueryError, match='slide == "S1" and are not of slide S1'):
        searcher.search_spot("S1:B0000-1", exclude_own="slide", filters="slide == 'S1'")


def test_more_hits_than_spots_are_refused_with_both_numbers(searcher):
    with pytest.raises(QueryError, match="121 hits .* 120 spots"):
        searcher.search_genes("CD8A high", k=121)


@pytest.mark.parametrize("k", [0, -3, 2.5, True, "7"])
def test_k_that_is_no_number_of_hits_is_refused(searcher, k):
    with pytest.raises(ValueError, match=f"k is {k!r}"):
        searcher.search_genes("CD8A high", k=k)


def test_rows_without_a_picture_are_no_hits_of_an_image_search(tmp_path):
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, image=False)]
    store = toy_store(tmp_path, slides=slides)
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    hits = searcher.search_genes("CD8A high", against="image", k=40)
    assert set(hits.table["slide_id"]) == {"S1"}
    assert hits.notes == (
        "Only 20 of 40 spots have the embedding that is searched: 20 hits instead of 40.",
    )
    assert len(searcher.search_genes("CD8A high", against="gene", k=40)) == 40
    with pytest.raises(QueryError, match="'S2:B0001-1' has no image embedding"):
        searcher.search_spot("S2:B0001-1", query="image", k=3)
    with pytest.raises(QueryError, match='slide == "S2" and have the embedding'):
        searcher.search_genes("CD8A high", against="image", k=4, filters="slide == 'S2'")


# ---- arguments that are none -----------------------------------------------------------------


def test_modality_that_is_none_is_refused(searcher):
    with pytest.raises(ValueError, match="against is 'text'; expected 'image', 'gene', or weights"):
        searcher.search_genes("CD8A high", against="text")
    with pytest.raises(ValueError, match="no 'text' embeddings"):
        searcher.search_spot("S1:B0000-1", query="text")
    with pytest.raises(ValueError, match="exclude_own is 'organ'"):
        searcher.search_spot("S1:B0000-1", exclude_own="organ")


def test_unknown_spot_is_refused_with_close_ids(searcher):
    with pytest.raises(QueryError, match=r"'S1:B0003'.*S1:B0003-1"):
        searcher.search_spot("S1:B0003")


def test_patient_that_is_not_known_cannot_be_left_out(tmp_path):
    store = toy_store(tmp_path, slides=[toy_slide("S1", 20, 0, patient_id="")])
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    with pytest.raises(QueryError, match="S1 has no patient_id"):
        searcher.search_spot("S1:B0000-1", exclude_own="patient", k=3)


def test_picture_smaller_than_a_patch_is_refused_with_both_widths(searcher):
    picture = np.zeros((300, 50, 3), np.uint8)
    with pytest.raises(QueryError, match=r"100 um wide \(50 px at 2 um per pixel\).*112 um"):
        searcher.search_image(picture, mpp=2.0)


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf"), 60.0, True])
def test_pixel_size_that_is_none_is_refused(searcher, mpp):
    with pytest.raises(ValueError, match=f"mpp is {mpp}"):
        searcher.search_image(np.zeros((300, 300, 3), np.uint8), mpp=mpp)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((300, 300), np.uint8), r"uint8 of shape \(300, 300\)"),
        (np.zeros((300, 300, 4), np.uint8), r"\(300, 300, 4\)"),
        (np.zeros((300, 300, 3), np.float32), "float32"),
        (np.zeros((0, 300, 3), np.uint8), r"\(0, 300, 3\)"),
    ],
)
def test_picture_that_is_none_is_refused(searcher, picture, message):
    with pytest.raises(ValueError, match=message):
        searcher.search_image(picture, mpp=2.0)


def test_picture_must_be_an_array(searcher):
    with pytest.raises(TypeError, match="list"):
        searcher.search_image([[1, 2, 3]], mpp=2.0)


def test_centre_too_near_the_edge_is_refused(searcher):
    picture = np.zeros((300, 300, 3), np.uint8)
    with pytest.raises(QueryError, match=r"112 um around \(10, 150\) px.*300 x 300"):
        searcher.search_image(picture, mpp=2.0, centre_px=(10, 150))
    with pytest.raises(ValueError, match="centre_px is"):
        searcher.search_image(picture, mpp=2.0, centre_px=(float("nan"), 150))


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.ones(31), r"\(31,\).*32 numbers"),
        (np.ones((1, 32)), r"\(1, 32\).*32 numbers"),
        (np.zeros(32), "length 0"),
        (np.full(32, np.nan), "length nan"),
        (["a"] * 32, "<U1"),
    ],
)
def test_vector_that_is_none_is_refused(searcher, vector, message):
    with pytest.raises(ValueError, match=message):
        searcher.search_vector(vector)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({}, EmptyQueryError, "no gene"),
        ({"CD8A": 0, "EPCAM": 0.0}, EmptyQueryError, "the 2 of its 2 genes"),
        ({"CD8A": 0, "NOPE": 4}, EmptyQueryError, "the 1 of its 2 genes"),
        ({"NOPE": 4}, MissingGenesError, "NOPE"),
        ({"CD8A": -1, "EPCAM": 2}, ValueError, r"1 are not \(CD8A -1.0\)"),
        ({"CD8A": float("nan")}, ValueError, "CD8A nan"),
        ({"CD8A": 1e39}, ValueError, r"0 to 1,000,000,000; 1 are not \(CD8A 1e\+39\)"),
        (None, TypeError, "The profile is NoneType; expected counts by gene"),
        ({"CD8A": "many"}, TypeError, "expected counts by gene"),
        ({"CD8A": 1, "cd8a": 2}, DuplicateGenesError, "CD8A"),
    ],
)
def test_profile_that_is_none_is_refused(searcher, counts, error, message):
    with pytest.raises(error, match=message):
        searcher.search_profile(counts)


# ---- opening ---------------------------------------------------------------------------------


def test_other_encoder_is_refused_with_both_fingerprints(store):
    other = ToyEncoder(seed=1)
    with pytest.raises(
        EncoderMismatchError, match=f"{store.card.fingerprint}.*{other.fingerprint}"
    ):
        Searcher.open(store.path, encoder=other)
