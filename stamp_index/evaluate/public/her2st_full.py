"""HER2ST: expression from images and the pathologist's regions, each patient held out in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import evaluate_expression
from stamp_index.evaluate.metrics import group_interval
from stamp_index.evaluate.public.her2st_sections import (
    LABEL,
    UNDETERMINED,
    data_folder,
    find_sections,
    read_section,
)
from stamp_index.evaluate.public.probes import leave_one_patient_out
from stamp_index.evaluate.public.store import all_tested, empty_report, store_of
from stamp_index.evaluate.split import make_split, taught_patients
from stamp_index.evaluate.suite.asked import section, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stamp_index.evaluate.expression import ExpressionReport
    from stamp_index.evaluate.suite.report import SuiteReport
    from stamp_index.slides import Slide
    from stamp_index.store.view import StoreView

TITLE: Final = "Expression, leave one patient out"
_TEXT: Final = (
    "Expression (log1p CP10K) of a patient's spots, predicted from their images alone by what was learnt from the other patients. "
    "Pearson over the patient's spots for each gene, mean over genes, then over patients; the interval is by bootstrap over "
    "patients. Gene lists are chosen anew on the training patients of each fold."
)
_NOTES: Final = (
    "HER2ST's published predictions differ in what they smooth, which genes they keep and how they split: compare only what says the same. "
    "Here nothing is smoothed and whole patients are held out.",
    f"Spots that the pathologist called '{UNDETERMINED}' are left out of the probe.",
)


def run_her2st(
    folder: Path | str,
    store_path: Path | str,
    *,
    encoder: Path | str | None = None,
    genes: Sequence[str] = (),
    progress: Callable[[int, int], object] | None = None,
) -> SuiteReport:
    """Measure an encoder on HER2ST.

    Parameters
    ----------
    folder : path
        Clone of almaan/her2st, see `stamp_index.evaluate.public.her2st_sections`.
    store_path : path
        Store of the sections; made, or filled up with those that it lacks.
    encoder : path, optional
        Checkpoint folder or ``published:NAME``; needed where there is no store.
    genes : sequence of str
        To predict; by default lists chosen on the training patients.
    progress : callable, optional
        As in `embed_into`.

    Returns
    -------
    SuiteReport
        What cannot be measured (no images, no labels) is noted and left out.

    Raises
    ------
    EvaluationError
        If a section is missing or odd, there are not two patients, or nothing can be measured.
    """
    data = data_folder(Path(folder))
    slides = [read_section(data, name, path) for name, path in find_sections(data).items()]
    patients = sorted({slide.patient_id for slide in slides})
    if len(patients) < 2:
        msg = f"All sections in {data} are of patient {patients[0]}, so none can be held out. Expected patients A to H."
        raise EvaluationError(msg)
    store = store_of(Path(store_path), slides, LABEL, encoder=encoder, progress=progress)
    names = [slide.slide_id for slide in slides]
    settings = {
        "benchmark": "HER2ST",
        "label": LABEL,
        "patients": ", ".join(patients),
        "sections": len(names),
    }
    report = empty_report(store, all_tested(store, names), settings)
    report.notes += _NOTES
    if len(patients) < 8:
        report.notes.append(f"HER2ST has eight patients; {len(patients)} are here.")
    reasons = [
        *_add_expression(report, store, names, patients=patients, genes=genes),
        *_add_probe(report, store, slides),
    ]
    if not report.sections:
        msg = "Nothing could be measured. " + " ".join(reasons)
        raise EvaluationError(msg)
    report.notes += reasons
    return report


def _add_expression(
    report: SuiteReport,
    store: StoreView,
    names: Sequence[str],
    *,
    patients: Sequence[str],
    genes: Sequence[str],
) -> list[str]:
    """Predict each patient from the others; returns why it could not be done."""
    slides = store.slides()
    slides = slides[slides["slide_id"].isin(names)]  # a store may hold other slides too
    found: dict[str, ExpressionReport] = {}
    reasons = []
    taught = taught_patients(store)
    for patient in patients:
        own = slides["patient_id"] == patient
        split = make_split(
            slides,
            slides.loc[~own, "slide_id"],
            slides.loc[own, "slide_id"],
            by="section" if patient in taught else "patient",
            also_taught=taught,
        )
        try:
            found[patient] = evaluate_expression(store, split, genes=genes or None)
        except EvaluationError as error:
            reasons.append(f"Not measured: expression of patient {patient}. {error}")
    if not found:
        return reasons
    rows = [
        {"patient": patient, **row}
        for patient, one in found.items()
        for row in one.rows
        if row["on"] == "all test"
    ]
    report.sections.append(
        section(
            TITLE,
            _TEXT,
            [
                table(_means(rows), "Mean over patients."),
                table([_short(row) for row in rows], "Each patient held out."),
            ],
        )
    )
    for patient, one in found.items():
        lists = [held.to_dict() for held in one.gene_lists]
        report.genes += [held | {"label": f"{held['label']}, {patient} held out"} for held in lists]
        report.notes += [note for note in one.notes if note not in report.notes]
    report.paired["expression"] = _paired(found)
    return reasons


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over patients of each method and gene list."""
    kinds = dict.fromkeys((row["genes"], row["method"], row["kind"]) for row in rows)
    out = []
    for genes, method, kind in kinds:
        here = [row for row in rows if (row["genes"], row["method"]) == (genes, method)]
        values = np.array([_number(row["mean Pearson"]) for row in here])
        held = values[~np.isnan(values)]
        low, high = (None, None)
        if len(held) > 1:
            low, high = group_interval([held[i : i + 1] for i in range(len(held))], np.mean)
        errors = [_number(row["mean MSE"]) for row in here]
        out.append(
            {
                "genes": genes,
                "method": method,
                "kind": kind,
                "patients": len(here),
                "mean Pearson": float(held.mean()) if len(held) else None,
                "low": low,
                "high": high,
                "mean MSE": float(np.nanmean(errors)),
            }
        )
    return out


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("patient", "genes", "method", "kind", "N test", "N train", "mean Pearson", "median Pearson", "mean MSE", "n constant")  # fmt: skip
    return {name: row[name] for name in kept}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _paired(found: dict[str, ExpressionReport]) -> dict[str, dict[str, float | None]]:
    """Pearson of each gene of the first list by method and patient; what two reports are compared by."""
    out: dict[str, dict[str, float | None]] = {}
    for patient, one in found.items():
        names = set(one.gene_lists[0].names)
        for row in one.per_gene.to_dict("records"):
            if row["gene"] in names:
                value = row["Pearson, all spots"]
                held = out.setdefault(f"{row['method']}, patient {patient} held out", {})
                held[str(row["gene"])] = None if value != value else float(value)
    return out


def _add_probe(report: SuiteReport, store: StoreView, slides: Sequence[Slide]) -> list[str]:
    """Probe the pathologist's labels; returns why it could not be done."""
    labelled = [slide for slide in slides if LABEL in slide.spots]
    if not labelled:
        return ["Not measured: probe. There is no table of the pathologist in ST-pat/lbl."]
    classes = {one for slide in labelled for one in slide.spots[LABEL] if one}
    exclude = [UNDETERMINED] if UNDETERMINED in classes else []
    try:
        found = leave_one_patient_out(
            store, LABEL, [slide.slide_id for slide in labelled], exclude=exclude
        )
    except EvaluationError as error:
        return [f"Not measured: probe. {error}"]
    report.sections += found.sections
    report.notes += [note for note in found.notes if note not in report.notes]
    return []
