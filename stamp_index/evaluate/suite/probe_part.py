"""Linear probes of a suite: what image, gene and both embeddings tell of the label, with whole patients held out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.domains.labels import read_labelled
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.genes import highly_variable
from stamp_index.evaluate.expression.reading import read_predicted
from stamp_index.evaluate.probe import (
    Places,
    ProbeError,
    ProbeSettings,
    few_shot,
    run_gene_probes,
    run_probe,
    transfer_probe,
)
from stamp_index.evaluate.spots import read_spots
from stamp_index.evaluate.suite.asked import Found, section, table
from stamp_index.store.label_classes import classes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.domains.labels import LabelledSpots
    from stamp_index.evaluate.probe import ProbeResult
    from stamp_index.evaluate.probe.settings import Features, Split
    from stamp_index.evaluate.suite.asked import Asked
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView

FOLDS, MOST_FOLDS = 5, 10
FEATURES: Final[tuple[Features, ...]] = ("image", "gene", "both")
TEXT: Final = (
    "Logistic regression on the frozen embeddings tells the classes of '{label}' apart, with whole patients, slides or blocks of "
    "tissue held out in turn, the coarsest of which there are several (held out by); the penalty is chosen inside the training "
    "part. Chance of guessing among all classes, always saying the commonest class, and a probe on noise stand beside; where a "
    "fold lacks classes its numbers are over the others, so that the commonest class may score more than chance."
)

FEW: Final = (
    "The same with 1, 5, 10 and 50 labelled spots of each class, drawn five times from the training part of each fold; of a "
    "class with fewer spots all are taken. C is 1: so few spots cannot choose it."
)
GENES: Final = (
    "Ridge regression of log1p CP10K on the frozen embeddings, of the 50 genes of largest variance over the training spots, on the "
    "test spots of the same slides with the same units held out; Pearson over the spots of a fold, mean over folds and genes. A probe on "
    "noise stands beside. Gene embeddings have seen the spot's own counts: they say what the embedding keeps, not what can be predicted."
)
CARRIED: Final = (
    "Learnt from the labels of the encoder's training slides, told on the test slides. Chance is that of the classes that are "
    "tested."
)


def probe_part(asked: Asked) -> Found:
    """Probe the split's test slides.

    Raises
    ------
    EvaluationError
        If the store has no label with classes on the test slides, or no probe can be run.
    """
    if asked.label is None:
        msg = "No label of the test slides has two classes. Give one by --label, or annotate the slides."
        raise EvaluationError(msg)
    out = Found()
    probes, few, carried = _Kind(), _Kind(), _Kind()
    probed: list[tuple[_Seen, ProbeSettings]] = []
    about: dict[str, list[str]] = {}  # what is said of several probes is said once
    seen = [_Seen(asked.store, features, features) for features in FEATURES]
    seen += [_Seen(view, "image", name) for name, view in asked.raw.items()]
    for at, one in enumerate(seen):
        asked.told("probe", at, len(seen))
        try:
            settings = _settings(asked, asked.label, one.features, out.notes)
        except EvaluationError as error:
            out.notes.append(f"No probe on {one.words}: {error}")
            continue
        _carry(asked, one, settings, carried, notes=out.notes)
        try:
            result = run_probe(one.store, settings)
        except ProbeError as error:
            out.notes.append(f"No probe on {one.words} of the test slides alone: {error}")
            continue
        probes.take(
            [probe_row(result, one.name)],
            confusion_plot(result.confusion, result.classes, one.name),
        )
        for said in (*result.notes, *result.warnings):
            about.setdefault(said, []).append(one.name)
        curve = few_shot(one.store, settings)
        head = {"features": one.name, "held out by": settings.split}
        few.take([head | row for row in curve.rows()], None)
        probed.append((one, settings))
    asked.told("probe", len(seen), len(seen))
    out.notes += [f"Probe on {', '.join(names)}: {said}" for said, names in about.items()]
    if not probes.rows and not carried.rows:
        raise EvaluationError(" ".join(out.notes))
    if probes.rows:
        text = TEXT.format(label=asked.label)
        out.sections.append(section("Linear probe", text, [table(probes.rows)], probes.plots))
        out.sections.append(section("Few labels", FEW, [table(few.rows)], [_curves(few.rows)]))
    ridge = _gene_rows(asked, probed, out.notes) if probed else []
    if ridge:
        out.sections.append(section("Ridge probes of genes", GENES, [table(ridge)]))
    if carried.rows:
        title = "Linear probe, from training slides to test slides"
        out.sections.append(section(title, CARRIED, [table(carried.rows)], carried.plots))
    return out


@dataclass(frozen=True)
class _Seen:
    """What a probe looks at: a store, or its view of raw features; which embeddings; and their name in tables."""

    store: StoreView
    features: Features
    name: str

    @property
    def words(self) -> str:
        """Name it in a sentence."""
        return f"{self.name} embeddings" if self.name in FEATURES else self.name


@dataclass
class _Kind:
    """Rows and plots of one kind of probe."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    plots: list[dict[str, Any]] = field(default_factory=list)

    def take(self, rows: list[dict[str, Any]], plot: dict[str, Any] | None) -> None:
        self.rows += rows
        self.plots += [plot] if plot else []


