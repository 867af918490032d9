"""The page of linear probes without a browser: what it offers, refuses, runs and shows."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from stamp_index.embed import ingest
from stamp_index.evaluate import ProbeSettings, run_probe
from stamp_index.store import EncoderCard, Store
from tests import job_work
from tests.browser.app_pages import component, html, run, start
from tests.plain_world import plain
from tests.probe_page_world import await_end, finished, ticket_of
from tests.support import ToyEncoder, toy_slide, toy_slides, toy_store

from app import probe_drawing, probe_runs, probe_table  # isort: skip
from app.jobs import JOBS, JobError  # isort: skip

PAGE = "../../app/app_pages/probe.py"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = toy_store(tmp_path_factory.mktemp("probe"), slides=toy_slides(4, 40))
    for number in range(1, 5):
        made.annotate(f"S{number}", "array_row", [float(i) for i in range(40)], author="reader")
        made.annotate(f"S{number}", "one class", ["tissue"] * 40, author="reader")
    return made


@pytest.fixture(scope="module")
def ticket(store):
    return ticket_of(store, label="domain", split="slide")


@pytest.fixture(scope="module")
def gene_ticket(store):
    return ticket_of(store, gene="EPCAM", split="slide", C=0.001)


@pytest.fixture(autouse=True)
def visitor(monkeypatch):
    """Streamlit's tests log in a user of their own; these are of a visitor, as where nobody logs in."""
    monkeypatch.setattr(probe_runs, "user", str)


def said(at) -> str:
    """Every sentence on the page."""
    parts = [*at.info, *at.warning, *at.error, *at.caption, *at.markdown, *at.subheader]
    return "\n".join(part.value.replace("\\", "") for part in parts)


def job_of(at):
    """Ticket in the address."""
    held = at.query_params["job"]
    return held if isinstance(held, str) else held[0]


def run_button(at):
    return at.button(key="run")


def test_only_labels_that_name_classes_are_offered(store):
    at = start(store, PAGE)
    assert at.selectbox(key="probelabel").options == ["domain"]
    assert at.button_group(key="features").options == ["image", "gene", "both"]
    assert not run_button(at).disabled
    assert "Run (Ctrl+Enter)" in said(at)


def test_split_is_by_patient_where_there_are_two_and_single_spots_are_not_offered(store):
    at = start(store, PAGE)
    assert at.selectbox(key="split").value == "patient"
    assert at.selectbox(key="split").options == ["patient", "slide", "block"]


def test_single_spots_are_offered_on_demand_and_said_to_leak(store):
    at = start(store, PAGE, alone="true", split="spot")
    assert at.selectbox(key="split").value == "spot"
    assert "trained on their neighbours" in said(at)
    assert not run_button(at).disabled


def test_single_spots_of_an_address_alone_are_not_taken(store):
    assert start(store, PAGE, split="spot").selectbox(key="split").value == "patient"


def test_one_slide_offers_blocks_with_one_click(tmp_path):
    at = start(toy_store(tmp_path, n_slides=1), PAGE, split="slide")
    assert "There is one slide here" in said(at)
    assert run_button(at).disabled
    next(button for button in at.button if button.label == "Split by blocks").click()
    run(at)
    assert at.selectbox(key="split").value == "block"
    assert not run_button(at).disabled


def test_slides_of_one_patient_are_refused_by_patient_and_named(store):
    at = start(store, PAGE, slide="S1", split="patient")
    assert "of one patient" in said(at)
    assert run_button(at).disabled


def test_slides_without_a_patient_are_named(tmp_path):
    slides = [toy_slide("S1", 40, 0, patient_id=""), toy_slide("S2", 40, 1)]
    at = start(toy_store(tmp_path, slides=slides), PAGE, split="patient")
    assert "Slides S1 name no patient" in said(at)


def test_plain_slides_offer_drawing_on_pictures_only(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "store", EncoderCard.of(encoder))
    for number in range(2):
        ingest(store, encoder, plain(toy_slide(f"W{number}", 40, number, patient_id=f"P{number}")))
    at = start(store, PAGE)
    assert at.button_group(key="of").options == ["Drawn here"]
    assert at.button_group(key="features").options == ["image"]


def test_unknown_gene_names_close_ones_and_cannot_be_run(store):
    at = start(store, PAGE, of="Gene", probegene="CD8")
    assert "Did you mean CD8A" in said(at)
    assert run_button(at).disabled


def test_filters_that_leave_no_slide_are_said(store):
    at = start(store, PAGE, organ="skin", slide="S1")
    assert "No slide is of this organ" in said(at)


