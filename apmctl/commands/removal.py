"""`apmctl rm` and `gc`: what leaves the store, and the results of both."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from apmctl.blocks import Block, Table
from apmctl.errors import FAILED
from apmctl.options import OUTPUT, STORE
from apmctl.output import Sink
from apmctl.results import Document
from apmctl.signature import argument, option, takes
from apmctl.text import count, size
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.removal import Broken, Removal
    from apmctl_core.artifacts.store import Store
    from apmctl_core.storage.garbage import Garbage

_LISTED = 8


class Removed(Document):
    """The references of what was removed; `reports` of them went with their sets, `broken` depended on some."""

    command: str = "rm"
    removed: Sequence[str]
    reports: Sequence[str]
    broken: Sequence[str]
    freed_bytes: int

    def brief(self) -> str:
        return "\n".join(self.removed)

    def blocks(self) -> Iterator[Block]:
        for ref in self.removed:
            yield f"removed {ref}" + (" (a report on a removed set)" if ref in self.reports else "")
        yield f"freed {size(self.freed_bytes)}"


_REFS = argument("refs", list[str], "REF...", "Names, name@id, prefixes of ids, or quoted patterns such as 'digits-*'.")
_YES = option(None, "--yes -y", bool, "Do not ask.", False)


@takes(_REFS, STORE, OUTPUT, _YES)
def remove(refs: list[str], yes: bool, store: Store, out: Sink) -> None:
    """Remove artifacts and unfinished runs from the store; the reports on a set go with it.

    Asks first if more goes than was named, or if something that stays was made from it.
    """
    from apmctl_core.artifacts import removal
    from apmctl_core.storage.files import tree_bytes

    # All references are looked up before anything is removed: a typing error removes nothing.
    plan = removal.plan(store, refs)
    freed = sum(tree_bytes(target.path) for target in plan.targets)
    if not (plan.plain or yes):
        _ask(plan, freed, out)
    if yes:
        for broken in plan.broken:
            out.note(consequence(broken), "warning")
    for target in reversed(plan.targets):  # a killed command leaves no report without its set
        store.remove(target)
    out.result(
        Removed(
            removed=[target.ref for target in plan.targets],
            reports=[report.ref for report in plan.reports],
            broken=list(dict.fromkeys(each.ref for one in plan.broken for each in one.dependents)),
            freed_bytes=freed,
        )
    )


def _ask(plan: Removal, freed: int, out: Sink) -> None:
    """Say what a removal means and ask for it. Raises ConfigError where there is nobody to ask, Exit for a no."""
    consequences = [consequence(broken) for broken in plan.broken]
    if out.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        more = [target.ref for target in (*plan.matched, *plan.reports)]
        listed = [f"this would remove {_several(more)}"] if more else []
        raise ConfigError("; ".join([*listed, *consequences]), "add --yes to remove it all the same")
    asking = Sink()
    for target in plan.targets:
        asking.line(f"{target.kind} {target.ref}")
    for line in consequences:
        asking.note(line, "warning")
    # Not `typer.confirm`, whose prompt would reach stdout, which carries only the result.
    sys.stderr.write(f"Remove {count(len(plan.targets), 'item')}, {size(freed)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        asking.line("nothing was removed")
        raise typer.Exit(FAILED)


def consequence(broken: Broken) -> str:
    """What the removal of an artifact means for those that depend on it, in a sentence."""
    target, refs = broken.target, [each.ref for each in broken.dependents]
    lost = "relabelled or resumed" if target.kind == "pool" else "made again or resumed"
    made = f"{count(len(refs), 'artifact')} {'was' if len(refs) == 1 else 'were'} made with {target.kind} {target.ref}"
    return f"{made} and cannot be {lost} without it: {_several(refs)}"


def _several(refs: Sequence[str]) -> str:
    more = f" and {len(refs) - _LISTED} more" if len(refs) > _LISTED else ""
    return ", ".join(refs[:_LISTED]) + more


class Collectable(Document):
    """Something that the store can do without; `selected` if this `gc` is to remove it, else `option` would."""

    path: str
    what: str
    size_bytes: int
    option: str | None
    selected: bool


class Swept(Document):
    """What the store can do without, and what was removed of it, by path."""

    command: str = "gc"
    dry_run: bool
    removed: Sequence[str]
    freed_bytes: int
    entries: Sequence[Collectable]

    def brief(self) -> str:
        return "\n".join([each.path for each in self.entries if each.selected] if self.dry_run else self.removed)

    def blocks(self) -> Iterator[Block]:
        if self.dry_run:
            rows = [(each.path, each.what, size(each.size_bytes), each.option or "") for each in self.entries]
            if rows:
                yield Table(("path", "what", "size", "needs"), rows, right=("size",), spare=("needs",), wrap=("path",))
            yield f"would free {size(sum(each.size_bytes for each in self.entries if each.selected))}"
        else:
            yield from (f"removed {path}" for path in self.removed)
            yield f"freed {size(self.freed_bytes)}" if self.removed else "removed nothing"
        for flag, what in (("--orphans", "reports on sets that are not in this store"), ("--cache", "caches")):
            kept = sum(each.size_bytes for each in self.entries if each.option == flag and not each.selected)
            if kept:
                yield f"{size(kept)} more in {what}: `apmctl gc {flag}`"


_CACHE_HELP = "Also empty the caches of decoded data sets and preprocessing, which are made again when needed."
_CACHE = option(None, "--cache", bool, _CACHE_HELP, False)
_ORPHANS = option(None, "--orphans", bool, "Also remove reports on sets that are not in this store.", False)
_DRY_RUN = option(None, "--dry-run", bool, "List what can be removed, with its size, and remove nothing.", False)
_OPTIONS: dict[str, str | None] = {"leftover": None, "orphan": "--orphans", "cache": "--cache"}


@takes(STORE, OUTPUT, _CACHE, _ORPHANS, _DRY_RUN)
def gc(cache: bool, orphans: bool, dry_run: bool, store: Store, out: Sink) -> None:
    """Remove what killed commands left in the store: half-removed, half-pushed, half-pulled and half-decoded.

    What running commands use stays. A pull that was interrupted begins anew after it.
    """
    from apmctl_core.data.garbage import garbage
    from apmctl_core.hub import staging
    from apmctl_core.storage import locks

    chosen = {"leftover", *(["orphan"] if orphans else []), *(["cache"] if cache else [])}
    if cache and (working := locks.living(store.locks)):
        chosen.remove("cache")
        out.note(f"keeping the caches while {working[0]} works on {working[0].name}", "warning")
    entries = {
        each: Collectable.of(
            each,
            path=str(each.path.relative_to(store.root)),
            size_bytes=each.bytes,
            option=_OPTIONS[each.kind],
            selected=each.kind in chosen,
        )
        for each in (*store.garbage(), *staging.garbage(store), *garbage(store.cache))
        if not each.in_use
    }
    removed = [entry for each, entry in entries.items() if entry.selected and not dry_run and _removed(each, out)]
    out.result(
        Swept(
            dry_run=dry_run,
            removed=sorted(entry.path for entry in removed),
            freed_bytes=sum(entry.size_bytes for entry in removed),
            entries=sorted(entries.values(), key=lambda entry: entry.path),
        )
    )


def _removed(garbage: Garbage, out: Sink) -> bool:
    done = garbage.remove()
    if not done:
        out.note(f"cannot remove {garbage.path}: it is in use, or its permissions do not allow it", "warning")
    return done
