"""Verbs that look after a store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
def info(store_path: Path) -> None:
    """Say what is in STORE."""
    from stamp_index.store import Store

    store = Store.open(store_path)
    click.echo(
        f"{store.path}: version {store.version}, {store.n_spots} spots, {len(store.genes)} genes"
    )
    for name, card in store.encoders.items():
        click.echo(
            f"encoder {name} {card.fingerprint}, d {card.dim}, patch {card.patch_width_um:g} um, "
            f"region {card.region_width_um:g} um"
        )
    columns = ["slide_id", "patient_id", "organ", "platform", "mpp", "n_spots"]
    click.echo(store.slides()[columns].to_string(index=False))


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
    click.echo(f"{store.path}: version {version}, {store.n_spots} spots.")


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--keep", default=1, show_default=True, help="Newest versions to keep.")
def compact(store_path: Path, keep: int) -> None:
    """Join small files of STORE, drop deleted rows and old versions.

    Versions that a process has open stay.
    """
    from stamp_index.store import Store

    store = Store.open(store_path)
    version = store.compact()
    removed = store.clean_up(keep=keep)
    click.echo(f"{store.path}: version {version}, {removed} older versions removed.")


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
        click.echo(f"{store_path} is whole.")
    sys.exit(1 if any(finding.kind == "damage" for finding in findings) else 0)
