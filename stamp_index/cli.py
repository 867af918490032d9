"""``stamp-index``: the verbs. Each is a few lines around one library call."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.cli_build import build
from stamp_index.cli_import import import_model
from stamp_index.cli_store import compact, delete, doctor, info
from stamp_index.errors import QueryError, StampIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stamp_index.slides import Slide

_PATH = click.Path(path_type=Path)


class _Verbs(click.Group):
    """Shows library errors as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except (StampIndexError, ValueError, OSError) as exc:
            notes = getattr(exc, "__notes__", ())
            raise click.ClickException("\n".join([str(exc), *notes])) from exc


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stamp-index")
def main() -> None:
    """Train, embed, index and search one space of H&E patches and gene expression."""


@main.command()
@click.argument("folder", type=_PATH, default=Path("stamp-demo"))
@click.option("--serve/--no-serve", default=True, help="Open the app at the end.")
@click.option("--port", default=8501, show_default=True)
def demo(folder: Path, *, serve: bool, port: int) -> None:
    """Draw a phantom, train on it, index it, evaluate it and open the app."""
    from stamp_index.demo import build_demo, first_query

    store = build_demo(folder, say=click.echo)
    if serve:
        _serve(store, "127.0.0.1", port, query=first_query())


@main.command()
@click.argument("folder", type=_PATH)
@click.option("--patients", default=3, show_default=True)
@click.option("--slides-per-patient", default=2, show_default=True)
@click.option("--spots", default=1200, show_default=True, help="Spots of each slide.")
@click.option("--seed", default=0, show_default=True)
def phantom(folder: Path, *, patients: int, slides_per_patient: int, spots: int, seed: int) -> None:
    """Draw synthetic slides with planted biology into FOLDER."""
    from stamp_index.phantom import make_phantom

    made = make_phantom(
        folder,
        n_patients=patients,
        slides_per_patient=slides_per_patient,
        spots_per_slide=spots,
        seed=seed,
    )
    click.echo("\n".join(str(path) for path in made))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train a recipe on slides; see `stamp-index train --help`."""
    _trainer("train", arguments)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def pretrain(arguments: tuple[str, ...]) -> None:
    """Train a gene encoder on counts alone (stage 1); see `stamp-index pretrain --help`."""
    _trainer("pretrain", arguments)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def report(arguments: tuple[str, ...]) -> None:
    """Put training runs side by side; see `stamp-index report --help`."""
    _trainer("report", arguments)


for command in (import_model, build, info, delete, compact, doctor):
    main.add_command(command)


def _trainer(verb: str, arguments: tuple[str, ...]) -> None:
    """Hand over to the trainer, which runs in a process of its own and says itself what it takes."""
    from stamp_index.training import run_trainer

    sys.exit(run_trainer([verb, *arguments]))


@main.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.argument("paths", metavar="SLIDE...", nargs=-1, required=True, type=_PATH)
@click.option("--encoder", "encoder_path", type=_PATH, help="Checkpoint; needed for a new store.")
@click.option("--features", type=_PATH, help="The trainer's feature cache, to save time.")
@click.option("--mpp", type=float, help="Microns per pixel, where the slides do not say.")
@click.option("--patient", help="Patient, where the slides do not say.")
@click.option("--organ", help="Organ, where the slides do not say.")
@click.option("--replace", is_flag=True, help="Put slides in the place of those of their id.")
@click.option(
    "--beside", is_flag=True, help="Put a further encoder's embeddings beside the others."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def embed(  # noqa: PLR0913 - one argument per command-line option
    store_path: Path,
    paths: tuple[Path, ...],
    encoder_path: Path | None,
    features: Path | None,
    *,
    mpp: float | None,
    patient: str | None,
    organ: str | None,
    replace: bool,
    beside: bool,
    quiet: bool,
) -> None:
    """Embed slides and add them to STORE, which is made if it is missing."""
    from stamp_index.embed.folder import embed_into
    from stamp_index.readers import SlideOptions

    options = SlideOptions(mpp=mpp, patient_id=patient, organ=organ)
    slides = _read(paths, options)
    _notes(slides)
    with _progress("embedding", quiet=quiet) as show:
        store = embed_into(
            store_path,
            slides,
            encoder_path=encoder_path,
            features=features,
            beside=beside,
            replace=replace,
            progress=show,
        )
    click.echo(f"{store.path}: version {store.version}, {store.n_spots} spots.")


@main.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--genes", help="A signature, for example 'CD8A high, EPCAM low'.")
@click.option("--image", type=_PATH, help="A picture; give its --mpp.")
@click.option("--spot", help="A spot id of the store.")
@click.option("--profile", type=_PATH, help="A CSV file of gene,count lines: a gene profile.")
@click.option("--mpp", type=float, help="Microns per pixel of the picture.")
@click.option("--against", type=click.Choice(["image", "gene", "both"]), help="Side to search.")
@click.option("-k", default=10, show_default=True)
@click.option("--filter", "filters", help="""'organ == "breast" and expr("CD8A") > 1'""")
@click.option(
    "--exclude-own", type=click.Choice(["nothing", "slide", "patient"]), default="nothing"
)
@click.option("--one-per", help="One hit per 'slide', 'patient' or so many microns.")
@click.option(
    "--recall",
    type=click.Choice(["0.95", "0.99", "1.0"]),
    default="0.99",
    help="Share of the best hits to find; 1.0 compares every spot.",
)
@click.option("--report", multiple=True, help="A further gene to report at the hits.")
@click.option("--predict", is_flag=True, help="Predict the reported genes from the hits.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def search(store_path: Path, *, predict: bool, as_csv: bool, **asked: Any) -> None:  # noqa: ANN401
    """Search STORE by genes, by a picture or by a spot."""
    from stamp_index.search import Searcher, predict_expression

    searcher = Searcher.open(store_path)
    hits = _ask(searcher, asked)
    table = hits.to_pandas()
    for note in hits.notes:
        click.echo(note, err=True)
    if predict:
        genes = list(asked["report"]) or list(hits.genes)
        if not genes:
            msg = "Say which genes to predict: --report GENE, as often as needed."
            raise click.UsageError(msg)
        table = predict_expression(hits, searcher.store, genes)
    click.echo(table.to_csv(index=False) if as_csv else table.to_string(index=False))


def _ask(searcher: Any, asked: dict[str, Any]) -> Any:  # noqa: ANN401
    from stamp_index.slides import safe_open

    given = [name for name in ("genes", "image", "spot", "profile") if asked[name]]
    if len(given) != 1:
        msg = f"Give exactly one of --genes, --image, --spot and --profile; got {len(given)}."
        raise click.UsageError(msg)
    for option, needs in (("exclude_own", "spot"), ("mpp", "image")):
        if asked[option] not in (None, "nothing") and given != [needs]:
            msg = f"--{option.replace('_', '-')} goes with --{needs} only."
            raise click.UsageError(msg)
    common = {"k": asked["k"], "filters": asked["filters"], "genes": asked["report"]}
    common |= {"one_per": _one_per(asked["one_per"]), "recall": float(asked["recall"])}
    against = asked["against"] or ("image" if asked["genes"] or asked["profile"] else "gene")
    against = {"image": 0.5, "gene": 0.5} if against == "both" else against
    if asked["genes"]:
        return searcher.search_genes(asked["genes"], against=against, **common)
    if asked["profile"]:
        counts = read_profile(asked["profile"])
        return searcher.search_profile(counts, against=against, **common)
    if asked["spot"]:
        own = asked["exclude_own"]
        return searcher.search_spot(asked["spot"], against=against, exclude_own=own, **common)
    if asked["mpp"] is None:
        msg = f"The pixel size of {asked['image']} is unknown: give --mpp in microns per pixel."
        raise click.UsageError(msg)
    picture = safe_open(asked["image"])
    return searcher.search_image(picture, mpp=asked["mpp"], against=against, **common)


def _one_per(text: str | None) -> str | float | None:
    if text is None or text in ("slide", "patient"):
        return text
    try:
        radius_um = float(text)
    except ValueError:
        radius_um = 0.0
    if not 0 < radius_um < math.inf:
        msg = f"--one-per is '{text}'; expected 'slide', 'patient', or microns above 0."
        raise click.UsageError(msg)
    return radius_um


def read_profile(path: Path) -> dict[str, float]:
    """Read a gene profile: a CSV file of ``gene,count`` lines; a header is skipped.

    Raises
    ------
    QueryError
        If the file is missing or a line is not a gene and a number; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"The profile {path} cannot be read ({exc}). Give a CSV file of gene,count lines."
        raise QueryError(msg) from exc
    counts: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        gene, _, value = line.partition(",")
        try:
            count = float(value)
        except ValueError as exc:
            if number == 1 or not line.strip():
                continue
            msg = f"Line {number} of {path} is {line!r}; expected a gene and a count, such as CD8A,12."
            raise QueryError(msg) from exc
        counts[gene.strip()] = counts.get(gene.strip(), 0.0) + count
    return counts


