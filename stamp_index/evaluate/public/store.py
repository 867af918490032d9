"""Labelled slides of a public data set as a store, and a report of what is measured there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.split import Split, taught_patients
from stamp_index.evaluate.suite.report import SuiteReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stamp_index.slides import Slide
    from stamp_index.store import Store
    from stamp_index.store.view import StoreView


def with_label(slide: Slide, name: str, values: Sequence[str | None]) -> Slide:
    """Give each spot of a slide its class; None where it has none."""
    spots = slide.spots.copy()
    spots[name] = list(values)
    return replace(slide, spots=spots)


def store_of(
    path: Path,
    slides: Sequence[Slide],
    label: str,
    *,
    encoder: Path | str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Store:
    """Open or make a store and add the slides that it lacks.

    Parameters
    ----------
    path : Path
        Folder of the store; need not exist.
    slides : sequence of Slide
        With the label, where they have it.
    label : str
        A slide that lies in the store without it gets it there.
    encoder : path, optional
        Checkpoint folder or ``published:NAME``; needed where there is no store.
    progress : callable, optional
        As in `embed_into`.

    Raises
    ------
    StoreError, EncoderError, EncoderMismatchError
        If store or encoder cannot be used, or do not belong together.
    EvaluationError
        If a slide of the store has the id of one of these and other spots, or all slides lie there without the
        embeddings of the encoder that was given.
    """
    from stamp_index.embed.folder import embed_into
    from stamp_index.store import Store

    there = set(Store.open(path).slides()["slide_id"]) if path.exists() else set()
    missing = [slide for slide in slides if slide.slide_id not in there]
    store = embed_into(path, missing, encoder_path=encoder, progress=progress)
    _check_encoder(store, encoder)
    for slide in slides:
        if slide.slide_id in there and label in slide.spots:
            _add_label(store, slide, label)
    store.refresh()
    return store


def _check_encoder(store: Store, encoder: Path | str | None) -> None:
    """Refuse to measure another encoder than the one that was asked for."""
    from stamp_index.encoders import read_manifest
    from stamp_index.encoders.published.locate import resolve_encoder

    if encoder is None:
        return
    asked = read_manifest(resolve_encoder(encoder))["fingerprint"]
    if asked != store.card.fingerprint:
        msg = (
            f"The store at {store.place} holds embeddings of encoder {store.encoder} {store.card.fingerprint}, not of {asked}. "
            "Give a new store, or add this encoder's embeddings beside (stamp-index add --beside)."
        )
        raise EvaluationError(msg)


def _add_label(store: Store, slide: Slide, label: str) -> None:
    """Label a slide that lies in the store already, unless it is labelled."""
    rows = np.flatnonzero(store.mask_of((store.slides()["slide_id"] == slide.slide_id).to_numpy()))
    held = store.spots(("spot_id",), rows)["spot_id"].tolist()
    value = dict(zip(slide.spot_ids, slide.spots[label], strict=True))
    if not set(held) <= set(value):
        msg = f"The store at {store.place} has a slide {slide.slide_id} with other spots than {slide.source}. Give another store."
        raise EvaluationError(msg)
    values = [value[one] for one in held]
    if label in store.label_names:
        there = store.label(label, rows)
        if there.notna().any():
            same = [now if isinstance(now, str) else None for now in there] == [
                new if isinstance(new, str) else None for new in values
            ]
            if not same:
                msg = (
                    f"Slide {slide.slide_id} of the store at {store.place} has other values of '{label}' than {slide.source}. "
                    "Give another store."
                )
                raise EvaluationError(msg)
            return
    store.annotate(slide.slide_id, label, values, author="published", source=slide.source)


def all_tested(store: StoreView, slide_ids: Sequence[str]) -> Split:
    """Test slides in folds of their own: all of them, with the patients that the encoder learnt from named."""
    return Split("patient", (), tuple(sorted(slide_ids)), taught_patients(store))


def empty_report(
    store: StoreView, split: Split, settings: dict[str, Any], by: str = "patient"
) -> SuiteReport:
    """Begin a report of a store's embeddings.

    Parameters
    ----------
    store : StoreView
    split : Split
    settings : dict
        What was asked, in words.
    by : str
        What is held out in turn.
    """
    import stamp_index

    slides = store.slides()
    tested = slides[slides["slide_id"].isin(split.test)]
    report = SuiteReport(
        store={
            "id": store.store_id,
            "version": store.version,
            "n_spots": int(tested["n_spots"].sum()),
            "n_slides": len(tested),
        },
        encoder={
            "name": store.encoder,
            "fingerprint": store.card.fingerprint,
            "panel_hash": store.card.panel_hash,
        },
        split=split.to_dict() | {"by": by},
        settings={
            **settings,
            "stamp-index": stamp_index.__version__,
            "numpy": np.__version__,
        },
    )
    seen = sorted(set(split.taught) & set(tested["patient_id"]))
    if seen:
        report.notes.append(
            f"The encoder learnt from {', '.join(seen)}: numbers on their slides are too good. Those of the others count."
        )
    return report
