"""rm and gc: what they remove, what they say of it first, and what they leave alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl_core import data as datasets
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.storage import files, locks

from .conftest import Answer
from .samples import begin_run, put, put_report

Cli = Callable[..., Answer]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def pool(root: Path) -> Artifact:
    return put(root, "pool", "teachers")


@pytest.fixture
def distilled(root: Path, pool: Artifact) -> Artifact:
    return put(root, "set", "digits-ipc1", inputs={"pool": pool.id})


@pytest.fixture
def report(root: Path, distilled: Artifact) -> Artifact:
    return put_report(root, name="digits-ipc1-eval", inputs={"set": distilled.id})


def refs(cli: Cli) -> set[str]:
    return set(cli("list", "--quiet").out.split())


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have a terminal on which somebody types `text`."""
    stdin = io.StringIO(text)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_rm_removes_artifacts_and_runs_that_are_named_without_a_question(cli: Cli, root: Path) -> None:
    one, begun = put(root, "set", "one"), begin_run(root, "other")
    size = files.tree_bytes(root / "sets")
    document = cli("rm", one.ref, one.id, f"other@{begun}", "--json").document
    assert document == {
        "command": "rm",
        "removed": [one.ref, f"other@{begun}"],
        "reports": [],
        "broken": [],
        "freed_bytes": size,
    }
    assert not (root / "sets").exists()


def test_rm_removes_nothing_where_one_reference_is_wrong(cli: Cli, report: Artifact) -> None:
    assert cli("rm", report.ref, "nothing-like-it").code == 3
    assert report.path.exists()


def test_rm_of_a_pool_says_what_depends_on_it_and_needs_a_yes(cli: Cli, pool: Artifact, distilled: Artifact) -> None:
    answer = cli("rm", "teachers")
    assert (answer.code, answer.out) == (2, "")
    consequence = "cannot be relabelled or resumed without it: "
    assert answer.err.splitlines() == [
        f"error: 1 artifact was made with pool {pool.ref} and {consequence}{distilled.ref}",
        "hint: add --yes to remove it all the same",
    ]
    assert refs(cli) == {pool.ref, distilled.ref}
    told = cli("rm", "teachers", "--yes", "--json")
    assert (told.document["removed"], told.document["broken"]) == ([pool.ref], [distilled.ref])
    assert told.err == f"warning: 1 artifact was made with pool {pool.ref} and {consequence}{distilled.ref}\n"
    assert refs(cli) == {distilled.ref}


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_rm_asks_on_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, pool: Artifact, distilled: Artifact, typed: str, code: int
) -> None:
    answering(monkeypatch, typed)
    answer = cli("rm", "teachers", "--quiet")
    assert answer.code == code
    assert f"pool {pool.ref}" in answer.err
    assert distilled.ref in answer.err
    assert "Remove 1 item, " in answer.err
    assert answer.out == (f"{pool.ref}\n" if code == 0 else "")
    assert pool.path.exists() == bool(code)


def test_rm_of_a_set_takes_its_reports_along(cli: Cli, distilled: Artifact, report: Artifact, root: Path) -> None:
    other = put_report(root, name="another", inputs={"set": "0" * 12})
    answer = cli("rm", "digits-ipc1")
    assert answer.code == 2
    assert answer.err.startswith(f"error: this would remove {report.ref}\n")
    answer = cli("rm", "digits-ipc1", "-y")
    assert answer.out.splitlines()[:2] == [
        f"removed {distilled.ref}",
        f"removed {report.ref} (a report on a removed set)",
    ]
    assert answer.out.splitlines()[2].startswith("freed ")
    assert not report.path.exists()
    assert other.path.exists()


def test_rm_names_what_else_was_made_from_a_set_or_needs_a_pool(
    cli: Cli, root: Path, pool: Artifact, distilled: Artifact
) -> None:
    again = put(root, "set", "again", inputs={"set": distilled.id})
    begun = begin_run(root, "begun", needs=(pool.id,))
    assert f"cannot be made again or resumed without it: {again.ref}" in cli("rm", "digits-ipc1").err
    assert f"{distilled.ref}, begun@{begun}" in cli("rm", "teachers").err


def test_rm_does_not_ask_for_what_is_named_or_what_has_a_copy(
    cli: Cli, root: Path, pool: Artifact, distilled: Artifact, report: Artifact
) -> None:
    put(root, "pool", "copy", inputs={"salt": "teachers"})
    assert cli("rm", pool.ref).code == 0
    assert cli("rm", report.ref, distilled.ref, "copy").code == 0
    assert refs(cli) == set()


