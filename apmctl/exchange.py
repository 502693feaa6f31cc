"""What `push` and `pull` hand to the sink: their JSON documents, and the same as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apmctl.output import Sink
from apmctl.present import identity, made_document, made_text, results
from apmctl.text import clean, pairs, plural, size

if TYPE_CHECKING:
    from apmctl_core.jobs.pipeline import Outcome

    from apmctl_core.artifacts.artifact import Artifact
    from apmctl_core.hub.publication import Pushed
    from apmctl_core.hub.pull import Pulled


def deliver_pushed(out: Sink, artifact: Artifact, pushed: Pushed) -> None:
    """The result of `push`; its bare essential is the commit."""
    document = {"command": "push", "artifact": identity(artifact), **place(pushed)}
    out.result(document, f"{artifact.kind} {clean(artifact.ref)}\n{pushed_text(pushed)}", pushed.commit)


def deliver_released(out: Sink, outcome: Outcome, report: Outcome, pushed: Pushed) -> None:
    """The result of `distill --push`: what was made, what was measured, and where it is."""
    rows = report.metrics["results"]
    document = made_document("distill", outcome) | {"results": [row.document() for row in rows], "hub": place(pushed)}
    human = "\n".join([made_text(outcome), results(rows), pushed_text(pushed)])
    out.result(document, human, outcome.artifact.ref)


def place(pushed: Pushed) -> dict[str, Any]:
    """Where a push has put an artifact, and what it took."""
    return {
        "repository": pushed.repo,
        "type": pushed.type,
        "url": pushed.url,
        "revision": pushed.revision,
        "commit": pushed.commit,
        "tag": pushed.tag,
        "pull_request": pushed.pull_request,
        "uploaded": pushed.uploaded,
        "deleted": pushed.deleted,
        "unchanged": pushed.unchanged,
        "sent_bytes": pushed.sent_bytes,
    }


def pushed_text(pushed: Pushed) -> str:
    """The same for people."""
    count = len(pushed.uploaded)
    sent = f"{_files(count)}, {size(pushed.sent_bytes)}" if count else "nothing: all of it is there"
    lines: list[tuple[str, object]] = [
        ("at", pushed.url),
        ("revision", pushed.revision),
        ("commit", pushed.commit),
        ("sent", sent),
        ("kept", _files(pushed.unchanged)),
    ]
    lines += [("deleted", ", ".join(pushed.deleted))] if pushed.deleted else []
    lines += [("tag", pushed.tag)] if pushed.tag else []
    lines += [("pull request", pushed.pull_request)] if pushed.pull_request else []
    return pairs(lines, indent=2)


def deliver_pulled(out: Sink, pulled: Pulled) -> None:
    """The result of `pull`; its bare essential is the artifact's `name@id`."""
    artifact = pulled.artifact
    document = {
        "command": "pull",
        "artifact": identity(artifact) | {"reused": pulled.reused},
        "repository": pulled.reference.repo,
        "revision": pulled.reference.revision or "main",
        "commit": pulled.commit,
        "downloaded_bytes": pulled.downloaded_bytes,
    }
    found = ", which was here already" if pulled.reused else ""
    lines = [("path", artifact.path), ("commit", pulled.commit), ("fetched", size(pulled.downloaded_bytes))]
    out.result(document, f"{artifact.kind} {clean(artifact.ref)}{found}\n{pairs(lines, indent=2)}", artifact.ref)


def _files(count: int) -> str:
    return f"{count} {plural('file') if count != 1 else 'file'}"
