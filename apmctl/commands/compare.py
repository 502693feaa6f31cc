"""`apmctl compare`: the accuracies of several sets beside each other, and what the sets differ in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Self

import msgspec

from apmctl import differing, fields
from apmctl.blocks import Block, Pairs, Table
from apmctl.commands.make import EvaluationReport
from apmctl.errors import translate
from apmctl.options import MACHINE_OF_REPORT, OUTPUT, SETS, OpenSession
from apmctl.output import Sink
from apmctl.results import PLACE, Document, Identity, Judged, Timed, protocol_lines, scores, tested
from apmctl.signature import takes

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.evaluation.comparison import Difference
    from apmctl_core.jobs import Comparison


@dataclasses.dataclass(frozen=True)
class Measured:
    """A row of the report on a set, and how it differs from that of the first set; None for the first itself."""

    set: str
    row: ReportRow
    difference: Difference | None

    def document(self) -> dict[str, Any]:
        """The row as in the document of `eval`, with the difference to the first set."""
        to_first = None
        if (d := self.difference) is not None:
            low, high = d.bounds or (None, None)
            to_first = {"difference": d.value, "low": low, "high": high, "paired": d.paired, "verdict": d.verdict.name}
        return {"set": self.set, **Judged(self.row).document(), "to_first": to_first}

    def cells(self) -> tuple[str, str, str]:
        """Accuracy, difference and verdict for a table, in per cent and points."""
        from apmctl_core.artifacts.kinds.reports import shown, signed

        own = shown(self.row.accuracies)
        return (own, signed(d.value, d.bounds), d.verdict.name) if (d := self.difference) else (own, "-", "-")


class ComparedRow(Document):
    """One network and kind of labels: a row for each set, in their order."""

    arch: str
    labels: str
    sets: Sequence[Measured]

    @classmethod
    def by(cls, refs: Sequence[str], rows: Sequence[ReportRow]) -> Self:
        """The rows of the sets of these references, each beside the first."""
        from apmctl_core.evaluation.comparison import difference

        first, *others = rows
        compared = [None, *(difference(row.accuracies, first.accuracies) for row in others)]
        return cls.of(first, sets=list(map(Measured, refs, rows, compared)))

    @property
    def protocol(self) -> dict[str, Any]:
        """What the protocol says of all sets."""
        first, *others = (each.row.protocol for each in self.sets)
        return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


class _OfCompared(Document):
    command: str = "compare"
    sets: Sequence[Identity]
    reports: Sequence[EvaluationReport]
    results: Sequence[ComparedRow]
    differences: Mapping[str, Sequence[Any]]


class Compared(Timed, _OfCompared):
    """Sets, their reports, their accuracies by network and labels, and what they differ in by its dotted path."""

    @classmethod
    def by(cls, comparison: Comparison) -> Self:
        """The result of a comparison."""
        sets, outcomes = comparison.sets, comparison.outcomes
        refs = [artifact.ref for artifact in sets]
        return cls(
            sets=[Identity.of(artifact) for artifact in sets],
            reports=[
                EvaluationReport.of(outcome.artifact, reused=outcome.reused, set=ref)
                for ref, outcome in zip(refs, outcomes, strict=True)
            ],
            results=[ComparedRow.by(refs, rows) for rows in comparison.rows],
            differences=comparison.differences,
            elapsed_s=round(sum(outcome.elapsed_s for outcome in outcomes), 3),
            peak_memory_bytes=max(outcome.peak_memory_bytes for outcome in outcomes),
            stages=[stage for outcome in outcomes for stage in outcome.stages],
        )

    def brief(self) -> str:
        return "\n".join(" ".join(f"{each.row.accuracy_mean:.4f}" for each in row.sets) for row in self.results)

    def blocks(self) -> Iterator[Block]:
        yield Pairs([(_letter(number), each.ref) for number, each in enumerate(self.sets)])
        yield f"accuracy in per cent on {tested(self._firsts())} [95% interval]; difference: to set A"
        cells = [(*place, *each.cells()) for place, each in self._places]
        yield Table((*PLACE, "accuracy", "difference", "verdict"), cells, wrap=("network",))
        yield from self._remarks()
        yield from self._baselines()
        yield from scores([each.row for _, each in self._places], [place for place, _ in self._places])
        yield from protocol_lines(self._firsts())
        yield from self._differing()
        yield from self.cost()

    @property
    def _places(self) -> list[tuple[tuple[str, str, str], Measured]]:
        """What stands in a line of a table, after its network, labels and letter."""
        return [
            ((row.arch, row.labels, _letter(number)), each)
            for row in self.results
            for number, each in enumerate(row.sets)
        ]

    def _firsts(self) -> list[ReportRow]:
        """The rows of the first set, with what their protocols say of all sets."""
        return [msgspec.structs.replace(row.sets[0].row, protocol=row.protocol) for row in self.results]

    def _remarks(self) -> Iterator[str]:
        """How the intervals of the differences were computed, and why there may be none."""
        compared = [(each.difference, place[2]) for place, each in self._places if each.difference]
        for paired, how in ((True, "paired by seed"), (False, "Welch's t, for other numbers of networks")):
            letters = dict.fromkeys(letter for difference, letter in compared if difference.paired == paired)
            if letters:
                yield f"intervals of the difference, {', '.join(letters)}: {how}"
        unknown = [d.verdict.sentence for d, _ in compared if d.verdict.name == "unknown"]
        yield from (translate(sentence, self.command) for sentence in unknown[:1])

    def _baselines(self) -> Iterator[Block]:
        """Real images beside each set, with the difference of the set to them."""
        rows = [(*place, name, *each.row.beside(name)) for place, each in self._places for name in each.row.baselines]
        if rows:
            yield "real images under the same labels and protocol; difference: of the set to them"
            yield Table((*PLACE, "images", "accuracy", "difference"), rows, wrap=("network",))

    def _differing(self) -> Iterator[Block]:
        letters = [_letter(number) for number in range(len(self.sets))]
        if rows := differing.rows(self.differences):
            yield "the sets differ in"
            yield Table(("", *letters), rows, wrap=("", *letters))


def _letter(number: int) -> str:
    """What a table calls a set: A, B, ..., Z, A1, ..."""
    return ascii_uppercase[number % 26] + (str(number // 26) if number >= 26 else "")


@takes(SETS, fields.changes(fields.EVALUATE, "first set's"), MACHINE_OF_REPORT, OUTPUT)
def compare(refs: list[str], changes: dict[str, Any], open_session: OpenSession, out: Sink) -> None:
    """Evaluate sets under one protocol and set their accuracies side by side, with what the sets differ in."""
    with open_session(out) as session:
        from apmctl_core import jobs

        comparison = jobs.compare_sets(session, refs, changes)
    out.result(Compared.by(comparison))
