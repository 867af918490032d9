"""DLPFC: whether clusters of the embeddings follow the layers of the cortex, and a linear probe reads them off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stamp_index.evaluate.domains import evaluate_domains
from stamp_index.evaluate.domains.spaces import EXPRESSION, slides_with
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.dlpfc_slices import LABEL, SLICES, find_slices, read_slice
from stamp_index.evaluate.public.probes import FEATURES, leave_one_patient_out
from stamp_index.evaluate.public.published_values import (
    ST_ALIGN_SLICES,
    ST_ALIGN_SOURCE,
    st_align_rows,
)
from stamp_index.evaluate.public.store import all_tested, empty_report, store_of
from stamp_index.evaluate.suite.asked import section, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stamp_index.evaluate.domains.report import DomainReport
    from stamp_index.evaluate.suite.report import SuiteReport
    from stamp_index.slides import Slide
    from stamp_index.store.view import StoreView

SMOOTHING_UM: Final = (None, 150.0)
COARSE_MPP: Final = 1.0
SEEDS: Final = range(5)  # ST-Align: mean of five runs
_NOTES: Final = (
    "As many clusters as the slice has layers: five in 151669 to 151672, which lack layers 1 and 2, seven in the others. Spots without a "
    "layer are left out of scores.",
    "Studies differ in clustering, smoothing and refinement, and often choose them by the score. Here no choice looks at the layers; all "
    "kinds stand in the table.",
    "Sections of a donor look alike: the probe holds out whole donors. Of published probes on DLPFC the split is not always said.",
)


def run_dlpfc(
    folder: Path | str,
    store_path: Path | str,
    *,
    encoder: Path | str | None = None,
    slices: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    progress: Callable[[int, int], object] | None = None,
) -> SuiteReport:
    """Measure an encoder on the DLPFC slices.

    Parameters
    ----------
    folder : path
        With a folder for each slice, see `stamp_index.evaluate.public.dlpfc_slices`.
    store_path : path
        Store of the slices; made, or filled up with those that it lacks.
    encoder : path, optional
        Checkpoint folder or ``published:NAME``; needed where there is no store.
    slices : sequence of str
        Some of the slices that are there; all by default.
    seeds : sequence of int
        Every clustering is done once with each.
    progress : callable, optional
        As in `embed_into`.

    Returns
    -------
    SuiteReport
        Domains on the slices, ARI slice by slice beside ST-Align's, and a linear probe with each donor held out.

    Raises
    ------
    EvaluationError
        If a slice is missing or odd, or nothing can be measured.
    """
    folder = Path(folder)
    there = find_slices(folder)
    unknown = [name for name in slices if name not in there]
    if unknown:
        msg = f"{folder} has no slice {', '.join(unknown)}; it has {', '.join(there)}."
        raise EvaluationError(msg)
    names = [name for name in there if not slices or name in slices]
    slides = [read_slice(folder / name) for name in names]
    store = store_of(Path(store_path), slides, LABEL, encoder=encoder, progress=progress)
    settings = {"benchmark": "DLPFC", "label": LABEL, "slices": ", ".join(names)}
    report = empty_report(store, all_tested(store, names), settings, by="donor")
    report.notes += _notes(slides)
    _add_domains(report, store, names, seeds)
    _add_probe(report, store, names)
    return report


def _notes(slides: Sequence[Slide]) -> list[str]:
    """Say what was measured on which images."""
    said = list(_NOTES)
    names = [one.slide_id for one in slides]
    lacking = [name for name in SLICES if name not in names]
    if lacking:
        said.append(f"Of the twelve slices {len(lacking)} were not measured: {', '.join(lacking)}.")
    said += [
        f"{one.slide_id}: {note}"
        for one in slides
        for note in one.notes
        if note.startswith("Image: ")
    ]
    coarse = [
        one.slide_id for one in slides if one.image is not None and (one.mpp or 0) > COARSE_MPP
    ]
    if coarse:
        said.append(
            f"Images of {', '.join(coarse)} have pixels wider than {COARSE_MPP:g} um, so cells cannot be told apart there: put "
            "<slice>_full_image.tif of spatialLIBD into the slice's folder for the full resolution."
        )
    return said


def _add_domains(
    report: SuiteReport, store: StoreView, names: Sequence[str], seeds: Sequence[int]
) -> None:
    features = [one for one in FEATURES if slides_with(store, one, names)]
    found = evaluate_domains(
        store,
        LABEL,
        slides=names,
        features=features or FEATURES,
        smoothing_um=SMOOTHING_UM,
        seeds=seeds,
    )
    report.sections += [_by_slice(found, names), found.section()]
    report.notes += found.notes


def _by_slice(found: DomainReport, names: Sequence[str]) -> dict[str, Any]:
    """ARI of every kind of clusters slice by slice: ST-Align's six beside its own numbers, and all of them."""
    six = [name for name in ST_ALIGN_SLICES if name in names]
    tables = []
    if six:
        said = "six slices of ST-Align" if len(six) == len(ST_ALIGN_SLICES) else "of the six slices of ST-Align those that are here"  # fmt: skip
        rows = [*_wide(found, six), *st_align_rows(six)]
        tables.append(table(rows, f"ARI, {said}. {ST_ALIGN_SOURCE}"))
    tables.append(table(_wide(found, names), f"ARI, all {len(names)} slices."))
    text = (
        "Adjusted Rand index between clusters and layers, mean over seeds, slice by slice. Rows of "
        f"'{EXPRESSION}', 'coordinates' and 'random labels' are baselines."
    )
    return section("ARI of the slices", text, tables)


def _wide(found: DomainReport, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each kind of vectors, method and smoothing, one column for each slice."""
    single = [row for row in found.rows if row["scope"] == "slide" and row["on"] in names]
    order = [(row["features"], row["method"], row["smoothing"]) for row in replace(found, rows=tuple(single)).summary()]  # fmt: skip
    rows = []
    for kind in order:
        here = {
            row["on"]: row["ARI"]
            for row in single
            if (row["features"], row["method"], row["smoothing"]) == kind
        }
        row: dict[str, Any] = dict(zip(("features", "method", "smoothing"), kind, strict=True))
        row |= {name: here.get(name) for name in names}
        if len(here) == len(names):
            row["mean"] = sum(here.values()) / len(here)
        rows.append(row)
    return rows


def _add_probe(report: SuiteReport, store: StoreView, names: Sequence[str]) -> None:
    try:
        found = leave_one_patient_out(store, LABEL, names, unit="donor")
    except EvaluationError as error:
        report.notes.append(f"Not measured: probe. {error}")
        return
    report.sections += found.sections
    report.notes += [note for note in found.notes if note not in report.notes]
