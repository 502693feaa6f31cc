"""Artifacts damaged at random: every one is refused with one clear error, or it is shown to be harmless.

`python -m tests.campaigns.damage` is the long form.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apmctl_core.artifacts import Artifact, Store, manifest, open_artifact
from apmctl_core.artifacts.kinds.pools import load_pool
from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.artifacts.verify import verify
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.strict_json import is_printable
from tests.apmctl_core.artifacts.artifact_samples import put_pool, put_report, put_set, teacher_shapes

COUNT = 450
# The other fields are covered neither by the id nor by a sha256.
COVERED = set(manifest.Manifest.__struct_fields__) - {"name", "recipe", "data", "metrics", "environment"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    store = Store(tmp_path_factory.mktemp("damage"))
    makers = {"set": put_set, "pool": put_pool, "report": put_report}
    return {kind: [put(store, f"{kind}{i}", i) for i in (1, 2)] for kind, put in makers.items()}


def values_of(artifact: Artifact, shapes: Any = teacher_shapes) -> list[Any]:
    """All that a user would get out of an artifact."""
    if artifact.kind == "report":
        return [msgspec.to_builtins(load_report(artifact))]
    if artifact.kind == "pool":
        return [list(state.values()) for state in load_pool(artifact, shapes).states]
    found = load_set(artifact)
    return [found.images, found.logits, found.labels, found.stage]


def attempt(folder: Path, shapes: Any = teacher_shapes) -> str:
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


def restate(folder: Path) -> None:
    from apmctl_core.storage.files import sha256_of

    path = folder / "manifest.json"
    values = json.loads(path.read_bytes())
    for name in values["files"]:
        file = folder / name
        values["files"][name] = {"sha256": sha256_of(file), "size": file.stat().st_size}
    path.write_text(json.dumps(values))


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


def harmless(folder: Path, original: Artifact, other: Artifact, shapes: Any = teacher_shapes) -> bool:
    """Whether the values are those of the original, or the change was vouched for by a sha256 and passed all checks."""
    found = open_artifact(folder)
    if found.id == other.id:  # all of its files were exchanged: then it is the other one
        original = other
    if found.manifest.files == original.manifest.files:
        unchanged = all(getattr(found.manifest, f) == getattr(original.manifest, f) for f in COVERED)
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


@pytest.mark.parametrize("kind", ["set", "pool", "report"])
def test_every_damaged_artifact_is_refused_or_harmless(
    originals: dict[str, list[Artifact]], tmp_path: Path, kind: str
) -> None:
    original, other = originals[kind]
    size = sum(p.stat().st_size for p in original.path.iterdir())
    before = {p: p.read_bytes() for artifact in (original, other) for p in artifact.path.iterdir()}
    outcomes = {"refused": 0, "found by verify": 0, "harmless": 0}
    for number in range(COUNT // 3):
        rng = random.Random(f"{kind}/{number}")
        folder = tmp_path / "damaged"
        damage(rng, original, other, folder)
        outcome = attempt(folder)
        outcomes[outcome] += 1
        assert outcome != "harmless" or harmless(folder, original, other), number
        shutil.rmtree(folder)
    assert outcomes["refused"] > COUNT // 10
    assert {p: p.read_bytes() for p in before} == before  # nothing outside was touched
    assert size < 1 << 20


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_as_a_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        manifest.loads(data, "it")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(sorted(COVERED | {"name", "data"})),
    value=JSON,
)
def test_any_value_in_a_field_is_refused_unless_it_is_right(
    originals: dict[str, list[Artifact]], field: str, value: Any
) -> None:
    path = originals["set"][0].path / "manifest.json"
    original = json.loads(path.read_bytes())
    values = original | {field: value}
    try:
        found = manifest.loads(json.dumps(values).encode(), "it")
    except ArtifactError:
        return
    assert field == "name" or original[field] == value
    assert manifest.is_name(found.name)


def test_no_more_is_allocated_than_twice_the_artifact(tmp_path: Path) -> None:
    """Header and manifest claim much; the files hold little."""
    store = Store(tmp_path / "store")
    made = put_set(store)
    path = made.path / "set.safetensors"
    claim = {"images": {"dtype": "F32", "shape": [2**30, 1, 4, 4], "data_offsets": [0, 2**36]}}
    text = json.dumps(claim).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    restate(made.path)
    tracemalloc.start()
    with pytest.raises(ArtifactError):
        load_set(open_artifact(made.path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
