"""Retrieval of a suite: the encoder and its baselines on new patients, and on patients that were learnt from, apart."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.baselines import fit_cca, fit_ridge, random_vectors
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.genes import GeneList, highly_variable
from stamp_index.evaluate.expression.reading import PredictedSpots, read_predicted
from stamp_index.evaluate.expression.runner import PROFILE_GENES
from stamp_index.evaluate.retrieval import asked as retrieval
from stamp_index.evaluate.retrieval.rows import CUTOFFS
from stamp_index.evaluate.retrieval.runner import Ways, evaluate_retrieval
from stamp_index.evaluate.spots import read_spots, surroundings_um
from stamp_index.evaluate.suite.asked import Found, section, table
from stamp_index.evaluate.suite.groups import groups
from stamp_index.store.label_classes import classes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots
    from stamp_index.evaluate.suite.asked import Asked
    from stamp_index.store.view import StoreView

    Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

MAX_PAIRED: Final = 500_000  # ranks in a report's JSON

TEXT: Final = (
    "Every test spot's image asks for its own gene profile among those of the gallery, and the other way round. R@k: share "
    "of queries whose own spot is among the first k; near: a spot at most {radius:g} um away counts as well. Ties take the "
    "worst rank. Galleries grow: the query's own slide, all slides of its patient, all test spots. Intervals: 95 % over "
    "patients, by Student's t where they are fewer than 20 and else by bootstrap; where there is one patient, by bootstrap over "
    "its spots, which says nothing of another patient. Baselines that learn see a spot's own "
    "profile; an encoder that reads its neighbours' counts too has more to go by."
)

LIKE: Final = (
    "Of the first 10 hits from each part of the gallery, without the query's own spot (equal cosines in the store's order): the "
    "share of the labelled ones that carries the query's label, mean average precision of the label over the whole ranking, and "
    "the Pearson correlation over queries between a gene in the query's spot and its mean over the hits, mean over genes."
)


def retrieval_part(asked: Asked) -> Found:
    """Measure retrieval of the split's test slides.

    Raises
    ------
    EvaluationError
        If no test slide has both images and gene profiles.
    """
    out = Found()
    spots = read_spots(asked.store, ("image", "gene"), asked.split.test)
    left_out = sorted(set(asked.split.test) - set(spots.slide_ids))
    if left_out:
        out.notes.append(
            f"Not in retrieval, as they lack images or gene profiles: {', '.join(left_out[:8])}"
            f"{', ...' if len(left_out) > 8 else ''}."
        )
    taught, radius = _taught(asked, out.notes), surroundings_um(spots) or retrieval.RADIUS_UM
    genes = None if taught is None else highly_variable(taught.levels)
    found = {}
    for kind, slide_ids in groups(asked, spots).items():
        here = spots.of_slides(slide_ids)
        given = retrieval.Asked(here, _known(asked, here, genes), radius)
        encoders = {asked.store.encoder: _pair(here), **baselines(asked, taught, here, out.notes)}
        found[kind] = evaluate_retrieval(
            encoders, given, progress=lambda *at: asked.told("retrieval", *at)
        )
        if len(here) <= MAX_PAIRED:
            out.paired[kind] = {
                "spots": _hash_of(asked.store, here),
                "patient": here.patient.tolist(),
                "ranks": {
                    way: found[kind].ranks[asked.store.encoder, way].tolist()
                    for way in ("image_to_gene", "gene_to_image")
                },
            }
    out.sections = _sections(found, radius)
    if genes is not None:
        out.genes = [genes.to_dict()]
    return out


def _taught(asked: Asked, notes: list[str]) -> PredictedSpots | None:
    """Training spots and the genes that can be compared; None where there are no such spots."""
    if not asked.split.train:
        return None
    try:
        return read_predicted(asked.store, asked.split)
    except EvaluationError as error:
        # Training slides that lack images, profiles, or genes of the tested ones.
        notes.append(f"Baselines that learn are missing from retrieval: {error}")
        return None


def baselines(
    asked: Asked, taught: PredictedSpots | None, spots: EvaluatedSpots, notes: list[str]
) -> dict[str, Pair | Ways]:
    """Embeddings of the spots that no encoder may fall behind; those that learn need training spots."""
    n, dim = spots.vectors["image"].shape
    out: dict[str, Pair | Ways] = {
        "random": (random_vectors(n, dim), random_vectors(n, dim, seed=1))
    }
    if taught is None:
        return out
    store, train = asked.store, taught.train
    # The training mean as every query, against the spots' own halves: what a search finds that does not look.
    gene, image = (
        np.tile(one / max(np.linalg.norm(one), 1e-12), (n, 1)).astype(np.float32)
        for one in (train.vectors[side].mean(axis=0) for side in ("gene", "image"))
    )
    out["mean of training"] = Ways((gene, spots.vectors["gene"]), (image, spots.vectors["image"]))
    shared = set.intersection(*(set(store.genes_of(name)) for name in _slides_of(spots)))
    levels = taught.levels.among(shared)
    if len(levels.genes) < 2:
        return out
    names = highly_variable(levels, PROFILE_GENES).names
    profile = store.expression(names, train.rows)
    tested = store.expression(names, spots.rows)
    held = train.slide if len(train.patient_ids) == 1 else train.patient
    seen = {"its images": (train.vectors["image"], spots.vectors["image"])}
    for kind, view in asked.raw.items():
        learnt, asking = (
            view.vectors("image", side.rows).astype(np.float32) for side in (train, spots)
        )
        seen[kind] = learnt, asking
    for kind, (learnt, asking) in seen.items():
        for name, fit in (("PCA + ridge", partial(fit_ridge, groups=held)), ("CCA", fit_cca)):
            try:
                maps = fit(learnt, profile)
                out[f"{name} on {kind}"] = maps.image(asking), maps.gene(tested)
            except (EvaluationError, ValueError) as error:
                notes.append(f"No baseline {name} on {kind}: {error}")
    return out


def _slides_of(spots: EvaluatedSpots) -> list[str]:
    return [spots.slide_ids[at] for at in np.unique(spots.slide)]


def _pair(spots: EvaluatedSpots) -> Pair:
    return spots.vectors["image"], spots.vectors["gene"]


def _known(asked: Asked, spots: EvaluatedSpots, genes: GeneList | None) -> retrieval.Known:
    labels = np.full(len(spots), -1, np.int64)
    if asked.label is not None:
        codes, names = classes_of(asked.store.label(asked.label, spots.rows))
        left_out = [at for at, name in enumerate(names) if name in asked.settings.exclude]
        labels = np.where(np.isin(codes, left_out), -1, codes).astype(np.int64)
    if genes is None:
        return retrieval.Known(labels, np.empty((len(spots), 0), np.float32))
    return retrieval.Known(labels, asked.store.expression(genes.names, spots.rows), genes.names)


def _hash_of(store: StoreView, spots: EvaluatedSpots) -> str:
    """First 16 hex digits of the SHA-256 over the spots' ids, in their order."""
    ids = store.spots(("spot_id",), spots.rows)["spot_id"]
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def _sections(found: dict[str, Any], radius_um: float) -> list[dict[str, Any]]:
    identity = [
        {"test spots of": kind, **row} for kind, one in found.items() for row in one.identity
    ]
    neighbours = [
        {"test spots of": kind, **row} for kind, one in found.items() for row in one.neighbours
    ]
    slides = [{"test spots of": kind, **row} for kind, one in found.items() for row in one.slides]
    out = [
        section(
            "Retrieval",
            TEXT.format(radius=radius_um),
            [table(identity)],
            [
                _curve(kind, one.identity)
                for kind, one in found.items()
                if "R@10" in one.identity[-1]
            ],
        ),
        section("Retrieval within each slide", "The gallery is the slide alone.", [table(slides)]),
    ]
    if neighbours:
        out.append(
            section(
                "What the hits are like",
                LIKE,
                [table(neighbours)],
            )
        )
    return out


def _curve(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall against k in the largest gallery, for each encoder, images asking."""
    largest = rows[-1]["gallery"]
    shown = [
        row for row in rows if row["gallery"] == largest and row["direction"] == "image_to_gene"
    ]
    ks = [k for k in CUTOFFS if f"R@{k}" in shown[0]]
    return {
        "kind": "recall_curve",
        "data": {
            "k": ks,
            "series": [
                {"name": row["encoder"], "values": [row[f"R@{k}"] for k in ks]} for row in shown
            ],
            "chance": [min(shown[0]["chance R@10"] * k / 10, 1.0) for k in ks],
        },
        "caption": f"Image to gene, {kind}, gallery: {largest} ({shown[0]['N']} spots).",
    }