@main.command()
@click.argument("run", type=_PATH)
@click.argument("paths", metavar="SLIDE...", nargs=-1, required=True, type=_PATH)
@click.option("--gene", "genes", multiple=True, help="A gene to predict; default: 50 HVG.")
@click.option("--features", type=_PATH, help="Feature cache; default: the one of training.")
@click.option("--mpp", type=float, help="Microns per pixel, where the slides do not say.")
@click.option("--store", type=_PATH, help="Also report the ANN recall of this store's indexes.")
@click.option("--json", "json_path", type=_PATH, help="Also write the report here.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate(  # noqa: PLR0913 - one argument per command-line option
    run: Path,
    paths: tuple[Path, ...],
    genes: tuple[str, ...],
    features: Path | None,
    *,
    mpp: float | None,
    store: Path | None,
    json_path: Path | None,
    quiet: bool,
) -> None:
    """Measure a training RUN on the slides that it did not see, baselines beside every number."""
    from stamp_index.evaluate import ann_recall, evaluate_run
    from stamp_index.readers import SlideOptions

    slides = _read(paths, SlideOptions(mpp=mpp))
    with _progress("evaluating", quiet=quiet) as show:
        report = evaluate_run(run, slides, features=features, genes=genes, progress=show)
    if store is not None:
        report.ann = ann_recall(store)
    report.save(run / "evaluation.json")
    if json_path is not None:
        report.save(json_path)
    click.echo(report.to_markdown())


