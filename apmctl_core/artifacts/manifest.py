"""The manifest of an artifact: what it is, how it was made, and the sha256 of every file and of itself.

Read as from a stranger.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

import msgspec
from msgspec import Meta, Struct

from apmctl_core import config as configs
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.migrations import MIGRATIONS
from apmctl_core.errors import ArtifactError
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import DAMAGED_HINT, read_bounded

T = TypeVar("T")

FILE_NAME = "manifest.json"
MAX_BYTES = 4 << 20
MAX_VALUES = 2**28  # of one image
_LINE = 200
_DIGEST_SINCE = 3  # the first schema whose manifests have a digest

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_ID = r"[0-9a-f]{12}"

Id = Annotated[str, Meta(pattern=rf"\A{_ID}\Z")]
_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Digest = Annotated[str, Meta(max_length=500)]
_Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_ClassName = Annotated[str, Meta(pattern=r"\A[^\n\t]+\Z", max_length=1000)]
_Size = Annotated[int, Meta(ge=1, le=65536)]


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of an artifact must be; `size` in bytes."""

    sha256: _Sha256
    size: Annotated[int, Meta(ge=0, lt=2**50)]


class Data(TypedDict):
    """The data that an artifact was made from; `classes` are the names of the labels, `shape` is (C, H, W).

    `split` says in words what the test images are; earlier manifests do not have it.
    """

    dataset: _Text
    fingerprint: _Text
    classes: Annotated[list[_ClassName], Meta(min_length=1, max_length=100_000)]
    shape: Annotated[list[_Size], Meta(min_length=3, max_length=3)]
    split: NotRequired[_Text]


class _Versioned(Struct, frozen=True, kw_only=True):
    schema: int


class _Identity(_Versioned, frozen=True, kw_only=True):
    """What the id covers, the same in all schemas."""

    kind: str
    id: Id
    config: dict[str, Any]
    inputs: Annotated[dict[str, _Digest], Meta(max_length=10_000)]


