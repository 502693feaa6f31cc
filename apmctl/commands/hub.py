"""`apmctl push` and `apmctl pull`: artifacts on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apmctl import exchange, options, progress
from apmctl.output import Sink
from apmctl.signature import takes

_PANEL = "Hub"
RepoArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")]


@takes(options.STORE, options.OUTPUT)
def push(
    ref: options.LocalArgument,
    repo: RepoArgument,
    *,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private.", rich_help_panel=_PANEL)
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="BRANCH", help="The branch, made if need be.", rich_help_panel=_PANEL),
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="TAG", help="Tag what is pushed.", rich_help_panel=_PANEL)
    ] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="Title of the commit.", rich_help_panel=_PANEL),
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead.", rich_help_panel=_PANEL)
    ] = False,
    license: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="License for the card, e.g. cc-by-4.0.", rich_help_panel=_PANEL),
    ] = None,
    store: Path,
    out: Sink,
) -> None:
    """Push a set or a pool to the Hub, with a card and, for sets, the pictures as parquet."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.store import Store
        from apmctl_core.hub.publication import Options
        from apmctl_core.hub.push import push as send

        chosen = Options(
            private=private, revision=revision, tag=tag, message=message, create_pr=create_pr, license=license
        )
        home = Store(store)
        artifact = home.find(ref)
        pushed = send(home, artifact, repo, chosen, emit=emit)
    exchange.deliver_pushed(out, artifact, pushed)


@takes(options.STORE, options.OUTPUT)
def pull(
    repo: RepoArgument,
    *,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="R", help="A branch, tag or commit \\[default: main].", rich_help_panel=_PANEL
        ),
    ] = None,
    store: Path,
    out: Sink,
) -> None:
    """Pull a set or a pool from the Hub; nothing appears in the store before every file is checked."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.store import Store
        from apmctl_core.hub.pull import pull as fetch
        from apmctl_core.network.references import parse

        pulled = fetch(Store(store), parse(repo, revision), emit=emit)
    exchange.deliver_pulled(out, pulled)
