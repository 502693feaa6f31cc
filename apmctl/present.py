"""What commands hand to the sink: the JSON documents of artifacts and results, and the same as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apmctl.output import Sink
from apmctl.text import clean, duration, label, number, pairs, plural, size, table
from apmctl_core.errors import ApmError

if TYPE_CHECKING:
    from apmctl_core.jobs.pipeline import Outcome

    from apmctl_core.artifacts.artifact import Artifact
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.artifacts.store import Run

Document = dict[str, Any]


def identity(artifact: Artifact) -> Document:
    """An artifact as every JSON document names it."""
    return {"kind": artifact.kind, "id": artifact.id, "name": artifact.name, "path": artifact.path}


# --- commands that make an artifact ------------------------------------------------------------------------------


def deliver_made(out: Sink, command: str, outcome: Outcome) -> None:
    """The result of a command that made or found an artifact."""
    out.result(made_document(command, outcome), made_text(outcome), outcome.artifact.ref)


def made_document(command: str, outcome: Outcome) -> Document:
    """An outcome as the JSON document of its command."""
    return {
        "command": command,
        "artifact": identity(outcome.artifact) | {"reused": outcome.reused},
        "metrics": outcome.metrics,
        "elapsed_s": outcome.elapsed_s,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }


def made_text(outcome: Outcome) -> str:
    """The same for people."""
    artifact = outcome.artifact
    lines: list[tuple[str, object]] = [("path", artifact.path)]
    if "preview.png" in artifact.manifest.files:
        lines.append(("preview", artifact.path / "preview.png"))
    lines += readings(outcome.metrics)
    return f"{_headline(outcome)}\n{pairs(lines, indent=2)}\n{_cost(outcome)}"


def _headline(outcome: Outcome) -> str:
    found = ", found as it was made before" if outcome.reused else ""
    return f"{outcome.artifact.kind} {clean(outcome.artifact.ref)}{found}"


def _cost(outcome: Outcome) -> str:
    return f"{duration(outcome.elapsed_s)}, peak memory {size(outcome.peak_memory_bytes)}"


def readings(metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Metrics as pairs of a label and a value that people read."""
    return [(label(name), _reading(name, value)) for name, value in metrics.items()]


def _reading(name: str, value: Any) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if name.endswith("bytes"):
        return size(value)
    return duration(value) if name == "seconds" else number(value)


# --- evaluation --------------------------------------------------------------------------------------------------


def deliver_results(out: Sink, outcome: Outcome) -> None:
    """The result of `eval`: a row for each network and kind of labels."""
    rows: Sequence[ReportRow] = outcome.metrics["results"]
    artifact = identity(outcome.artifact) | {"reused": outcome.reused, "set": outcome.metrics.get("set")}
    document = {"command": "eval", "artifact": artifact, "results": [row.document() for row in rows]}
    human = f"{_headline(outcome)}\n{results(rows)}\n{_cost(outcome)}"
    out.result(document, human, "\n".join(f"{row.accuracy_mean:.4f}" for row in rows))


def results(rows: Sequence[ReportRow]) -> str:
    """The table of an evaluation, in per cent, with the protocol below it."""
    headers = ("network", "labels", "distilled", "random", "difference")
    cells = [(row.arch, row.labels, *row.cells()) for row in rows]
    title = "accuracy in per cent on the test split"
    return "\n".join([title, table(headers, cells, right=(2, 3, 4)), *_protocol(rows)])


def _protocol(rows: Sequence[ReportRow]) -> list[str]:
    """What all rows share in one line, and what they do not in a line for each of it."""
    names = list(dict.fromkeys(name for row in rows for name in row.protocol))
    values = {name: [str(row.protocol.get(name)) for row in rows] for name in names}
    shared = [f"{label(name)} {found[0]}" for name, found in values.items() if len(set(found)) == 1]
    which = [f"{row.arch} {row.labels}" for row in rows]
    differing = [
        f"  {label(name)}: {', '.join(f'{value} ({row})' for value, row in zip(found, which, strict=True))}"
        for name, found in values.items()
        if len(set(found)) > 1
    ]
    return [clean(line) for line in (f"protocol: {', '.join(shared)}", *differing)]


# --- what there is -----------------------------------------------------------------------------------------------


def listed(artifact: Artifact, accuracy: float | None) -> Document:
    """An artifact as `list` tells of it."""
    return identity(artifact) | {
        "dataset": artifact.manifest.data.get("dataset"),
        "size_bytes": artifact.size,
        "accuracy": accuracy,
        "created": artifact.manifest.environment.get("created"),
    }


def unfinished(run: Run) -> Document:
    """An unfinished run as `list` tells of it."""
    return {
        "kind": run.kind,
        "id": run.id,
        "name": run.name,
        "path": run.path,
        "running": run.running,
        "progress": run.progress,
    }


