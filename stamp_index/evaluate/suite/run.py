"""Measure a store: every part of a suite, as one report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import MissingGenesError, StampIndexError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.split import held_against_encoder, split_of_encoder
from stamp_index.evaluate.suite.asked import Asked, Found, SuiteSettings
from stamp_index.evaluate.suite.report import SuiteReport
from stamp_index.store.view import StoreView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stamp_index.evaluate.split import Split
    from stamp_index.evaluate.suite.asked import Part

NO_CLASSES: Final = ("array_row", "array_col")  # places on the array
MOST_CLASSES: Final = 100  # more are measurements or names


def evaluate_store(
    store: StoreView,
    split: Split | None = None,
    settings: SuiteSettings | None = None,
    *,
    raw: Mapping[str, StoreView] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> SuiteReport:
    """Measure a store's embeddings, for any encoder, from the store alone.

    Parameters
    ----------
    store : StoreView
        With the embeddings of one encoder; `Store.open(path, encoder=name)` chooses among several.
    split : Split, optional
        What is tested; by default every slide that the store's encoder did not learn from.
    settings : SuiteSettings, optional
        Parts, label, genes; everything by default.
    raw : mapping of str to StoreView, optional
        The store seen through raw features (`raw_views` of the split's slides), which are then a baseline of every part.
    progress : callable, optional
        Called with the part, its steps that are done, and those that there are.

    Returns
    -------
    SuiteReport
        A part that the store cannot answer (no label, no training slides) is noted and left out.

    Raises
    ------
    EvaluationError
        If none of the parts can be measured, every slide was learnt from, a given split tests what the encoder learnt from, or
        a named label is not there or measures, or no spot has a class that is to be left out.
    MissingGenesError
        If a named gene cannot be predicted.
    TypeError
        If the store is no open store.
    """
    if not isinstance(store, StoreView):
        msg = f"The store is {store!r}; expected an open one: Store.open(path)."
        raise TypeError(msg)
    split = split_of_encoder(store) if split is None else held_against_encoder(store, split)
    settings = SuiteSettings() if settings is None else settings
    label = _label(store, split, settings)
    _check_excluded(store, settings, label)
    asked = Asked(store, split, settings, label, raw or {}, progress or _nothing)
    report = _empty(asked)
    reasons = []
    for part in settings.parts:
        try:
            found = _measure(part, asked)
        except MissingGenesError:
            raise  # a gene that was asked for by name
        except StampIndexError as error:
            reasons.append(f"Not measured: {part}. {error}")
            continue
        _take(report, part, found)
    if not report.sections:
        msg = "Nothing could be measured. " + " ".join(reasons)
        raise EvaluationError(msg)
    report.notes += reasons
    return report


def _measure(part: Part, asked: Asked) -> Found:
    if part == "retrieval":
        from stamp_index.evaluate.suite.retrieval_part import retrieval_part

        return retrieval_part(asked)
    if part == "expression":
        from stamp_index.evaluate.suite.expression_part import expression_part

        return expression_part(asked)
    if part == "protocols":
        from stamp_index.evaluate.suite.protocols_part import protocols_part

        return protocols_part(asked)
    if part == "probe":
        from stamp_index.evaluate.suite.probe_part import probe_part

        return probe_part(asked)
    if part == "domains":
        from stamp_index.evaluate.suite.domains_part import domains_part

        return domains_part(asked)
    from stamp_index.evaluate.suite.ann_part import ann_part

    return ann_part(asked)


def _take(report: SuiteReport, part: Part, found: Found) -> None:
    report.sections += found.sections
    report.notes += [note for note in found.notes if note not in report.notes]
    report.genes += [one for one in found.genes if one not in report.genes]
    if found.paired:
        report.paired[part] = found.paired


def _empty(asked: Asked) -> SuiteReport:
    import stamp_index

    store, settings = asked.store, asked.settings
    about: dict[str, Any] = {
        "parts": ", ".join(settings.parts),
        "label": asked.label or "none",
        "seed": settings.seed,
        "stamp-index": stamp_index.__version__,
        "numpy": np.__version__,
    }
    if settings.exclude:
        about["classes left out"] = ", ".join(settings.exclude)
    report = SuiteReport(
        store={
            "id": store.store_id,
            "version": store.version,
            "n_spots": store.n_spots,
            "n_slides": len(store.slides()),
        },
        encoder={
            "name": store.encoder,
            "fingerprint": store.card.fingerprint,
            "panel_hash": store.card.panel_hash,
        },
        split=asked.split.to_dict(),
        settings=about,
    )
    if asked.split.by == "section":
        report.notes.append(
            "A patient of some test slides was learnt from: sections of a patient look alike. In retrieval and prediction "
            "their numbers stand apart from those of new patients, and say less; probes and domains look at all test slides together."
        )
    if not asked.split.is_history_known:
        report.notes.append(
            f"It is not on record which patients the encoder '{store.encoder}' learnt from, so none is known to be new: imported "
            "and plain encoders carry no such record."
        )
    if not asked.raw and set(settings.parts) != {"ann"}:
        report.notes.append(
            "Raw features of the encoder's frozen network are not among the baselines: ask for them by --raw-features."
        )
    if not asked.split.train:
        report.notes.append(
            "The store has no slide that the encoder is known to have learnt from: baselines that learn are missing."
        )
    return report


def _label(store: StoreView, split: Split, settings: SuiteSettings) -> str | None:
    """Choose the label: the named one, else the first that the test slides have with two to 100 classes."""
    from stamp_index.store.label_classes import classes_of, is_quantity

    slides = store.slides()
    rows = np.flatnonzero(store.mask_of(slides["slide_id"].isin(split.test).to_numpy()))
    if settings.label is not None:
        if settings.label not in store.label_names:
            held = ", ".join(store.label_names) or "none"
            msg = f"There is no label '{settings.label}' in the store; its labels are {held}."
            raise EvaluationError(msg)
        values = store.label(settings.label, rows)
        if is_quantity(values) or len(classes_of(values)[1]) > MOST_CLASSES:
            msg = (
                f"Label '{settings.label}' is a measurement or a name of each spot, not one of at most {MOST_CLASSES} classes. "
                "Give a label with classes."
            )
            raise EvaluationError(msg)
        return settings.label
    for name in [name for name in store.label_names if name not in NO_CLASSES]:
        values = store.label(name, rows)
        if not is_quantity(values) and 2 <= len(classes_of(values)[1]) <= MOST_CLASSES:
            return name
    return None


def _check_excluded(store: StoreView, settings: SuiteSettings, label: str | None) -> None:
    """Refuse classes to leave out that no spot has."""
    from stamp_index.store.label_classes import classes_of

    held = [] if label is None else list(classes_of(store.label(label))[1])
    unknown = [name for name in settings.exclude if name not in held]
    if unknown:
        of = f"label '{label}' has {', '.join(held[:20])}" if held else "no label is measured"
        msg = f"There is no class {', '.join(map(repr, unknown))} to leave out: {of}."
        raise EvaluationError(msg)


def _nothing(part: str, done: int, total: int) -> None:
    """Tell nobody."""
