"""``stamp-index build``: indexes of a store."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stamp_index.crew import ENGINES, open_crew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.crew import EngineName
    from stamp_index.index import Fillers, IndexCard, IndexRecipe
    from stamp_index.index.engine import Progress
    from stamp_index.store import Modality, Store

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_STAGES = {
    "read": "copying vectors",
    "train": "training",
    "fill": "adding rows",
    "write": "writing",
    "measure": "measuring recall",
}


def memory_size(text: str) -> int:
    """Bytes of a size such as ``4G`` or ``800M``.

    Raises
    ------
    click.BadParameter
        If it is no such thing.
    """
    plain = text.strip().upper().removesuffix("B").removesuffix("I")
    number, unit = (plain[:-1], plain[-1:]) if plain[-1:] in _UNITS else (plain, "")
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        msg = f"{text!r} is not a size in bytes; write for example 4G or 800M."
        raise click.BadParameter(msg)
    return size


@click.command()
@click.argument("store_path", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--recipe", help="Name or .toml file; by default auto.")
@click.option("--modality", type=click.Choice(["image", "gene"]), help="By default both.")
@click.option("--encoder", help="Its name in the store; by default the store's first.")
@click.option("--max-memory", type=memory_size, help="For example 4G; mapped files not counted.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="Who fills lists: this process, or workers on Ray.",
)
@click.option(
    "--address", help="Ray cluster: host:6379 or ray://host:10001; by default Ray starts here."
)
@click.option("--parts", type=click.IntRange(min=1), help="Parts that workers on Ray fill.")
@click.option("--fold", is_flag=True, help="Only add newer rows to the indexes that there are.")
@click.option("--estimate", is_flag=True, help="Only say what it will take.")
@click.option("--seed", default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def build(  # noqa: PLR0913, PLR0917 - one argument per command-line option
    store_path: Path,
    recipe: str | None,
    modality: Modality | None,
    encoder: str | None,
    max_memory: int | None,
    engine: EngineName,
    address: str | None,
    parts: int | None,
    *,
    fold: bool,
    estimate: bool,
    seed: int,
    quiet: bool,
) -> None:
    """Build the indexes of STORE and measure their recall against exact search.

    Searches go on meanwhile. A build that was interrupted goes on where it was when it is started again.
    """
    from stamp_index.index import fold_index, has_index, load_recipe
    from stamp_index.store import Store
    from stamp_index.store.schema import MODALITIES

    if fold and (recipe or max_memory or estimate or engine != "local"):
        msg = "--fold adds to an index as it is: leave out --recipe, --max-memory, --estimate and --engine."
        raise click.UsageError(msg)
    if engine == "local" and (address or parts):
        msg = "--address and --parts belong to --engine ray."
        raise click.UsageError(msg)
    store, wanted = Store.open(store_path, encoder=encoder), load_recipe(recipe or "auto")
    sides = MODALITIES if modality is None else (modality,)
    found = [side for side in sides if modality or store.has_vector(side).any()]
    if fold and modality is None:
        found = [side for side in found if has_index(store, side)]
    if not found:
        click.echo(
            f"{store.place} has no {'indexes' if fold else 'embeddings'} yet; there is nothing to do."
        )
    if estimate:
        for side in found:
            _say_estimate(store, side, wanted)
    elif fold:
        for side in found:
            _say_card(side, fold_index(store, side))
    elif found:
        with _fillers(engine, address, parts) as fillers:
            allowed = _Allowed(seed, max_memory, fillers, quiet)
            for side in found:
                _say_card(side, _build_one(store, side, wanted, allowed))


@dataclass(frozen=True)
class _Allowed:
    """What a build is given besides the store and the recipe."""

    seed: int
    max_memory: int | None
    fillers: Fillers | None
    quiet: bool


@contextmanager
def _fillers(
    engine: EngineName, address: str | None, parts: int | None
) -> Iterator[Fillers | None]:
    """Workers of an engine; None where this process does all."""
    from stamp_index.index import Fillers

    if engine == "local":
        yield None
        return
    with open_crew(engine, address=address) as crew:
        yield Fillers(crew, parts)


def _build_one(store: Store, side: Modality, recipe: IndexRecipe, allowed: _Allowed) -> IndexCard:
    from stamp_index.index import build_index

    with _bars(side, quiet=allowed.quiet) as show:
        card = build_index(
            store,
            side,
            recipe,
            seed=allowed.seed,
            max_memory_bytes=allowed.max_memory,
            fillers=allowed.fillers,
            progress=show,
        )
    if allowed.fillers is not None and card.engine == "local":
        why = "there is nothing to fill" if card.kind == "flat" else "a graph cannot be joined"
        click.echo(f"{side}: {card.kind} was built without the workers: {why}.", err=True)
    return card


def _say_estimate(store: Store, side: Modality, recipe: IndexRecipe) -> None:
    from stamp_index.index.engine import estimate

    n = int(store.has_vector(side).sum())
    size = estimate(recipe, n, store.card.dim)
    click.echo(
        f"{side}: {n} vectors; index {_size(size.file_bytes)} ({size.bytes_per_vector:.0f} bytes a vector), "
        f"float16 vectors {_size(size.sidecar_bytes)}, at most {_size(size.peak_memory_bytes)} of memory"
    )


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} GiB"


def _say_card(side: Modality, card: IndexCard | None) -> None:
    if card is None:
        click.echo(f"{side}: nothing to add.")
        return
    recall = ", ".join(f"{asked} {value:.3f}" for asked, value in card.ann_recall_at_10.items())
    click.echo(
        f"{side}: {card.kind}, {card.n} vectors, ann_recall_at_10 {recall or 'not measured'}"
    )
    for kind, given_up in card.tried.items():
        click.echo(f"{side}: {kind} was given up: {given_up['why']}", err=True)
    chosen = [one for one in card.calibration["choices"] if one["target"] == card.target_recall]
    exact_ms = card.calibration["exact_cpu_ms"]
    if card.kind != "flat" and chosen and chosen[0]["cpu_ms"] >= exact_ms > 0:
        click.echo(
            f"{side}: a query costs {chosen[0]['cpu_ms']:.2g} ms, and {exact_ms:.2g} ms by exact search: the recipe "
            f"'flat' is quicker here.",
            err=True,
        )
    if not card.reached:
        click.echo(
            f"{side}: the target of {card.target_recall:g} was not reached; the recipe 'auto' falls back to "
            f"kinds that do.",
            err=True,
        )


@contextmanager
def _bars(side: str, *, quiet: bool) -> Iterator[Progress]:
    """Show a bar for each stage on stderr; in a file or a pipe, or if `quiet`, nothing."""
    from tqdm import tqdm

    layout = "{l_bar}{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=1, bar_format=layout, disable=True if quiet else None) as bar:
        stage_shown = ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal stage_shown
            if stage != stage_shown:
                stage_shown = stage
                bar.reset(total)
                bar.set_description(f"{side}: {_STAGES[stage]}")
            bar.update(done - bar.n)

        yield show
