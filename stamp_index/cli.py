"""``stamp-index``: the verbs. Each is a few lines around one library call."""

from __future__ import annotations

import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stamp_index.cli_add import add
from stamp_index.cli_benchmark import benchmark
from stamp_index.cli_build import build
from stamp_index.cli_evaluate import compare, evaluate
from stamp_index.cli_export import export
from stamp_index.cli_import import import_model
from stamp_index.cli_inspect import inspect
from stamp_index.cli_search import search
from stamp_index.cli_serve import serve
from stamp_index.cli_shard import serve_shards, shard
from stamp_index.cli_store import compact, delete, doctor, info
from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from stamp_index.app_launcher import Served

_PATH = click.Path(path_type=Path)


class _Verbs(click.Group):
    """Shows library errors as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            if _is_unread():
                raise  # whoever read has seen enough, such as `head`: click ends quietly
            raise click.ClickException(str(exc)) from exc
        except (StampIndexError, ValueError, OSError) as exc:
            notes = getattr(exc, "__notes__", ())
            raise click.ClickException("\n".join([str(exc), *notes])) from exc


def _is_unread() -> bool:
    """Whether nobody reads any more what is printed, as against a connection to elsewhere that broke."""
    ends = select.poll()
    try:
        for stream in (sys.stdout, sys.stderr):
            ends.register(stream.fileno(), 0)  # errors are told in any case
    except OSError:  # a stream that is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))


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
        from stamp_index.app_launcher import Served

        _serve(store, Served(port=port), query=first_query())


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


for command in (
    import_model, inspect, add, build, search, evaluate, compare, benchmark, export, serve, info, delete, compact, doctor, shard, serve_shards
):  # fmt: skip
    main.add_command(command)
main.add_command(add, "embed")  # its older name


def _trainer(verb: str, arguments: tuple[str, ...]) -> None:
    """Hand over to the trainer, which runs in a process of its own and says itself what it takes."""
    from stamp_index.training import run_trainer

    sys.exit(run_trainer([verb, *arguments]))


@main.command()
@click.argument("store_path", metavar="STORE", type=_PATH)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8501, show_default=True)
@click.option(
    "--base-url", "base_path", default="", help="Path that a proxy passes on, such as /stamp."
)
@click.option("--auth", type=click.Choice(["none", "proxy", "oidc"]), default="none", show_default=True,
              help="proxy: one in front logs users in and names them in a header; oidc: they log in here.")  # fmt: skip
@click.option("--user-header", default="X-Forwarded-User", show_default=True)
@click.option(
    "--allow",
    multiple=True,
    metavar="PATTERN",
    help="Users that may look, such as '*@hospital.example'.",
)
@click.option("--secrets", type=_PATH, help="TOML file with the section [auth] of the log-in.")
@click.option(
    "--shards",
    default="",
    envvar="STAMP_INDEX_SHARDS",
    help="Where the indexes' shards are served, such as http://host:8000.",
)
def app(store_path: Path, **served: Any) -> None:  # noqa: ANN401 - click's values
    """Open the app on STORE."""
    from stamp_index.app_launcher import Served

    _serve(store_path, Served(**served), query=None)


def _serve(store_path: Path, served: Served, *, query: str | None) -> None:
    from stamp_index.app_launcher import run_app

    run_app(
        store_path,
        served,
        query=query,
        on_ready=lambda url: click.echo(f"The app is at {url} (Ctrl+C stops it)"),
    )
