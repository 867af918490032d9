"""``stamp-index shard`` and ``stamp-index serve-shards``: an index divided between machines."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stamp_index.shards import ShardPlan
    from stamp_index.store import Modality

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--shards", "n_shards", default=2, show_default=True, help="At most one a slide.")
@click.option("--modality", type=click.Choice(["image", "gene"]), help="By default both.")
@click.option("--encoder", help="Its name in the store; by default the store's first.")
def shard(
    store_path: Path, *, n_shards: int, modality: Modality | None, encoder: str | None
) -> None:
    """Divide the built indexes of STORE into shards by slides, to be served from several machines.

    Shards that are served meanwhile stay as they are; start the service again to serve the new ones.
    """
    from stamp_index.index import has_index
    from stamp_index.remote.addresses import is_address
    from stamp_index.shards import shard_index
    from stamp_index.store import Store
    from stamp_index.store.schema import MODALITIES

    store = Store.open(store_path, encoder=encoder)
    sides = [modality] if modality else [side for side in MODALITIES if has_index(store, side)]
    if not sides:
        msg = f"{store.place} has no indexes to divide. Build them with `stamp-index build {store.place}`."
        raise click.ClickException(msg)
    for side in sides:
        _say(shard_index(store, side, n_shards))
    if is_address(store.place.name):
        click.echo(
            f"They lie on this machine alone, in {store.path / 'shards'}: serve them from here, or copy that folder to where "
            f"they are served."
        )


def _say(plan: ShardPlan) -> None:
    click.echo(f"{plan.modality}: {plan.kind}, {plan.n} vectors, {len(plan.parts)} shards")
    for number, part in enumerate(plan.parts):
        size = sum(n_bytes for n_bytes, _ in part.files.values())
        words = "slide" if len(part.slides) == 1 else "slides"
        click.echo(
            f"  shard {number}: {len(part)} vectors of {len(part.slides)} {words}, {size / 2**20:.1f} MiB"
        )


@click.command("serve-shards")
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option(
    "--address", help="Ray cluster: host:6379 or ray://host:10001; by default Ray starts here."
)
@click.option("--replicas", default=1, show_default=True, help="Of every shard.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option("--timeout", "timeout_s", default=5.0, show_default=True, help="Seconds a shard has.")
@click.option("--encoder", help="Its name in the store; by default the store's first.")
def serve_shards(
    store_path: Path,
    *,
    address: str | None,
    replicas: int,
    host: str,
    port: int,
    timeout_s: float,
    encoder: str | None,
) -> None:
    """Serve the shards of STORE with Ray Serve until it is interrupted.

    Every machine of the cluster must find the store at the same path. Ask them with `stamp-index search STORE --shards
    http://HOST:PORT`, and the same of `stamp-index app`. Over HTTP a bearer token is asked for if the environment variable
    STAMP_INDEX_SHARD_TOKEN is set; other addresses than this machine's own need one, and a proxy in front that gives TLS:
    the token is sent to other machines by https:// alone. Services of others on the cluster are left alone, and where Ray
    Serve runs there already, --host and --port must be its own.
    """
    from stamp_index.shards import ray_serve
    from stamp_index.shards.patience import MOST_TIMEOUT_S
    from stamp_index.store import Store

    if replicas < 1 or not 0 < timeout_s <= MOST_TIMEOUT_S:
        msg = (
            f"--replicas is {replicas} and --timeout {timeout_s:g}; expected 1 or more, and seconds above 0, at most "
            f"{MOST_TIMEOUT_S:,.0f}."
        )
        raise click.UsageError(msg)
    store = Store.open(store_path, encoder=encoder)
    served = ray_serve.Served(host, port, replicas, timeout_s)
    service = ray_serve.serve_shards(store, served, address=address)
    try:
        for side, plan in service.plans.items():
            click.echo(f"{side}: {len(plan.parts)} shards of plan {plan.name}")
        told = _when_told()  # before it is said how
        click.echo(f"The shards are served at {service.url} (Ctrl+C stops them)")
        told.wait()
    finally:
        service.stop()


def _when_told() -> threading.Event:
    """Make what is set when the process is interrupted or told to stop."""
    told = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: told.set())
    return told
