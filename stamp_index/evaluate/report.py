"""Evaluate a training run on its held-out slides, baselines beside every number."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.embed.ingest import embed_slide, n_steps
from stamp_index.embed.progress import Counter
from stamp_index.encoders.json_shapes import TEXT, TEXT_BY_KEY, TEXTS, Absent, flaw
from stamp_index.errors import MissingGenesError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.metrics import (
    mean_interval,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.planted import planted_precision
from stamp_index.evaluate.prediction import prediction_table
from stamp_index.genes import close_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders import FeatureCache
    from stamp_index.encoders.base import Encoder
    from stamp_index.slides import Slide

_CUTOFFS: Final = (1, 5, 10, 50)
_SHARES: Final = {"1%": 0.01, "5%": 0.05}
_SPLIT: Final = {
    **{"by": TEXT, "train": TEXTS, "patients": TEXT_BY_KEY},
    **{"hash": TEXT, "validate": Absent(TEXTS)},
}
_SPLIT_NOTES: Final = {
    "patient": "held out by patient",
    "section": "held out by SECTION: a patient of held-out slides was also trained on",
    "nothing": "nothing held out",
}


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
    ann : list of dict
        Recall of a store's indexes against exact search, where a store was given.
    """

    split: dict[str, Any]
    encoder: dict[str, str]
    retrieval: list[dict[str, Any]] = field(default_factory=list)
    planted: list[dict[str, Any]] = field(default_factory=list)
    prediction: list[dict[str, Any]] = field(default_factory=list)
    ann: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path | str) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=1))

    def to_markdown(self) -> str:
        """Tables for people."""
        note = _SPLIT_NOTES[self.split["by"]]
        lines = [
            f"Encoder {self.encoder['name']} {self.encoder['fingerprint']}; split "
            f"{self.split['hash']}, {note}.",
            "",
            *_table(self.retrieval),
        ]
        for rows in (self.planted, self.prediction, self.ann):
            if rows:
                lines += ["", *_table(rows)]
        return "\n".join(lines)


