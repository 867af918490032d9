"""Reports as files, and two of them set against each other spot by spot."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.suite.compare import compare_reports
from stamp_index.evaluate.suite.report import SuiteReport, read_report

N = 400


def report(seed: int = 0, *, better: int = 0, **changed) -> SuiteReport:
    """Ranks of 400 queries of four patients, `better` places higher than those of another encoder."""
    rng = np.random.default_rng(0)
    ranks = np.clip(rng.integers(1, N, (2, N)) - better, 1, N)
    ways = dict(zip(("image_to_gene", "gene_to_image"), ranks.tolist(), strict=True))
    patient = np.repeat(np.arange(4), N // 4).tolist()
    held = {"spots": "abc", "patient": patient, "ranks": ways}
    genes = {f"G{at}": at / 10 + better / 1000 for at in range(8)} | {"constant": None}
    values = {
        "store": {"id": "s", "version": 3, "n_spots": N, "n_slides": 4},
        "encoder": {"name": "e", "fingerprint": f"f{better}"},
        "split": {"by": "patient", "train": ["t"], "test": ["a", "b"], "hash": "h"},
        "genes": [{"label": "HVG-8", "names": ["G0"], "rule": "variance", "hash": "g"}],
        "settings": {"seed": 0},
        "sections": [
            {
                "title": "Retrieval",
                "text": "What <b>is</b> found.",
                "tables": [{"columns": ["gallery", "R@10"], "rows": [{"gallery": "all|x", "R@10": np.float64(0.25)}], "caption": "c"}],
                "plots": [],
            }
        ],
        "paired": {"retrieval": {"new patients": held}, "expression": {"mean of 50": genes}},
        "notes": ["A note."],
    }  # fmt: skip
    return SuiteReport(**(values | changed))


def test_a_report_comes_back_as_it_was_written(tmp_path):
    made = report()
    made.sections[0]["tables"][0]["rows"].append({"gallery": "own", "R@10": float("nan")})
    paths = made.save(tmp_path / "out")
    again = read_report(paths["json"])
    assert again.to_dict() == made.to_dict()
    assert again.rows("Retrieval")[1] == {"gallery": "own", "R@10": None}
    text = paths["md"].read_text()
    assert "| all\\|x | 0.25 |" in text
    assert "hash h" in text
    html = paths["html"].read_text()
    assert "What &lt;b&gt;is&lt;/b&gt; found." in html
    assert "A note." in html


def test_differences_are_those_of_the_same_spots():
    a, b = report(), report(better=20)
    rows = compare_reports(a, b)
    ranks = [
        np.array(one.paired["retrieval"]["new patients"]["ranks"]["image_to_gene"])
        for one in (a, b)
    ]
    at_ten = next(r for r in rows if r["measure"] == "R@10" and r["direction"] == "image_to_gene")
    assert at_ten["A"] == (ranks[0] <= 10).mean()
    assert at_ten["B - A"] == pytest.approx((ranks[1] <= 10).mean() - (ranks[0] <= 10).mean())
    assert 0 < at_ten["low"] <= at_ten["B - A"] <= at_ten["high"]
    assert (at_ten["N"], at_ten["chance"], at_ten["interval by"]) == (N, 10 / N, "patients")
    genes = next(r for r in rows if r["measure"] == "Pearson")
    assert (genes["N"], genes["interval by"]) == (8, "genes")
    assert genes["B - A"] == pytest.approx(0.02)
    assert genes["low"] == pytest.approx(genes["high"])


def test_a_report_is_no_better_than_itself():
    for row in compare_reports(report(), report()):
        assert (row["B - A"], row["low"], row["high"]) == (0, 0, 0)


def test_one_patient_is_said_to_be_resampled_by_spots():
    made = report(better=5)
    made.paired["retrieval"]["new patients"]["patient"] = [0] * N
    rows = compare_reports(made, made)
    assert {row["interval by"] for row in rows if row["measure"] != "Pearson"} == {"spots"}


def other_spots() -> SuiteReport:
    made = report()
    made.paired["retrieval"]["new patients"]["spots"] = "other"
    made.store["version"] = 4
    return made


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            report(split={"by": "patient", "train": [], "test": ["c"], "hash": "x"}),
            "other test slides",
        ),
        (
            report(
                genes=[{"label": "HVG-8", "names": ["G1"], "rule": "variance", "hash": "other"}]
            ),
            "other gene lists",
        ),
        (other_spots(), "version 3, other in version 4"),
        (report(paired={}), "nothing in common"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(other, words):
    with pytest.raises(EvaluationError, match=words):
        compare_reports(report(), other)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no evaluation of a store"),
        (b'{"split": {}}', "no evaluation of a store"),
        (json.dumps({"kind": "stamp-index evaluation", "format": 99}).encode(), "format 99"),
        (json.dumps({"kind": "stamp-index evaluation", "format": 1, "store": 3}).encode(), "damaged: store"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_files_that_are_no_report_are_refused_in_a_sentence(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=words):
        read_report(path)


def test_a_report_that_is_not_there_is_said(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_report(tmp_path / "nothing.json")


def _edited(tmp_path, change):
    path = report().save(tmp_path)["json"]
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))
    return path


def _ranks(value):
    def change(held):
        held["paired"]["retrieval"]["new patients"]["ranks"]["image_to_gene"] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _ranks([1]),
        _ranks(None),
        _ranks([0] * N),
        _ranks([1.5] * N),
        _ranks(["5"] * N),
        _ranks([True] * N),
        _ranks([N + 1] * N),
        lambda held: held["paired"].update(retrieval=[]),
        lambda held: held["paired"]["retrieval"]["new patients"].pop("spots"),
        lambda held: held["paired"]["retrieval"]["new patients"].pop("patient"),
        lambda held: held["paired"]["retrieval"]["new patients"]["ranks"].pop("gene_to_image"),
        lambda held: held["paired"]["expression"]["mean of 50"].update(G0=1e9),
        lambda held: held["paired"]["expression"]["mean of 50"].update(G0="5"),
        lambda held: held["split"].pop("by"),
        lambda held: held["encoder"].clear(),
        lambda held: held.update(genes=[3]),
    ],
)
def test_reports_that_were_edited_by_hand_are_refused_with_their_name(tmp_path, change):
    path = _edited(tmp_path, change)
    with pytest.raises(EvaluationError, match="report.json"):
        read_report(path)


def test_what_is_no_file_is_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", tmp_path):
        with pytest.raises(EvaluationError, match="no file"):
            read_report(path)


def test_names_in_markdown_are_no_html():
    made = report()
    made.sections[0]["tables"][0]["rows"][0]["gallery"] = "<script>x</script>"
    assert "<script>" not in made.to_markdown()
