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
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from apmctl_core.artifacts import Artifact, Manifest, Store, open_artifact
from apmctl_core.artifacts.kinds.pools import load_pool
from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.artifacts.kinds.sets import load_set, save_set
from apmctl_core.artifacts.verify import verify
from apmctl_core.errors import ApmError, ArtifactError
from apmctl_core.models import state_shapes
from apmctl_core.storage.strict_json import is_printable
from tests.apmctl_core.artifacts.artifact_samples import make_draft, set_value
from tests.campaigns.recipes import DISTILL, Failed
from tests.command import CHANGES, Shell
from tests.drafts import restate

_CONSTANT = 48 << 20  # bytes for JSON: a manifest has at most 4 MB, a header 1 MB, and parsed they take a multiple
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_KINDS = ("pool", "set", "report")
_OURS = ("/proc/self", sys.prefix, sys.base_prefix)  # libraries look at their own sources
# A liar who restates the digest may change the other fields, which neither the id nor the sha256 of a file covers.
COVERED = set(Manifest.__struct_fields__) - {"name", "recipe", "data", "metrics", "environment", "digest"}
Originals = dict[str, list[Artifact]]


# --- what a damaged artifact is


def values_of(artifact: Artifact, shapes: Any) -> list[Any]:
    """All that a user would get out of an artifact."""
    if artifact.kind == "report":
        return [msgspec.to_builtins(load_report(artifact))]
    if artifact.kind == "pool":
        return [list(state.values()) for state in load_pool(artifact, shapes).states]
    found = load_set(artifact)
    return [found.images, found.logits, found.labels, found.stage]


def attempt(folder: Path, shapes: Any) -> str:
    """What becomes of a damaged artifact: "refused", "found by verify" or "harmless"."""
    try:
        artifact = open_artifact(folder)
        problems = verify(artifact, shapes)
        if problems:
            assert all("\n" not in p and is_printable(p) for p in problems)
            return "found by verify"
        values_of(artifact, shapes)
    except ArtifactError as e:
        assert "\n" not in e.message
        assert is_printable(e.message)
        assert e.hint
        return "refused"
    return "harmless"


# --- damage to bytes


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 1, 4, 30])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice([1, 8, 100]))


def drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice([1, 8, 100])]


def repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.choice([1, 8, 64])]


def grow_header(rng: random.Random, data: bytearray) -> None:
    data[:8] = rng.choice([0, 1, len(data), 1 << 20, 1 << 24, 1 << 40, 2**64 - 1]).to_bytes(8, "little")


BYTES = [flip, cut, insert, drop, repeat, grow_header]

# --- damage to values