def test_rm_takes_patterns(cli: Cli, root: Path, pool: Artifact, distilled: Artifact) -> None:
    others = [put(root, "set", name) for name in ("digits-ipc2", "digits")]
    begun = f"digits-ipc9@{begin_run(root, 'digits-ipc9')}"
    answer = cli("rm", "digits-*")
    assert (answer.code, refs(cli)) == (2, {a.ref for a in (pool, distilled, *others)})
    assert all(ref in answer.err for ref in (distilled.ref, others[0].ref, begun))
    assert others[1].ref not in answer.err
    removed = cli("rm", "digits-ipc?", "--yes", "--quiet").out.split()
    assert set(removed) == {distilled.ref, others[0].ref, begun}
    assert cli("rm", f"digits@{others[1].id[:4]}*", "-y", "-q").out == f"{others[1].ref}\n"
    answer = cli("rm", "digits-*", "--yes")
    assert (answer.code, refs(cli)) == (3, {pool.ref})
    assert answer.err.startswith("error: nothing in the store matches 'digits-*'")


def test_rm_leaves_a_run_alone_that_a_process_works_on(cli: Cli, root: Path) -> None:
    begun, idle = begin_run(root, "digits-ipc1"), put(root, "set", "digits-ipc2")
    with locks.hold(root / "locks", f"set-{begun}", "set"):
        answer = cli("rm", f"digits-ipc1@{begun}", idle.ref)
        assert (answer.code, idle.path.exists()) == (1, True)
        assert f"set digits-ipc1@{begun} is locked by process" in answer.err
        assert cli("rm", "digits*", "--yes", "--quiet").out == f"{idle.ref}\n"
    assert len(cli("list", "--json").document["runs"]) == 1


@pytest.fixture
def orphan(root: Path) -> Artifact:
    return put_report(root, name="orphan", inputs={"set": "0" * 12})


@pytest.fixture
def litter(root: Path, orphan: Artifact, report: Artifact) -> dict[str, Path]:
    """What killed commands leave."""
    left = {
        "a removed report": report.path.parent / f".{report.id}.0a1b2c3d.trash",
        "an unfinished push": root / "cache/hub/push/owner--name",
        "decoded data set, half-made": root / "cache/data/.digits-0a1b.0a1b2c3d.tmp",
    }
    for folder in left.values():
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 10)
    (root / "cache/preprocessing").mkdir()
    half = left["preprocessing, half-made"] = root / "cache/preprocessing/.zca-ff.safetensors.0a1b2c3d.tmp"
    half.write_bytes(b"x" * 10)
    return left


def entries(document: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {entry["path"]: (entry["what"], entry["selected"]) for entry in document["entries"]}


def test_gc_removes_what_killed_commands_left_and_nothing_else(
    cli: Cli, root: Path, litter: dict[str, Path], orphan: Artifact
) -> None:
    begin_run(root, "other")
    datasets.load("digits", root / "cache")
    paths = {str(path.relative_to(root)): (what, True) for what, path in litter.items()}
    listed = cli("gc", "--dry-run", "--json").document
    assert (listed["removed"], listed["freed_bytes"]) == ([], 0)
    assert paths.items() <= entries(listed).items()
    assert cli("gc", "--dry-run", "--quiet").out.split() == sorted(paths)
    assert all(path.exists() for path in litter.values())

    document = cli("gc", "--json").document
    assert (document["dry_run"], document["removed"], document["freed_bytes"]) == (False, sorted(paths), 40)
    assert not any(path.exists() for path in litter.values())
    lines = cli("gc").out.splitlines()
    assert lines[0] == "removed nothing"
    assert [line.split(": ")[1] for line in lines[1:]] == ["`apmctl gc --orphans`", "`apmctl gc --cache`"]
    assert orphan.path.is_dir()
    assert len(cli("list", "--json").document["runs"]) == 1


def test_gc_empties_the_caches_if_it_is_asked_to(cli: Cli, root: Path) -> None:
    dataset = datasets.load("digits", root / "cache")
    size = files.tree_bytes(root / "cache")
    (line,) = [line for line in cli("gc", "--dry-run").out.splitlines() if "decoded data set" in line]
    assert line.endswith("--cache")
    assert cli("gc", "--cache", "--json").document["freed_bytes"] == size
    assert not (root / "cache").exists()
    assert datasets.find_cached("digits", root / "cache") is None
    assert datasets.load("digits", root / "cache").fingerprint == dataset.fingerprint


def test_gc_removes_reports_without_their_set_if_it_is_asked_to(cli: Cli, orphan: Artifact, report: Artifact) -> None:
    assert cli("gc", "--orphans", "--quiet").out == f"reports/orphan/{orphan.id}\n"
    assert report.path.exists()
    assert not orphan.path.exists()


def test_gc_leaves_alone_what_running_commands_use(cli: Cli, root: Path) -> None:
    cache = root / "cache"
    datasets.load("digits", cache)
    cached = cache / "data" / "digits-0a1b"
    with locks.hold(cached.parent, cached.name, "decoding"), files.atomic_folder(cached) as half:
        (half / "file").touch()
        assert {entry["what"] for entry in cli("gc", "--json").document["entries"]} == {"decoded data set"}
        assert (half / "file").exists()
    with locks.hold(root / "locks", "set-0a1b", "set digits-ipc1"):
        answer = cli("gc", "--cache")
        assert answer.err.startswith("warning: keeping the caches while process ")
        assert answer.err.endswith(" works on set digits-ipc1\n")
        assert datasets.find_cached("digits", cache) is not None