class Manifest(_Identity, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known about an artifact.

    `recipe` is the whole configuration, `config` the sub-tree of it that the id is taken of, `inputs` the digests of
    what it was made from; `digest` is the sha256 of all other fields, computed when a manifest is written and checked
    when it is read, None in one of an older schema, which had none. Plain JSON values throughout.
    """

    schema: int = configs.SCHEMA_VERSION
    name: Annotated[str, Meta(pattern=rf"\A{_NAME}\Z")]
    recipe: dict[str, Any]
    data: Data
    files: dict[str, FileEntry] = {}
    metrics: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    digest: _Sha256 | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.data["classes"])

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.data["shape"]
        return c, h, w

    @property
    def created(self) -> float | None:
        """When the artifact was made, in seconds since 1970; None where it does not say."""
        try:
            return datetime.fromisoformat(self.environment["created"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError, OSError):  # a stranger's may be anything
            return None


def is_name(text: str) -> bool:
    """Whether `text` may name an artifact: letters, digits, dot, dash, underscore; at most 100."""
    return re.fullmatch(_NAME, text) is not None


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return re.fullmatch(_ID, text) is not None


def check_name(name: str) -> str:
    """`name`, if an artifact may have it. Raises ArtifactError."""
    if not is_name(name):
        raise ArtifactError(
            f"{name!r} cannot be the name of an artifact",
            "use up to 100 letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
        )
    return name


def dumps(manifest: Manifest) -> bytes:
    """The bytes of manifest.json, the same for equal manifests. Raises ArtifactError for one that `loads` refuses."""
    what = f"the manifest of {manifest.name}"
    values = msgspec.to_builtins(manifest, str_keys=True)
    try:
        return _written(values | {"digest": digest_of(values)}, what)
    except ValueError as e:
        raise ArtifactError(f"{what} has a number that is not finite", "it cannot be part of an artifact") from e


def renamed(folder: Path, name: str) -> bytes:
    """The bytes of the manifest in `folder` under another name, still of the schema that it was written in.

    Its id was taken of what that schema has. Raises ArtifactError, StoreError.
    """
    path = folder / FILE_NAME
    values = strict_json.parse_object(read_bounded(path, MAX_BYTES), str(path)) | {"name": name}
    return _written(values | {"digest": digest_of(values)} if "digest" in values else values, str(path))


def _written(values: Mapping[str, Any], what: str) -> bytes:
    """The bytes of a manifest with these fields, which `loads` takes."""
    data = (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()
    loads(data, what)
    return data


def digest_of(values: Mapping[str, Any]) -> str:
    """The digest of a manifest with these fields. Raises ValueError for a number that is not finite."""
    return configs.sha256({name: value for name, value in values.items() if name != "digest"})


def read(folder: Path) -> Manifest:
    """The manifest of the artifact in `folder`. Raises ArtifactError where it is missing, damaged or newer."""
    path = folder / FILE_NAME
    return loads(read_bounded(path, MAX_BYTES), str(path))


def loads(data: bytes, what: str) -> Manifest:
    """A manifest from its bytes, every field checked; `what` names it in errors. Raises ArtifactError."""
    if len(data) > MAX_BYTES:
        raise refused(what, f"larger than {MAX_BYTES} bytes")
    values = strict_json.parse_object(data, what)
    newest, schema = configs.SCHEMA_VERSION, convert(values, _Versioned, what).schema
    if schema > newest:
        problem = f"schema version {schema} is newer than this apmctl, which reads up to {newest}"
        raise refused(what, problem, "upgrade: pip install --upgrade apmctl")
    if any(version not in MIGRATIONS for version in range(schema, newest)):
        raise refused(what, f"schema version {schema} is no longer read", "make it again with this version")
    identity = convert(values, _Identity, what)
    if identity.kind not in KINDS:
        raise refused(what, f"kind: must be one of {', '.join(KINDS)}")
    if identity.id != configs.digest(identity.kind, identity.config, identity.inputs, schema):
        raise refused(what, "the id is not the digest of config and inputs")
    digest = digest_of(values) if schema >= _DIGEST_SINCE else None
    for version in range(schema, newest):
        try:
            values = MIGRATIONS[version](values) | {"schema": version + 1}
        except ValueError as e:
            raise refused(what, str(e)) from e
    manifest = convert(values, Manifest, what)
    if defect := _problem(manifest, values):
        raise refused(what, defect)
    if manifest.digest != digest:
        raise refused(what, "it is not the manifest that was written: its digest differs")
    return manifest


def convert(values: Any, kind: type[T], what: str) -> T:
    """`values`, as `strict_json` parses them, as a `kind`; `what` names the file in errors. Raises ArtifactError."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as e:
        problem, _, path = str(e).replace("`", "'").partition(" - at ")
        field = path.strip("'").removeprefix("$").removeprefix(".")
        raise refused(what, f"{field}: {problem}" if field else problem) from e


def refused(what: str, problem: str, hint: str = DAMAGED_HINT) -> ArtifactError:
    """The error for a file that is not what it should be; names in it may be a stranger's."""
    return ArtifactError(f"{what}: {' '.join(problem.split())[:_LINE]}", hint)


def _problem(manifest: Manifest, values: Mapping[str, Any]) -> str | None:
    """What is wrong with a manifest whose fields are right, each on its own; `values` are those that it was read of."""
    if missing := [name for name in Manifest.__struct_fields__ if name not in values]:
        return f"missing field {missing[0]!r}"  # one with a default, which is for manifests to be written
    if unknown := sorted(values["data"].keys() - Data.__annotations__.keys()):
        return f"data: unknown field {unknown[0]!r}"
    if math.prod(manifest.shape) > MAX_VALUES:
        return "data.shape: an image of this shape is too large"
    if manifest.inputs.get("data", manifest.data["fingerprint"]) != manifest.data["fingerprint"]:
        return "inputs and data name different data"
    if different := contradiction(manifest.config, manifest.recipe):
        return f"config and recipe differ in {different}"
    return KINDS[manifest.kind].problem(manifest.files)


def contradiction(config: Mapping[str, Any], recipe: Any, path: str = "") -> str | None:
    """The dotted path of a setting in `config` that `recipe` does not have, or has otherwise.

    Without this check settings would be believed that no id vouches for.
    """
    theirs = recipe if isinstance(recipe, dict) else {}
    for key, value in config.items():
        if isinstance(value, dict):
            if different := contradiction(value, theirs.get(key), f"{path}{key}."):
                return different
        elif key not in theirs or theirs[key] != value:
            return f"{path}{key}"
    return None
