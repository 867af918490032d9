"""Train every recipe on the paired legacy ST sections and measure it on held-out ones.

    python benchmarks/train_recipes.py --out runs/recipes --set-name recipes --seeds 3
    python benchmarks/train_recipes.py --out runs/recipes --table

Results are appended to OUT/results.jsonl; what is there of the same settings is not trained again. The table has, for each held-out
section: gallery size and chance, recall@10 within the section both ways (mean over seeds) with a 95 % interval over
spots of the mean of both and of its difference from ridge, Pearson correlation of 50 genes predicted as the mean of
the 50 nearest training spots, adjusted Rand index of k-means on image embeddings against the section's labels, and balanced accuracy of a logistic
probe trained on the training sections' labels, where they share them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from legacy_st import section
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score
from stamp_index.embed import embed_slide
from stamp_index.encoders import FeatureCache, load_encoder
from stamp_index.evaluate.metrics import retrieval_ranks
from stamp_index.evaluate.prediction import prediction_table
from stamp_index.evaluate.report import Embedded
from trainer.recipe_file import load_recipe
from trainer.split import Wish, make_split
from trainer.train import Job, train_slides

# Sections trained on: sections held out, all measured after one training.
SPLITS = {
    ("C2", "C3", "C4"): ("C5", "A1"),
    ("MOB4", "MOB9"): ("MOB11",),
    ("MOB4", "MOB11"): ("MOB9",),
    ("MOB9", "MOB11"): ("MOB4",),
}
HELD_OUT = [one for held in SPLITS.values() for one in held]
WIDE, SCALES, FEW_PAIRS = "legacy_st", "legacy_st_scales", "few_pairs"
ALL = (WIDE, SCALES, FEW_PAIRS)
NEAR = ("genes.scales.0.radius_um=290.0",)
FEW = "model.direct.components=300"
# name: recipe, overlays, overrides
RECIPES = {
    "closed_form": ("closed_form", (WIDE, SCALES), (FEW,)),
    "clip_region": ("legacy_st_clip", (), ()),
    "stamp": ("legacy_st", (), ()),
    "clip": ("clip", ALL, ()),
    "umpire": ("umpire", ALL, ()),
    "bleep": ("bleep", (WIDE, SCALES), ("optimiser.epochs=20",)),
    "seal": ("seal", (WIDE,), (*NEAR, "sampler.batch_size=128")),
    "st_align": ("st_align_small", (WIDE,), ("model.region_um=1000.0", "optimiser.epochs=30")),
}
STAMP = ("legacy_st", ())
LOSSES = (
    "clip(patch, gene)",
    "clip_one_way(patch, region)",
    "clip(region, gene)",
    "locate",
    "clip(image, gene)",
)
ABLATIONS = {
    **{
        f"stamp without {name}": (*STAMP, (f"losses.{i}.weight=0",))
        for i, name in enumerate(LOSSES)
    },
    "stamp, random start": (
        *STAMP,
        ("start=random", "model.direct={}", "optimiser.lr=3e-4", "optimiser.epochs=20"),
    ),
    "stamp, region's CLS without the patch": (*STAMP, ("model.region_ref_leak=false",)),
    "stamp, genes of the spot alone": (*STAMP, ("genes.scales=[]",)),
    "stamp, panel by variance": (*STAMP, ("genes.ranking=variance",)),
    "stamp, patch 200 um and region 600 um": (*STAMP, ("model.patch_um=200.0",)),
    "stamp at half the rate": (*STAMP, ("optimiser.lr=1e-4",)),
    "stamp, batches of all sections": (
        *STAMP,
        ("sampler.kind=same_slide_partner", "sampler.batch_size=128"),
    ),
    "closed form, genes of the spot alone": ("closed_form", (WIDE,), (FEW,)),
    "closed form, panel by variance": (
        "closed_form",
        (WIDE, SCALES),
        (FEW, "genes.ranking=variance"),
    ),
    "closed form, patch 200 um and region 600 um": (
        "closed_form",
        (WIDE, SCALES),
        (FEW, "model.patch_um=200.0"),
    ),
    "closed form, 1,000 components": ("closed_form", (WIDE, SCALES), ()),
}
PLACEMENTS = "images.placements=2"
RIDGE = "ridge (closed_form's inputs)"


def run(name: str, made: tuple, train: tuple[str, ...], held: list[str], seed: int, out: Path):  # noqa: ANN201
    """Train once and measure the encoder on each section of `held`, and ridge where it was fitted."""
    slides = {part: section(part) for part in (*train, *held)}
    folder = out / re.sub(r"[^\w,-]", "_", f"{name}-{'_'.join(train)}-{seed}")
    features = out / "features"
    started = time.perf_counter()
    split = make_split(list(slides.values()), Wish(slides=held))
    job = Job(_recipe(made), folder, features=features, seed=seed, quiet=True)
    train_slides(list(slides.values()), split, job)
    seconds = time.perf_counter() - started
    parts = [(name, "encoder")]
    if seed == 0 and name in ("closed_form", "clip"):  # ridge knows no seed
        parts.append((f"ridge ({name}'s inputs)", "ridge"))
    for label, part in parts:
        encoder = load_encoder(folder / part)
        for one in held:
            row = measure(encoder, [slides[key] for key in (*train, one)], features)
            known = {"name": label, "recipe": settings(made), "held_out": one, "seed": seed}
            yield {**known, "seconds": seconds, **row}


def _recipe(made: tuple):  # noqa: ANN202
    name, overlays, overrides = made
    placed = (PLACEMENTS, *overrides) if name == "legacy_st" else overrides
    return load_recipe(name, placed, overlays)


def settings(made: tuple) -> str:
    """Hash of everything that a recipe says."""
    text = json.dumps(_recipe(made).to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measure(encoder, slides, features: Path) -> dict:  # noqa: ANN001
    """All figures of one encoder on the last slide."""
    cache = FeatureCache(features, encoder)
    parts = [Embedded(slide, *embed_slide(encoder, slide, features=cache)) for slide in slides]
    train, held = parts[:-1], parts[-1]
    ranks = [retrieval_ranks(held.image, held.gene), retrieval_ranks(held.gene, held.image)]
    table = prediction_table("encoder", encoder.panel, train, [held])
    row = {
        "N": len(ranks[0]),
        "hits": [(one <= 10).astype(int).tolist() for one in ranks],
        "median_rank": [float(np.median(one)) for one in ranks],
        "pearson": float(np.mean([entry["mean Pearson"] for entry in table])),
    }
    label = held.slide.spots["label"].to_numpy()
    known = label != ""
    clusters = KMeans(len(set(label[known])), n_init=10, random_state=0).fit_predict(held.image)
    row["ari"] = float(adjusted_rand_score(label[known], clusters[known]))
    seen = np.concatenate([part.slide.spots["label"].to_numpy() for part in train])
    if set(label[known]) <= set(seen):
        x = np.concatenate([part.image for part in train])
        probe = LogisticRegression(max_iter=2000).fit(x[seen != ""], seen[seen != ""])
        row["probe"] = float(
            balanced_accuracy_score(label[known], probe.predict(held.image[known]))
        )
    return row


def table(rows: list[dict]) -> str:
    """Markdown, one block a held-out section."""
    lines = []
    for train, held in ((train, one) for train, ends in SPLITS.items() for one in ends):
        mine = [row for row in rows if row["held_out"] == held]
        if not mine:
            continue
        n = mine[0]["N"]
        lines += [
            f"\nTrain {', '.join(train)}, held out {held}: N {n}, chance R@10 {10 / n:.3f}\n",
            "| | seeds | R@10 image_to_gene / gene_to_image | mean, 95 % CI | minus ridge, 95 % CI | Pearson | ARI | probe |",
            "|---|---|---|---|---|---|---|---|",
        ]
        ridge = [row for row in mine if row["name"] == RIDGE]
        for name in dict.fromkeys(row["name"] for row in mine):
            lines.append(_line(name, [row for row in mine if row["name"] == name], ridge))
    return "\n".join(lines)


def _line(name: str, same: list[dict], ridge: list[dict]) -> str:
    if len({row["recipe"] for row in same}) > 1:
        sys.exit(f"results.jsonl has {name} with two different settings; take the older lines out.")
    hits = _hits(same)
    both = hits.mean(axis=0)
    low, high = _interval(both)
    probe = f"{np.mean([row['probe'] for row in same]):.2f}" if "probe" in same[0] else "-"
    against = "-"
    if ridge and name != RIDGE:
        gain = both - _hits(ridge).mean(axis=0)  # spot by spot
        against = "{:+.3f}, {:+.3f} to {:+.3f}".format(gain.mean(), *_interval(gain))
    return (
        f"| {name} | {len(same)} | {hits[0].mean():.3f} / {hits[1].mean():.3f} | {both.mean():.3f}, {low:.3f}-{high:.3f} "
        f"| {against} | {np.mean([row['pearson'] for row in same]):.3f} | {np.mean([row['ari'] for row in same]):.2f} | {probe} |"
    )


def _hits(same: list[dict]) -> np.ndarray:
    """Share of seeds with a hit, (2, n)."""
    return np.array([row["hits"] for row in same], dtype=float).mean(axis=0)


def _interval(values: np.ndarray) -> np.ndarray:
    """95 % of the means of 2,000 draws of spots."""
    rng = np.random.default_rng(0)
    draws = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)]
    return np.percentile(draws, [2.5, 97.5])


def _read(path: Path) -> list[dict]:
    """Results, each once: two processes at the same time may have trained the same."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    keys = ("name", "recipe", "held_out", "seed")
    return list({tuple(row[key] for key in keys): row for row in rows}.values())


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set-name", choices=["recipes", "ablations"], default="recipes")
    parser.add_argument(
        "--stage1", help="A stage-1 gene encoder, for the ablations that start from one."
    )
    parser.add_argument("--only", nargs="*", help="Names to train.")
    parser.add_argument("--held-out", nargs="*", default=HELD_OUT, choices=HELD_OUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "results.jsonl"
    rows = _read(path) if path.exists() else []
    if given.table:
        print(table(rows))
        return
    done = {(row["name"], row["recipe"], row["held_out"], row["seed"]) for row in rows}
    chosen = RECIPES if given.set_name == "recipes" else ABLATIONS
    if given.stage1 and given.set_name == "ablations":
        recipe, overlays, sets = ABLATIONS["stamp, random start"]
        own = f'genes.stage1="{given.stage1}"'
        chosen = {**chosen, "stamp, random start after stage 1": (recipe, overlays, (*sets, own))}
    for name in given.only or chosen:
        # Nothing is drawn for the closed form.
        seeds = range(1 if chosen[name][0] == "closed_form" else given.seeds)
        for (train, held), seed in itertools.product(SPLITS.items(), seeds):
            known = [(name, settings(chosen[name]), one, seed) for one in held]
            todo = [key[2] for key in known if key[2] in given.held_out and key not in done]
            for row in run(name, chosen[name], train, todo, seed, given.out) if todo else ():
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                hits = np.mean(row["hits"]).round(3)
                print(
                    row["name"], row["held_out"], seed, f"{row['seconds']:.0f} s", hits, flush=True
                )


if __name__ == "__main__":
    main()
