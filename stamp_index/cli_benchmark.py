"""`stamp-index benchmark`: public data sets that lie on this machine, each measured as it is published."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.cli_store import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stamp_index.evaluate.public.features import PatchFeatures
    from stamp_index.evaluate.suite.report import SuiteReport

_PATH = click.Path(path_type=Path)
_NAMES = ("hest", "dlpfc", "her2st", "spavis")
# What each option belongs to.
_OF = {
    "backbone": ("hest",),
    "weights": ("hest",),
    "tasks": ("hest",),
    "features": ("hest",),
    "slices": ("dlpfc",),
    "genes": ("her2st",),
    "store_path": ("dlpfc", "her2st"),
}
_OPTIONS = {"tasks": "task", "slices": "slice", "genes": "gene", "store_path": "store"}


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(_NAMES))
@click.argument("folder", metavar="FOLDER", type=_PATH)
@click.option("--encoder", help="Checkpoint folder, or published:NAME.")
@click.option("--out", required=True, type=_PATH, help="Folder for report.json, report.html and report.md.")  # fmt: skip
@click.option("--task", "tasks", multiple=True, help="hest: a task, such as IDC; default: all that are there.")  # fmt: skip
@click.option("--backbone", help="hest: in place of an encoder, a backbone such as uni or timm:resnet50.tv_in1k.")  # fmt: skip
@click.option("--weights", default="", help="hest: the backbone's weights, a local file.")
@click.option("--features", type=_PATH, help="hest: folder for features; default: OUT/features.")
@click.option("--slice", "slices", multiple=True, help="dlpfc: a slice, such as 151673; default: all that are there.")  # fmt: skip
@click.option("--gene", "genes", multiple=True, help="her2st: a gene to predict; default: lists by the training patients.")  # fmt: skip
@click.option("--store", "store_path", type=_PATH, help="dlpfc, her2st: store to use or make; default: a temporary one.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bar.")
def benchmark(name: str, folder: Path, **asked: Any) -> None:  # noqa: ANN401 - click's values
    """Measure an encoder on public data in FOLDER, which is your own download of it.

    \b
    hest    HEST-Benchmark (MahmoodLab/hest-bench): 50 genes from images, as published and corrected
    dlpfc   the twelve cortex slices of spatialLIBD: domains against layers, probe with donors held out
    her2st  a clone of almaan/her2st: expression and regions with patients held out
    spavis  says why there is none
    """  # noqa: D301 - \b is click's mark for lines that stay
    for option, names in _OF.items():
        if asked[option] and name not in names:
            msg = f"--{_OPTIONS.get(option, option)} belongs to {' and '.join(names)}."
            raise click.UsageError(msg)
    with progress(f"benchmark {name}", quiet=asked["quiet"]) as show:
        report = _run(name, folder, asked, show)
    click.echo(report.to_markdown())
    for made in report.save(asked["out"]).values():
        click.echo(f"Wrote {made}")


def _run(
    name: str, folder: Path, asked: dict[str, Any], show: Callable[[int, int], object]
) -> SuiteReport:
    if name == "hest":
        from stamp_index.evaluate.public.hest_benchmark import run_hest_benchmark

        cache = asked["features"] or asked["out"] / "features"
        features = _features(asked)
        return run_hest_benchmark(
            folder, features, tasks=asked["tasks"], cache=cache, progress=show
        )
    if name == "spavis":
        from stamp_index.evaluate.errors import EvaluationError
        from stamp_index.evaluate.public.alignments import NOT_A_BENCHMARK

        raise EvaluationError(NOT_A_BENCHMARK)
    with _store(asked) as store_path:
        if name == "dlpfc":
            from stamp_index.evaluate.public.dlpfc import run_dlpfc

            return run_dlpfc(
                folder, store_path, encoder=asked["encoder"], slices=asked["slices"], progress=show
            )
        from stamp_index.evaluate.public.her2st_full import run_her2st

        return run_her2st(
            folder, store_path, encoder=asked["encoder"], genes=asked["genes"], progress=show
        )


def _features(asked: dict[str, Any]) -> PatchFeatures:
    from stamp_index.evaluate.public.features import backbone_features, checkpoint_features

    if bool(asked["encoder"]) == bool(asked["backbone"]):
        msg = "Give either --encoder or --backbone."
        raise click.UsageError(msg)
    if asked["encoder"]:
        if asked["weights"]:
            msg = "--weights belongs to --backbone."
            raise click.UsageError(msg)
        return checkpoint_features(asked["encoder"])
    return backbone_features(asked["backbone"], asked["weights"])


@contextmanager
def _store(asked: dict[str, Any]) -> Iterator[Path]:
    """Path of the store that is given, or of one that goes with the command."""
    if asked["store_path"] is not None:
        yield asked["store_path"]
        return
    if asked["encoder"] is None:
        msg = "Give --encoder, or by --store a store that has its own."
        raise click.UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="stamp-index-") as folder:
        yield Path(folder) / "store"
