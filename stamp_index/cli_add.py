"""The verb that adds slides to a store: one, a folder of them, or a manifest."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stamp_index.cli_build import memory_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stamp_index.crew import Crew, EngineName, News
    from stamp_index.embed.add import Outcome
    from stamp_index.embed.manifest import Entry

_PATH = click.Path(path_type=Path)
_EMBEDDED = ("added", "replaced", "filled")
_STATES = (*_EMBEDDED, "there", "failed")


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=_PATH)
@click.option("--encoder", "encoder_path", type=_PATH, help="Checkpoint; needed for a new store.")
@click.option("--features", type=_PATH, help="The trainer's feature cache, to save time.")
@click.option("--mpp", type=float, help="Microns per pixel, where a slide does not say.")
@click.option("--patient", help="Patient, where a manifest does not say.")
@click.option("--organ", help="Organ, where a manifest does not say.")
@click.option("--bin-um", type=float, help="Width of bins of Visium HD and Xenium, in microns.")
@click.option("--spots", type=click.Choice(["bins", "cells"]), help="Of slides of single cells.")
@click.option("--grid-um", type=float, help="Distance of places on plain H&E; default: the patch.")
@click.option(
    "--orthologs",
    type=click.Choice(["table", "by_name"]),
    help="Take mouse genes for human ones (or human for mouse).",
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the encoder's genes below which a slide's genes are not embedded.",
)
@click.option("--replace", is_flag=True, help="Put slides in the place of those of their id.")
@click.option(
    "--beside", is_flag=True, help="Put a further encoder's embeddings beside the others."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who embeds: this process, or workers of Ray, a slide each.",
)
@click.option(
    "--address",
    help="Ray cluster: host:6379 or ray://host:10001; by default Ray starts here.",
)
@click.option("--workers", type=click.IntRange(1), help="Workers of Ray at most.")
@click.option("--worker-cpus", type=click.FloatRange(0.1), default=1.0, show_default=True)
@click.option("--worker-gpus", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option(
    "--worker-memory",
    type=memory_size,
    help="That a worker may take, such as 4G; no more are started than fit.",
)
@click.option("--report", type=_PATH, help="Also write the summary here (CSV).")
@click.option("--quiet", is_flag=True, help="No progress, neither bars nor lines.")
def add(  # noqa: PLR0913 - one argument per command-line option
    store_path: Path,
    sources: tuple[Path, ...],
    encoder_path: Path | None,
    features: Path | None,
    *,
    mpp: float | None,
    patient: str | None,
    organ: str | None,
    bin_um: float | None,
    spots: str | None,
    grid_um: float | None,
    orthologs: str | None,
    min_coverage: float,
    replace: bool,
    beside: bool,
    engine: str,
    address: str | None,
    workers: int | None,
    worker_cpus: float,
    worker_gpus: float,
    worker_memory: int | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Read, embed and add slides to STORE, which is made if it is missing.

    A SOURCE is a slide, a folder that is searched for slides, or a manifest: a .csv or .tsv with a column path and any
    of slide_id, patient, organ, disease, species, platform, mpp, image, bin_um, spots, grid_um. A slide that cannot be
    added is listed with the reason, and the others go on; the exit code is then 1. The same command again adds what is
    missing.
    """
    done: list[Outcome] = []
    with _told_when_interrupted(done):
        from stamp_index.crew import Needs
        from stamp_index.embed.add import AddSettings, add_slides, summary
        from stamp_index.embed.gene_side import GeneSettings
        from stamp_index.embed.manifest import entries_of
        from stamp_index.export import table_csv
        from stamp_index.readers import SlideOptions

        options = SlideOptions(
            mpp=mpp,
            patient_id=patient,
            organ=organ,
            bin_um=bin_um,
            spots=spots,  # type: ignore[arg-type]  # click has checked it
            grid_um=grid_um,
        )
        entries = entries_of(sources, options)
        genes = GeneSettings(orthologs=orthologs, min_coverage=min_coverage)  # type: ignore[arg-type]
        needs = Needs(worker_cpus, worker_gpus, worker_memory or 0)
        settings = AddSettings(
            replace=replace, beside=beside, genes=genes, features=features, needs=needs
        )
        began = time.perf_counter()
        with (
            _crew(engine, address=address, n_workers=workers) as crew,  # type: ignore[arg-type]
            Bars(done, quiet=quiet) as bars,
        ):
            store, outcomes = add_slides(
                store_path,
                entries,
                encoder_path=encoder_path,
                settings=settings,
                watcher=bars,
                crew=crew,
            )
        _notes(outcomes)
        if report is not None:
            report.write_bytes(table_csv(summary(outcomes)))
        click.echo(_table(outcomes))
        n = sum(one.n_spots for one in outcomes if one.state in _EMBEDDED)
        speed = f" {n / (time.perf_counter() - began):,.0f} spots a second." if n else ""
        click.echo(f"{store.place}: version {store.version}, {store.n_spots} spots.{speed}")
    sys.exit(1 if any(one.state == "failed" for one in outcomes) else 0)


