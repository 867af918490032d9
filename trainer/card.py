"""The card of a trained encoder: data, terms, split, numbers, limits, and the command that makes it again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from stamp_index.encoders.checkpoint import CARD
from trainer.recipe import LossTerm
from trainer.state import best_record, read_log, replace_text

_TERMS: Final = "- Terms: the weights may be passed on only where the terms of these slides allow it. Write them here."


def write_card(run: Path) -> None:
    """Write ``encoder/CARD.md`` from what the run's folder holds."""
    manifest = json.loads((run / "encoder" / "encoder.json").read_text())
    made = json.loads((run / "run.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    path = run / "encoder" / CARD
    text = _card(manifest, made, environment, read_log(run))
    if path.exists():  # terms that someone has written down stay
        kept = [line for line in path.read_text().splitlines() if line.startswith("- Terms:")]
        text = text.replace(_TERMS, kept[0] if kept else _TERMS)
    replace_text(path, text)


def _card(
    manifest: dict[str, Any],
    made: dict[str, Any],
    environment: dict[str, Any],
    records: list[dict[str, Any]],
) -> str:
    recipe, split = made["recipe"], made["split"]
    model = recipe["model"]
    losses = ", ".join(f"{term['weight']:g} {LossTerm(**term).name}" for term in recipe["losses"])
    patients = sorted({split["patients"][name] or "unknown" for name in split["train"]})
    lines = [
        f"# Encoder {manifest['name']} {manifest['fingerprint']}",
        "",
        f"Recipe `{recipe['name']}`, seed {made['seed']}. Patch {model['patch']['width_um']:g} um at "
        f"{model['patch']['size_px']} px, region {model['region']['width_um']:g} um at {model['region']['size_px']} px, "
        f"{len(manifest['panel']['genes'])} genes ({manifest['panel'].get('species') or 'species unknown'}).",
        f"Losses: {losses}.",
        "",
        "## Data",
        f"- Trained on {', '.join(split['train'])}: patients {', '.join(patients)}.",
        f"- Validated on {', '.join(split['validate']) or 'nothing'}; held out {', '.join(split['held_out']) or 'nothing'}.",
        f"- Split {split['hash']}, by {split['by']}.",
        *_stage1(made),
        _TERMS,
        *(f"- Backbone: {terms}" for terms in licences(model)),
        "",
        "## Numbers",
        *(f"- {line}" for line in numbers(records, recipe["validation"]["k"])),
        "- Held-out retrieval with baselines: `stamp-index evaluate RUN SLIDE...`",
        "",
        "## Limits",
        "- Genes outside the panel are not seen; expression is measured against each slide's own mean.",
        "- Patients, stains and scanners unlike the training slides': measure before you trust it.",
        "",
        "## Made by",
        f"    {_command()}",
        f"{_ran_on(environment)}.",
        *(f"Resumed on {_ran_on(later)}." for later in environment.get("resumed", ())),
    ]
    return "\n".join(lines) + "\n"


def _stage1(made: dict[str, Any]) -> list[str]:
    """Say which gene encoder of stage 1 the run began from, if any."""
    origin = made.get("stage1")
    if origin is None:
        return []
    seen = ", ".join(origin["train"]) or "unknown slides"
    lines = [f"- Gene encoder pre-trained in stage 1 ({origin['fingerprint']}) on {seen}."]
    return [*lines, *(f"- {sentence}" for sentence in origin.get("overlap", ()))]


def _ran_on(environment: dict[str, Any]) -> str:
    commit = environment["commit"] or "unknown"
    return f"torch {environment['packages']['torch']}, {environment['device']}, commit {commit}"


def licences(model: dict[str, Any]) -> list[str]:
    """Terms of every pretrained network that a model's towers contain, from its plain values."""
    from stamp_index.encoders.backbones import licence_notice, registry

    towers = (model["image_tower"], model["region_tower"])
    names = {tower.get("backbone") or tower.get("model") for tower in towers} - {None}
    known = {
        name if name.lower() in registry() or ":" in name else f"timm:{name}" for name in names
    }
    if "hybrid" in [tower.get("kind") for tower in towers]:
        known.add("efficientnet_lite0")
    return [licence_notice(name) for name in sorted(known)]


def random_starts(model: dict[str, Any]) -> list[str]:
    """One sentence for every network that would start untrained because no weights were named."""
    from stamp_index.encoders.towers import random_network

    names = [random_network(model[tower]) for tower in ("image_tower", "region_tower")]
    return [
        f'{name} starts from RANDOM weights: none were named. Set weights = "hub", or a local file, in the '
        "recipe's tower."
        for name in names
        if name
    ]


def numbers(records: list[dict[str, Any]], k: int) -> list[str]:
    """Say how far a run has come, and which epoch's weights it keeps."""
    trained = [record for record in records if record["epoch"]]
    lines = ["No training steps: the closed-form start."]
    if trained:
        last = trained[-1]
        lines = [f"{last['epoch']} epochs, {last['step']} steps, final loss {last['loss']:.3f}."]
    best = best_record(records)
    if best is None:
        return lines
    whose = f"epoch {best['epoch']}" if best["epoch"] else "the start (epoch 0)"
    why = "with the best" if best["epoch"] else "since no epoch had a better"
    found = f"{best['validation_recall']:.3f} (mean of both directions, within slides)"
    if not trained:
        return [*lines, f"Validation recall@{k}: {found}."]
    lines.append(f"The weights are those of {whose}, {why} validation recall@{k}: {found}.")
    return lines


def _command() -> str:
    if Path(sys.argv[0]).parent.name != "trainer":
        return "trainer.train.train_slides, with the recipe, split and seed of run.json"
    return "stamp-index " + " ".join(_quoted(argument) for argument in sys.argv[1:])


def _quoted(argument: str) -> str:
    import shlex

    return shlex.quote(argument)
