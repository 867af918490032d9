"""The evaluation suite on the phantom and on paired legacy ST sections, and its tables in RESULTS.md: `make bench`.

    python benchmarks/suite.py --out runs/bench
    python benchmarks/suite.py --out runs/bench --only closed_form stamp --world bulb-MOB4
    python benchmarks/suite.py --out runs/bench --world         # tables alone, of the reports that are in OUT

Phantom: the demo (its own recipe, patient P3 held out). HER2ST: trained on C2 to C4, tested on C5 (by section), A1 (by
patient), and the sections with a pathologist's regions and no picture (C1, D1, E1, F1, G2, H1). Olfactory bulb: each
replicate held out in turn, layers by experts. For each recipe and world a run, a store and a report (HTML, JSON, Markdown) are
left in OUT; what was trained and embedded there is taken, reports are made anew. One training each, seed 0. Worlds whose data
are not at hand are left out, and said.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from legacy_st import HER2ST as HER2ST_DATA
from legacy_st import MOB as BULB_DATA
from legacy_st import section
from stamp_index.demo import build_demo
from stamp_index.embed.folder import embed_into
from stamp_index.evaluate.raw_features import raw_views
from stamp_index.evaluate.split import split_of_encoder
from stamp_index.evaluate.suite.asked import PARTS, SuiteSettings
from stamp_index.evaluate.suite.report import SuiteReport, read_report
from stamp_index.evaluate.suite.run import evaluate_store
from stamp_index.slides import Slide, SlideImage  # noqa: TC001
from stamp_index.store import Store
from suite_tables import BULB, PHANTOM, write_section
from train_recipes import RECIPES, _recipe
from trainer.split import Wish, make_split
from trainer.train import Job, train_slides

HER2ST = ("C2", "C3", "C4")
PATHOLOGIST = ("A1", "C1", "D1", "E1", "F1", "G2", "H1")
WORLDS = {  # trained on, tested on, label
    "her2st": (HER2ST, ("C5", *PATHOLOGIST), "region"),
    **{f"bulb-{out}": (tuple(one for one in BULB if one != out), (out,), "layer") for out in BULB},
}
LEFT_OUT = {"region": ("undetermined",), "layer": ()}
WIDEST, DEFAULT = "closed_form", "stamp"  # whose raw features and index recipes are measured
TRAINED = "trained_at.txt"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def labelled(name: str, label: str) -> Slide:
    """Read a section with its expert label under the label's name; clusters of the authors are no label."""
    slide = section(name)
    text = slide.spots["label"]
    spots = slide.spots.drop(columns="label")
    if label == "layer" or name in PATHOLOGIST:
        spots = spots.assign(**{label: text.where(text != "", None)})
    return replace(slide, spots=spots)


def measure(recipe: str, world: str, out: Path) -> None:
    """Train, embed and evaluate one recipe in one world."""
    train, test, label = WORLDS[world]
    slides = [labelled(name, label) for name in (*train, *test)]
    folder, features = folder_of(recipe, world, out), out / "features"
    if not (folder / "run" / "encoder").exists():
        pictured = [one for one in slides if one.image is not None]
        held = [one.slide_id for one in pictured if one.slide_id not in train]
        job = Job(_recipe(RECIPES[recipe]), folder / "run", features=features, seed=0, quiet=True)
        train_slides(pictured, make_split(pictured, Wish(slides=held)), job)
        (folder / TRAINED).write_text(commit())
    if not (folder / "store").exists():
        embed_into(
            folder / "store", slides, encoder_path=folder / "run" / "encoder", features=features
        )
    parts = tuple(part for part in PARTS if part != "ann" or recipe == DEFAULT)
    settings = SuiteSettings(parts=parts, label=label, exclude=LEFT_OUT[label])
    store = Store.open(folder / "store")
    if recipe != WIDEST:  # raw features are the same for all recipes that see as much
        keep(evaluate_store(store, settings=settings), folder)
        return
    images = {one.slide_id: one.image for one in slides if one.image is not None}
    keep(with_raw(store, settings, features, images), folder)


def measure_phantom(out: Path) -> None:
    """Build the demo and evaluate its store."""
    folder = folder_of("demo", PHANTOM, out)
    if not (folder / "demo" / "run" / "encoder").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRAINED).write_text(commit())
    store = build_demo(folder / "demo", say=lambda text: print(text, flush=True))
    keep(with_raw(Store.open(store), SuiteSettings(label="domain"), folder / "features"), folder)


def keep(report: SuiteReport, folder: Path) -> None:
    """Save a report with the commits that trained and measured."""
    trained = folder / TRAINED
    report.settings["trained at"] = trained.read_text() if trained.exists() else commit()
    report.settings["measured at"] = commit()
    report.save(folder)


def with_raw(
    store: Store,
    settings: SuiteSettings,
    features: Path,
    images: dict[str, SlideImage] | None = None,
) -> SuiteReport:
    """Measure a store, raw features of its slides among the baselines."""
    split = split_of_encoder(store)
    raw = raw_views(store, (*split.train, *split.test), cache=features, images=images)
    return evaluate_store(store, split, settings, raw=raw)


def folder_of(recipe: str, world: str, out: Path) -> Path:
    return out / re.sub(r"\W", "_", f"{recipe}-{world}")


def reports(out: Path) -> dict[tuple[str, str], SuiteReport]:
    """Read the reports that lie in a folder, by recipe and world."""
    pairs = [("demo", PHANTOM), *((recipe, world) for world in WORLDS for recipe in RECIPES)]
    paths = {pair: folder_of(*pair, out) / "report.json" for pair in pairs}
    return {pair: read_report(path) for pair, path in paths.items() if path.exists()}


def main() -> None:
    """Measure every recipe in every world, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument(
        "--world", nargs="*", default=[PHANTOM, *WORLDS], choices=[PHANTOM, *WORLDS]
    )
    given = parser.parse_args()
    for world in given.world:
        data = HER2ST_DATA if world == "her2st" else BULB_DATA
        if world == PHANTOM:
            print("phantom", flush=True)
            measure_phantom(given.out)
        elif not data.exists():
            print(f"{world} is left out: there is no {data} (see benchmarks/legacy_st.py)")
        else:
            for recipe in given.only:
                print(world, recipe, flush=True)
                measure(recipe, world, given.out)
    write_section(RESULTS, reports(given.out))
    print(f"Wrote {RESULTS}")


def commit() -> str:
    """Name the commit that was run; what this script itself rewrites is no change."""
    described = _git("describe", "--always", "--abbrev=7") or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RESULTS}")
    return f"{described}-dirty" if changed else described


def _git(*arguments: str) -> str:
    asked = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