def _carry(
    asked: Asked, seen: _Seen, settings: ProbeSettings, carried: _Kind, *, notes: list[str]
) -> None:
    """Learn on the training slides that have the label, if any."""
    store, label = seen.store, str(settings.label)
    sides: tuple[Modality, ...] = (
        ("image", "gene") if settings.features == "both" else (settings.features,)
    )
    try:
        spots = read_spots(store, sides, asked.split.train)
        train = [spots.slide_ids[at] for at in np.unique(spots.slide)]
        known = read_labelled(store, label, train, _excluded(asked, label, train))
        found = transfer_probe(
            store,
            replace(settings, classes=_kept(asked, known, settings)),
            [known.spots.slide_ids[at] for at in np.unique(known.spots.slide)],
            settings.slides or (),
        )
    except (ProbeError, EvaluationError) as error:
        said = f"No probe from training slides to test slides: {error}"
        if asked.split.train and said not in notes:
            notes.append(said)
        return
    row: dict[str, Any] = {
        "features": seen.name,
        "N train": found.n_train,
        "N test": found.n_test,
    }
    row |= {"classes": len(found.classes), "accuracy": found.accuracy, **found.scores}
    row |= {"chance": found.chance, "majority": found.majority}
    row["random features"] = found.random_features["balanced_accuracy"]
    carried.take([row], confusion_plot(found.confusion, found.classes, seen.name))


def _gene_rows(
    asked: Asked, probed: Sequence[tuple[_Seen, ProbeSettings]], notes: list[str]
) -> list[dict[str, Any]]:
    """Tell genes of largest variance over the training spots from embeddings, on the slides of each probe, held out in the same way."""
    rows: list[dict[str, Any]] = []
    try:
        genes = highly_variable(read_predicted(asked.store, asked.split).levels).names
        for seen, settings in probed:
            by_gene = replace(settings, label=None, gene=genes[0], classes=None)
            found = run_gene_probes(seen.store, genes, by_gene)
            rows.append(
                {
                    "features": seen.name,
                    "held out by": settings.split,
                    "genes": len(genes),
                    "mean Pearson": float(found["pearson_mean"].mean()),
                    "median R2": float(found["r2_mean"].median()),
                    "random features": float(found["random_features_pearson_mean"].mean()),
                    "genes without a number": int(found["pearson_mean"].isna().sum()),
                }
            )
    except (ProbeError, EvaluationError) as error:
        notes.append(f"No ridge probes of genes: {error}")
    return rows


def _kept(asked: Asked, known: LabelledSpots, settings: ProbeSettings) -> tuple[str, ...]:
    """Classes of either side, less those that are left out."""
    both = {*known.classes, *(settings.classes or ())}
    return tuple(sorted(both - set(asked.settings.exclude)))