@main.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8501, show_default=True)
def app(store_path: Path, host: str, port: int) -> None:
    """Open the app on STORE."""
    _serve(store_path, host, port, query=None)


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; in a file or a pipe, or if `quiet`, nothing."""
    from tqdm import tqdm

    layout = "{l_bar}{bar}| [{elapsed}<{remaining}]"
    # Until somebody says how many steps there are, none of one is done.
    with tqdm(total=1, desc=what, bar_format=layout, disable=True if quiet else None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _serve(store_path: Path, host: str, port: int, *, query: str | None) -> None:
    from stamp_index.app_launcher import run_app

    run_app(
        store_path,
        host=host,
        port=port,
        query=query,
        on_ready=lambda url: click.echo(f"The app is at {url} (Ctrl+C stops it)"),
    )


def _read(paths: Sequence[Path], options: Any) -> list[Slide]:  # noqa: ANN401
    from stamp_index.errors import SlideError
    from stamp_index.readers import find_slides, read

    found = []
    for given in paths:
        below = find_slides(given) if given.exists() else [given]
        if not below:
            msg = f"There is no slide at or below {given}. Give a slide's folder or counts file."
            raise SlideError(msg)
        found += below
    return [read(path, options) for path in found]


def _notes(slides: Sequence[Slide]) -> None:
    for slide in slides:
        for note in slide.notes:
            click.echo(f"{slide.slide_id}: {note}", err=True)
