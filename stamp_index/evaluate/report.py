"""Evaluate a training run on its held-out slides, baselines beside every number."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.embed import embed_slide
from stamp_index.encoders import FeatureCache, load_encoder
from stamp_index.errors import StampIndexError
from stamp_index.evaluate.metrics import (
    bootstrap_interval,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.planted import planted_precision
from stamp_index.evaluate.prediction import prediction_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.slides import Slide

_CUTOFFS: Final = (1, 5, 10, 50)
_SHARES: Final = {"1%": 0.01, "5%": 0.05}


class EvaluationError(StampIndexError):
    """A run cannot be evaluated."""


@dataclass(frozen=True)
class Embedded:
    """One slide's embeddings.

    Attributes
    ----------
    slide : Slide
    image, gene : ndarray of shape (n, d), float32
    """

    slide: Slide
    image: NDArray[np.float32]
    gene: NDArray[np.float32]


@dataclass
class Report:
    """What `evaluate_run` found.

    Attributes
    ----------
    split : dict
        The run's split with its hash.
    retrieval : list of dict
        One row per gallery, encoder and direction.
    planted : list of dict
        Precision of planted queries, on the phantom only.
    prediction : list of dict
        Mean Pearson correlation of expression predicted by retrieval.
    encoder : dict
        Name and fingerprint.
    """

    split: dict[str, Any]
    encoder: dict[str, str]
    retrieval: list[dict[str, Any]] = field(default_factory=list)
    planted: list[dict[str, Any]] = field(default_factory=list)
    prediction: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path | str) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=1))

    def to_markdown(self) -> str:
        """Tables for people."""
        by = self.split["by"]
        note = {
            "patient": "held out by patient",
            "section": "held out by SECTION: the patient of the held-out slides was also trained on",
            "nothing": "nothing held out",
        }[by]
        lines = [
            f"Encoder {self.encoder['name']} {self.encoder['fingerprint']}; split "
            f"{self.split['hash']}, {note}.",
            "",
            *_table(self.retrieval),
        ]
        for rows in (self.planted, self.prediction):
            if rows:
                lines += ["", *_table(rows)]
        return "\n".join(lines)


def evaluate_run(
    run: Path | str,
    slides: Sequence[Slide],
    *,
    features: Path | str | None = None,
    genes: Sequence[str] = (),
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Measure a run's encoder on the slides that it did not train on.

    Parameters
    ----------
    run : path
        Folder that the trainer wrote: ``split.json``, ``encoder/``, ``ridge/``.
    slides : sequence of Slide
        The training slides (the reference for prediction) and the held-out ones. Slides that the
        split does not name are evaluated as held out when their patient was not trained on.
    features : path, optional
        Feature cache; by default the run's own.
    genes : sequence of str
        Genes for expression prediction; by default the panel's 50 that vary most in training.
    progress : callable, optional
        Called with the number of images prepared.

    Returns
    -------
    Report
        Retrieval over the whole held-out gallery and within each slide, for the encoder, ridge and chance.

    Raises
    ------
    EvaluationError
        If the run has no split, or none of the slides is held out.
    """
    run = Path(run)
    split = _read_split(run)
    train, held_out = _sides(split, slides)
    encoders: dict[str, Encoder] = {"trained": load_encoder(run / "encoder")}
    if (run / "ridge" / "encoder.json").exists():
        encoders["PCA + ridge"] = load_encoder(run / "ridge")
    main = encoders["trained"]
    report = Report(split, {"name": main.name, "fingerprint": main.fingerprint})
    embedded: dict[str, tuple[list[Embedded], list[Embedded]]] = {}
    for name, encoder in encoders.items():
        cache = FeatureCache(features or run / "features", encoder, progress=progress)  # type: ignore[arg-type]
        embedded[name] = (_embed(encoder, train, cache), _embed(encoder, held_out, cache))
        report.retrieval += _retrieval(name, embedded[name][1])
    report.retrieval += _constant_rows(embedded["trained"])
    report.planted = [
        row
        for name, encoder in encoders.items()
        for row in planted_precision(name, encoder, embedded[name][1])
    ]
    for name in encoders:
        report.prediction += prediction_table(name, main.panel, *embedded[name], genes=genes)
    return report


