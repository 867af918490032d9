"""Two published protocols of a suite, as they were published: HEST-Benchmark's and ST-Align's, to compare with their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.genes import highly_variable
from stamp_index.evaluate.expression.hest import hest_corrected, hest_published
from stamp_index.evaluate.expression.reading import read_predicted
from stamp_index.evaluate.expression.st_align import SEEDS, ST_ALIGN_GENES, st_align_mse
from stamp_index.evaluate.suite.asked import Found, section, table
from stamp_index.evaluate.suite.groups import NEW, UNSURE, groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.evaluate.expression.reading import PredictedSpots
    from stamp_index.evaluate.spots import EvaluatedSpots
    from stamp_index.evaluate.suite.asked import Asked
    from stamp_index.store.view import StoreView

N_GENES: Final = 50
# By ST-Align's protocol, whose five networks are trained anew on every slide.
MOST_SLIDES: Final = 6
MOST_SPOTS: Final = 5_000  # of a slide
HEST_TEXT: Final = (
    "Ridge regression on image features, learnt on the training spots and tried on the test spots. hest: as published (log1p of "
    "raw counts, no intercept, a fixed penalty), but for its gene list: the 50 genes of largest variance over the training "
    "spots, where the published lists saw the test samples. hest corrected: with an intercept and a penalty chosen across "
    "patients; it is refused where a patient is on both sides."
)
ST_ALIGN_TEXT: Final = (
    "Mean squared error of log1p CP10K by a small network on image features, on a fifth of each slide's spots drawn at random: "
    "SPATIAL LEAKAGE, as every tested spot has neighbours among the training spots. Compare only with numbers of the same "
    "protocol. The training mean, which looks at nothing, stands beside."
)


def protocols_part(asked: Asked) -> Found:
    """Measure the split's test slides by published protocols.

    Raises
    ------
    EvaluationError
        If neither can be measured, or there are no training spots.
    """
    out = Found()
    views = {"image": asked.store, **asked.raw}
    spots = read_predicted(asked.store, asked.split)
    for at, (title, text, rows) in enumerate(
        (
            ("HEST-Benchmark's protocol", HEST_TEXT, _hest_rows),
            ("ST-Align's protocol", ST_ALIGN_TEXT, _st_align_rows),
        )
    ):
        asked.told("protocols", at, 2)
        try:
            found = list(rows(asked, spots, views, out.notes))
        except EvaluationError as error:
            out.notes.append(f"Not measured: {title}. {error}")
            continue
        out.sections.append(section(title, text, [table(found)]))
    asked.told("protocols", 2, 2)
    if not out.sections:
        raise EvaluationError(" ".join(out.notes))
    return out


def _hest_rows(
    asked: Asked, spots: PredictedSpots, views: dict[str, StoreView], notes: list[str]
) -> Iterator[dict[str, Any]]:
    train = spots.train
    for kind, slide_ids in groups(asked, spots.test).items():
        test = spots.test.of_slides(slide_ids)
        names = _measured_genes(asked.store, spots, test)
        rows = np.concatenate([train.rows, test.rows])
        counts = asked.store.counts(names, rows)
        fold = np.arange(len(train)), np.arange(len(train), len(rows))
        patients = [*_named(train.patient_ids, train.patient), *_named(test.patient_ids, test.patient)]  # fmt: skip
        for name, view in views.items():
            features = view.vectors("image", rows).astype(np.float32)
            found = [hest_published(features, counts, names, [fold])]
            if kind in (NEW, UNSURE):
                found.append(
                    hest_corrected(
                        features, counts, names, [fold], patients=patients, n_genes=len(names)
                    )
                )
            for one in found:
                yield {
                    "test spots of": kind,
                    "features": name,
                    "protocol": one.protocol,
                    "N test": len(test),
                    "N train": len(train),
                    "genes": len(names),
                    "mean Pearson": one.mean,
                    "n constant": one.folds[0].n_constant,
                }
                notes += [note for note in one.notes[2:] if note not in notes]


def _measured_genes(store: StoreView, spots: PredictedSpots, test: EvaluatedSpots) -> list[str]:
    """Genes of largest variance over the training spots, among those that every slide measured."""
    shared = set(spots.levels.genes)
    for at in np.unique(test.slide):
        shared &= set(store.genes_of(test.slide_ids[at]))
    return list(highly_variable(spots.levels.among(shared), N_GENES).names)


def _named(names: tuple[str, ...], numbers: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    return [names[at] for at in numbers]


def _st_align_rows(
    asked: Asked, spots: PredictedSpots, views: dict[str, StoreView], notes: list[str]
) -> Iterator[dict[str, Any]]:
    test = _few(spots.test, notes, asked.settings.seed)
    there = set.intersection(
        *(set(asked.store.genes_of(test.slide_ids[at])) for at in np.unique(test.slide))
    )
    names = [gene for gene in ST_ALIGN_GENES if gene in there]
    names = names or _measured_genes(asked.store, spots, test)
    levels = asked.store.expression(names, test.rows)
    slides = _named(test.slide_ids, test.slide)
    for name, view in views.items():
        features = view.vectors("image", test.rows).astype(np.float32)
        found = st_align_mse(features, levels, names, slides, seeds=SEEDS)
        yield {
            "features": name,
            "slides": len(found.slides),
            "N": len(test),
            "genes": len(found.genes),
            "MSE": found.mean,
            "sd over seeds": found.std,
            "MSE of the training mean": found.mean_expression,
        }


def _few(spots: EvaluatedSpots, notes: list[str], seed: int) -> EvaluatedSpots:
    """Take the first slides, and of a large one some spots at random."""
    rng = np.random.default_rng(seed)
    there = np.unique(spots.slide)
    chosen = []
    for slide in there[:MOST_SLIDES]:
        here = np.flatnonzero(spots.slide == slide)
        chosen.append(np.sort(rng.choice(here, min(len(here), MOST_SPOTS), replace=False)))
    found = spots.at(np.concatenate(chosen))
    if len(found) < len(spots):
        notes.append(
            f"ST-Align's protocol was measured on {len(chosen)} of {len(there)} test slides and at most {MOST_SPOTS:,} "
            "spots of each."
        )
    return found
