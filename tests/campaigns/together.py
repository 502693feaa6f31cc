"""Eight processes on one store at once: one recipe is computed once, eight recipes give eight results.

`python -m tests.campaigns.together` forks them from a process that has everything imported; with `--installed` it
starts the installed command eight times.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.campaigns.recipes import DISTILL, Failed
from tests.command import Shell


def check(root: Path, documents: list[Any], expected: int) -> dict[str, int]:
    """How many results there are and how many were computed. Raises Failed if not as many as expected."""
    from apmctl_core.artifacts import Store
    from apmctl_core.artifacts.verify import verify
    from apmctl_core.models import state_shapes

    store = Store(root)
    ids = {artifact.id for artifact in store.list("set")}
    told = [document["artifact"] for document in documents]
    computed = sum(not artifact["reused"] for artifact in told)
    left = [str(path) for path in (*store.locks.iterdir(), *(run.path for run in store.runs()))]
    problems = [problem for artifact in store.list() for problem in verify(artifact, state_shapes)]
    if len(ids) != expected or ids != {a["id"] for a in told} or computed != expected or left or problems:
        raise Failed(f"{expected} expected: {len(ids)} results, {computed} computed, left {left}, {problems}")
    return {"results": len(ids), "computed": computed, "reused": len(told) - computed}


def run(work: Path, processes: int = 8, installed: bool = False) -> dict[str, dict[str, float]]:
    """One recipe for all, then a recipe each: what came of it. Raises Failed if a promise was not kept."""
    results: dict[str, dict[str, float]] = {}
    for title, seeds in (("one recipe", [0] * processes), ("a recipe each", range(processes))):
        shell = Shell(work / title.replace(" ", "-"), installed)
        began = time.monotonic()
        children = [shell.start(*DISTILL, "--seed", seed, "--json") for seed in seeds]
        answers = [child.end() for child in children]
        if any(answer.code for answer in answers):
            raise Failed(str([answer for answer in answers if answer.code]))
        counts = check(shell.store, [answer.document for answer in answers], len(set(seeds)))
        results[title] = counts | {"seconds": round(time.monotonic() - began, 1)}
    return results


def main() -> None:
    """Run both, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--installed", action="store_true", help="start the installed command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apmctl-together.") as folder:
        results = run(Path(folder), options.processes, options.installed)
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