def _read_split(run: Path) -> dict[str, Any]:
    path = run / "split.json"
    if not path.is_file():
        msg = f"{run} is not a training run: split.json is missing. Give the folder of --out."
        raise EvaluationError(msg)
    split: dict[str, Any] = json.loads(path.read_text())
    return split


def _sides(split: dict[str, Any], slides: Sequence[Slide]) -> tuple[list[Slide], list[Slide]]:
    pictured = [slide for slide in slides if slide.image is not None]
    train = [slide for slide in pictured if slide.slide_id in split["train"]]
    held_out = [slide for slide in pictured if slide.slide_id not in split["train"]]
    if not held_out:
        names = ", ".join(slide.slide_id for slide in slides)
        msg = (
            f"None of the slides ({names}) is held out from this run, which trained on "
            f"{', '.join(split['train'])}. Give slides that it has not seen."
        )
        raise EvaluationError(msg)
    return train, held_out


def _embed(encoder: Encoder, slides: Sequence[Slide], cache: FeatureCache) -> list[Embedded]:
    found = []
    for slide in slides:
        image, gene = embed_slide(encoder, slide, features=cache)
        if image is not None:
            found.append(Embedded(slide, image, gene))
    return found


def _retrieval(name: str, parts: list[Embedded]) -> list[dict[str, Any]]:
    galleries = {f"slide {part.slide.slide_id}": [part] for part in parts}
    if len(parts) > 1:
        galleries = {"all held out": parts, **galleries}
    rows = []
    for gallery, members in galleries.items():
        image = np.concatenate([part.image for part in members])
        gene = np.concatenate([part.gene for part in members])
        patients = np.concatenate(
            [
                np.repeat(part.slide.patient_id or part.slide.slide_id, len(part.gene))
                for part in members
            ]
        )
        for direction, ranks in (
            ("image_to_gene", retrieval_ranks(image, gene)),
            ("gene_to_image", retrieval_ranks(gene, image)),
        ):
            rows.append(_row(gallery, name, direction, ranks=ranks, patients=patients))
    return rows


def _row(
    gallery: str,
    name: str,
    direction: str,
    *,
    ranks: NDArray[np.int64],
    patients: NDArray[np.str_],
) -> dict[str, Any]:
    n = len(ranks)
    cutoffs = {f"R@{k}": k for k in _CUTOFFS if k < n}
    cutoffs |= {f"R@{share}": max(1, round(part * n)) for share, part in _SHARES.items()}
    values = {label: round(retrieval_recall_at_k(ranks, k), 4) for label, k in cutoffs.items()}
    one_percent = cutoffs["R@1%"]
    groups = [ranks[patients == patient].astype(np.float64) for patient in np.unique(patients)]
    low, high = bootstrap_interval(groups, lambda r: float((r <= one_percent).mean()))
    return {
        "gallery": gallery,
        "encoder": name,
        "direction": direction,
        "N": n,
        **values,
        "R@1% 95% CI": f"{low:.3f}-{high:.3f} ({'patients' if len(groups) > 1 else 'spots'})",
        "chance R@10": round(min(10 / n, 1), 4),
        "chance R@1%": round(one_percent / n, 4),
        "median rank": float(np.median(ranks)),
    }


def _constant_rows(
    embedded: tuple[list[Embedded], list[Embedded]],
) -> list[dict[str, Any]]:
    """Baselines that look at nothing: random vectors, and the training mean as every query."""
    train, held_out = embedded
    gene = np.concatenate([part.gene for part in held_out])
    patients = np.repeat("all", len(gene))
    noise = np.random.default_rng(0).normal(size=gene.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    label = "all held out" if len(held_out) > 1 else f"slide {held_out[0].slide.slide_id}"
    rows = [
        _row(
            label, "random", "image_to_gene", ranks=retrieval_ranks(noise, gene), patients=patients
        )
    ]
    if train:
        mean = np.concatenate([part.gene for part in train]).mean(axis=0)
        queries = np.tile(mean / np.linalg.norm(mean), (len(gene), 1))
        ranks = retrieval_ranks(queries, gene)
        rows.append(_row(label, "mean expression", "image_to_gene", ranks=ranks, patients=patients))
    return rows


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        lines.append(
            "| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |"
        )
    return lines