def evaluate_run(
    run: Path | str,
    slides: Sequence[Slide],
    *,
    features: Path | str | None = None,
    genes: Sequence[str] = (),
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Measure a run's encoder on the slides that it did not train on.

    Parameters
    ----------
    run : path
        Folder that the trainer wrote: ``split.json``, ``encoder/``, ``ridge/``.
    slides : sequence of Slide
        The training slides (the reference for prediction) and the held-out ones. A slide that the split does
        not name counts as held out too; every row says whether its patient was trained on.
    features : path, optional
        Feature cache; by default the one that training used, if it is still there, else ``features/`` in `run`.
    genes : sequence of str
        Genes for expression prediction; by default the panel's 50 that vary most in training.
    progress : callable, optional
        Called with the steps done so far, and with those that there are in all: images that are prepared (or found in
        the cache), and embeddings.

    Returns
    -------
    Report
        Retrieval within each held-out slide and over all of them (those of new patients and those of trained
        patients apart), for the encoder, ridge and two baselines that look at nothing.

    Raises
    ------
    EvaluationError
        If the run has no split, or none of the slides is held out.
    MissingGenesError
        If one of `genes` is not in the encoder's panel.
    """
    from stamp_index.encoders import FeatureCache, load_encoder

    run = Path(run)
    split = _read_split(run)
    train, held_out = _sides(split, slides)
    encoders: dict[str, Encoder] = {"trained": load_encoder(run / "encoder")}
    _check_genes(encoders["trained"], genes)
    if (run / "ridge" / "encoder.json").exists():
        encoders["PCA + ridge"] = load_encoder(run / "ridge")
    main = encoders["trained"]
    report = Report(split, {"name": main.name, "fingerprint": main.fingerprint})
    folder = Path(features) if features is not None else _features_of(run)
    steps = [n_steps(encoder, slide) for encoder in encoders.values() for slide in train + held_out]
    count = Counter(sum(steps), progress)
    embedded: dict[str, tuple[list[Embedded], list[Embedded]]] = {}
    for name, encoder in encoders.items():
        cache = FeatureCache(folder, encoder, progress=count.add)  # type: ignore[arg-type]
        embedded[name] = (_embed(encoder, train, cache), _embed(encoder, held_out, cache))
        report.retrieval += _retrieval(name, _galleries(split, embedded[name][1]))
    report.retrieval += _constant_rows(
        embedded["trained"][0], _galleries(split, embedded["trained"][1])
    )
    report.planted = [
        row
        for name, encoder in encoders.items()
        for row in planted_precision(name, encoder, embedded[name][1])
    ]
    for name in encoders:
        report.prediction += prediction_table(name, main.panel, *embedded[name], genes=genes)
    return report


def ann_recall(store: Path | str) -> list[dict[str, Any]]:
    """Recall of a store's indexes against exact search, measured when they were built.

    Parameters
    ----------
    store : path
        Folder of the store.

    Returns
    -------
    list of dict
        One row for each index and kind of query; empty where the store has no index.
    """
    from stamp_index.index import has_index, read_card
    from stamp_index.store import Store
    from stamp_index.store.schema import MODALITIES

    opened = Store.open(store)
    rows = []
    for modality in MODALITIES:
        if has_index(opened, modality):
            card = read_card(opened, modality)
            rows += [
                {"index": modality, "queries": side, "N": card.n, "ann_recall@10": recall}
                for side, recall in card.ann_recall_at_10.items()
            ]
    return rows


def _check_genes(encoder: Encoder, genes: Sequence[str]) -> None:
    missing = [gene for gene in genes if gene not in encoder.panel.column_of]
    if missing:
        near = [name for gene in missing for name in close_names(gene, encoder.panel.genes)]
        msg = (
            f"{', '.join(missing)} cannot be predicted: not in the encoder's panel of {len(encoder.panel)} genes. "
            f"Close names: {', '.join(near) or 'none'}. Correct or leave them out."
        )
        raise MissingGenesError(msg)


def _read_split(run: Path) -> dict[str, Any]:
    path = run / "split.json"
    if not path.is_file():
        msg = f"{run} is not a training run: split.json is missing. Give the folder of --out."
        raise EvaluationError(msg)
    try:
        split: dict[str, Any] = json.loads(path.read_bytes())
        wrong = flaw(split, _SPLIT, "the split")
    except (OSError, ValueError, RecursionError) as exc:
        wrong = str(exc)
    # The checkpoint's own record decides what was trained on, whatever lies beside it.
    if not wrong and (run / "encoder" / "encoder.json").is_file():
        from stamp_index.encoders import read_manifest

        path = run / "encoder" / "encoder.json"
        split = read_manifest(run / "encoder")["training"].get("split", split)
        wrong = flaw(split, _SPLIT, "the split")
    if not wrong and split["by"] not in _SPLIT_NOTES:
        wrong = f"it was split by {split['by']!r}"
    if wrong:
        msg = f"{path} is damaged ({wrong}). Copy the run again."
        raise EvaluationError(msg)
    return split


def _features_of(run: Path) -> Path:
    """Feature cache that a run was trained with, as its ``run.json`` says, or else where its own would be."""
    try:
        noted = json.loads((run / "run.json").read_bytes())["features"]
        if Path(noted).is_dir():
            return Path(noted)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # what cannot be found is made again
    return run / "features"


def _sides(split: dict[str, Any], slides: Sequence[Slide]) -> tuple[list[Slide], list[Slide]]:
    given = [slide.slide_id for slide in slides]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        msg = f"Slide {', '.join(twice)} is given more than once: each of its spots would tie with its twin. Give it once."
        raise EvaluationError(msg)
    pictured = [slide for slide in slides if slide.image is not None and slide.has_counts]
    train = [slide for slide in pictured if slide.slide_id in split["train"]]
    # A validation slide has chosen the epoch: it is neither.
    seen = {*split["train"], *split.get("validate", ())}
    held_out = [slide for slide in pictured if slide.slide_id not in seen]
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
        image, gene = embed_slide(encoder, slide, features=cache, progress=cache.progress)
        if image is not None and gene is not None:
            found.append(Embedded(slide, image, gene))
    return found


def _galleries(split: dict[str, Any], parts: list[Embedded]) -> dict[str, list[Embedded]]:
    """Held-out slides together, new patients and trained patients apart, and each alone."""
    trained = {split["patients"].get(name) for name in split["train"]} - {"", None}
    by: dict[str, list[Embedded]] = {}
    for part in parts:
        patient = part.slide.patient_id
        kind = (
            "section" if patient in trained else "patient" if patient else "slide (patient unknown)"
        )
        by.setdefault(f"all held out by {kind}", []).append(part)
    alone = {
        f"slide {part.slide.slide_id} ({label.removeprefix('all ')})": [part]
        for label, members in by.items()
        for part in members
    }
    return {label: members for label, members in by.items() if len(members) > 1} | alone


def _retrieval(name: str, galleries: dict[str, list[Embedded]]) -> list[dict[str, Any]]:
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
    names, of_patient = np.unique(patients, return_inverse=True)
    low, high = mean_interval((ranks <= one_percent).astype(np.float64), of_patient)
    return {
        "gallery": gallery,
        "encoder": name,
        "direction": direction,
        "N": n,
        **values,
        "R@1% 95% CI": f"{low:.3f}-{high:.3f} ({'patients' if len(names) > 1 else 'spots'})",
        "chance R@10": round(min(10 / n, 1), 4),
        "chance R@1%": round(one_percent / n, 4),
        "median rank": float(np.median(ranks)),
    }


def _constant_rows(
    train: list[Embedded], galleries: dict[str, list[Embedded]]
) -> list[dict[str, Any]]:
    """Baselines that look at nothing: random vectors, and the training mean as every query."""
    rows = []
    for gallery, members in galleries.items():
        image = np.concatenate([part.image for part in members])
        gene = np.concatenate([part.gene for part in members])
        for direction, targets, side in (
            ("image_to_gene", gene, "gene"),
            ("gene_to_image", image, "image"),
        ):
            noise = np.random.default_rng(0).normal(size=targets.shape).astype(np.float32)
            queries = {"random": noise}
            if train:
                mean = np.concatenate([getattr(part, side) for part in train]).mean(axis=0)
                queries["mean expression"] = np.tile(mean, (len(targets), 1))
            for name, vectors in queries.items():
                ranks = retrieval_ranks(vectors, targets)
                alike = np.repeat("all", len(ranks))
                rows.append(_row(gallery, name, direction, ranks=ranks, patients=alike))
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
