"""`stamp-index evaluate` and `stamp-index compare`: how good an encoder is, and whether another is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.cli_store import progress, read_slides
from stamp_index.evaluate.suite.asked import PARTS

if TYPE_CHECKING:
    from stamp_index.evaluate.split import Split
    from stamp_index.store import Store

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("target", metavar="STORE|RUN", type=_PATH)
@click.argument("paths", metavar="[SLIDE...]", nargs=-1, type=_PATH)
@click.option("--suite", multiple=True, type=click.Choice(["full", *PARTS]), help="Part to measure; may be repeated; default: full.")  # fmt: skip
@click.option("--label", help="Label of probes and domains; default: the first with classes.")
@click.option(
    "--exclude", multiple=True, metavar="CLASS", help="A class that is left out; may be repeated."
)
@click.option("--test-patient", "patients", multiple=True, help="A patient to test; may be repeated; default: all that the encoder did not learn from.")  # fmt: skip
@click.option("--encoder", help="Name of the encoder, where the store has several.")
@click.option(
    "--gene",
    "genes",
    multiple=True,
    help="A gene to predict; may be repeated; default: 50 HVG, 50 HEG and all.",
)
@click.option("--out", type=_PATH, help="Folder for report.json, report.html and report.md.")
@click.option("--raw-features", is_flag=True, help="Of a store: raw features of the encoder's frozen network as baselines; reads the images again.")  # fmt: skip
@click.option(
    "--features", type=_PATH, help="Feature cache of a training; of a run, default: its own."
)
@click.option("--mpp", type=float, help="Of a run: microns per pixel, where the slides do not say.")
@click.option("--store", type=_PATH, help="Of a run: also the ANN recall of this store's indexes.")
@click.option("--json", "json_path", type=_PATH, help="Of a run: also write the report here.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate(target: Path, paths: tuple[Path, ...], **asked: Any) -> None:  # noqa: ANN401 - click's values
    """Measure STORE's embeddings, baselines beside every number; or a training RUN on slides that it did not see.

    The tables of a store are printed, or go into the files of --out. The report of a run is kept as RUN/evaluation.json, in
    the place of an older one.
    """
    if paths:
        _evaluate_run(target, paths, asked)
    else:
        _evaluate_store(target, asked)


def _evaluate_store(path: Path, asked: dict[str, Any]) -> None:
    from stamp_index.evaluate.raw_features import raw_views
    from stamp_index.evaluate.split import split_of_encoder
    from stamp_index.evaluate.suite.asked import SuiteSettings
    from stamp_index.evaluate.suite.report import ready_folder
    from stamp_index.evaluate.suite.run import evaluate_store
    from stamp_index.store import Store

    of_run = (
        ("mpp", "store", "json_path")
        if asked["raw_features"]
        else ("features", "mpp", "store", "json_path")
    )
    _refuse(asked, of_run, "a run: give its slides too")
    some = asked["suite"] and "full" not in asked["suite"]
    parts = tuple(part for part in PARTS if part in asked["suite"]) if some else PARTS
    settings = SuiteSettings(
        parts=parts, label=asked["label"], genes=asked["genes"], exclude=asked["exclude"]
    )
    if asked["genes"] and "expression" not in parts:
        msg = "--gene is of the part expression, which --suite leaves out. Name it too, or leave --gene out."
        raise click.UsageError(msg)
    if asked["out"] is not None:
        ready_folder(asked["out"])
    store = Store.open(path, encoder=asked["encoder"])
    split = _split_of(store, asked["patients"]) or split_of_encoder(store)
    raw = None
    if asked["raw_features"]:
        with progress("reading images", quiet=asked["quiet"]) as show:
            raw = raw_views(
                store, (*split.train, *split.test), cache=asked["features"], progress=show
            )
    with progress("evaluating", quiet=asked["quiet"]) as show:

        def told(part: str, done: int, total: int) -> None:
            """Fill the bar part by part, so that it never goes back."""
            at = parts.index(part) if part in parts else 0
            show(round(1000 * (at + done / max(total, 1))), 1000 * len(parts))

        report = evaluate_store(store, split, settings, raw=raw, progress=told)
    if asked["out"] is None:
        click.echo(report.to_markdown())
        return
    for name, value in report.about:
        click.echo(f"{name}: {value}")
    for made in report.save(asked["out"]).values():
        click.echo(f"Wrote {made}")


def _split_of(store: Store, patients: tuple[str, ...]) -> Split | None:
    from stamp_index.evaluate.split import split_by_patient, taught_patients

    if not patients:
        return None
    return split_by_patient(store.slides(), patients, taught_patients(store))


def _evaluate_run(run: Path, paths: tuple[Path, ...], asked: dict[str, Any]) -> None:
    from stamp_index.evaluate import ann_recall, evaluate_run
    from stamp_index.readers import SlideOptions

    of_store = ("suite", "label", "exclude", "patients", "encoder", "out", "raw_features")
    _refuse(asked, of_store, "a store: give no slides")
    slides = read_slides(paths, SlideOptions(mpp=asked["mpp"]))
    with progress("evaluating", quiet=asked["quiet"]) as show:
        report = evaluate_run(
            run, slides, features=asked["features"], genes=asked["genes"], progress=show
        )
    if asked["store"] is not None:
        report.ann = ann_recall(asked["store"])
    report.save(run / "evaluation.json")
    if asked["json_path"] is not None:
        report.save(asked["json_path"])
    click.echo(report.to_markdown())


def _refuse(asked: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Refuse options that mean nothing here."""
    given = [name for name in names if asked[name]]
    if given:
        words = ", ".join(f"--{_option(name)}" for name in given)
        msg = f"{words} belongs to {why}."
        raise click.UsageError(msg)


def _option(name: str) -> str:
    return {"json_path": "json", "patients": "test-patient"}.get(name, name)


@click.command()
@click.argument("a", metavar="A.json", type=_PATH)
@click.argument("b", metavar="B.json", type=_PATH)
def compare(a: Path, b: Path) -> None:
    """Say by how much report B is better than report A on the same spots, with 95 % intervals."""
    from stamp_index.evaluate.suite.compare import compare_reports, only_in_one
    from stamp_index.evaluate.suite.report import markdown_table, read_report

    one, other = read_report(a), read_report(b)
    rows = compare_reports(one, other)
    for name, report in (("A", one), ("B", other)):
        split = report.split
        click.echo(
            f"{name}: {report.encoder['name']} {report.encoder['fingerprint']}, store {report.store['id']} version "
            f"{report.store['version']}, split {split['hash']} by {split['by']}"
        )
    click.echo("\n".join(["", *markdown_table(list(rows[0]), rows)]))
    for said in only_in_one(one, other):
        click.echo(f"Not compared: {said}.")
