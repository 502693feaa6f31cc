"""What a removal takes along and what it breaks, before anything is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apmctl_core.artifacts.artifact import Artifact, Damaged, Run
from apmctl_core.artifacts.store import Store
from apmctl_core.errors import StoreError

Target = Artifact | Damaged | Run


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An artifact that goes, and what stays that was made from it or, unfinished, needs it."""

    target: Artifact | Damaged
    dependents: Sequence[Artifact | Run]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """`named` are the targets that references name one by one, `matched` those of patterns, `reports` go with sets."""

    named: Sequence[Target]
    matched: Sequence[Target]
    reports: Sequence[Artifact]
    broken: Sequence[Broken]

    @property
    def targets(self) -> list[Target]:
        return [*self.named, *self.matched, *self.reports]

    @property
    def plain(self) -> bool:
        """Whether it removes what was named, and nothing else is affected."""
        return not (self.matched or self.reports or self.broken)


def plan(store: Store, refs: Iterable[str]) -> Removal:
    """What removing `refs` means, each of which may be a pattern with `*`, `?` or `[...]`.

    Raises ArtifactError for one that names nothing or could be several, StoreError for a run that a process works on.
    """
    named: dict[object, Target] = {}
    matched: dict[object, Target] = {}
    for ref in refs:
        if any(sign in ref for sign in "*?["):
            matched |= {target.path: target for target in store.match(ref)}
        else:
            target = store.target(ref)
            named[target.path] = target
    matched = {path: target for path, target in matched.items() if path not in named}
    going = [*named.values(), *matched.values()]
    for target in going:
        if isinstance(target, Run) and target.owner:
            problem = f"{target.kind} {target.ref} is locked by {target.owner}"
            raise StoreError(problem, "stop it first, then remove it")
    removal = Removal(named=list(named.values()), matched=list(matched.values()), reports=(), broken=())
    return _with_consequences(store, removal)


def _with_consequences(store: Store, removal: Removal) -> Removal:
    sound, damaged = store.scan()
    paths = {target.path for target in removal.targets}
    staying = [artifact for artifact in sound if artifact.path not in paths]
    kept = {(a.kind, a.id) for a in staying} | {(a.kind, a.id) for a in damaged if a.path not in paths}
    # A copy under another name serves as well.
    gone = [t for t in removal.targets if not isinstance(t, Run) and (t.kind, t.id) not in kept]
    sets = {target.id for target in gone if target.kind == "set"}
    reports = [a for a in staying if a.kind == "report" and a.manifest.inputs.get("set") in sets]
    others = [a for a in staying if a not in reports] + [run for run in store.runs() if run.path not in paths]
    broken = [Broken(target=t, dependents=[each for each in others if _needs(each, t)]) for t in gone]
    return dataclasses.replace(removal, reports=reports, broken=[each for each in broken if each.dependents])


def _needs(other: Artifact | Run, target: Artifact | Damaged) -> bool:
    if isinstance(other, Artifact):
        return other.manifest.inputs.get(target.kind) == target.id
    return other.request is not None and target.id in other.request.needs
