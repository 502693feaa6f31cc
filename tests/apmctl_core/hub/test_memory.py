"""Memory of push and pull is bounded, however large a set is; run with `-m slow -s` to measure."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, LocalHub, environment

REPO = "tester/large"
SHAPE = (3, 32, 32)
_SMALL, _LARGE = map(int, os.environ.get("APMCTL_SETS", "5000,50000").split(","))  # images


def measure(hub: LocalHub, home: Path, count: int) -> dict[str, Any]:
    """Peak memory (bytes) and seconds of a push and a pull, each in a process of its own."""
    home.mkdir()
    env = environment(hub.url, home, HF_TOKEN="hf_writer")
    found: dict[str, Any] = {}
    for do in ("make", "push", "pull", "idle"):
        command = [sys.executable, "-m", "tests.apmctl_core.hub.test_memory", do, str(count), str(home)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[do] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_a_set(hub: LocalHub, tmp_path: Path) -> None:
    small, large = (measure(hub, tmp_path / str(count), count) for count in (_SMALL, _LARGE))
    sys.stderr.write(json.dumps({_SMALL: small, _LARGE: large}, indent=1) + "\n")
    for do in ("push", "pull"):
        grown = large[do]["peak_bytes"] - small[do]["peak_bytes"]
        assert grown < 60e6, f"{do} takes {grown / 1e6:.0f} MB more for {_LARGE} images than for {_SMALL}"


# --- what runs in a process of its own -----------------------------------------------------------------------------


def make(count: int, home: Path) -> None:
    """A set of generated images, written piece by piece, too."""
    import torch

    from apmctl_core.artifacts import Store
    from apmctl_core.artifacts.kinds.sets import save_set
    from apmctl_core.values import DistilledSet

    from .samples import draft_of, standard

    rng = torch.Generator().manual_seed(0)
    classes = [str(k) for k in range(10)]
    data = {"dataset": "digits", "fingerprint": "f" * 64, "classes": classes, "shape": SHAPE}
    made = draft_of("set", f"large-{count}", count, data=data)
    with Store(home / "store").workspace("set", made.name, made.id) as work:
        space = standard(3)
        values = DistilledSet(
            # Smooth pictures: noise would not be what PNG is for.
            images=space.forward(
                torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=rng), scale_factor=4)
            ),
            logits=torch.randn(count, 10, generator=rng),
            labels=torch.arange(10).repeat_interleave(count // 10),
            stage=torch.zeros(count, dtype=torch.int64),
            classes=tuple(classes),
            preprocessing=space,
        )
        save_set(work.path, values)
        work.publish(made)


def push(count: int, home: Path) -> None:
    from apmctl_core.artifacts import Store
    from apmctl_core.hub.push import push as send

    store = Store(home / "store")
    send(store, store.find(f"large-{count}"), f"{REPO}-{count}")


def pull(count: int, home: Path) -> None:
    from apmctl_core.artifacts import Store
    from apmctl_core.hub.pull import pull as fetch
    from apmctl_core.network.references import parse

    fetch(Store(home / "other"), parse(f"{REPO}-{count}"))


def idle(count: int, home: Path) -> None:
    """What the libraries alone take."""
    import huggingface_hub  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch  # noqa: F401

    import apmctl_core.hub.push  # noqa: F401


if __name__ == "__main__":
    began = time.monotonic()
    {"make": make, "push": push, "pull": pull, "idle": idle}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"peak_bytes": peak, "seconds": round(time.monotonic() - began, 1)}) + "\n")
