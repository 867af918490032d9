"""Searches as values: run, recorded, written as Python, and as addresses of the app."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("torch")

import stamp_index as si
from stamp_index.addresses import decode_polygon
from stamp_index.encoders.checkpoint import load_encoder, save_encoder
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.ridge_encoder import RidgeEncoder, mean_token
from stamp_index.encoders.trunk import load_trunk
from stamp_index.errors import QueryError
from stamp_index.genes import GenePanel
from stamp_index.search import (
    RegionSettings,
    Searcher,
    all_of,
    field_in,
    field_not_in,
    parse_filter,
)
from stamp_index.search.filtering import And
from stamp_index.search.sharing import (
    GeneRequest,
    ImageRequest,
    RegionRequest,
    SpotRequest,
    python_snippet,
    record_json,
    request_url,
    rings_of,
    run_record,
)
from stamp_index.slides import PatchSpec, read_patches
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.support import toy_slide

EVIL = "S'\"\\\n__import__('os').abort()#\u2028\u202e"
SQUARE = shapely.box(60, 60, 290, 190)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """A store that carries a small ridge encoder, with two slides, one of a hostile name."""
    folder = tmp_path_factory.mktemp("carried")
    slides = [toy_slide("A", 80, 1), toy_slide(EVIL, 80, 2, organ='it\'s "this"')]
    panel = GenePanel.fit(slides, None, min_spots=2)
    gene_input = GeneInput.fit(panel, slides, 8)
    specs = (PatchSpec(112.0, 64), PatchSpec(336.0, 64))
    pictures = [[read_patches(slide, spec) for spec in specs] for slide in slides]
    features = tuple(mean_token(load_trunk().tokens(images)) for images in pictures[0])
    profiles = gene_input.slide_batch(slides[0]).profile
    encoder = RidgeEncoder.fit(gene_input, profiles, features, specs, dim=8)
    (folder / "checkpoint").mkdir()
    save_encoder(encoder, folder / "checkpoint")
    encoder = load_encoder(folder / "checkpoint")
    store = Store.create(
        folder / "store's", EncoderCard.of(encoder), checkpoint=folder / "checkpoint"
    )
    for slide, (patches, regions) in zip(slides, pictures, strict=True):
        image, gene = encoder.encode_images(patches, regions), encoder.encode_spots(slide)
        store.add(SlideRows(slide, image, gene, None, None, encoder.fingerprint))
    return Searcher.open(store.path)


def run_snippet(searcher, request):
    code = python_snippet(request, searcher.store, store_path=searcher.store.path)
    names = {}
    exec(compile(code, "snippet", "exec"), names)
    return names["hits"]


REQUESTS = [
    pytest.param(GeneRequest(signature="CD8A high, EPCAM low"), id="genes"),
    pytest.param(
        GeneRequest(
            signature="CD8A 2, EPCAM low",
            against={"image": 0.5, "gene": 0.5},
            k=7,
            filters=all_of(field_in("organ", ["breast"]), field_in("slide", ["A", EVIL])),
            genes=("ACTB",),
            one_per=150.0,
            recall=1.0,
            rank_by="measured",
        ),
        id="genes_with_everything",
    ),
    pytest.param(SpotRequest(spot_id="A:B0012-1", k=9, exclude_own="slide"), id="spot"),
    pytest.param(
        SpotRequest(spot_id=f"{EVIL}:B0003-1", query="gene", against="gene", k=5), id="hostile_spot"
    ),
    pytest.param(
        RegionRequest(slide_id="A", outlines=rings_of(SQUARE), k=2, exclude_own="nothing"),
        id="region",
    ),
    pytest.param(
        RegionRequest(
            slide_id=EVIL,
            outlines=rings_of(
                shapely.MultiPolygon(
                    [
                        SQUARE.difference(shapely.box(140, 90, 160, 110)),
                        shapely.box(300, 40, 420, 190),
                    ]
                )
            ),
            k=3,
            settings=RegionSettings(n_prototypes=3, seed=4),
            filters='slide == "A"',
        ),
        id="region_with_parts_and_holes",
    ),
    pytest.param(
        RegionRequest(slide_id="A", spot_ids=tuple(f"A:B{i:04d}-1" for i in range(12)), k=2),
        id="region_of_spots",
    ),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_python_of_a_search_finds_the_same(searcher, request_, capsys):
    asked, again = request_.run(searcher), run_snippet(searcher, request_)
    assert len(asked) > 0
    assert again.query == asked.query
    assert again.to_pandas().equals(asked.to_pandas())
    if isinstance(request_, RegionRequest):
        assert [rows.tolist() for rows in again.rows] == [rows.tolist() for rows in asked.rows]
    else:
        assert again.spot_ids == asked.spot_ids
        assert again.genes == asked.genes
    assert str(len(asked) - 1) in capsys.readouterr().out


def test_the_python_of_a_picture_reads_its_file(searcher, tmp_path, monkeypatch):
    pixels = np.asarray(toy_slide("A", 80, 1).image.read(60, 60, 200, 200))
    name = 'it\'s a "patch".png'
    Image.fromarray(pixels).save(tmp_path / name)
    request = ImageRequest(file_name=f"C:\\there\\{name}", mpp=2.0, k=4, centre_px=(100.0, 90.0))
    monkeypatch.chdir(tmp_path)
    assert run_snippet(searcher, request).spot_ids == request.run(searcher, pixels).spot_ids


@given(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.text(st.characters(exclude_categories=("Cs",))),
)
def test_no_text_of_a_request_becomes_code(searcher, one, other):
    for request in (
        GeneRequest(signature=one, genes=(other,)),
        SpotRequest(spot_id=f"{one}:{other}"),
        RegionRequest(slide_id=one, outlines=rings_of(SQUARE)),
        RegionRequest(slide_id=one, spot_ids=(one, other)),
        ImageRequest(file_name=one, mpp=0.5),
    ):
        code = python_snippet(request, searcher.store, store_path=other)
        assert code.isascii()
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Call)
        }
        assert calls <= {
            "si.Searcher.open", f"searcher.{request.method}", "print", "hits.to_pandas", "safe_open",
            "shapely.Polygon", "si.Region",
        }  # fmt: skip
        texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
        assert other in texts


def test_what_is_no_literal_cannot_be_written(searcher):
    with pytest.raises(TypeError, match="object cannot be written as Python"):
        python_snippet(GeneRequest(signature="A", genes=(object(),)), searcher.store)


def test_python_says_what_it_was_asked_of_but_no_path(searcher):
    code = python_snippet(GeneRequest(signature="CD8A high"), searcher.store)
    assert str(searcher.store.path.parent) not in code
    assert "'path/to/store'" in code
    assert searcher.store.card.fingerprint in code
    assert f"at version {searcher.store.version}," in code


# ---- requests --------------------------------------------------------------------------------------


def test_a_filter_is_kept_as_its_own_text():
    made = GeneRequest(signature="A", filters="organ=='x'  AND n_counts>5")
    assert made.filters == 'organ == "x" and n_counts > 5'
    assert made == GeneRequest(signature="A", filters=made.filters)
    assert (
        GeneRequest(signature="A").filters == GeneRequest(signature="A", filters=" ").filters == ""
    )
    with pytest.raises(QueryError):
        GeneRequest(signature="A", filters="organ ==")


def test_a_region_is_an_outline_or_spots():
    for given_ in ({}, {"outlines": rings_of(SQUARE), "spot_ids": ("A:1",)}):
        with pytest.raises(ValueError, match="either outlines or spot_ids"):
            RegionRequest(slide_id="A", **given_)


def test_rings_give_the_shape_back():
    shape = shapely.MultiPolygon(
        [SQUARE.difference(shapely.box(100, 100, 120, 120)), shapely.box(400, 400, 500, 500)]
    )
    assert RegionRequest(slide_id="A", outlines=rings_of(shape)).region().shape().equals(shape)
    corners = [[0, 0], [9, 0], [9, 9]]
    assert rings_of(corners) == rings_of(shapely.Polygon(corners))


# ---- records ---------------------------------------------------------------------------------------


def test_a_record_says_all_that_is_needed_to_repeat_a_search(searcher):
    request = REQUESTS[1].values[0]
    hits = request.run(searcher)
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    record = json.loads(record_json(run_record(hits, request, at=at)))
    assert record["time_utc"] == "2026-03-04T03:06:07+00:00"
    assert record["library_version"] == si.__version__
    assert record["query"] == hits.query
    assert record["notes"] == list(hits.notes)
    asked = record["request"]
    assert asked["method"] == "search_genes"
    assert GeneRequest(**asked["subject"], **as_given(asked["arguments"])) == request
    store = searcher.store
    assert record["store"]["name"] == "store's"
    assert record["store"]["store_id"] == store.store_id
    assert record["store"]["version"] == store.version
    assert record["encoder"] == {"name": store.card.name, "fingerprint": store.card.fingerprint}
    assert [hit["spot_id"] for hit in record["hits"]] == list(hits.spot_ids)
    np.testing.assert_allclose([hit["score"] for hit in record["hits"]], hits.scores)
    assert [hit["rank"] for hit in record["hits"]] == list(range(1, len(hits) + 1))


def as_given(arguments):
    return {name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()}


def test_a_record_holds_no_path_and_no_nan(searcher):
    hits = searcher.search_vector(np.ones(8), k=3)  # without percentiles
    content = record_json(run_record(hits))
    assert str(searcher.store.path.parent).encode() not in content
    record = json.loads(content, parse_constant=pytest.fail)
    assert record["request"] is None
    assert [hit["percentile"] for hit in record["hits"]] == [None] * 3
    now = datetime.now(UTC)
    assert abs(datetime.fromisoformat(record["time_utc"]) - now) < timedelta(minutes=5)


@pytest.mark.parametrize("request_", REQUESTS[4:])
def test_a_record_of_regions_names_their_spots(searcher, request_):
    hits = request_.run(searcher)
    record = json.loads(record_json(run_record(hits, request_)))
    assert record["n_hits"] == len(hits) > 0
    for rows, found in zip(hits.rows, record["hits"], strict=True):
        expected = searcher.store.spots(["spot_id"], rows)["spot_id"].tolist()
        assert found["spot_ids"] == expected
        assert found["n_spots"] == len(expected)
    assert record["request"]["subject"]["slide_id"] == request_.slide_id


# ---- addresses -------------------------------------------------------------------------------------

LONG = " or ".join(["n_counts > 5 and n_genes > 5"] * 63)


def test_the_address_of_a_gene_query_is_the_page_of_genes():
    filters = all_of(
        field_in("organ", ["a&b"]),
        field_in("patient", ["P1", "P 2"]),
        field_not_in("patient", ["P9"]),
        field_in("slide", ["S"]),
    )
    request = GeneRequest(
        signature="CD8A high, EPCAM low", against="gene", k=24, filters=filters, one_per="slide"
    )
    parts = urlsplit(request_url(request, "https://host/stamp"))
    assert parts.path == "/stamp/genes"
    assert parse_qs(parts.query) == {
        "q": ["CD8A high, EPCAM low"],
        "k": ["24"],
        "in": ["gene profiles"],
        "one": ["slide"],
        "organ": ["a&b"],
        "slide": ["S"],
        "patient": ["P1", "P 2"],
        "notpatient": ["P9"],
    }


@pytest.mark.parametrize(
    ("one_per", "word"),
    [(None, "spot"), (500, "neighbourhood"), (500.0, "neighbourhood"), ("patient", "patient")],
)
def test_an_address_says_of_what_there_is_one_hit_only(one_per, word):
    asked = parse_qs(urlsplit(request_url(GeneRequest(signature="A", one_per=one_per))).query)
    assert asked["one"] == [word]


FILTERS = [
    'n_counts > 5',
    'organ != "b"',
    'organ == "b" or slide == "S"',
    'organ == "b" and organ == "c"',
    'organ == "b" and expr("CD8A") > 1 and not (n_counts < 5 and slide == "S")',
    'patient not in ("P1", "P2") and patient != "P3"',
    'organ == "" and slide in ("S", "")',
    'slide is known and patient is missing',
]  # fmt: skip


@pytest.mark.parametrize("text", FILTERS)
def test_the_filter_of_an_address_is_the_one_that_was_asked_with(text):
    """Put together as the page does: its lists, and its box for the rest."""
    asked = parse_qs(urlsplit(request_url(GeneRequest(signature="A", filters=text))).query)
    again = all_of(
        field_in("organ", asked.get("organ", [])),
        field_in("slide", asked.get("slide", [])),
        field_in("patient", asked.get("patient", [])),
        field_not_in("patient", asked.get("notpatient", [])),
        parse_filter(asked.get("where", [""])[0]),
    )
    assert terms_of(again) == terms_of(parse_filter(text))


def terms_of(condition):
    """What must hold at once, in any order."""
    if not isinstance(condition, And):
        return {str(condition)}
    return set().union(*(terms_of(term) for term in condition.terms))


def test_a_page_of_regions_filters_slides_in_words():
    request = RegionRequest(
        slide_id="A", outlines=rings_of(SQUARE), filters='organ == "b" and slide == "S"'
    )
    asked = parse_qs(urlsplit(request_url(request)).query)
    assert (asked["organ"], asked["where"]) == (["b"], ['slide == "S"'])


def test_the_address_of_a_spot_is_the_image_page():
    parts = urlsplit(request_url(SpotRequest(spot_id=f"{EVIL}:B1", exclude_own="patient")))
    assert parts.path == "/image"
    assert parse_qs(parts.query) == {
        "spot": [f"{EVIL}:B1"], "k": ["48"], "match": ["images"], "without": ["own patient"],
        "one": ["spot"],
    }  # fmt: skip


def test_the_address_of_a_region_holds_its_outline():
    request = RegionRequest(
        slide_id="A", outlines=rings_of(SQUARE), query="gene", against="gene", k=3
    )
    parts = urlsplit(request_url(request))
    asked = parse_qs(parts.query)
    assert parts.path == "/regions"
    assert shapely.Polygon(decode_polygon(asked.pop("poly")[0])).equals(SQUARE)
    assert asked == {"s": ["A"], "k": ["3"], "as": ["expression"], "without": ["its slide"]}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ImageRequest(file_name="a.png", mpp=0.5), "A picture is not in an address"),
        (GeneRequest(signature="A", recall=1.0), "no widget for recall"),
        (GeneRequest(signature="A", genes=("B",), rank_by="measured"), "widget for genes, rank_by"),
        (GeneRequest(signature="A", one_per=150.0), "not for 150.0"),
        (SpotRequest(spot_id="A:1", query="gene"), "no widget for query"),
        (GeneRequest(signature="A", k=201), "at most 200 hits; 201 are asked for"),
        (GeneRequest(signature="A", against={"image": 1.0}), "asked for images, gene profiles"),
        (GeneRequest(signature="A", filters=LONG), "2,138 characters besides its lists"),
        (RegionRequest(slide_id="A", spot_ids=("A:1",)), "one outline without holes"),
        (
            RegionRequest(slide_id="A", outlines=rings_of(SQUARE), query="gene"),
            "no widget for query",
        ),
        (
            RegionRequest(slide_id="A", outlines=rings_of(SQUARE), k=41),
            "at most 40 regions; 41 are asked for",
        ),
    ],
)
def test_what_an_address_cannot_say_is_refused(request_, words):
    with pytest.raises(QueryError, match=words):
        request_url(request_)