@contextmanager
def _told_when_interrupted(done: Sequence[Outcome]) -> Iterator[None]:
    """End with 130 at Ctrl+C, wherever it comes, and say what was done until then."""
    try:
        yield
    except KeyboardInterrupt:
        if done:
            click.echo(_table(done))
        click.echo("Interrupted; the same command again goes on.")
        sys.exit(130)


@contextmanager
def _crew(engine: EngineName, *, address: str | None, n_workers: int | None) -> Iterator[Crew]:
    """Have a crew, and let it start and end whole: Ray's own threads crash if it is torn off in between."""
    from stamp_index.crew import open_crew

    with ExitStack() as stack:
        with _held_interrupt():
            crew = stack.enter_context(open_crew(engine, address=address, n_workers=n_workers))
        try:
            yield crew
        finally:
            with _held_interrupt():
                stack.close()


@contextmanager
def _held_interrupt() -> Iterator[None]:
    """Let Ctrl+C wait until this block is over; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    came: list[int] = []

    def hold(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        came.append(signum)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class Bars:
    """How adding goes, on stderr: bars on a terminal, a line for each slide in a file or a pipe, nothing if `quiet`.

    What became of each slide is put into `done` as it is known.
    """

    def __init__(self, done: list[Outcome], *, quiet: bool) -> None:
        from tqdm import tqdm

        self._done, self._n = done, 0
        self._quiet, self._n_lost, self._n_spots = quiet, 0, 0
        off = True if quiet else None
        layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        self._slides = tqdm(desc="slides", bar_format=layout, disable=off, position=0)
        self._steps = tqdm(
            total=1, bar_format="{l_bar}{bar}| [{elapsed}<{remaining}]", disable=off, position=1
        )

    def begin(self, entry: Entry, at: int, n: int) -> None:
        """Show the slide's name."""
        self._n = n
        self._slides.total = n
        self._slides.n = at
        self._slides.refresh()
        self._steps.reset(total=1)
        self._steps.set_description(entry.path.name)

    def step(self, done: int, total: int) -> None:
        """Show how far the slide is."""
        self._steps.total = total
        self._steps.update(done - self._steps.n)

    def end(self, outcome: Outcome) -> None:
        """Count the slide, and say at once what is wrong with it."""
        self._done.append(outcome)
        self._slides.update(1)
        self._n_spots += outcome.n_spots if outcome.state in _EMBEDDED else 0
        if self._quiet:
            return
        if self._slides.disable:  # nobody sees bars
            click.echo(f"{len(self._done)} of {self._n}: {_line(outcome)}", err=True)
        elif outcome.state == "failed":
            self._slides.write(f"{outcome.path}: {outcome.reason}", file=sys.stderr)

    def hear(self, news: News, n: int) -> None:
        """Show how many slides are worked at and how fast spots come; say at once that a worker was lost."""
        if news.lost > self._n_lost and not self._quiet:
            said = f"Workers lost so far: {news.lost}. Their slides go to others."
            self._slides.write(said, file=sys.stderr)
        self._n_lost = news.lost
        if not self._slides.disable:
            self._slides.total = n
            speed = self._n_spots / max(self._slides.format_dict["elapsed"], 1.0)
            lost = f", {news.lost} lost" if news.lost else ""
            self._slides.set_postfix_str(
                f"{news.running} begun, {news.workers} workers{lost}, {speed:,.0f} spots/s"
            )

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()
        self._slides.close()


def _line(one: Outcome) -> str:
    """Say what became of a slide."""
    if one.state == "failed":
        return f"{one.path} failed: {one.reason}"
    return f"{one.slide_id} {one.state}, {one.n_spots:,} spots, {one.seconds:.1f} s"


def _notes(outcomes: Sequence[Outcome]) -> None:
    for one in outcomes:
        for note in one.notes:
            click.echo(f"{one.slide_id}: {note}", err=True)


def _table(outcomes: Sequence[Outcome]) -> str:
    """One line per slide, and how many of each kind."""
    rows = [
        (
            one.state,
            one.slide_id or Path(one.path).name,
            one.platform or one.reader or "-",
            f"{one.n_spots:,}",
            f"{one.n_genes:,}" if one.n_genes else "-",
            one.embedded or "-",
            f"{one.seconds:.1f}",
        )
        for one in outcomes
    ]
    head = ("state", "slide", "platform", "spots", "genes", "embedded", "seconds")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (head, *rows)]  # fmt: skip
    counts = {state: sum(one.state == state for one in outcomes) for state in _STATES}
    lines.append(", ".join(f"{n} {state}" for state, n in counts.items() if n))
    lines += [f"{Path(one.path).name}: {one.reason}" for one in outcomes if one.state == "failed"]
    lines += [
        f"{one.slide_id}: {one.reason}" for one in outcomes if one.state != "failed" and one.reason
    ]
    return "\n".join(lines)
