"""Verbs that fill a store and look after it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stamp_index.slides import Slide

_PATH = click.Path(path_type=Path)


def read_slides(paths: Sequence[Path], options: Any) -> list[Slide]:  # noqa: ANN401
    """Read slides, and those below folders."""
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


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; in a file or a pipe, or if `quiet`, nothing."""
    from tqdm import tqdm

    layout = "{l_bar}{bar}| [{elapsed}<{remaining}]"
    # Until somebody says how many steps there are, none of one is done.
    with tqdm(total=1, desc=what, bar_format=layout, disable=True if quiet else None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
def info(store_path: Path) -> None:
    """Say what is in STORE."""
    from stamp_index.store import Store

    store = Store.open(store_path)
    click.echo(
        f"{store.place}: version {store.version}, {store.n_spots} spots, {len(store.genes)} genes"
    )
    for name, card in store.encoders.items():
        click.echo(
            f"encoder {name} {card.fingerprint}, d {card.dim}, patch {card.patch_width_um:g} um, "
            f"region {card.region_width_um:g} um"
        )
        _say_indexes(Store.open(store_path, encoder=name))
    columns = ["slide_id", "patient_id", "organ", "platform", "mpp", "n_spots"]
    click.echo(store.slides()[columns].to_string(index=False))


def _say_indexes(store: Any) -> None:  # noqa: ANN401 - a Store
    """How many spots have each embedding, and the state of its index."""
    from stamp_index.index import difference, generation, has_index, index_folder
    from stamp_index.store.schema import MODALITIES

    for side in MODALITIES:
        n = int(store.has_vector(side).sum())
        if not has_index(store, side):
            click.echo(f"  {side}: {n} spots" + (", no index: searched exactly" if n else ""))
            continue
        try:
            held = generation.read_contents(index_folder(store, side))
        except StampIndexError as exc:
            click.echo(f"  {side}: {n} spots; {exc}")
            continue
        newer, gone = difference.count(store, side, held.rows)
        recall = ", ".join(
            f"{asked} {share:.3f}" for asked, share in held.card.ann_recall_at_10.items()
        )
        click.echo(
            f"  {side}: {n} spots; index {held.card.kind} of {held.card.n - gone}, recall@10 {recall or 'not measured'}; "
            f"{newer} newer ones searched exactly, {gone} of its rows deleted since"
        )


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.argument("slide_ids", metavar="SLIDE_ID...", nargs=-1, required=True)
def delete(store_path: Path, slide_ids: tuple[str, ...]) -> None:
    """Delete slides of STORE by their ids: all of them, or none if one is not there.

    Their files go with `stamp-index compact`.
    """
    from stamp_index.store import Store

    store = Store.open(store_path)
    version = store.delete(*slide_ids)
    click.echo(f"{store.place}: version {version}, {store.n_spots} spots.")


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option(
    "--keep", type=click.IntRange(1), default=1, show_default=True, help="Newest versions to keep."
)
def compact(store_path: Path, keep: int) -> None:
    """Join small files of STORE, drop deleted rows and old versions.

    Versions that a process has open stay.
    """
    from stamp_index.store import Store

    store = Store.open(store_path)
    version = store.compact()
    removed = store.clean_up(keep=keep)
    click.echo(f"{store.place}: version {version}, {removed} older versions removed.")


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--mend", is_flag=True, help="Remove leftovers; what is damaged is not touched.")
def doctor(store_path: Path, *, mend: bool) -> None:
    """Look for what a crash or a bad disk left in STORE and its indexes; exit code 1 if something is wrong.

    A store that a crash interrupted works without this: it only holds files that nothing needs. A damaged index is
    mended by `stamp-index build`.
    """
    from stamp_index.index import doctor as index_doctor
    from stamp_index.store import doctor as store_doctor
    from stamp_index.store.places import place_of

    def examine() -> list[store_doctor.Finding]:
        found = store_doctor.examine(store_path)
        if any(finding.kind == "damage" for finding in found):
            return found  # then nobody can tell what its indexes should hold
        return [*found, *index_doctor.examine(store_path)]

    findings = examine()
    for finding in findings:
        click.echo(f"{finding.kind}: {finding.text}")
    if mend:
        for done in (*store_doctor.mend(store_path), *index_doctor.mend(store_path)):
            click.echo(done)
        findings = examine()
    if not findings:
        click.echo(f"{place_of(store_path)} is whole.")
    sys.exit(1 if any(finding.kind == "damage" for finding in findings) else 0)
