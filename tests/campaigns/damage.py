"""Artifacts damaged at random, by ten thousands: every one is refused in one line, or shown to be harmless.

`python -m tests.campaigns.damage` runs the whole campaign on a pool, two sets and a report of the digits that it makes
first. Of every attempt to read what is damaged it demands: ArtifactError or values that are proven good, memory of at
most twice the artifact (and a constant for its JSON), no file opened that is not part of it, and no change anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaigns import warm
from tests.campaigns.recipes import DISTILL, on

COMMAND = Path(sys.executable).parent / "apmctl"
_CONSTANT = 48 << 20  # bytes for JSON: a manifest has at most 4 MB, a header 1 MB, and parsed they take a multiple
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_KINDS = ("pool", "set", "report")
_OURS = ("/proc/self", sys.prefix, sys.base_prefix)  # libraries look at their own sources
Originals = dict[str, list[Any]]


class Failed(Exception):
    """An artifact that was neither refused nor harmless."""


# --- what is damaged


def make(work: Path) -> Originals:
    """Two artifacts of each kind, of different seeds, by the command itself."""
    from apmctl_core.artifacts import Store

    store = work / "store"
    for seed in ("0", "1"):
        evaluate = ["eval", f"s{seed}", "--epochs", "2", "--repeats", "1", "--seed", seed, "--device", "cpu"]
        for arguments in ([*DISTILL, "--seed", seed, "--name", f"s{seed}"], evaluate):
            child = warm.start(on(arguments, store), work / "log")
            if child.wait(600) != 0:
                raise SystemExit(f"{arguments[0]} does not run: {child.said}")
    home = Store(store)
    return {kind: home.list(kind) for kind in _KINDS}


# --- what is watched


class Watch:
    """Notes every file that is opened, and every change of files, outside one folder."""

    def __init__(self) -> None:
        self.outside: list[str] = []
        self._folder: str | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None or not (event == "open" or event in warm.CHANGES or event.startswith("subprocess")):
            return
        path = str(arguments[0])
        if isinstance(arguments[0], int):  # a descriptor, opened before
            return
        if event != "open" or not path.startswith((self._folder, *_OURS)):
            self.outside.append(f"{event} {path}")

    def __call__(self, folder: Path, read: Callable[[], str]) -> str:
        """Run `read`, which may open files below `folder` and change nothing."""
        self._folder = str(folder)
        try:
            return read()
        finally:
            self._folder = None


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) << 10


def extra_memory(work: Callable[[], Any]) -> tuple[Any, int]:
    """The result of `work`, and by how many bytes this process grew at the most meanwhile."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 1 << 17)  # glibc would keep some of what is freed, and it would count twice
        library.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak over
    before = _status("VmRSS:")
    found = work()
    return found, _status("VmHWM:") - before


# --- the parts


def fuzz(originals: Originals, work: Path, count: int, seed: int, watch: Watch) -> Counter[str]:
    """Damage by bytes, by values of JSON and by whole files, drawn from a seed."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        kind = _KINDS[number % 3]
        rng = random.Random(f"{seed}/{kind}/{number}")
        original, other = rng.sample(originals[kind], 2)
        import test_damage as ways

        judge(
            lambda folder, r=rng, a=original, b=other: ways.damage(r, a, b, folder),
            original,
            other,
            work,
            watch,
            outcomes,
        )
    return outcomes


def by_hypothesis(originals: Originals, work: Path, count: int, seed: int, watch: Watch) -> Counter[str]:
    """Any JSON in any place of a manifest, a header or a report, and any bytes in any place of any file."""
    import test_damage as ways
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    outcomes: Counter[str] = Counter()
    kinds = st.sampled_from(_KINDS)
    quiet = settings(
        max_examples=count // 2,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @quiet
    @seeded(seed)
    @given(kind=kinds, place=st.integers(0, 10**6), value=ways.JSON, file=st.integers(0, 9), restated=st.booleans())
    def values(kind: str, place: int, value: Any, file: int, restated: bool) -> None:
        def damage(folder: Path) -> None:
            shutil.copytree(original.path, folder)
            put_value(folder, sorted(p.name for p in folder.iterdir()), file, place, value)
            if restated:
                ways.restate(folder)

        original, other = originals[kind]
        judge(damage, original, other, work, watch, outcomes)

    @quiet
    @seeded(seed)
    @given(
        kind=kinds, file=st.integers(0, 9), at=st.floats(0, 1), gone=st.integers(0, 200), new=st.binary(max_size=200)
    )
    def bytes_(kind: str, file: int, at: float, gone: int, new: bytes) -> None:
        def damage(folder: Path) -> None:
            shutil.copytree(original.path, folder)
            names = sorted(folder.iterdir())
            path = names[file % len(names)]
            data = bytearray(path.read_bytes())
            begin = int(at * len(data))
            data[begin : begin + gone] = new
            path.write_bytes(data)

        original, other = originals[kind]
        judge(damage, original, other, work, watch, outcomes)

    values()
    bytes_()
    return outcomes


def put_value(folder: Path, names: list[str], file: int, place: int, value: Any) -> None:
    """Put a value into one place of the JSON of a file: the whole of it, or a safetensors file's header."""
    import test_damage as ways

    fitting = [name for name in names if name.endswith((".json", ".safetensors"))]
    path = folder / fitting[file % len(fitting)]
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little") if path.suffix == ".safetensors" else 0
    start = 8 if length else 0
    values = json.loads(data[start : start + length] if length else data)
    container, key = (places := ways.places(values))[place % len(places)]
    container[key] = value
    text = json.dumps(values).encode()
    path.write_bytes((len(text).to_bytes(8, "little") + text + data[8 + length :]) if length else text)


