"""What a shell offers while a command line is typed, by the metavar of what is asked for.

Nothing here fails or loads torch: a half-typed line is no place for errors, and who presses Tab does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact, Run
    from apmctl_core.artifacts.store import Store

Offer = tuple[str, str]  # what is inserted, and what it is, for shells that show it
_Offers = Callable[[typer.Context], Iterable[Offer]]
Completer = Callable[[typer.Context, str], list[Offer]]


def completer(metavar: str | None) -> Completer | None:
    """What completes a value that help calls `metavar`; None where the shell offers files."""
    offers = _OFFERS.get((metavar or "").removesuffix("..."))
    if offers is None and metavar and "|" in metavar:
        choices = [(each, "") for each in metavar.split("|") if each.islower()]
        offers = lambda context: choices  # noqa: ARG005, E731
    return None if offers is None else _harmless(offers)


def _harmless(offers: _Offers) -> Completer:
    def complete(context: typer.Context, incomplete: str) -> list[Offer]:
        try:
            # A name, until there is an @: what follows it is long, and seldom needed.
            offered = (each for each in offers(context) if "@" in incomplete or "@" not in each[0])
            return [each for each in offered if each[0].startswith(incomplete)]
        except Exception:  # a shell shows what Tab says in the middle of the line: whatever is wrong, offer nothing
            return []

    return complete


def _presets(context: typer.Context) -> Iterable[Offer]:  # noqa: ARG001
    from apmctl_core.config.presets import PRESETS

    return [(name, f"{recipe.distill.ipc} images per class") for name, recipe in PRESETS.items()]


def _datasets(context: typer.Context) -> Iterable[Offer]:  # noqa: ARG001
    from apmctl_core.data import KNOWN

    return [(name, f"{spec.num_classes} classes") for name, spec in KNOWN.items()]


def _artifacts(kind: str | None) -> _Offers:
    def offers(context: typer.Context) -> Iterable[Offer]:
        store = store_of(context.params.get("store"))
        runs = store.runs() if kind is None else []
        found: list[Artifact | Run] = [*store.list(kind), *runs]
        named = {each.name: each.kind for each in found}
        return [*named.items(), *((each.ref, each.kind) for each in found)]

    return offers


def store_of(folder: Path | str | None) -> Store:
    """The store of `--store`, else that of this user."""
    from apmctl_core.artifacts.store import Store
    from apmctl_core.storage.files import user_store

    return Store(Path(folder).expanduser() if folder else user_store())


_OFFERS: dict[str, _Offers] = {
    "DATASET": _datasets,
    "PRESET": _presets,
    "REF": _artifacts(None),
    "SET": _artifacts("set"),
    "POOL": _artifacts("pool"),
}
