"""Eight processes on one store at once: one recipe is computed once, eight recipes give eight results.

`python -m tests.campaigns.together` forks them from a process that has everything imported; with `--installed` it
starts the installed command eight times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns import warm
from tests.campaigns.recipes import DISTILL

COMMAND = Path(sys.executable).parent / "apmctl"
_LIMIT = 900.0


def run_all(lines: list[list[str]], work: Path, installed: bool) -> list[dict[str, object]]:
    """Run command lines at once; the JSON documents that they print."""
    if not installed:
        children = [warm.start(line, work / f"log{i}") for i, line in enumerate(lines)]
        codes = [child.wait(_LIMIT) for child in children]
        said = [child.said for child in children]
    else:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([COMMAND, *line], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for line in lines
        ]
        told = [process.communicate(timeout=_LIMIT) for process in started]
        codes, said = [process.returncode for process in started], [out + err for out, err in told]
    if any(codes):
        raise SystemExit(f"exit codes {codes}\n" + "\n".join(said))
    return [json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0] for text in said]


def check(root: Path, sets: list[dict[str, object]], expected: int) -> dict[str, object]:
    """How many results there are and how many were computed; raises SystemExit if not as many as expected."""
    from apmctl_core.artifacts import Store
    from apmctl_core.artifacts.verify import verify
    from apmctl_core.models import state_shapes

    store = Store(root)
    ids = {artifact.id for artifact in store.list("set")}
    found = [document["artifact"] for document in sets]
    computed = sum(not artifact["reused"] for artifact in found)  # type: ignore[index]
    named = {artifact["id"] for artifact in found}  # type: ignore[index]
    left = [str(p) for p in store.locks.iterdir() if p.name != ".guard"] + [str(run.path) for run in store.runs()]
    problems = [problem for artifact in store.list() for problem in verify(artifact, state_shapes)]
    if len(ids) != expected or ids != named or computed != expected or left or problems:
        raise SystemExit(f"{expected} expected: {len(ids)} results, {computed} computed, left {left}, {problems}")
    return {"results": len(ids), "computed": computed, "reused": len(found) - computed}


def main() -> None:
    """Run both, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--installed", action="store_true", help="start the installed command")
    options = parser.parse_args()
    warm.load()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="apmctl-together.") as folder:
        work = Path(folder)
        for title, seeds in (("one recipe", [0] * options.processes), ("a recipe each", range(options.processes))):
            root = work / title.replace(" ", "-")
            began = time.monotonic()
            lines = [[*DISTILL, "--seed", str(seed), "--store", str(root), "--json"] for seed in seeds]
            made = run_all(lines, work, options.installed)
            found[title] = check(root, made, len(set(seeds))) | {"seconds": round(time.monotonic() - began, 1)}
            for log in work.glob("log*"):
                log.unlink()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
