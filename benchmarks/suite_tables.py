"""Tables of RESULTS.md from the reports of `suite.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stamp_index.evaluate.raw_features import PATCH, WIDE
from stamp_index.evaluate.suite.report import SuiteReport

if TYPE_CHECKING:
    from pathlib import Path

Reports = Mapping[tuple[str, str], SuiteReport]
Row = dict[str, Any]

PHANTOM = "phantom"
BULB = ("MOB4", "MOB9", "MOB11")
BEGIN, END = "<!-- suite: written by benchmarks/suite.py -->", "<!-- suite: end -->"
WAYS = ("image_to_gene", "gene_to_image")
TESTS = {  # world and slide that is tested: what is said of it
    ("her2st", "C5"): "C5, patient of C2 to C4",
    ("her2st", "A1"): "A1, new patient",
    **{(f"bulb-{name}", name): f"{name}, the other two known" for name in BULB},
}
BLEEP = "retrieval, mean of 50 (BLEEP)"
PREDICTED = (  # columns of the table of predictions: title, method
    ("BLEEP", BLEEP),
    ("ridge", "PCA 256 + ridge on image embeddings"),
    ("image neighbours", "image-only neighbours, mean of 50"),
    ("CCA", "CCA vectors, mean of 50"),
)
PLAIN = (
    ("mean of training", "mean of the training spots"),
    ("random vectors", "random vectors, mean of 50"),
    ("neighbours, patch", f"neighbours by {PATCH}, mean of 50"),
    ("neighbours, patch + region", f"neighbours by {WIDE}, mean of 50"),
    ("ridge, patch", f"PCA 256 + ridge on {PATCH}"),
    ("ridge, patch + region", f"PCA 256 + ridge on {WIDE}"),
)


def write_section(path: Path, reports: Reports) -> None:
    """Put the tables between their marks in RESULTS.md, or at its end."""
    text = path.read_text("utf-8") if path.exists() else "# Results\n"
    made = "\n".join([BEGIN, "", *_section(reports), "", END])
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    there = found.search(text)
    path.write_text(
        found.sub(lambda _: made, text) if there else f"{text.rstrip()}\n\n{made}\n", "utf-8"
    )


def _section(reports: Reports) -> Iterator[str]:
    trained, measured = (
        ", ".join(dict.fromkeys(str(one.settings.get(key, "unknown")) for one in reports.values()))
        for key in ("trained at", "measured at")
    )
    yield "## The suite on the phantom and on real sections"
    yield ""
    yield (
        f"`make bench`: `benchmarks/suite.py`, every recipe trained once (seed 0; commits {trained}), reports of {len(reports)} "
        f"stores (commits {measured}). N is the gallery, which is the tested section; intervals are 95 % over its spots, as each "
        "is of one patient. Raw features: mean tokens of the frozen trunk, patch alone or patch and region; their baselines "
        "are those of closed_form, whose patches and regions are the widest."
    )
    for title, lines in (
        ("Phantom, patient held out", _phantom(reports)),
        ("Retrieval of a spot's own other half", _retrieval(reports)),
        ("Expression from images, mean Pearson of 50 genes of the largest variance over the training spots", _prediction(reports)),
        ("Layers of the olfactory bulb, learnt on two replicates and told on the third", _layers(reports)),
        ("Pathologist's regions of HER2ST from gene embeddings", _regions(reports)),
    ):  # fmt: skip
        held = list(lines)
        if held:
            yield from ("", f"### {title}", "", *held)


def _table(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(_text(row.get(name)) for name in columns)} |"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
    return str(value)


def _of(reports: Reports, world: str) -> dict[str, SuiteReport]:
    return {recipe: report for (recipe, where), report in reports.items() if where == world}


def _widest(held: Mapping[str, SuiteReport]) -> SuiteReport | None:
    """Take the report whose raw features see the most."""
    return held.get("closed_form") or next(iter(held.values()), None)


# ---- retrieval -----------------------------------------------------------------------------------


def _phantom(reports: Reports) -> Iterator[str]:
    report = reports.get(("demo", PHANTOM))
    if report is None:
        return
    rows: dict[tuple[str, str], Row] = {}
    for row in report.rows("Retrieval"):
        key = row["gallery"], row["encoder"]
        one = rows.setdefault(
            key,
            {"gallery (N, chance R@10)": f"{row['gallery']} ({row['N']}, {_text(row['chance R@10'])})", "encoder": row["encoder"]},
        )  # fmt: skip
        one[row["direction"]] = _interval(row)
        one[f"near, {row['direction']}"] = row["R@10 near"]
    yield "R@10. The phantom's genes are planted by domain, so a spot's own profile is one of some hundred alike."
    yield ""
    yield from _table(rows.values())
    probes = {row["features"]: row for row in report.rows("Linear probe")}
    yield ""
    yield "Domains, slides of the held-out patient in turn, balanced accuracy (chance and a probe on noise beside):"
    yield ""
    keys = ("features", "N", "balanced_accuracy", "balanced_accuracy sd", "chance", "majority", "random features")  # fmt: skip
    yield from _table({key: row.get(key) for key in keys} for row in probes.values())


def _retrieval(reports: Reports) -> Iterator[str]:
    rows: list[Row] = []
    for (world, slide), said in TESTS.items():
        held = _of(reports, world)
        widest = _widest(held)
        if widest is None:
            continue
        own = [
            (recipe, _at(report, slide, report.encoder["name"])) for recipe, report in held.items()
        ]
        plain = [f"{way} on {kind}" for way in ("PCA + ridge", "CCA") for kind in (WIDE, PATCH)]
        other = [(name, _at(widest, slide, name)) for name in (*plain, "random")]
        found = sorted([*own, *other], key=lambda one: -_mean(one[1]))
        first = f"{said} ({found[0][1][WAYS[0]]['N']}, {_text(found[0][1][WAYS[0]]['chance R@10'])})"  # fmt: skip
        for name, ways in found:
            if not ways:
                continue
            row: Row = {"tested on (N, chance)": first, "encoder": name}
            row |= {way: _interval(ways[way]) for way in WAYS}
            row["near, image_to_gene"] = ways[WAYS[0]]["R@10 near"]
            if name in held:
                below = _at(held[name], slide, "PCA + ridge on its images")
                row["ridge on its images"] = " / ".join(_text(below[way]["R@10"]) for way in WAYS)
            rows.append(row)
            first = ""
    if rows:
        yield "R@10. Near: a spot at most 1.6 pitches from the own one counts as well."
        yield ""
        yield from _table(rows)


def _at(report: SuiteReport, slide: str, encoder: str) -> dict[str, Row]:
    """Rows of an encoder on a slide by direction: where one slide of a kind is tested, the gallery is the slide."""
    kinds = {
        row["test spots of"]
        for row in report.rows("Retrieval within each slide")
        if row["slide"] == slide
    }
    return {
        row["direction"]: row
        for row in report.rows("Retrieval")
        if row["test spots of"] in kinds and row["encoder"] == encoder
    }


def _mean(ways: Mapping[str, Row]) -> float:
    return sum(ways[way]["R@10"] for way in WAYS) / 2 if ways else -1.0


def _interval(row: Row) -> str:
    return f"{_text(row['R@10'])}, {_text(row['R@10 low'])}-{_text(row['R@10 high'])}"


# ---- prediction ----------------------------------------------------------------------------------


def _prediction(reports: Reports) -> Iterator[str]:
    rows: dict[str, Row] = {}
    for (world, slide), said in TESTS.items():
        held = _of(reports, world)
        for recipe, report in held.items():
            for title, method in PREDICTED:
                row = rows.setdefault(f"{recipe}: {title}", {"from": f"{recipe}: {title}"})
                row[said] = _pearson(report, slide, method)
        widest = _widest(held)
        for title, method in PLAIN if widest else ():
            row = rows.setdefault(f"raw: {title}", {"from": f"raw: {title}"})
            row[said] = _pearson(widest, slide, method) if widest else None
    yield from _table(rows.values())


def _pearson(report: SuiteReport, slide: str, method: str) -> float | None:
    for row in report.rows("Expression"):
        if (row["on"], row["genes"], row["method"]) == (slide, "HVG-50", method):
            value: float | None = row["mean Pearson"]
            return value
    return None


# ---- labels --------------------------------------------------------------------------------------


def _layers(reports: Reports) -> Iterator[str]:
    rows: dict[str, Row] = {}
    levels: dict[str, tuple[float, float]] = {}
    for name in BULB:
        held = _of(reports, f"bulb-{name}")
        for recipe, report in held.items():
            told = report.rows("Linear probe, from training slides to test slides")
            for row in told:
                if row["features"] in (PATCH, WIDE) and report is not _widest(held):
                    continue
                key = row["features"] if row["features"] in (PATCH, WIDE) else f"{recipe}: {row['features']}"  # fmt: skip
                one = rows.setdefault(key, {"features": key})
                one[f"{name} ({row['N test']})"] = (
                    f"{_text(row['accuracy'])} / {_text(row['balanced_accuracy'])}"
                )
                levels[name] = row["majority"], row["random features"]
    if rows:
        said = ", ".join(
            f"{name} {_text(majority)} and {_text(noise)}"
            for name, (majority, noise) in levels.items()
        )
        yield f"Accuracy / balanced accuracy. Majority class, and balanced accuracy of a probe on noise: {said}."
        yield ""
        yield from _table(rows.values())
        yield ""
        yield "Layers as clusters (k-means, as many as there are classes, mean of 5 seeds), ARI without smoothing:"
        yield ""
        yield from _table(_clusters(reports))


def _clusters(reports: Reports) -> Iterator[Row]:
    rows: dict[str, Row] = {}
    for name in BULB:
        held = _of(reports, f"bulb-{name}")
        for recipe, report in held.items():
            for row in _over_slides(report, "layer"):
                if (row["method"], row["smoothing"]) not in (("kmeans", "none"), ("none", "none")):
                    continue
                if row["baseline"] and report is not _widest(held):
                    continue
                key = str(row["features"]) if row["baseline"] else f"{recipe}: {row['features']}"
                rows.setdefault(key, {"features": key})[name] = row["ARI"]
    yield from rows.values()


def _over_slides(report: SuiteReport, label: str) -> list[Row]:
    """Means over slides; rows of single slides and patients have a scope."""
    return [row for row in report.rows(f"Spatial domains: {label}") if "scope" not in row]


def _regions(reports: Reports) -> Iterator[str]:
    rows: list[Row] = []
    level: Row = {}
    for recipe, report in _of(reports, "her2st").items():
        probe = next(row for row in report.rows("Linear probe") if row["features"] == "gene")
        ari = {
            row["features"]: row["ARI"]
            for row in _over_slides(report, "region")
            if (row["method"], row["smoothing"]) in (("kmeans", "none"), ("none", "none"))
        }
        level = {"probe": probe, "ari": ari}
        rows.append(
            {
                "encoder": recipe,
                "balanced accuracy": probe["balanced_accuracy"],
                "sd over folds": probe["balanced_accuracy sd"],
                "AUROC": probe["auroc"],
                "ARI of k-means on genes": ari["gene"],
                "A1 from image": ari["image"],
                "A1 from both": ari["both"],
            }
        )
    if rows:
        probe, ari = level["probe"], level["ari"]
        yield (
            f"Probe: {probe['N']} spots, {probe['classes']} classes, 7 patients in {probe['folds']} folds, chance "
            f"{_text(probe['chance'])}, probe on noise {_text(probe['random features'])}. ARI: mean of 7 sections (of A1 alone "
            f"from images); PCA of expression {_text(ari['PCA of expression'])}, position alone {_text(ari['coordinates'])}, "
            f"random labels {_text(ari['random labels'])}."
        )
        yield ""
        yield from _table(rows)