def test_run_starts_a_job_that_stands_in_the_address_and_gives_what_the_library_gives(store):
    at = start(store, PAGE, split="slide", c="1", folds="2")
    run_button(at).click()
    run(at)
    ticket = job_of(at)
    owner, job_id = probe_runs.read_ticket(ticket, "")
    assert await_end(job_id, owner) == "done"
    run(at)
    shown = probe_runs._result(job_id, owner)
    settings = ProbeSettings(label="domain", split="slide", C=1.0, n_folds=2)
    assert shown.settings == settings
    assert shown.to_json() == run_probe(store, settings).to_json()
    level = shown.level
    expected = f"{level.mean['balanced_accuracy']:.3f} ± {level.sd['balanced_accuracy']:.3f}"
    assert expected in html(at)


def test_a_link_shows_the_run_to_a_session_that_has_never_run_one(store, ticket):
    at = start(store, PAGE, job=ticket)
    assert "domain from image embeddings, by slide" in said(at)
    body = html(at)
    for words in ("Balanced accuracy", "chance", "0.250", "random features", "Macro-F1", "AUROC"):
        assert words in body
    assert "40 of 40 spots of fat were predicted fat" not in body  # counts are over all slides
    result = probe_runs.result_of(ticket, "")
    right = int(result.confusion[0, 0])
    assert f"{right} of {result.per_class[0].support} spots of {result.classes[0]}" in body
    assert "several slides" in said(at)  # the library's warning


def test_run_of_a_link_is_no_run_of_a_user_who_logs_in(ticket):
    with pytest.raises(JobError, match="no such job"):
        probe_runs.result_of(ticket, "ann")
    with pytest.raises(JobError, match="no such job"):
        probe_runs.result_of(ticket.rpartition(".")[2], "")


def test_user_who_logs_in_sees_their_runs_in_every_session_and_nobody_elses(store, monkeypatch):
    finished(store, "probe-user:ann", label="domain", split="slide", C=1.0, n_folds=2)
    monkeypatch.setattr(probe_runs, "user", lambda: "ann")
    assert "domain from image embeddings, by slide" in said(start(store, PAGE))
    monkeypatch.setattr(probe_runs, "user", lambda: "bob")
    assert "domain from image embeddings" not in said(start(store, PAGE))


def test_address_of_a_run_that_is_gone_is_a_sentence(store):
    at = start(store, PAGE, job="nobody.nothing")
    assert "There is no such job" in said(at)
    assert not run_button(at).disabled


def test_failed_run_says_why_in_one_sentence(store):
    failed = ticket_of(store, gene="NOSUCHGENE", split="slide")
    at = start(store, PAGE, job=failed)
    assert "NOSUCHGENE" in at.error[0].value
    assert "Traceback" not in at.error[0].value


def test_unfinished_run_keeps_the_last_result_beside_its_progress(store, ticket):
    owner, _ = probe_runs.read_ticket(ticket, "")
    waiting = JOBS.start("waiting", job_work.wait_for, "/nowhere/at/all", owner=owner)
    try:
        at = start(store, PAGE, job=f"someone.{waiting}")
        assert any(button.label == "Cancel" for button in at.button)
        assert "domain from image embeddings, by slide" in said(at)
    finally:
        JOBS.cancel(waiting, owner)
    run(at)
    assert "was cancelled after" in said(at)


def test_error_map_asks_the_route_for_the_run(store, ticket):
    at = start(store, PAGE, job=ticket, show="Truth", on="S3")
    shown = component(at, "viewer")
    assert shown["label"] == "S3"
    assert shown["layer"]["path"] == f"run?job={ticket}&show=truth"


def test_gene_run_shows_its_folds_and_correlations(store, gene_ticket):
    at = start(store, PAGE, job=gene_ticket)
    body = html(at)
    for words in ("Pearson", "Spearman", "R²", "Held out", "S4"):
        assert words in body
    fold = probe_runs.result_of(gene_ticket, "").folds[0]
    assert f"{fold.scores['pearson']:.3f}" in body


def test_two_runs_are_compared_and_a_difference_within_one_sd_is_called_so(store, ticket):
    other = ticket_of(store, label="domain", split="slide", C=1.0)
    at = start(store, PAGE, job=ticket, against=other)
    assert "tested on the same spots in the same folds" in said(at)
    assert "within one SD" in said(at)
    at.selectbox(key="showrun").select(other)
    run(at)
    assert job_of(at) == other
    assert f"Run {probe_runs.short_name(other)}:" in said(at)
    table = at.dataframe[0].value
    assert {"domain"} == set(table.loc[table["measure"] == "Balanced accuracy", "probed for"])


def test_verdict_of_runs_on_other_folds_warns_and_of_clear_ones_says_so(store):
    clear = run_probe(store, ProbeSettings(label="domain", split="slide", C=1.0))
    rows = store.rows()
    drawn = {int(row): "ab"[int(np.random.default_rng(int(row)).integers(2))] for row in rows}
    blind = run_probe(
        store, ProbeSettings(label="x", split="block", C=1.0, block_um=300), labels=drawn
    )
    told = " ".join(probe_table.verdict(clear, blind))
    assert "more than one SD" in told
    assert "different spots or folds" in told


