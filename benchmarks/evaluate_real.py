"""Train recipes on the paired legacy ST sections, put every section into a store, and measure the store.

    python benchmarks/evaluate_real.py --out runs/real --only closed_form stamp

For each recipe and split a store and a report (HTML, JSON, Markdown) are left in OUT; printed are one row of retrieval for
each, and the rows of probes and domains. HER2ST: trained on C2 to C4, tested on C5 (by section), A1 (by patient), and the
sections with a pathologist's regions and no picture (C1, D1, E1, F1, G2, H1). Olfactory bulb: each replicate held out in
turn, layers by experts.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from legacy_st import section
from stamp_index.embed.folder import embed_into
from stamp_index.evaluate.raw_features import raw_views
from stamp_index.evaluate.split import split_of_encoder
from stamp_index.evaluate.suite.asked import SuiteSettings
from stamp_index.evaluate.suite.report import SuiteReport, markdown_table
from stamp_index.evaluate.suite.run import evaluate_store
from stamp_index.slides import Slide  # noqa: TC001
from stamp_index.store import Store
from train_recipes import RECIPES, _recipe
from trainer.split import Wish, make_split
from trainer.train import Job, train_slides

HER2ST = ("C2", "C3", "C4")
PATHOLOGIST = ("A1", "C1", "D1", "E1", "F1", "G2", "H1")
BULB = ("MOB4", "MOB9", "MOB11")
WORLDS = {  # trained on, tested on, label
    "her2st": (HER2ST, ("C5", *PATHOLOGIST), "region"),
    **{f"bulb-{out}": (tuple(one for one in BULB if one != out), (out,), "layer") for out in BULB},
}
SHOWN = ("Expression", "Linear probe", "Few labels", "Spatial domains")
LEFT_OUT = {"region": ("undetermined",), "layer": ()}


def labelled(name: str, label: str) -> Slide:
    """Read a section with its expert label under the label's name; clusters of the authors are no label."""
    slide = section(name)
    text = slide.spots["label"]
    spots = slide.spots.drop(columns="label")
    if label == "layer" or name in PATHOLOGIST:
        spots = spots.assign(**{label: text.where(text != "", None)})
    return replace(slide, spots=spots)


def measure(recipe: str, world: str, out: Path) -> SuiteReport:
    """Train, embed and evaluate once; what is there already is taken."""
    train, test, label = WORLDS[world]
    slides = [labelled(name, label) for name in (*train, *test)]
    folder = out / re.sub(r"\W", "_", f"{recipe}-{world}")
    features = out / "features"
    if not (folder / "run" / "encoder").exists():
        split = make_split(
            [one for one in slides if one.image is not None],
            Wish(
                slides=[
                    one.slide_id
                    for one in slides
                    if one.slide_id not in train and one.image is not None
                ]
            ),
        )
        job = Job(_recipe(RECIPES[recipe]), folder / "run", features=features, seed=0, quiet=True)
        train_slides([one for one in slides if one.image is not None], split, job)
    store = folder / "store"
    if not store.exists():
        embed_into(store, slides, encoder_path=folder / "run" / "encoder", features=features)
    settings = SuiteSettings(
        parts=("retrieval", "expression", "probe", "domains"),
        label=label,
        exclude=LEFT_OUT[label],
    )
    held = Store.open(store)
    split = split_of_encoder(held)
    raw = raw_views(held, (*split.train, *split.test), cache=features)
    report = evaluate_store(held, split, settings, raw=raw)
    report.save(folder)
    return report


def show(recipe: str, world: str, report: SuiteReport) -> None:
    """Print what a table of results needs."""
    ours = report.encoder["name"]
    keys = (
        "test spots of",
        "gallery",
        "direction",
        "N",
        "R@10",
        "R@10 low",
        "R@10 high",
        "chance R@10",
        "R@10 near",
    )
    rows = [
        {"encoder": row["encoder"], **{key: row.get(key) for key in keys}}
        for row in report.rows("Retrieval")
        if row["gallery"] in ("all", "own slide")
    ]
    print(
        f"\n### {recipe}, {world} (encoder {ours} {report.encoder['fingerprint'][:8]}, split {report.split['hash']})\n"
    )
    print("\n".join(markdown_table(["encoder", *keys], rows)))
    for section_ in report.sections:
        if (
            section_["title"] in ("Expression", "Linear probe")
            or "domains" in section_["title"].lower()
        ):
            one = section_["tables"][0]
            print(f"\n{section_['title']}\n")
            print("\n".join(markdown_table(one["columns"], one["rows"])))
    print("\n".join(f"- {note}" for note in report.notes))


def main() -> None:
    """Measure every recipe on every split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--world", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    given = parser.parse_args()
    for recipe in given.only:
        for world in given.world:
            show(recipe, world, measure(recipe, world, given.out))


if __name__ == "__main__":
    main()