def inventory(artifacts: Sequence[Document], runs: Sequence[Document]) -> str:
    """The tables of `list`."""
    parts = []
    if artifacts:
        headers = ("kind", "artifact", "data", "size", "accuracy", "created")
        parts.append(table(headers, [_listed_row(a) for a in artifacts], right=(3, 4)))
    if runs:
        parts.append(table(("unfinished", "artifact", "progress", "state"), [_run_row(r) for r in runs]))
    return "\n\n".join(parts) or "nothing yet; `apmctl distill digits --ipc 1` makes a first set"


def _listed_row(a: Document) -> tuple[str, ...]:
    accuracy = "-" if a["accuracy"] is None else f"{100 * a['accuracy']:.1f}"
    return a["kind"], f"{a['name']}@{a['id']}", str(a["dataset"]), size(a["size_bytes"]), accuracy, _local(a["created"])


def _local(created: Any) -> str:
    """A time in this place, to the minute; what is no time is left out."""
    try:
        return datetime.fromisoformat(created).astimezone().isoformat(" ", "minutes")[:16]
    except (TypeError, ValueError, OverflowError):
        return "-"


def _run_row(r: Document) -> tuple[str, ...]:
    state = "running" if r["running"] else "stopped; the same command goes on"
    return r["kind"], f"{r['name']}@{r['id']}", _progress(r["progress"]), state


def _progress(progress: Mapping[str, Any] | None) -> str:
    if not progress or not {"done", "total", "unit"} <= progress.keys():
        return "-"
    return f"{progress['done']}/{progress['total']} {plural(str(progress['unit']))}"


def newest_reports(artifacts: Sequence[Artifact]) -> dict[str, Artifact]:
    """The newest report on each set, by the set's id."""
    reports = [a for a in artifacts if a.kind == "report"]
    reports.sort(key=lambda report: str(report.manifest.environment.get("created")))
    return {report.manifest.inputs.get("set", ""): report for report in reports}


def accuracy_of(artifact: Artifact, reports: Mapping[str, Artifact]) -> float | None:
    """The first accuracy that is known of an artifact: a pool's own, a set's by `reports` (its id -> its report)."""
    if artifact.kind == "pool":
        return _fraction(artifact.manifest.metrics.get("test_accuracy_mean"))
    report = artifact if artifact.kind == "report" else reports.get(artifact.id)
    if report is None:
        return None
    try:
        rows = report_rows(report)
    except ApmError:  # `verify` says what is wrong with it
        return None
    return rows[0].accuracy_mean if rows else None


def report_rows(report: Artifact) -> tuple[ReportRow, ...]:
    """The rows of a report. Raises ArtifactError where it is damaged."""
    from apmctl_core.artifacts.kinds.reports import load_report

    return load_report(report).rows


def _fraction(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def shown(artifact: Artifact) -> Document:
    """An artifact as `show` tells of it: all of its manifest, and of a report its rows."""
    m = artifact.manifest
    document = {
        "artifact": identity(artifact),
        "recipe": m.recipe,
        "inputs": m.inputs,
        "data": m.data,
        "metrics": m.metrics,
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in m.files.items()},
        "environment": m.environment,
    }
    return document | (
        {"results": [row.document() for row in report_rows(artifact)]} if artifact.kind == "report" else {}
    )


def description(artifact: Artifact) -> str:
    """The same for people."""
    m = artifact.manifest
    files = [(name, f"{size(entry.size)}, sha256 {entry.sha256[:12]}") for name, entry in sorted(m.files.items())]
    data = {"data": m.data.get("dataset"), "shape": _shape(m.data), "classes": len(m.classes)}
    sections: list[tuple[str, Sequence[tuple[str, object]]]] = [
        ("recipe", flat(m.recipe)),
        ("inputs", list(m.inputs.items())),
        ("metrics", readings(m.metrics)),
        ("files", files),
        ("made on", flat(m.environment)),
    ]
    parts = [f"{artifact.kind} {clean(artifact.ref)}", pairs([("path", artifact.path), *data.items()], indent=2)]
    parts += [f"{title}\n{pairs(values, indent=2)}" for title, values in sections if values]
    if artifact.kind == "report":
        parts.append(results(report_rows(artifact)))
    return "\n".join(parts)


def soundness(artifact: Artifact) -> str:
    """What `verify` says of a sound artifact."""
    files = f"{len(artifact.manifest.files)} files, {size(artifact.size)}"
    return f"{artifact.kind} {clean(artifact.ref)} is sound: {files}"


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested tables as pairs of a dotted key and a value."""
    found: list[tuple[str, object]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return found


def _shape(data: Mapping[str, Any]) -> str:
    return " x ".join(map(str, data["shape"]))