def judge(
    damage: Callable[[Path], None], original: Any, other: Any, work: Path, watch: Watch, outcomes: Counter[str]
) -> None:
    """Damage a copy, read it as a user would, and demand what is promised."""
    import test_damage as ways

    from apmctl_core.errors import ApmError
    from apmctl_core.models import state_shapes

    folder = work / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    beyond = (ApmError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
    with contextlib.suppress(*beyond):  # damaged already beyond what the rest of the damage could read
        damage(folder)
    size = sum(p.lstat().st_size for p in folder.iterdir())
    before = state_of(folder)
    outcome, grown = extra_memory(lambda: watch(folder, lambda: ways.attempt(folder, state_shapes)))
    if outcome == "harmless" and not ways.harmless(folder, original, other, state_shapes):
        raise Failed(f"{folder} was accepted")
    if grown > 2 * size + _CONSTANT:
        raise Failed(f"{folder} took {grown} bytes, it has {size}")
    if watch.outside:
        raise Failed(f"{folder} led to {watch.outside[:3]}")
    if state_of(folder) != before:
        raise Failed(f"{folder} was changed by being read")
    outcomes[outcome] += 1
    outcomes["most MB"] = max(outcomes["most MB"], -(-grown >> 20))


def state_of(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of a folder's files."""
    return sorted((p.name, p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.iterdir())


def large(work: Path, count: int, seed: int) -> dict[str, float]:
    """Sets of tens of megabytes: how often their own size reading them takes, sound or damaged."""
    import test_damage as ways

    from apmctl_core.artifacts import Store
    from apmctl_core.artifacts.kinds.sets import save_set
    from tests.apmctl_core.artifacts.artifact_samples import make_draft, set_value

    store = Store(work / "large")
    made = make_draft("set", "large")
    with store.workspace("set", "large", made.id) as workspace:
        save_set(workspace.path, set_value(per_class=100_000))
        original = workspace.publish(made)
    ways.attempt(original.path)
    worst = {"sound": extra_memory(lambda: ways.attempt(original.path))[1] / original.size, "damaged": 0.0}
    for number in range(count):
        rng = random.Random(f"{seed}/large/{number}")
        folder = work / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        ways.damage(rng, original, original, folder)
        size = sum(p.lstat().st_size for p in folder.iterdir())
        grown = extra_memory(lambda folder=folder: ways.attempt(folder))[1]
        if grown > 2 * max(size, original.size // 10) + (4 << 20):
            raise Failed(f"{folder} took {grown} bytes, it has {size}")
        worst["damaged"] = max(worst["damaged"], grown / max(size, original.size // 10))
    return {"bytes": original.size} | {name: round(value, 2) for name, value in worst.items()}


def through_the_command(originals: Originals, work: Path, count: int, seed: int) -> Counter[str]:
    """What the installed command says of damaged artifacts: exit code 3, one line of message and one of hint."""
    import test_damage as ways

    codes: Counter[str] = Counter()
    for number in range(count):
        kind = _KINDS[number % 3]
        rng = random.Random(f"{seed}/command/{number}")
        original, other = rng.sample(originals[kind], 2)
        folder = work / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        ways.damage(rng, original, other, folder)
        done = subprocess.run(
            [COMMAND, "verify", str(folder)], capture_output=True, text=True, timeout=120, check=False
        )
        codes[str(done.returncode)] += 1
        lines = [line.split(":")[0] for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        refused = done.returncode == 3 and done.stdout == "" and lines == ["error", "hint"]
        if not refused and not (done.returncode == 0 and ways.attempt(folder, _shapes()) == "harmless"):
            raise Failed(f"{folder}: {done.returncode} {done.stdout} {done.stderr}")
    return codes


def _shapes() -> Any:
    from apmctl_core.models import state_shapes

    return state_shapes


def parse() -> argparse.Namespace:
    """The options of the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=8000, help="artifacts damaged by the fuzzer")
    parser.add_argument("--hypothesis", type=int, default=4000, help="artifacts damaged by hypothesis")
    parser.add_argument("--large", type=int, default=40, help="sets of 34 MB whose memory is measured")
    parser.add_argument("--installed", type=int, default=50, help="artifacts that the installed command is shown")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Run the campaign; 1 if a promise was not kept."""
    options = parse()
    work = Path(tempfile.mkdtemp(prefix="apmctl-damage."))
    warm.load()
    originals = make(work)
    import test_damage as ways

    for pair in originals.values():  # whatever is imported on first use is imported now
        for artifact in pair:
            if ways.attempt(artifact.path, _shapes()) != "harmless":
                raise SystemExit(f"{artifact.path} is not sound")
    kept = {p: p.read_bytes() for pair in originals.values() for a in pair for p in a.path.iterdir()}
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("fuzzer", lambda: fuzz(originals, work, options.fuzz, options.seed, watch)),
        ("hypothesis", lambda: by_hypothesis(originals, work, options.hypothesis, options.seed, watch)),
        ("large", lambda: large(work, options.large, options.seed) if options.large else {}),
        ("installed", lambda: through_the_command(originals, work, options.installed, options.seed)),
    ]
    watch = Watch()
    for title, part in parts:
        began = time.monotonic()
        try:
            found = dict(part())
        except (Failed, AssertionError) as e:
            sys.stdout.write(f"{title}: {e!r}\n")
            return 1
        sys.stdout.write(f"{title}: {json.dumps(found)} in {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    if {p: p.read_bytes() for p in kept} != kept:
        sys.stdout.write("an artifact that was not damaged has changed\n")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
