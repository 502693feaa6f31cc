"""The Hub: read through the real clients from a small server, and every refusal in one line and in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.data.hub import choose_splits, translate
from apmctl_core.data.source import KNOWN
from apmctl_core.errors import ApmError, DataError, NetworkError
from tests.apmctl_core.data.hub_server import SHA, HubServer
from tests.apmctl_core.data.makers import encoded, image, label_feature, parquet, rows

# The clients read their settings when they are imported, so each run is a process of its own.
LOAD = """
import json, pathlib, sys
from apmctl_core.data import load
from apmctl_core.errors import ApmError
for name in sys.argv[2:]:
    notes = []
    try:
        data = load(name, pathlib.Path(sys.argv[1]), emit=lambda e: notes.append(getattr(e, "text", "")))
        result = {"classes": data.classes, "train": len(data.train), "test": len(data.test), "shape": data.shape}
    except ApmError as error:
        result = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    print(json.dumps(result | {"notes": " ".join(notes)}))
"""


def run(tmp_path: Path, endpoint: str, *names: str, **settings: str) -> list[dict[str, Any]]:
    """Load each name in a fresh process; stderr must stay empty."""
    removed = ("HF_TOKEN", "HF_HUB_OFFLINE")
    env = {k: v for k, v in os.environ.items() if k not in removed}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", **settings}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "cache"), *names]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    animals = label_feature(["cat", "dog"])
    return {
        "README.md": b"# a set\n",
        "data/train-00000-of-00001.parquet": parquet(tmp_path / "a", rows(20), animals).read_bytes(),
        "data/validation-00000-of-00001.parquet": parquet(tmp_path / "b", rows(6), animals).read_bytes(),
    }


def test_a_hub_data_set_loads_and_then_needs_no_hub(tmp_path: Path, files: dict[str, bytes]) -> None:
    with HubServer("me/set", files) as server:
        (first,) = run(tmp_path, server.url, "hf:me/set")
        asked = len(server.asked)
        again, wrong, other = run(tmp_path, server.url, "hf:me/set", "hf:me/set@nope", "hf:me/other")
        assert not [a for a in server.asked[asked:] if "/resolve/" in a]
        (pinned,) = run(tmp_path, server.url, f"hf:me/set@{SHA}")
    assert (first["classes"], first["train"], first["test"]) == (["cat", "dog"], 20, 6)
    assert first["shape"] == [3, 8, 8] and "loading me/set from the Hub" in first["notes"]
    assert again | {"notes": ""} == first | {"notes": ""} and again["notes"] == ""
    assert wrong["error"] == "NetworkError" and "no such revision" in wrong["message"]
    assert other["error"] == "NetworkError" and "no data set me/other" in other["message"]
    assert pinned["train"] == 20
    (offline,) = run(tmp_path, "http://127.0.0.1:9", "hf:me/set", HF_HUB_OFFLINE="1")
    assert offline["train"] == 20


def test_a_hub_folder_of_images_loads(tmp_path: Path) -> None:
    paths = [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in range(3)]
    with HubServer("me/pictures", {p: encoded(image(i)) for i, p in enumerate(paths)}) as server:
        (found,) = run(tmp_path, server.url, "hf:me/pictures")
    assert (found.get("classes"), found.get("train"), found.get("test")) == (["cat", "dog"], 6, 6), found


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (401, "", "NetworkError", r"refuses access"),
        (403, "GatedRepo", "NetworkError", "is gated"),
        (404, "RepoNotFound", "NetworkError", "no data set"),
        (503, "", "NetworkError", "503"),
    ],
)
def test_what_the_hub_refuses_is_one_line_at_once(
    tmp_path: Path, status: int, code: str, error: str, message: str
) -> None:
    with HubServer("me/set", {}, status, code) as server:
        (found,) = run(tmp_path, server.url, "hf:me/set")
    assert found["error"] == error and message in found["message"] and found["hint"]
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]


def test_without_network_known_sets_fail_in_seconds_with_the_way_out(tmp_path: Path) -> None:
    start = time.monotonic()
    found = run(tmp_path, "http://127.0.0.1:9", "cifar10", "tiny-imagenet")
    assert time.monotonic() - start < 20
    assert all(f["error"] == "NetworkError" and "`data_path`" in f["hint"] for f in found)
    assert all("\n" not in f["message"] for f in found)
    assert "https://huggingface.co/datasets/uoft-cs/cifar10 " in found[0]["hint"]
    assert "cifar-10-batches-py" in found[0]["hint"]


def test_offline_mode_is_respected_and_named(tmp_path: Path) -> None:
    with HubServer("me/set", {}) as server:
        (found,) = run(tmp_path, server.url, "cifar10", HF_HUB_OFFLINE="1")
        assert server.asked == []
    assert found["error"] == "NetworkError" and "offline mode is on" in found["message"]


def test_splits_of_known_and_other_sets() -> None:
    assert choose_splits(["train", "validation", "test"], KNOWN["imagenet-1k"]) == ("train", ["validation"])
    assert choose_splits(["train", "valid"], KNOWN["tiny-imagenet"]) == ("train", ["valid"])
    assert choose_splits(["validation", "test", "train"], None) == ("train", ["test", "validation"])
    assert choose_splits(["everything"], None) == ("everything", [])
    assert choose_splits(["train", "dev", "test"], None, "dev") == ("train", ["dev", "test"])
    assert choose_splits(["train", "test"], None, "train") == ("train", ["test"])
    with pytest.raises(DataError, match="no training split among: a, b"):
        choose_splits(["a", "b"], None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionError("down"), NetworkError),
        (TimeoutError(), NetworkError),
        (ValueError("Config name is missing.\nPick one among: a, b"), DataError),
        (OSError(28, "No space left on device"), DataError),
    ],
)
def test_other_failures_become_one_line(error: Exception, kind: type[ApmError]) -> None:
    found = translate(error, "me/set")
    assert type(found) is kind and "me/set" in found.message and "\n" not in found.message and found.hint
