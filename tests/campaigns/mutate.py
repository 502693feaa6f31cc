"""Single deliberate breakages of the engine, and whether the tests that reach them fail: a score by part of the code.

`python -m tests.campaigns.mutate --sample 40` tries 40 mutants of each part; `--help` lists the options. The work is
done in a copy of the tree. All tests run once to learn what each reaches and costs (minutes; kept beside the log for
tests that do not change). Each mutant is then written, and a process forked that has the libraries loaded runs the
tests that reach its function: those of its own part first, the cheapest first, those that start processes last, and no
more than `--seconds` of them. A mutant that takes far longer than its tests is caught.

`survivors.toml` lists mutants that may live, each with its reason; they count neither as caught nor as tried.
"""

from __future__ import annotations

import argparse
import compileall
import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.campaigns.mutants import Mutant, mutants

PARTS = {  # its code and its own tests
    "hub": ("apmctl_core/hub", "tests/apmctl_core/hub"),
    "storage": ("apmctl_core/storage", "tests/apmctl_core/storage"),
    "artifacts": ("apmctl_core/artifacts", "tests/apmctl_core/artifacts"),
    "jobs": ("apmctl_core/jobs", "tests/apmctl_core/jobs"),
    "losses": ("apmctl_core/training/losses.py", "tests/apmctl_core/training"),
    "methods": ("apmctl_core/methods", "tests/apmctl_core/methods"),
    "evaluation": ("apmctl_core/evaluation", "tests/apmctl_core/evaluation"),
}
TESTS = ("tests/apmctl_core", "tests/apmctl", "tests/architecture", "tests/e2e")
_WHOLE = ("tests/architecture", "tests/e2e")  # tests of the command, which may reach anything in processes of theirs
PRELOADED = "torch torchvision hypothesis msgspec huggingface_hub datasets safetensors.torch pyarrow.parquet PIL.Image"
_NOT_COPIED = (".git", ".venv", "shared", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info")
_STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn"}  # audit events: what a new process reaches is not seen
_PR_SET_CHILD_SUBREAPER = 36  # of <sys/prctl.h>: orphans of children become ours
_SLACK = 60.0  # seconds beyond five times what the tests cost


class Campaign:
    """A copy of the tree `root` in `work`, and what is known of its tests."""

    def __init__(self, root: Path, work: Path) -> None:
        self.tree = work / "tree"
        self._work = work
        self._reach: dict[str, dict[str, Any]] = {}
        shutil.copytree(root, self.tree, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        compileall.compile_dir(self.tree, quiet=2)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for name in PRELOADED.split():
            importlib.import_module(name)

    def mutants(self, part: str) -> list[Mutant]:
        """All mutants of a part, in the order in which samples are drawn."""
        code = self.tree / PARTS[part][0]
        paths = sorted(code.rglob("*.py")) if code.is_dir() else [code]
        found = [m for path in paths for m in mutants(str(path.relative_to(self.tree)), path.read_bytes())]
        return sorted(found, key=lambda m: m.rank)

    def learn(self, kept: Path) -> list[str]:
        """Run the tests that are new in `kept`, where what they reach is noted. Returns the tests that fail."""
        known = json.loads(kept.read_text()) if kept.exists() else {}
        paths = [p for folder in TESTS for p in sorted((self.tree / folder).rglob("test_*.py"))]
        digests = {str(p.relative_to(self.tree)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
        new = [file for file, digest in digests.items() if known.get(file, {}).get("digest") != digest]
        if new:
            answer = self._child(lambda: _run(self.tree, new, _Recorder(self.tree)), 3600)
            known |= {file: {"digest": digests[file], "tests": {}} for file in new}
            for test, notes in answer["tests"].items():
                known[test.split("::")[0]]["tests"][test] = notes
            kept.write_text(json.dumps(known))
        self._reach = {test: notes for file in digests for test, notes in known[file]["tests"].items()}
        return [test for test, notes in self._reach.items() if notes["outcome"] == "failed"]

    def tests_of(self, mutant: Mutant, own: str, seconds: float) -> list[list[str]]:
        """The tests to run on a mutant: its own, and others. What runs on import or for many tests is its file's."""
        wanted, whole = f"{mutant.file}:{mutant.function}", f"{mutant.file}:"
        if mutant.cached or not any(_is_in(name, wanted) for n in self._reach.values() for name in n["reaches"]):
            wanted = whole
        chosen = []
        for test, notes in self._reach.items():
            unseen = notes["starts"] and test.startswith((own, *_WHOLE))
            reached = unseen or any(_is_in(name, wanted) for name in notes["reaches"])
            if reached and notes["outcome"] == "passed":
                chosen.append((not test.startswith(own), notes["starts"], notes["seconds"], test))
        total = 0.0
        groups: tuple[list[str], list[str]] = ([], [])
        for other, _, cost, test in sorted(chosen):
            total += cost
            if total <= seconds:
                groups[other].append(test)
        return [tests for tests in groups if tests]

    def attempt(self, mutant: Mutant, groups: list[list[str]]) -> str | None:
        """The test that sees a mutant, the groups of tests run one after the other; None if none does."""
        path = self.tree / mutant.file
        source, compiled = path.read_bytes(), Path(importlib.util.cache_from_source(path))
        path.write_bytes(mutant.apply(source))
        compiled.unlink()
        try:
            return next(filter(None, map(self._failing, groups)), None)
        finally:
            path.write_bytes(source)
            compileall.compile_file(path, quiet=2, force=True)

    def _failing(self, tests: list[str]) -> str | None:
        """The first of some tests that fails on the tree as it is."""
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        cost = sum(self._reach[test]["seconds"] for test in tests)
        answer = self._child(lambda: _run(self.tree, files, _Chosen(tests)), 5 * cost + _SLACK)
        return "its time is up" if answer is None else answer["failed"]

    def _child(self, work: Callable[[], dict[str, Any]], limit: float) -> Any:
        """What `work` returns in a process of its own, with all that it starts; None when its time is up."""
        scratch, answer = self._work / "scratch", self._work / "answer.json"
        answer.unlink(missing_ok=True)
        scratch.mkdir()
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
                os.environ["TMPDIR"] = str(scratch)
                output = os.open(self._work / "output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
                os.dup2(output, 1)
                os.dup2(output, 2)
                answer.write_text(json.dumps(work()))
            finally:
                os._exit(0)
        end, ended = time.monotonic() + limit, {0}
        while pid not in ended and time.monotonic() < end:
            time.sleep(0.01)
            ended.add(_reap())
        while left := psutil.Process().children(recursive=True):
            for process in left:
                process.kill()
            _reap()
        shutil.rmtree(scratch, ignore_errors=True)
        if pid not in ended:
            return None
        return json.loads(answer.read_text()) if answer.exists() else {"failed": "the process that ran the tests died"}


def _is_in(name: str, place: str) -> bool:
    """Whether a function is another, or of it, or of a class or a file."""
    return name == place or name.startswith(place if place.endswith(":") else f"{place}.")


def _reap() -> int:
    """The process that has ended, if one has; 0 if none."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0


# --- in the child


def _run(tree: Path, files: list[str], plugin: _Plugin) -> dict[str, Any]:
    """Run tests of the tree in this process, which has not imported it."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "apmctl", "apmctl_core")]:
        del sys.modules[name]
    if isinstance(plugin, _Chosen):  # a mutant of the same second and size would be taken for the one before
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ |= {"PYTHONPATH": str(tree), "HYPOTHESIS_STORAGE_DIRECTORY": os.environ["TMPDIR"] + "/hypothesis"}
    sys.path[:] = [str(tree), *(p for p in sys.path if not (Path(p) / "apmctl_core").is_dir())]
    os.chdir(tree)
    tempfile.tempdir = None
    code = pytest.main([*files, *plugin.options, "-q", "-p", "no:cacheprovider", "--rootdir", str(tree)], [plugin])
    return plugin.result(int(code))


class _Plugin:
    options: tuple[str, ...] = ()

    def result(self, code: int) -> dict[str, Any]:
        raise NotImplementedError


class _Chosen(_Plugin):
    """Runs the given tests in their order, up to the first that fails."""

    options = ("-x",)

    def __init__(self, tests: list[str]) -> None:
        self._places = {test: place for place, test in enumerate(tests)}
        self._failed: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(kept, key=lambda item: self._places[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed and self._failed is None:
            self._failed = report.nodeid or "collecting"

    def result(self, code: int) -> dict[str, Any]:
        return {"failed": self._failed or (f"pytest ended with {code}" if code not in (0, 5) else None)}


class _Recorder(_Plugin):
    """Notes of each test: the functions that it reaches, its seconds, whether it passes and starts processes.

    What a fixture of many tests reaches counts for each that asks for it.
    """

    def __init__(self, tree: Path) -> None:
        self._prefix = f"{tree}/"
        self._reached: set[tuple[str, str]] = set()
        self._starts, self._listens = False, True
        self._shared: dict[str, set[tuple[str, str]]] = {}
        self._tests: dict[str, dict[str, Any]] = {}
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        self._starts |= event in _STARTS

    def _trace(self, frame: Any, event: str, argument: object) -> None:
        self._reached.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._reached, self._starts, began, worked = set(), False, time.monotonic(), time.process_time()
        sys.settrace(self._trace)
        threading.settrace(self._trace)
        answer = yield
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        reached = self._reached.union(*(self._shared.get(name, ()) for name in getattr(item, "fixturenames", ())))
        names = [(file.removeprefix(self._prefix), name.replace(".<locals>", "")) for file, name in reached]
        ours = sorted(f"{file}:{name}" for file, name in names if file.startswith("apmctl_core/"))
        starts = self._starts or any(file == "tests/command.py" for file, _ in names)
        cost = time.monotonic() - began if starts else time.process_time() - worked  # others may have the processor
        notes = {"seconds": round(cost, 3), "starts": starts, "reaches": ours}
        self._tests[item.nodeid] = notes | self._tests[item.nodeid]
        return answer

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before, starts, self._reached = self._reached, self._starts, set()
        answer = yield
        self._shared.setdefault(fixturedef.argname, set()).update(self._reached)
        self._reached, self._starts = before, starts
        return answer

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        notes = self._tests.setdefault(report.nodeid, {"outcome": "passed"})
        if not report.passed:
            notes["outcome"] = report.outcome

    def result(self, code: int) -> dict[str, Any]:
        return {"tests": self._tests}


# --- the whole


def listed(file: Path) -> dict[str, str]:
    """The mutants that may live, by name, with their reasons."""
    entries = tomllib.loads(file.read_text())["mutant"]
    fields = ("file", "function", "change", "ordinal")
    return {" | ".join(str(e[f]) for f in fields if f != "ordinal" or f in e): e["reason"] for e in entries}


def main() -> None:
    """Run the campaign and print the score by part and the mutants that lived without being listed."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="a part of the code (all)")
    parser.add_argument("--only", help="mutants whose names contain this")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each part (0 = all)")
    parser.add_argument("--seconds", type=float, default=45, help="tests that a mutant is given, by what they cost")
    parser.add_argument("--minutes", type=float, default=600, help="no mutant is begun after so long")
    parser.add_argument("--again", action="store_true", help="try again those that lived according to the log")
    parser.add_argument("--log", type=Path, default=Path("mutate.jsonl"), help="what happened, also to resume from")
    parser.add_argument("--survivors", type=Path, default=here / "survivors.toml", help="mutants that may live")
    parser.add_argument("--root", type=Path, default=here.parents[1], help="the tree whose code and tests are taken")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    end = time.monotonic() + 60 * options.minutes
    may_live = listed(options.survivors)
    log = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
    known = {entry["mutant"]: entry for entry in log if entry["by"] or not options.again}
    with tempfile.TemporaryDirectory(prefix="apmctl-mutate.") as work, options.log.open("a") as file:
        campaign = Campaign(options.root.resolve(), Path(work))
        for test in campaign.learn(options.log.with_suffix(".reach.json")):
            sys.stdout.write(f"not used, as it fails without a mutant: {test}\n")
        for part in options.part or PARTS:
            every = campaign.mutants(part)
            stale = {name for name in may_live if name.startswith(PARTS[part][0])} - {m.name for m in every}
            every = [m for m in every if options.only is None or options.only in m.name]
            tally: Counter[str] = Counter()
            for mutant in every[: options.sample or None]:
                if mutant.name in may_live:
                    tally["listed"] += 1
                    continue
                if mutant.name not in known:
                    if time.monotonic() > end:
                        break
                    began = time.monotonic()
                    by = campaign.attempt(mutant, campaign.tests_of(mutant, PARTS[part][1], options.seconds))
                    entry = {"mutant": mutant.name, "by": by, "seconds": round(time.monotonic() - began, 1)}
                    known[mutant.name] = entry
                    file.write(json.dumps(entry) + "\n")
                    file.flush()
                caught = known[mutant.name]["by"] is not None
                tally["caught" if caught else "lived"] += 1
                if not caught:
                    sys.stdout.write(f"lived: {mutant.file}:{mutant.line} {mutant.name.split(' | ', 1)[1]}\n")
            tried = tally["caught"] + tally["lived"]
            score = {"part": part, "of": len(every), "score": round(tally["caught"] / tried, 3) if tried else None}
            sys.stdout.write(json.dumps(score | tally) + "\n")
            sys.stdout.writelines(f"listed, but not there: {name}\n" for name in sorted(stale))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
