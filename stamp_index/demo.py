"""The demo: from nothing to a searchable store, every step real and each skipped when it is already done."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stamp_index.slides import Slide
    from stamp_index.store import Store

HELD_OUT: Final = "P3"
LABEL: Final = "domain"  # planted in every spot; what the demo's probe tells apart
LABEL_AUTHOR: Final = "phantom"
_N_SLIDES: Final = 6


def first_query() -> str:
    """Signature that the demo opens on."""
    from stamp_index.phantom import PLANTED_QUERIES

    return PLANTED_QUERIES["lymphoid"]


def build_demo(folder: Path | str, *, say: Callable[[str], object]) -> Path:
    """Draw the phantom, train on two of its patients, embed, index and evaluate all three.

    Parameters
    ----------
    folder : path
        Gets ``slides/``, ``run/`` and ``store/``. A step whose result is there is not repeated; a demo
        that was interrupted goes on.
    say : callable
        Told what is being done.

    Returns
    -------
    Path
        The store.
    """
    from stamp_index.readers import read

    folder = Path(folder)
    slides_dir, run, store = folder / "slides", folder / "run", folder / "store"
    started = time.perf_counter()
    _draw(slides_dir, say)
    paths = sorted(path.parent for path in slides_dir.glob("*/slide.toml"))
    _train(paths, run, say)
    slides = [read(path) for path in paths]
    _store(slides, run, store, say)
    _evaluate(slides, run, store, say=say)
    say(f"The demo is in {folder} ({time.perf_counter() - started:.0f} s).")
    return store


def _draw(slides_dir: Path, say: Callable[[str], object]) -> None:
    from stamp_index.phantom import make_phantom

    done = slides_dir / "complete"
    if done.exists():
        return
    say(f"1/5 drawing {_N_SLIDES} synthetic slides of 3 patients")
    make_phantom(slides_dir)
    done.touch()


def _train(paths: list[Path], run: Path, say: Callable[[str], object]) -> None:
    from stamp_index.training import run_trainer

    if (run / "ridge" / "encoder.json").exists():
        return
    say(f"2/5 training STAMP on patients other than {HELD_OUT}")
    status = run_trainer(
        [
            "train",
            *map(str, paths),
            "--recipe",
            "demo",
            "--hold-out-patient",
            HELD_OUT,
            "--out",
            str(run),
        ]
    )
    if status:
        msg = f"Training ended with status {status}; its message is above. Run the demo again to go on."
        raise StampIndexError(msg)


def _store(slides: list[Slide], run: Path, store: Path, say: Callable[[str], object]) -> None:
    from stamp_index.embed.folder import build_indexes, embed_into
    from stamp_index.encoders import read_manifest
    from stamp_index.index import has_index
    from stamp_index.store import Store
    from stamp_index.store.schema import MODALITIES

    if store.exists():
        made_by = Store.open(store).card.fingerprint
        if made_by != read_manifest(run / "encoder")["fingerprint"]:
            shutil.rmtree(store)  # of an encoder that was trained again since
    there = set(Store.open(store).slides()["slide_id"]) if store.exists() else set()
    missing = [slide for slide in slides if slide.slide_id not in there]
    if missing:
        say(f"3/5 embedding {len(missing)} slides")
        embed_into(store, missing, encoder_path=run / "encoder", features=run / "features")
    opened = Store.open(store)
    label_domains(opened, slides)
    indexed = all(has_index(opened, side) for side in MODALITIES)
    if missing or not indexed:
        say("4/5 indexing")
        build_indexes(store)


def label_domains(store: Store, slides: Sequence[Slide]) -> list[str]:
    """Label the spots of phantom slides with the tissue that was planted there.

    Parameters
    ----------
    store : Store
        Holds the slides.
    slides : sequence of Slide
        Whose sources are folders that `make_phantom` wrote.

    Returns
    -------
    list of str
        Ids of the slides that were labelled now; those that had the whole label before are left as they are.

    Raises
    ------
    SlideError
        If a slide has no planted truth.
    """
    from stamp_index.phantom import load_truth
    from stamp_index.view import spot_places

    labelled = []
    for slide in slides:
        rows = spot_places(store, slide.slide_id).rows
        if LABEL in store.label_names and store.label(LABEL, rows).notna().all():
            continue
        truth = load_truth(slide.source).set_index("barcode")["domain"]
        barcodes = store.spots(["spot_id"], rows)["spot_id"].str.removeprefix(f"{slide.slide_id}:")
        values = [str(name) for name in truth.loc[barcodes]]
        store.annotate(slide.slide_id, LABEL, values, author=LABEL_AUTHOR, source="planted truth")
        labelled.append(slide.slide_id)
    return labelled


def _evaluate(slides: list[Slide], run: Path, store: Path, *, say: Callable[[str], object]) -> None:
    from stamp_index.evaluate import ann_recall, evaluate_run
    from stamp_index.phantom import PLANTED_QUERIES

    path = run / "evaluation.json"
    if path.exists():
        return
    say(f"5/5 evaluating on held-out patient {HELD_OUT}")
    markers = [
        term.split()[0]
        for text in PLANTED_QUERIES.values()
        for term in text.split(",")
        if term.strip().endswith("high")
    ]
    report = evaluate_run(run, slides, genes=markers)
    report.ann = ann_recall(store)
    report.save(path)
    say(report.to_markdown())


def read_evaluation(folder: Path | str) -> dict[str, object]:
    """Report that the demo in `folder` wrote."""
    report: dict[str, object] = json.loads((Path(folder) / "run" / "evaluation.json").read_text())
    return report