ODD = [
    None, True, 0, -1, 2**40, 2**70, 0.5, "", "x" * 2000, "../../etc/passwd", "\x1b[2J", [], [[]], {}, {"a": 1},
    "0" * 12, "0" * 64,
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in plain values."""
    found: list[tuple[Any, Any]] = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(value, key), *places(value[key])]
    return found


def change_value(rng: random.Random, values: Any) -> None:
    container, key = rng.choice(places(values))
    action = rng.randrange(4)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[rng.choice(["x", "../x", "a\x1b", key + "x"])] = container.pop(key)
    elif action == 2 and isinstance(container, list):
        container.append(container[key])
    else:
        container[key] = rng.choice(ODD)


def damage_json(rng: random.Random, data: bytes, offset: int = 0) -> bytes:
    values = json.loads(data[offset:])
    change_value(rng, values)
    return json.dumps(values).encode()


def damage_manifest(rng: random.Random, folder: Path) -> None:
    path = folder / "manifest.json"
    text = damage_json(rng, path.read_bytes())
    if rng.random() < 0.2:  # a key twice
        text = text.replace(b'"kind"', b'"kind": "set", "kind"', 1)
    path.write_bytes(text)


def damage_header(rng: random.Random, folder: Path) -> None:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        return damage_manifest(rng, folder)
    path = rng.choice(paths)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = damage_json(rng, data[8 : 8 + length])
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    if rng.random() < 0.7:  # a liar restates the manifest, too
        restate(folder)
    return None


def damage_bytes(rng: random.Random, folder: Path) -> None:
    path = rng.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    rng.choice(BYTES)(rng, data)
    path.write_bytes(data)
    if path.name != "manifest.json" and rng.random() < 0.5:
        restate(folder)


def damage_folder(rng: random.Random, folder: Path, other: Path) -> None:
    path = rng.choice(sorted(folder.iterdir()))
    action = rng.randrange(5)
    if action == 0 and (other / path.name).exists():
        shutil.copyfile(other / path.name, path)
    elif action == 1:
        path.unlink()
    elif action == 2:
        path.unlink()
        path.symlink_to(other / path.name)
    elif action == 3:
        path.rename(folder / rng.choice(["stray", ".hidden", "teacher-009.safetensors"]))
    else:
        swap = rng.choice(sorted(folder.iterdir()))
        data, theirs = path.read_bytes(), swap.read_bytes()
        path.write_bytes(theirs)
        swap.write_bytes(data)
    if rng.random() < 0.3 and not any(p.is_symlink() for p in folder.iterdir()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            restate(folder)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def harmless(folder: Path, original: Artifact, other: Artifact, shapes: Any) -> bool:
    """Whether the values are those of the original, or the change was vouched for by a sha256 and passed all checks."""
    found = open_artifact(folder)
    if found.id == other.id:  # all of its files were exchanged: then it is the other one
        original = other
    if found.manifest.files == original.manifest.files:
        fields = COVERED if found.manifest.digest != original.manifest.digest else Manifest.__struct_fields__
        unchanged = all(getattr(found.manifest, f) == getattr(original.manifest, f) for f in fields)
        return unchanged and same(values_of(found, shapes), values_of(original, shapes))
    return all(isinstance(v, (dict, list, torch.Tensor)) for v in values_of(found, shapes))


def damage(rng: random.Random, original: Artifact, other: Artifact, folder: Path) -> None:
    """Put a copy of an artifact into `folder`, damaged in one way or two."""
    ways: list[Callable[[random.Random, Path], None]] = [
        damage_manifest,
        damage_header,
        damage_bytes,
        damage_bytes,
        lambda rng, folder: damage_folder(rng, folder, other.path),
    ]
    shutil.copytree(original.path, folder)
    for way in rng.sample(ways, rng.choice([1, 1, 2])):
        if any(p.is_symlink() for p in folder.iterdir()):
            break  # writing through the link would damage the other artifact
        try:
            way(rng, folder)
        except (ArtifactError, ValueError, KeyError, TypeError, OSError, AttributeError, IndexError):
            continue  # damaged beyond what the second way could read


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


# --- what is watched


class Watch:
    """Notes every file that is opened, and every change of files, outside one folder."""

    def __init__(self) -> None:
        self.outside: list[str] = []
        self._folder: str | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None or not (event == "open" or event in CHANGES or event.startswith("subprocess")):
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
    result = work()
    return result, _status("VmHWM:") - before


# --- the parts


@dataclass
class Campaign:
    """Artifacts to damage, two of each kind, and how their teachers' tensors must be shaped."""

    originals: Originals
    shapes: Any
    work: Path
    seed: int = 0

    def __post_init__(self) -> None:
        self._watch = Watch()
        self._before = self._bytes()
        for artifact in (a for pair in self.originals.values() for a in pair):
            if self.attempt(artifact.path) != "harmless":  # and what is imported on first use is imported now
                raise Failed(f"{artifact.path} is not sound")

    def _bytes(self) -> dict[Path, bytes]:
        return {p: p.read_bytes() for pair in self.originals.values() for a in pair for p in a.path.iterdir()}

    def check_originals(self) -> None:
        """Nothing beside the damaged copies was touched."""
        if self._bytes() != self._before:
            raise Failed("an artifact that was not damaged has changed")

    def attempt(self, folder: Path) -> str:
        """What becomes of an artifact that is read."""
        return attempt(folder, self.shapes)

    def draw(self, part: str, number: int) -> tuple[Artifact, Artifact, Callable[[Path], None]]:
        """An original, another of its kind, and a way to put a damaged copy into a folder."""
        kind = _KINDS[number % 3]
        rng = random.Random(f"{self.seed}/{part}/{kind}/{number}")
        original, other = rng.sample(self.originals[kind], 2)
        return original, other, lambda folder: damage(rng, original, other, folder)

    def copy(self, way: Callable[[Path], None]) -> Path:
        """The folder that a way of damage leaves."""
        folder = self.work / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        beyond = (ApmError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
        with contextlib.suppress(*beyond):  # damaged already beyond what the rest of the damage could read
            way(folder)
        return folder

    def judge(self, original: Artifact, other: Artifact, way: Callable[[Path], None], outcomes: Counter[str]) -> None:
        """Damage a copy, read it as a user would, and demand what is promised."""
        folder = self.copy(way)
        size, before = size_of(folder), state_of(folder)
        outcome, grown = extra_memory(lambda: self._watch(folder, lambda: self.attempt(folder)))
        if outcome == "harmless" and not harmless(folder, original, other, self.shapes):
            raise Failed(f"{folder} was accepted")
        if grown > 2 * size + _CONSTANT:
            raise Failed(f"{folder} took {grown} bytes, it has {size}")
        if self._watch.outside:
            raise Failed(f"{folder} led to {self._watch.outside[:3]}")
        if state_of(folder) != before:
            raise Failed(f"{folder} was changed by being read")
        outcomes[outcome] += 1
        outcomes["most MB"] = max(outcomes["most MB"], -(-grown >> 20))

    def fuzz(self, count: int) -> Counter[str]:
        """Damage by bytes, by values of JSON and by whole files, drawn from a seed."""
        outcomes: Counter[str] = Counter()
        for number in range(count):
            self.judge(*self.draw("fuzz", number), outcomes)
        return outcomes

    def by_hypothesis(self, count: int) -> Counter[str]:
        """Any JSON in any place of a manifest, a header or a report, and any bytes in any place of any file."""
        outcomes: Counter[str] = Counter()
        quiet = settings(
            max_examples=count // 2,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        kinds, files = st.sampled_from(_KINDS), st.integers(0, 9)

        def check(kind: str, way: Callable[[Path], None]) -> None:
            original, other = self.originals[kind]

            def copy_and_damage(folder: Path) -> None:
                shutil.copytree(original.path, folder)
                way(folder)

            self.judge(original, other, copy_and_damage, outcomes)

        @quiet
        @seeded(self.seed)
        @given(kind=kinds, file=files, place=st.integers(0, 10**6), value=JSON, restated=st.booleans())
        def values(kind: str, file: int, place: int, value: Any, restated: bool) -> None:
            check(kind, lambda folder: put_value(folder, file, place, value, restated))

        @quiet
        @seeded(self.seed)
        @given(kind=kinds, file=files, at=st.floats(0, 1), gone=st.integers(0, 200), new=st.binary(max_size=200))
        def bytes_(kind: str, file: int, at: float, gone: int, new: bytes) -> None:
            check(kind, lambda folder: put_bytes(folder, file, at, gone, new))

        values()
        bytes_()
        return outcomes

    def large(self, count: int) -> dict[str, float]:
        """Sets of tens of megabytes: how often their own size reading them takes, sound or damaged."""
        store = Store(self.work / "large")
        plan = make_draft("set", "large")
        with store.workspace("set", "large", plan.id) as workspace:
            save_set(workspace.path, set_value(per_class=100_000))
            original = workspace.publish(plan)
        self.attempt(original.path)
        worst = {"sound": extra_memory(lambda: self.attempt(original.path))[1] / original.size, "damaged": 0.0}
        for number in range(count):
            rng = random.Random(f"{self.seed}/large/{number}")
            folder = self.copy(lambda folder, rng=rng: damage(rng, original, original, folder))  # type: ignore[misc]
            size = max(size_of(folder), original.size // 10)
            grown = extra_memory(lambda folder=folder: self.attempt(folder))[1]  # type: ignore[misc]
            if grown > 2 * size + (4 << 20):
                raise Failed(f"{folder} took {grown} bytes, it has {size}")
            worst["damaged"] = max(worst["damaged"], grown / size)
        return {"bytes": original.size} | {name: round(value, 2) for name, value in worst.items()}

    def through_the_command(self, count: int, installed: bool = True) -> Counter[str]:
        """What the command says of damaged artifacts: exit code 3, one line of message and one of hint."""
        shell = Shell(self.work / "none", installed)
        codes: Counter[str] = Counter()
        for number in range(count):
            folder = self.copy(self.draw("command", number)[2])
            answer = shell("verify", folder)
            codes[str(answer.code)] += 1
            lines = [line.split(":")[0] for line in answer.err.splitlines() if not line.startswith("warning: ")]
            refused = answer.code == 3 and answer.out == "" and lines == ["error", "hint"]
            if not refused and not (answer.code == 0 and self.attempt(folder) == "harmless"):
                raise Failed(f"{folder}: {answer}")
        return codes


def put_value(folder: Path, file: int, place: int, value: Any, restated: bool) -> None:
    """Put a value into one place of the JSON of a file: the whole of it, or a safetensors file's header."""
    fitting = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
    path = fitting[file % len(fitting)]
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little") if path.suffix == ".safetensors" else 0
    start = 8 if length else 0
    values = json.loads(data[start : start + length] if length else data)
    slots = places(values)
    container, key = slots[place % len(slots)]
    container[key] = value
    text = json.dumps(values).encode()
    path.write_bytes((len(text).to_bytes(8, "little") + text + data[8 + length :]) if length else text)
    if restated:
        restate(folder)


def put_bytes(folder: Path, file: int, at: float, gone: int, new: bytes) -> None:
    """Put bytes into one place of a file, in the place of others."""
    paths = sorted(folder.iterdir())
    data = bytearray(paths[file % len(paths)].read_bytes())
    begin = int(at * len(data))
    data[begin : begin + gone] = new
    paths[file % len(paths)].write_bytes(data)


def size_of(folder: Path) -> int:
    """The bytes of a folder's files."""
    return sum(p.lstat().st_size for p in folder.iterdir())


def state_of(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of a folder's files."""
    return sorted((p.name, p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.iterdir())


# --- the whole


def make(store: Path) -> Originals:
    """Two artifacts of each kind, of different seeds, by the command itself."""
    shell = Shell(store)
    for seed in (0, 1):
        shell.json(*DISTILL, "--seed", seed, "--name", f"s{seed}")
        shell.json("eval", f"s{seed}", "--epochs", "2", "--repeats", "1", "--seed", seed, "--device", "cpu")
    home = Store(store)
    return {kind: home.list(kind) for kind in _KINDS}


def main() -> None:
    """Run the campaign; a promise that was not kept ends it with a traceback, and its files stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=8000, help="artifacts damaged by the fuzzer")
    parser.add_argument("--hypothesis", type=int, default=4000, help="artifacts damaged by hypothesis")
    parser.add_argument("--large", type=int, default=40, help="sets of 34 MB whose memory is measured")
    parser.add_argument("--installed", type=int, default=50, help="artifacts that the installed command is shown")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="apmctl-damage."))
    campaign = Campaign(make(work / "store"), state_shapes, work, options.seed)
    parts: list[tuple[str, Callable[[int], Any], int]] = [
        ("fuzzer", campaign.fuzz, options.fuzz),
        ("hypothesis", campaign.by_hypothesis, options.hypothesis),
        ("large", campaign.large, options.large),
        ("installed", campaign.through_the_command, options.installed),
    ]
    for title, part, count in parts:
        began = time.monotonic()
        if count:
            sys.stdout.write(f"{title}: {json.dumps(part(count))} in {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
    campaign.check_originals()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