def test_markup_in_class_names_stays_text(tmp_path):
    store = toy_store(tmp_path, slides=toy_slides(2, 40))
    bad = "<img src=x onerror=alert(1)>"
    for name in ("S1", "S2"):
        store.annotate(name, "kind", [bad, "[x](http://a.b)"] * 20, author="someone")
    at = start(store, PAGE, job=ticket_of(store, "bad", label="kind", split="slide", C=1.0))
    assert bad not in html(at)
    assert "&lt;img" in html(at)


# ---- drawn here ----------------------------------------------------------------------------------


def lasso(at, corners):
    """Draw on the slide that is shown."""
    key = component(at, "viewer")["key"]
    at.session_state["drawing"] = {"lasso": {"key": key, "value": corners}}
    return run(at)


def draw(at, corners, name):
    """Draw a region and add it under a name."""
    lasso(at, corners)
    at.text_input(key="drawnname").input(name)
    run(at)
    at.button(key="addregion").click()
    return run(at)


LEFT = [[25, 25], [225, 25], [225, 225], [25, 225]]  # columns 0 to 3 of a toy slide
RIGHT = [[275, 25], [525, 25], [525, 225], [275, 225]]  # columns 5 to 9


def test_drawn_regions_become_classes_of_the_spots_inside(store):
    at = start(store, PAGE, of="Drawn here", features="both", c="1")
    assert "at least two classes" in said(at)
    assert run_button(at).disabled
    for slide_id in ("S1", "S3"):
        at.selectbox(key="draw").select(slide_id)
        run(at)
        draw(at, LEFT, "left")
        draw(at, RIGHT, "right")
    assert not run_button(at).disabled
    run_button(at).click()
    run(at)
    ticket = job_of(at)
    owner, job_id = probe_runs.read_ticket(ticket, "")
    assert await_end(job_id, owner) == "done"
    result = probe_runs._result(job_id, owner)
    expected = {}  # slow and obvious
    for row, spot in enumerate(store.spots(["slide_id", "x_px"]).to_dict("records")):
        if spot["slide_id"] in {"S1", "S3"} and spot["x_px"] != 250:
            expected[row] = "left" if spot["x_px"] < 250 else "right"
    assert dict(result.drawn) == expected
    run(at)
    assert "drawn here from image and gene embeddings" in said(at)


def test_a_lasso_that_was_added_is_not_offered_again_and_regions_can_be_deleted(store):
    at = start(store, PAGE, of="Drawn here")
    draw(at, LEFT, "left")
    assert at.button(key="addregion").disabled
    draw(at, RIGHT, "right")
    assert [one["name"] for one in component(at, "viewer")["regions"]] == ["left", "right"]
    next(button for button in at.button if button.label == "Delete").click()
    run(at)
    assert [one["name"] for one in component(at, "viewer")["regions"]] == ["left"]
    assert "So far there is 'left'" in said(at)
    at.button(key="cleardrawn").click()
    run(at)
    assert "So far there is none" in said(at)


def test_a_lasso_without_spots_or_name_cannot_be_added(store):
    at = lasso(start(store, PAGE, of="Drawn here"), [[1, 1], [3, 1], [3, 3]])
    assert "No spot's centre" in said(at)
    lasso(at, LEFT)
    assert "Name their class" in said(at)
    assert at.button(key="addregion").disabled


def test_classes_of_one_slide_ask_for_blocks(store):
    at = start(store, PAGE, of="Drawn here", split="slide")
    draw(at, LEFT, "left")
    draw(at, RIGHT, "right")
    assert "There is one slide here" in said(at)


def test_annotations_of_qupath_are_taken_with_their_classification(store):
    at = start(store, PAGE, of="Drawn here", split="block")
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"name": "n", "classification": {"name": name}},
        }
        for ring, name in ((LEFT, "Tumor"), (RIGHT, "Stroma"))
    ]
    at.get("file_uploader")[0].upload(
        "a.geojson", json.dumps(features).encode(), "application/json"
    )
    run(at)
    at.button(key="addloaded").click()
    run(at)
    regions = at.session_state[probe_drawing.REGIONS]
    assert [(one.name, len(one.rows)) for one in regions] == [("Tumor", 16), ("Stroma", 20)]
    assert not run_button(at).disabled


def test_later_region_counts_where_two_overlap():
    regions = [
        probe_drawing.DrawnRegion("store", "S1", "a", b"", (1, 2, 3)),
        probe_drawing.DrawnRegion("store", "S1", "b", b"", (3, 4)),
        probe_drawing.DrawnRegion("store", "S2", "c", b"", (9,)),
    ]
    assert probe_drawing.classes_of(regions, {"S1"}) == {1: "a", 2: "a", 3: "b", 4: "b"}


def test_csv_of_a_run_has_every_spot(ticket):
    result = probe_runs.result_of(ticket, "")
    table = pd.read_csv(io.BytesIO(result.to_pandas().to_csv().encode()))
    assert len(table) == 160
    assert (table["right"] == (table["truth"] == table["predicted"])).all()