def _settings(asked: Asked, label: str, features: Features, notes: list[str]) -> ProbeSettings:
    """Choose spots that have what is looked at, their classes, and the coarsest unit of which they have several."""
    sides: tuple[Modality, ...] = ("image", "gene") if features == "both" else (features,)
    spots = read_spots(asked.store, sides, asked.split.test)
    slide_ids = [spots.slide_ids[at] for at in np.unique(spots.slide)]
    held = read_labelled(asked.store, label, slide_ids, _excluded(asked, label, slide_ids))
    patients, slides = held.spots.patient, held.spots.slide
    # A slide of an unknown patient counts as one of its own, which nobody knows to be true.
    unknown = any(held.spots.patient_ids[at].startswith("[") for at in np.unique(patients))
    n_patients = 1 if unknown else len(np.unique(patients))
    split = _split_of(n_patients, len(np.unique(slides)))
    unit = Places(slides, patients, held.spots.xy_um, ProbeSettings.block_um).groups(split)
    codes = np.unique(held.code)
    several = [at for at in codes if len(np.unique(unit[held.code == at])) > 1]
    alone = [held.classes[at] for at in codes if at not in several]
    if alone:
        notes.append(
            f"Left out of the probe on {features} embeddings, as one {split} alone has them: {', '.join(alone)}."
        )
    if len(several) < 2:
        msg = f"Fewer than two classes of '{label}' are in several {split}s."
        raise EvaluationError(msg)
    return ProbeSettings(
        label=label,
        features=features,
        split=split,
        # Each patient held out in turn where there are few.
        n_folds=n_patients if 1 < n_patients <= MOST_FOLDS else FOLDS,
        slides=tuple(slide_ids),
        classes=tuple(held.classes[at] for at in several),
        seed=asked.settings.seed,
    )


def _excluded(asked: Asked, label: str, slide_ids: list[str]) -> list[str]:
    """Classes to leave out that these slides have."""
    rows = read_spots(asked.store, (), slide_ids).rows
    names = classes_of(asked.store.label(label, rows))[1]
    return [name for name in asked.settings.exclude if name in names]


def _split_of(n_patients: int, n_slides: int) -> Split:
    """Choose the coarsest unit of which there are several."""
    return "patient" if n_patients > 1 else "slide" if n_slides > 1 else "block"


def probe_row(result: ProbeResult, features: str) -> dict[str, Any]:
    """Make a row of a probe: means over folds with their deviations, chance, and a probe on noise."""
    mean, sd = result.level.mean, result.level.sd
    row: dict[str, Any] = {
        "features": features,
        "held out by": result.settings.split,
        "folds": len(result.folds),
        "N": len(result.predictions.rows),
        "classes": len(result.classes),
    }
    for name in ("balanced_accuracy", "macro_f1", "auroc"):
        row[name], row[f"{name} sd"] = mean[name], sd[name]
    row["chance"] = result.chance
    row["majority"] = result.levels["majority"].mean["balanced_accuracy"]
    row["random features"] = result.levels["random_features"].mean["balanced_accuracy"]
    return row


def confusion_plot(
    counts: NDArray[np.int64], classes: Sequence[str], features: str
) -> dict[str, Any]:
    """Make the plot of what was taken for what."""
    return {
        "kind": "confusion",
        "data": {"classes": list(classes), "counts": counts.tolist()},
        "caption": f"{features}: truth by row, said by column.",
    }


def _curves(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Balanced accuracy against the number of labels, one line for each kind of embedding."""
    shots = sorted({int(row["shots"]) for row in rows})
    series = []
    for features in dict.fromkeys(row["features"] for row in rows):
        held = {row["shots"]: row for row in rows if row["features"] == features}
        mean = [held[at]["balanced_accuracy"] for at in shots]
        sd = [held[at]["balanced_accuracy_sd"] for at in shots]
        low, high = ([m + way * s for m, s in zip(mean, sd, strict=True)] for way in (-1, 1))
        series.append({"name": features, "values": mean, "low": low, "high": high})
    return {
        "kind": "few_shot",
        "data": {"shots": shots, "series": series, "chance": rows[0]["chance"]},
        "caption": "Balanced accuracy; bands are one standard deviation over folds and draws.",
    }
