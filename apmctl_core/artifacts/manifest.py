"""The manifest of an artifact: what it is, how it was made, and the sha256 of every file. Read as from a stranger."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apmctl_core import config as configs
from apmctl_core.errors import ArtifactError
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import DAMAGED_HINT, read_bounded

FILE_NAME = "manifest.json"
MAX_BYTES = 4 << 20
MAX_CLASSES = 100_000
FOLDERS = {"pool": "pools", "set": "sets", "report": "reports"}
KINDS = tuple(FOLDERS)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ID = re.compile(r"[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEACHER = re.compile(r"teacher-\d{3}\.safetensors", re.ASCII)
_REQUIRED = {
    "pool": ("teacher-000.safetensors", "preprocessing.safetensors"),
    "set": ("set.safetensors", "preprocessing.safetensors"),
    "report": ("report.json",),
}
_OPTIONAL = {
    "pool": ("events.jsonl",),
    "set": ("baseline.safetensors", "events.jsonl", "preview.png"),
    "report": ("events.jsonl",),
}

# Schema n -> the fields of a manifest of schema n as those of schema n + 1.
Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}


@dataclass(frozen=True)
class FileEntry:
    """What a file of an artifact must be; `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is known about an artifact.

    `recipe` is the whole configuration, `config` the part that the id is taken of, `inputs` the digests of what it
    was made from, `data` has `dataset`, `fingerprint`, `classes` and `shape`. Plain JSON values throughout.
    """

    kind: str
    id: str
    name: str
    recipe: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, str]
    data: dict[str, Any]
    schema: int = configs.SCHEMA_VERSION
    files: dict[str, FileEntry] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.data["classes"])

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.data["shape"]
        return c, h, w


_FIELDS = tuple(Manifest.__dataclass_fields__)


# --- names -------------------------------------------------------------------------------------------------------


def is_name(text: str) -> bool:
    """Whether `text` may name an artifact: letters, digits, dot, dash, underscore; at most 100."""
    return _NAME.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _ID.fullmatch(text) is not None


def check_name(name: str) -> str:
    """`name`, if an artifact may have it. Raises ArtifactError."""
    if not is_name(name):
        raise ArtifactError(
            f"{name!r} cannot be the name of an artifact",
            "use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first",
        )
    return name


def is_file_of(kind: str, name: str) -> bool:
    """Whether an artifact of this kind may have a file of this name, the manifest itself aside."""
    if kind == "pool" and _TEACHER.fullmatch(name):
        return True
    return name in _REQUIRED[kind] or name in _OPTIONAL[kind]


def teacher_file(index: int) -> str:
    """The file of a pool's teacher `index` (0 to 999)."""
    return f"teacher-{index:03d}.safetensors"


# --- out ---------------------------------------------------------------------------------------------------------


def draft(
    kind: str,
    name: str,
    *,
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    data: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Manifest:
    """A manifest without files, its id computed: what `Workspace.publish` completes.

    Values are made plain JSON (tuples become lists). Raises ArtifactError for a number that is not finite.
    """
    plain_config, plain_inputs = _plain(config, "config"), _plain(inputs, "inputs")
    return Manifest(
        kind=kind,
        id=configs.digest(kind, plain_config, plain_inputs),
        name=check_name(name),
        recipe=_plain(recipe, "recipe"),
        config=plain_config,
        inputs=plain_inputs,
        data=_plain(data, "data"),
        metrics=_plain(metrics or {}, "metrics"),
        environment=_plain(environment or {}, "environment"),
    )


def _plain(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except ValueError as e:
        raise ArtifactError(f"{what} has a number that is not finite", "it cannot be part of an artifact") from e
    return plain


def dumps(manifest: Manifest) -> bytes:
    """The bytes of manifest.json, the same for equal manifests. Raises ArtifactError for one that `loads` refuses."""
    files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in manifest.files.items()}
    values = {name: getattr(manifest, name) for name in _FIELDS} | {"files": files}
    try:
        text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except ValueError as e:
        raise ArtifactError(f"the manifest of {manifest.name} has a number that is not finite") from e
    loads(text.encode(), f"the manifest of {manifest.name}")
    return text.encode()


# --- in ----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Manifest:
    """The manifest of the artifact in `folder`. Raises ArtifactError where it is missing, damaged or newer."""
    path = folder / FILE_NAME
    return loads(read_bounded(path, MAX_BYTES), str(path))


def loads(data: bytes, what: str) -> Manifest:
    """A manifest from its bytes, every field checked; `what` names it in errors. Raises ArtifactError."""
    if len(data) > MAX_BYTES:
        raise ArtifactError(f"{what} is larger than {MAX_BYTES} bytes", DAMAGED_HINT)
    values = strict_json.parse_object(data, what)
    check = _Checker(what)
    schema = check.schema(values.get("schema"))
    check.identity(values, schema)
    values = migrate(values, schema)
    check.fields(values)
    files = {name: FileEntry(**entry) for name, entry in values["files"].items()}
    return Manifest(**(values | {"files": files}))


def migrate(values: dict[str, Any], schema: int) -> dict[str, Any]:
    """The fields of a manifest of an older schema as those of the newest; the id stays what it was."""
    for version in range(schema, configs.SCHEMA_VERSION):
        values = MIGRATIONS[version](values) | {"schema": version + 1}
    return values


def digest_at(schema: int, kind: str, config: dict[str, Any], inputs: dict[str, str]) -> str:
    """The id that an artifact of this schema version has."""
    return configs.digest(kind, config, inputs, schema)


class _Checker:
    """The checks of a manifest's fields; every refusal is an ArtifactError that begins with `what`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def _require(self, ok: bool, problem: str, hint: str = DAMAGED_HINT) -> None:
        if not ok:
            raise ArtifactError(f"{self._what}: {problem}", hint)

    def schema(self, value: Any) -> int:
        """The schema version, if it can be read."""
        self._require(type(value) is int and value >= 1, "no schema version")
        newest = configs.SCHEMA_VERSION
        self._require(
            value <= newest,
            f"schema version {value} is newer than this apmctl, which reads up to {newest}",
            "upgrade: pip install --upgrade apmctl",
        )
        older = all(version in MIGRATIONS for version in range(value, newest))
        self._require(older, f"schema version {value} is no longer read", "make it again with this version")
        return int(value)

    def identity(self, values: dict[str, Any], schema: int) -> None:
        """Kind, and the id, which must be the digest of what it stands for."""
        self._require(isinstance(values.get("kind"), str) and values["kind"] in KINDS, "no known kind")
        self._texts(values, "inputs", 10_000)
        self._require(isinstance(values.get("config"), dict), "config is not an object")
        found = digest_at(schema, values["kind"], values["config"], values["inputs"])
        self._require(values.get("id") == found, "the id is not the digest of config and inputs")

    def fields(self, values: dict[str, Any]) -> None:
        """All fields of the newest schema."""
        self._require(sorted(values) == sorted(_FIELDS), f"fields must be {', '.join(sorted(_FIELDS))}")
        self._require(isinstance(values["name"], str) and is_name(values["name"]), "not a name of an artifact")
        for name in ("recipe", "metrics", "environment", "data", "files"):
            self._require(isinstance(values[name], dict), f"{name} is not an object")
        self._data(values["data"])
        made_from = values["inputs"].get("data", values["data"]["fingerprint"])
        self._require(made_from == values["data"]["fingerprint"], "inputs and data name different data")
        self._files(values["kind"], values["files"])
        self._agreement(values["recipe"], values["config"])

    def _agreement(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        """What the id covers must be what the recipe says, or settings would be believed that nobody vouches for."""
        for name in ("model", "teachers", "distill", "seed", "precision"):
            self._require(config.get(name, recipe.get(name)) == recipe.get(name), f"config and recipe differ in {name}")
        distill = recipe.get("distill")
        said = distill.get("committee") if isinstance(distill, dict) else None
        self._require(config.get("committee", said) == said, "config and recipe differ in committee")

    def _texts(self, values: dict[str, Any], name: str, most: int) -> None:
        table = values.get(name)
        self._require(isinstance(table, dict), f"{name} is not an object")
        assert isinstance(table, dict)
        ok = all(isinstance(v, str) and len(v) <= 500 for v in table.values())
        self._require(ok and len(table) <= most, f"{name} must hold texts")

    def _data(self, data: dict[str, Any]) -> None:
        for name in ("dataset", "fingerprint"):
            value = data.get(name)
            self._require(isinstance(value, str) and 0 < len(value) <= 4096, f"data.{name} is not a text")
        classes = data.get("classes")
        ok = isinstance(classes, list) and 1 <= len(classes) <= MAX_CLASSES
        self._require(ok and all(_is_class_name(c) for c in classes or ()), "data.classes must be a list of names")
        shape = data.get("shape")
        ok = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 1 <= n <= 65536 for n in shape)
        self._require(ok and math.prod(shape or ()) <= 2**28, "data.shape must be channels, height and width")

    def _files(self, kind: str, files: dict[str, Any]) -> None:
        for name, entry in files.items():
            self._require(is_file_of(kind, name), f"a {kind} has no file {name[:100]!r}")
            self._require(_is_entry(entry), f"files.{name} must be sha256 and size")
        for name in _REQUIRED[kind]:
            self._require(name in files, f"a {kind} needs {name}")
        teachers = sorted(name for name in files if _TEACHER.fullmatch(name))
        whole = teachers == [teacher_file(i) for i in range(len(teachers))]
        self._require(whole, "a pool's teachers must be numbered from 000 without a gap")


def _is_class_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000 and "\n" not in value and "\t" not in value


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and sorted(entry) == ["sha256", "size"]
        and isinstance(entry["sha256"], str)
        and _SHA256.fullmatch(entry["sha256"]) is not None
        and type(entry["size"]) is int
        and 0 <= entry["size"] < 2**50
    )
