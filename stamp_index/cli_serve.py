"""``stamp-index serve``: a store over HTTP."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.serve.settings import AUTH_KINDS, Access, Address, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)
_PEM = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each limit."""
    for one in reversed(fields(Limits)):
        name = f"--max-{one.name.replace('_', '-')}"
        kind = float if isinstance(one.default, float) else int
        option = click.option(
            name, f"limit_{one.name}", type=kind, default=one.default, show_default=True, help=one.metadata["help"]
        )  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("store_path", metavar="STORE", type=_PATH, required=False)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8600, show_default=True, help="0 for any that is free.")
@click.option("--certificate", type=_PEM, help="PEM file, to speak TLS.")
@click.option("--key", type=_PEM, help="PEM file of the certificate's key.")
@click.option("--encoder", help="Its name in the store [the store's first].")
@click.option("--auth", type=click.Choice(AUTH_KINDS), default="none", show_default=True,
              help="Who is answered: anybody, who sends a token of --tokens, who sends a token of the OpenID Connect "
                   "provider --issuer, or whom a proxy in front names in a header.")  # fmt: skip
@click.option("--tokens", type=_PATH, help="File of names and SHA-256 of tokens.")
@click.option("--new-token", metavar="NAME", help="Print a new token and its line for --tokens.")
@click.option("--issuer", default="", help="Address of the provider, https://...")
@click.option("--audience", default="", help="Whom the provider's tokens must be for.")
@click.option("--user-header", default="X-Forwarded-User", show_default=True)
@click.option("--allow", multiple=True, metavar="PATTERN", help="Users that may ask.")
@click.option("--allowed-host", "allowed_hosts", multiple=True, help="A name of this server.")
@click.option("--anyone", is_flag=True, help="Be open to a network although nobody logs in.")
@_limits
def serve(store_path: Path | None, *, new_token: str | None, **given: Any) -> None:  # noqa: ANN401 - click's values
    """Answer searches of STORE over HTTP.

    \b
        curl -s localhost:8600/v1/search/genes -H 'Content-Type: application/json' \\
             -d '{"signature": "CD8A high, EPCAM low", "k": 5}'

    From Python: stamp_index.connect("http://localhost:8600"). The interface is described at /openapi.json. STORE is
    only read; what other processes add to it is found a second later.
    """  # noqa: D301 - click's mark
    if new_token is not None:
        _print_token(new_token)
        return
    if store_path is None:
        msg = "Give the folder of a store."
        raise click.UsageError(msg)
    from stamp_index.serve.server import run_server

    def part(kind: type[Any], prefix: str = "") -> Any:  # noqa: ANN401
        return kind(**{one.name: given[prefix + one.name] for one in fields(kind)})

    run_server(
        store_path,
        address=part(Address),
        access=part(Access),
        limits=part(Limits, "limit_"),
        encoder=given["encoder"],
        on_ready=lambda url: click.echo(f"The store is served at {url} (Ctrl+C stops it)"),
    )


def _print_token(name: str) -> None:
    from stamp_index.serve.tokens import new_token

    token, line = new_token(name)
    click.echo(f"The token, which is shown this once: {token}", err=True)
    click.echo(line)
