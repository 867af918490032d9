"""Spatial domains of a store: clusters of its embeddings against its labels, baselines beside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.domains.cluster import prepared
from stamp_index.evaluate.domains.fuse import smoothing_name
from stamp_index.evaluate.domains.labels import read_labelled, some
from stamp_index.evaluate.domains.report import DomainReport
from stamp_index.evaluate.domains.scores import domain_scores, spatial_coherence
from stamp_index.evaluate.domains.settings import DomainSettings
from stamp_index.evaluate.domains.spaces import (
    COORDINATES,
    EXPRESSION,
    RANDOM,
    read_space,
    slides_with,
)
from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.domains.cluster import Method
    from stamp_index.evaluate.domains.labels import Group, LabelledSpots
    from stamp_index.evaluate.domains.spaces import Features
    from stamp_index.store.view import StoreView


@dataclass(frozen=True, eq=False)
class _Run:
    """What is asked of which spots; `having` says which slides have what a kind of vectors is made of."""

    store: StoreView
    settings: DomainSettings
    labelled: LabelledSpots
    having: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class _Compared:
    """The labelled spots of a group that have some vectors."""

    code: NDArray[np.int64]
    slide: NDArray[np.int64]
    xy_um: NDArray[np.float64]


def evaluate_domains(  # noqa: PLR0913 - what is compared, on which slides, and how it is clustered
    store: StoreView,
    label: str,
    *,
    slides: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    features: Sequence[Features] = ("image", "gene", "both"),
    methods: Sequence[Method] = ("kmeans", "leiden", "gmm"),
    smoothing_um: Sequence[float | None] = (None,),
    seeds: Iterable[int] = range(5),
) -> DomainReport:
    """Cluster a store's embeddings and compare the clusters with a label, on each slide and pooled over a patient's.

    Nothing is learnt from the label but how many clusters are wanted: as many as there are classes.

    Parameters
    ----------
    store : StoreView
    label : str
        Spots without it are left out, but are part of the surroundings that `smoothing_um` averages over.
    slides : sequence of str, optional
        All slides by default.
    exclude : sequence of str
        Classes whose spots are left out, such as "undetermined".
    features : sequence of {"image", "gene", "both"}
        Embeddings; "both" puts the two unit vectors side by side.
    methods : sequence of {"kmeans", "leiden", "gmm", "gmm_bic"}
    smoothing_um : sequence of float or None
        Radii within which vectors are averaged over a slide's spots before they are clustered; None for not at all.
    seeds : iterable of int
        Every clustering is done once with each.

    Returns
    -------
    DomainReport
        Baselines beside: principal components of expression, smoothed likewise, where there are counts; the position
        alone, on single slides; and random labels.

    Raises
    ------
    QueryError
        If no slide has such a label.
    EvaluationError
        If a slide or an excluded class is not there, no slide with two classes has one of the embeddings, or Leiden is
        asked for without igraph.
    ValueError
        If another value is not one of those above.
    """
    settings = DomainSettings(
        label=label,
        exclude=tuple(exclude),
        features=tuple(features),
        methods=tuple(methods),
        smoothing_um=tuple(smoothing_um),
        seeds=tuple(seeds),
    )
    labelled = read_labelled(store, label, slides, settings.exclude)
    having, notes = _slides_having(store, settings, labelled)
    run = _Run(store, settings, labelled, having)
    rows = [row for group in labelled.groups for row in _rows_of_group(run, group)]
    notes = [*labelled.notes, *notes, *_missed_numbers(rows)]
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return DomainReport(plain, _source(store, labelled), tuple(rows), tuple(notes))


def _slides_having(
    store: StoreView, settings: DomainSettings, labelled: LabelledSpots
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Slides that have what each kind of vectors is made of, and notes on those that lack it.

    Raises
    ------
    EvaluationError
        If no slide has one of the embeddings that are asked for.
    """
    names = labelled.spots.slide_ids
    compared = tuple(names[at] for at in np.unique(labelled.spots.slide))
    having = {
        name: slides_with(store, name, compared)
        for name in (*settings.features, EXPRESSION, COORDINATES)
    }
    if not any(having[name] for name in settings.features):
        msg = (
            f"None of the slides with label '{labelled.label}' has embeddings for {', '.join(settings.features)} of "
            f"encoder '{store.encoder}' ({some(compared)}). Ask for other features, or embed the slides."
        )
        raise EvaluationError(msg)
    notes = []
    for name, held in having.items():
        lacking = [one for one in compared if one not in held]
        if lacking:
            notes.append(f"{_LACKS.get(name, f'No {name} embeddings')}: {some(lacking)}.")
    return having, notes


