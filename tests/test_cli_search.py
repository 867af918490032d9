"""``stamp-index search``: what is asked on the command line is what is asked in Python."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.search import Region, Searcher
from stamp_index.search.asking import DEFAULT_K
from stamp_index.search.regions.search import DEFAULT_REGIONS
from tests.region_world import CENTRE, four_slides
from tests.support import ToyEncoder, toy_slide, toy_store


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    made = toy_store(tmp_path_factory.mktemp("cli") / "toy")
    return Searcher.open(made.path, encoder=ToyEncoder())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return four_slides(tmp_path_factory.mktemp("regions"))


@pytest.fixture
def ask(toy, monkeypatch, tmp_path):
    """Run a search on the toy store, and return the table that it wrote."""

    def run(*options):
        done = run_search(monkeypatch, toy, *options, "--out", tmp_path / "hits.json")
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "hits.json").read_text())

    return run


@pytest.fixture
def ask_world(world, monkeypatch):
    return lambda *options: run_search(monkeypatch, world, *options)


def run_search(monkeypatch, searcher, *options):
    # A made encoder has no checkpoint to load; everything behind it is real.
    monkeypatch.setattr(Searcher, "open", classmethod(lambda *_args, **_named: searcher))
    given = [str(option) for option in options]
    return CliRunner().invoke(main, ["search", str(searcher.store.path), *given])


def drawn(tmp_path, half_px=660.0, kind="FeatureCollection"):
    """A square over the disc of slide A, in level-0 pixels, as a file."""
    x, y = np.array(CENTRE) / 0.5
    ring = [[x + a * half_px, y + b * half_px] for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}
    held = {
        "geometry": geometry,
        "Feature": feature,
        "list": [feature],
        "FeatureCollection": {"type": "FeatureCollection", "features": [feature]},
    }
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps(held[kind]))
    return path, Region("A", ring, "px")


def same(read, hits):
    expected = json.loads(hits.to_pandas().to_json(orient="records", double_precision=15))
    assert read["hits"] == expected
    assert read["query"] == hits.query
    assert read["notes"] == list(hits.notes)
    assert read["store_version"] == hits.store_version
    assert read["fingerprint"] == hits.fingerprint


# ---- the same as in Python -----------------------------------------------------------------------


def test_what_is_not_given_is_as_in_python(toy, ask, tmp_path):
    profile = tmp_path / "profile.csv"
    profile.write_text("gene,count\nCD8A,30\nCD3E,20\n")
    spot = toy.search_genes("CD8A high", k=1).spot_ids[0]
    same(ask("--genes", "CD8A high"), toy.search_genes("CD8A high"))
    same(ask("--spot", spot), toy.search_spot(spot))
    same(ask("--profile", profile), toy.search_profile({"CD8A": 30, "CD3E": 20}))


def test_a_picture_is_compared_with_genes_as_in_python(toy, ask, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    read = ask("--image", tmp_path / "patch.png", "--mpp", "1", "-k", 3)
    same(read, toy.search_image(pixels, mpp=1.0, k=3))


def test_csv_holds_no_formula_for_a_spreadsheet_to_run(monkeypatch, tmp_path):
    store = toy_store(tmp_path, slides=[toy_slide("=1+1", 20)])
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    out = tmp_path / "hits.csv"
    options = ("--genes", "CD8A high", "-k", 3, "--csv", "--out", out)
    done = run_search(monkeypatch, searcher, *options)
    assert done.exit_code == 0, done.output
    hits = searcher.search_genes("CD8A high", k=3).to_pandas()
    for text in (done.stdout, out.read_text("utf-8")):
        read = pd.read_csv(StringIO(text))
        assert read["slide_id"].tolist() == ["'=1+1"] * 3
        assert read["spot_id"].tolist() == [f"'{name}" for name in hits["spot_id"]]
        np.testing.assert_allclose(read["score"], hits["score"])
    assert "\r" not in done.stdout  # which a pipe would take for a part of the last column


def test_help_names_the_defaults_of_python():
    text = " ".join(CliRunner().invoke(main, ["search", "--help"]).output.split())
    assert f"Hits wanted [{DEFAULT_K}; {DEFAULT_REGIONS} regions]" in text


@pytest.mark.parametrize("query", ["image", "gene"])
@pytest.mark.parametrize("against", ["image", "gene"])
def test_the_embedding_that_asks_can_be_chosen(toy, ask, query, against):
    spot = toy.search_genes("CD8A high", k=1).spot_ids[0]
    read = ask("--spot", spot, "--query", query, "--against", against, "-k", 4)
    same(read, toy.search_spot(spot, query=query, against=against, k=4))


def test_own_slide_or_patient_of_a_spot_is_left_out(toy, ask):
    spot = toy.search_genes("CD8A high", k=1).spot_ids[0]
    for own in ("slide", "patient"):
        same(ask("--spot", spot, "--exclude-own", own), toy.search_spot(spot, exclude_own=own))


def test_hits_of_a_signature_can_be_in_the_order_of_what_was_measured(toy, ask):
    read = ask("--genes", "CD8A high", "--rank-by", "measured", "-k", 20)
    measured = [hit["measured"] for hit in read["hits"]]
    assert measured == sorted(measured, reverse=True)
    same(read, toy.search_genes("CD8A high", rank_by="measured", k=20))


@pytest.mark.parametrize("recall", ["1", "1.0", ".95", "0.95", ".99"])
def test_recall_is_a_number_however_it_is_written(toy, ask, recall):
    read = ask("--genes", "CD8A high", "--recall", recall, "-k", 5)
    same(read, toy.search_genes("CD8A high", recall=float(recall), k=5))


# ---- regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["geometry", "Feature", "list", "FeatureCollection"])
def test_a_drawn_region_finds_what_python_finds(world, ask_world, tmp_path, kind):
    path, region = drawn(tmp_path, kind=kind)
    done = ask_world("--region", path, "--slide", "A", "--csv")
    assert done.exit_code == 0, done.output
    expected = world.search_region(region).to_pandas()
    assert len(expected) == DEFAULT_REGIONS
    read = pd.read_csv(StringIO(done.stdout))
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)


def test_options_of_a_region_search_reach_it(world, ask_world, tmp_path):
    path, region = drawn(tmp_path)
    done = ask_world(
        "--region", path, "--slide", "A", "-k", 3, "--exclude-own", "patient", "--query", "gene",
        "--against", "gene", "--recall", "1", "--filter", 'slide != "D"', "--out", tmp_path / "r.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    hits = world.search_region(
        region, k=3, exclude_own="patient", query="gene", against="gene", filters='slide != "D"'
    )
    same(json.loads((tmp_path / "r.json").read_text()), hits)
    assert done.stderr.strip() == "\n".join(hits.notes)


def test_outlines_of_regions_are_written_and_can_be_asked_for_again(world, ask_world, tmp_path):
    path, region = drawn(tmp_path)
    out = tmp_path / "found.geojson"
    assert ask_world("--region", path, "--slide", "A", "-k", 2, "--out", out).exit_code == 0
    hits = world.search_region(region, k=2)
    assert json.loads(out.read_text()) == json.loads(json.dumps(hits.to_geojson()))
    for slide_id, rows in zip(hits.table["slide_id"], hits.rows, strict=True):
        asked = world.search_region(Region.from_geojson(out, slide_id), k=1)
        assert asked.query_rows.tolist() == rows.tolist()
        assert ask_world("--region", out, "--slide", slide_id, "-k", 1).exit_code == 0


# ---- refusals ------------------------------------------------------------------------------------

OF_SPOTS = "--genes or --image or --spot or --profile only"
WRONG = [
    pytest.param((), "Give exactly one of --genes, --image, --spot, --profile and --region; got 0", id="none"),
    pytest.param(("--genes", "CD8A", "--spot", "A:1"), "; got 2", id="two"),
    pytest.param(("--genes", "CD8A", "--query", "gene"), "--query goes with --spot or --region only", id="query"),
    pytest.param(("--spot", "A:1", "--rank-by", "measured"), "--rank-by goes with --genes only", id="rank_by"),
    pytest.param(("--genes", "CD8A", "--slide", "A"), "--slide goes with --region only", id="slide"),
    pytest.param(("--spot", "A:1", "--mpp", "0.5"), "--mpp goes with --image only", id="mpp"),
    pytest.param(("--image", "a.png"), "The pixel size of a.png is unknown: give --mpp", id="no_mpp"),
    pytest.param(("--region", "a.geojson"), "The slide of a.geojson is unknown: give --slide", id="no_slide"),
    pytest.param(("--region", "a", "--one-per", "slide"), f"--one-per goes with {OF_SPOTS}", id="one_per"),
    pytest.param(("--region", "a", "--report", "CD8A"), f"--report goes with {OF_SPOTS}", id="report"),
    pytest.param(("--region", "a", "--predict"), f"--predict goes with {OF_SPOTS}", id="predict"),
    pytest.param(("--region", "a", "--slide", "A", "--against", "both"), "give --against image or", id="both"),
    pytest.param(("--genes", "CD8A", "--out", "/no/such/folder/r.csv"), "/no/such/folder is not a folder that can be written to", id="folder"),
    pytest.param(("--genes", "CD8A", "--out", "a.geojson"), "--out is 'a.geojson'; expected a file that ends in .csv or .json", id="geojson"),
    pytest.param(("--region", "a", "--slide", "A", "--out", "a.txt"), "ends in .csv or .json or .geojson", id="ending"),
    pytest.param(("--genes", "CD8A", "--recall", "much"), "'much' is not a valid float", id="recall"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_options_that_do_not_fit_are_wrong_usage(ask_world, options, words):
    done = ask_world(*options)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


REFUSED = [
    pytest.param(("-k", 0), "k is 0; expected a whole number of hits, 1 or more", id="k"),
    pytest.param(("-k", 9_999), "9999 hits were asked for, but the store", id="large_k"),
    pytest.param(("--recall", "0.5"), "recall is 0.5; expected 0.95, 0.99, or 1.0", id="recall"),
    pytest.param(("--slide", "X"), "There is no slide 'X' in the store", id="slide"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_the_library_refuses_is_one_sentence(ask_world, tmp_path, options, words):
    path, _ = drawn(tmp_path)
    done = ask_world("--region", path, "--slide", "A", *options)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output
