"""`apmctl push` and `apmctl pull`: artifacts on the Hugging Face Hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from apmctl import options, progress
from apmctl.output import Sink
from apmctl.results.exchanged import Pulled, Pushed
from apmctl.results.made import Identity
from apmctl.signature import Group, takes

RepoArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")]
_option = partial(options.flag, "Hub")
_HOW = Group(
    "how",
    (
        _option("--private", bool, "Make the repository private.", default=False),
        _option("--revision", str | None, "The branch; created if it is missing.", metavar="BRANCH"),
        _option("--tag", str | None, "Tag the commit.", metavar="TAG"),
        _option("--message -m", str | None, "Title of the commit.", metavar="TEXT"),
        _option("--create-pr", bool, "Open a pull request instead.", default=False),
        _option("--license", str | None, "License for the card, e.g. cc-by-4.0.", metavar="ID"),
    ),
    dict,
)
_REVISION_HELP = r"A branch, tag or commit \[default: main]."
_Revision = Annotated[str | None, typer.Option("--revision", metavar="R", help=_REVISION_HELP, rich_help_panel="Hub")]


@takes(_HOW, options.STORE, options.OUTPUT)
def push(ref: options.LocalArgument, repo: RepoArgument, *, how: dict[str, Any], store: Path, out: Sink) -> None:
    """Push a set or a pool to the Hub, with a card and, for sets, the images as parquet."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.store import Store
        from apmctl_core.hub import push as hub

        home = Store(store)
        artifact = home.find(ref)
        pushed = hub.push(home, artifact, repo, hub.Options(**how), emit=emit)
    out.result(Pushed.of(pushed, repository=pushed.repo, artifact=Identity.of(artifact)))


@takes(options.STORE, options.OUTPUT)
def pull(repo: RepoArgument, *, revision: _Revision = None, store: Path, out: Sink) -> None:
    """Pull a set or a pool from the Hub; it appears in the store once every file is checked."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.store import Store
        from apmctl_core.hub import pull as hub
        from apmctl_core.network.references import parse

        pulled = hub.pull(Store(store), parse(repo, revision), emit=emit)
    out.result(Pulled.by(pulled))
