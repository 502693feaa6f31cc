"""Artifacts by what a user calls them, wherever they are: in the store, in a folder, or on the Hub."""

from __future__ import annotations

from pathlib import Path

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.store import Store
from apmctl_core.events import Emit, Note, silent
from apmctl_core.network.references import PREFIX, Reference, is_repo, parse


def on_hub(text: str) -> Reference | None:
    """The repository that `text` means, if any: `hf:...`, or `owner/name` where no such path exists."""
    if text.startswith(PREFIX):
        return parse(text)
    repo = text.partition("@")[0]
    if not is_repo(repo) or Path(text).exists() or Path(repo.split("/")[0]).exists():
        return None
    return parse(text)


def find(store: Store, text: str, kind: str | None = None, *, wait: bool = True, emit: Emit = silent) -> Artifact:
    """The artifact that a name, `name@id`, the start of an id, a path or a reference to the Hub means.

    What is on the Hub is pulled into the store; Notes say what was chosen. Raises what `Store.find` and `pull` raise.
    """
    reference = on_hub(text)
    if reference is None:
        return store.find(text, kind, emit)
    from apmctl_core.hub.pull import pull  # torch, which `show` of what is in the store does without

    if not text.startswith(PREFIX):
        emit(Note(text=f"there is no folder {text}; using {reference}"))
    return pull(store, reference, kind=kind, wait=wait, emit=emit).artifact