_LACKS: Final = {
    "both": "Not both image and gene embeddings",
    EXPRESSION: "No counts",
    COORDINATES: "Pixel size unknown, so neither coordinates nor smoothing",
}


def _rows_of_group(run: _Run, group: Group) -> Iterator[dict[str, Any]]:
    """Rows of a slide or a patient."""
    for name, held in run.having.items():
        slide_ids = tuple(one for one in group.slide_ids if one in held)
        # One slide of a patient has its own rows; places on two slides have nothing to do with each other.
        if len(slide_ids) < (2 if group.scope == "patient" else 1):
            continue
        if name == COORDINATES and group.scope == "patient":
            continue
        yield from _rows_of_space(run, group, name, slide_ids)
    compared = _compared(run.labelled, group.slide_ids)
    n_classes = len(np.unique(compared.code))
    clusters = [
        np.random.default_rng(seed).integers(0, n_classes, len(compared.code))
        for seed in run.settings.seeds
    ]
    named = {"scope": group.scope, "on": group.name, "features": RANDOM, "baseline": True}
    named |= {"method": "none", "smoothing": smoothing_name(None), "own_weight": 1.0}
    yield named | _measured(compared, clusters)


def _rows_of_space(
    run: _Run, group: Group, name: str, slide_ids: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Rows of one kind of vectors: every smoothing by every method."""
    space = read_space(run.store, name, slide_ids)
    compared = _compared(run.labelled, slide_ids)
    chosen = np.isin(space.spots.rows, run.labelled.spots.rows)
    n_classes = len(np.unique(compared.code))
    for radius in run.settings.smoothing_um:
        is_placed = set(slide_ids) <= set(run.having[COORDINATES])
        if radius is not None and (name == COORDINATES or not is_placed):
            continue
        vectors, own_weight = space.vectors(radius)
        for method in run.settings.methods:
            cluster = prepared(method, vectors[chosen])
            clusters = [cluster(n_classes, seed) for seed in run.settings.seeds]
            named: dict[str, Any] = {"scope": group.scope, "on": group.name, "features": name}
            named |= {"baseline": name in (EXPRESSION, COORDINATES), "method": method}
            named |= {"smoothing": smoothing_name(radius), "own_weight": own_weight}
            yield named | _measured(compared, clusters)


def _compared(labelled: LabelledSpots, slide_ids: Sequence[str]) -> _Compared:
    """Labelled spots of some slides, in the order of `read_spots`."""
    spots = labelled.spots
    at = np.isin(np.array(spots.slide_ids)[spots.slide], list(slide_ids))
    return _Compared(labelled.code[at], spots.slide[at], spots.xy_um[at])


def _measured(compared: _Compared, clusters: list[NDArray[np.int64]]) -> dict[str, Any]:
    """Scores of the clusters of each seed, as means."""
    scores = [domain_scores(compared.code, one) for one in clusters]
    coherence = [spatial_coherence(one, compared.slide, compared.xy_um) for one in clusters]
    row: dict[str, Any] = {
        "N": len(compared.code),
        "n_slides": len(np.unique(compared.slide)),
        "n_classes": len(np.unique(compared.code)),
        "n_clusters": float(np.mean([len(np.unique(one)) for one in clusters])),
    }
    for name in ("ARI", "NMI"):
        values = [one[name] for one in scores]
        row[name] = float(np.mean(values))
        row[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    for name in ("homogeneity", "completeness"):
        row[name] = float(np.mean([one[name] for one in scores]))
    row["coherence"] = _or_none(float(np.mean(coherence)))
    row["label_coherence"] = _or_none(
        spatial_coherence(compared.code, compared.slide, compared.xy_um)
    )
    return row


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _missed_numbers(rows: list[dict[str, Any]]) -> list[str]:
    """Say where not as many clusters were found as there are classes."""
    missed = [
        row for row in rows if row["n_clusters"] != row["n_classes"] and row["method"] != "none"
    ]
    if not missed:
        return []
    by = ", ".join(sorted({row["method"] for row in missed}))
    return [
        f"In {len(missed)} of {len(rows)} rows ({by}) the number of clusters found is not that of the classes: see "
        "n_clusters."
    ]


def _source(store: StoreView, labelled: LabelledSpots) -> dict[str, Any]:
    """Say what the numbers are of."""
    told = hashlib.sha256(labelled.spots.rows.astype("<i8").tobytes())
    told.update(labelled.code.astype("<i8").tobytes())
    told.update(json.dumps(labelled.classes).encode())
    return {
        "store_id": store.store_id,
        "store_version": store.version,
        "encoder": store.encoder,
        "fingerprint": store.card.fingerprint,
        "spots_hash": told.hexdigest()[:16],
    }
