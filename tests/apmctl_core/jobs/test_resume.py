"""Whole commands of the engine, stopped in every way and given again: the same bytes, and nothing left over."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apmctl_core.artifacts import Store
from apmctl_core.config import ApmConfig, DataConfig, EvalConfig, ModelConfig, Recipe, TeacherConfig, TrainConfig
from apmctl_core.errors import ArtifactError, Interrupted, NumericsError, StoreError
from apmctl_core.events import Emit, Event, Note, silent
from apmctl_core.jobs import Outcome, Session, distill_set, evaluate_set, relabel_set, resume, train_pool
from apmctl_core.jobs.commands import pool_job, set_job
from apmctl_core.jobs.job import OVERHEAD
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.jobs.set import SetJob
from apmctl_core.machine import interrupts, memory
from apmctl_core.machine.runtime import resolve
from apmctl_core.methods import matching
from apmctl_core.methods.apm import Apm
from apmctl_core.training import checkpoint
from tests.command import save_always
from tests.helpers import contents

RECIPE = Recipe(
    data=DataConfig(dataset="digits"),
    model=ModelConfig(arch="convnet2", width=8),
    teachers=TeacherConfig(count=2, epochs=2),
    distill=ApmConfig(ipc=1, rounds=12, student=TrainConfig(epochs=4), checkpoints=2, image_lr=1.0, committee="mean"),
    evaluate=EvalConfig(epochs=2, repeats=2),
    precision="fp32",
)


pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    save_always(monkeypatch.setattr)


def session(root: Path, emit: Emit = silent) -> Session:
    return Session(store=Store(root), runtime=resolve("cpu", compile=False), emit=emit, wait=False)


def everything(root: Path, emit: Emit = silent) -> list[Outcome]:
    """A pool, a set of it, the same set with other labels, and a report."""
    here = session(root, emit)
    made = [train_pool(here, RECIPE), distill_set(here, RECIPE)]
    again = relabel_set(here, "digits-ipc1", committee="single", name="again")
    return [*made, again, evaluate_set(here, "digits-ipc1", {})]


def jobs(session: Session, recipe: Recipe = RECIPE) -> tuple[PoolJob, SetJob]:
    """The jobs of a pool and of its set."""
    dataset = session.load(recipe.data)
    return pool_job(session, recipe, dataset), set_job(session, recipe, dataset)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("reference")
    everything(root)
    return contents(root)


class At:
    """Calls `act` at the n-th event of progress of a stage, in a run of everything."""

    def __init__(self, stage: str, number: int, act: Callable[[], object]) -> None:
        self.stage, self.left, self.act = stage, number, act
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif event.stage == self.stage:
            self.left -= 1
            if self.left == 0:
                self.act()


MOMENTS = [
    ("teachers", 1, "command"),
    ("teachers", 3, "request"),
    ("distill", 1, "request"),
    ("distill", 4, "command"),
    ("label random", 1, "command"),
    ("label random", 6, "request"),
    ("evaluate", 3, "request"),
]


@pytest.mark.parametrize(("stage", "number", "by"), MOMENTS)
def test_a_signal_at_any_stage_is_resumed_to_the_same_bytes(
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    number: int,
    by: str,
) -> None:
    monkeypatch.setenv("APMCTL_HOME", str(tmp_path))
    with pytest.raises(Interrupted) as caught:
        everything(tmp_path, At(stage, number, lambda: signal.raise_signal(signal.SIGTERM)))
    assert caught.value.signal == signal.SIGTERM
    (run,) = Store(tmp_path).runs()
    assert run.progress is not None
    assert 0 < run.progress["done"] <= run.progress["total"]
    assert not run.running
    interrupts.install()
    heard = At("", 0, lambda: None)
    assert run.request is not None
    assert caught.value.hint == f"rerun the same command or `resume {run.id}` to resume"
    if by == "request":
        assert resume(session(tmp_path, heard), run.request).artifact.ref == run.ref
    everything(tmp_path, heard)
    assert f"resuming unfinished {run.kind} {run.ref}" in heard.notes
    assert contents(tmp_path) == reference


def test_what_catches_every_exception_does_not_swallow_a_signal(tmp_path: Path) -> None:
    def careless() -> None:
        with suppress(Exception):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        everything(tmp_path, At("teachers", 1, careless))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_was_lost_in_a_finaliser_is_raised_at_the_next_step(tmp_path: Path) -> None:
    class Dies:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def lose() -> None:
        Dies()

    lost = At("teachers", 1, lose)
    with pytest.raises(Interrupted):
        everything(tmp_path, lost)
    assert lost.left == 0


def test_an_unfinished_run_can_be_removed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        everything(tmp_path, At("distill", 2, lambda: signal.raise_signal(signal.SIGTERM)))
    store = Store(tmp_path)
    (run,) = store.runs()
    with pytest.raises(ArtifactError, match="not finished"):
        store.find("digits-ipc1")
    store.remove(store.target(run.ref))
    assert store.runs() == []
    assert not list((tmp_path / "sets").glob("*/.*"))


def test_the_time_of_all_processes_counts(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        everything(tmp_path, At("distill", 4, lambda: signal.raise_signal(signal.SIGTERM)))
    interrupts.install()
    (run,) = Store(tmp_path).runs()
    history = run.path / "events.jsonl"
    history.write_bytes(history.read_bytes().replace(b'{"seconds": ', b'{"seconds": 1000'))
    assert distill_set(session(tmp_path), RECIPE).metrics["seconds"] > 1000


# --- disks


@pytest.fixture
def bound_files() -> Iterator[Callable[[], None]]:
    """Call it, and no file of this process may grow beyond 64 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("stage", "number"), [("teachers", 1), ("teachers", 4), ("distill", 2), ("evaluate", 3)])
def test_a_file_limit_in_mid_run_is_an_error_and_then_the_same_bytes(
    tmp_path: Path, reference: dict[str, bytes], stage: str, number: int, bound_files: Callable[[], None]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(StoreError, match="cannot write") as caught:
        everything(tmp_path, At(stage, number, bound_files))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "rerun the same command" in caught.value.hint
    assert all(whole for run in Store(tmp_path).runs() for whole in state_of(run.path))
    everything(tmp_path)
    assert contents(tmp_path) == reference


def state_of(folder: Path) -> list[bool]:
    """Whether each state in a run's folder can be loaded."""
    from apmctl_core.artifacts import states

    names = {p.name.partition(".state")[0] for p in states.files(folder)}
    return [states.States(folder).load_state(name) is not None for name in sorted(names)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(("stage", "number"), [("teachers", 3), ("distill", 2), ("label", 1), ("evaluate", 2)])
def test_a_disk_that_fills_up_is_an_error_and_then_the_same_bytes(
    small_disk: Path, reference: dict[str, bytes], stage: str, number: int
) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    root = small_disk / "store"
    with pytest.raises(StoreError, match="the disk is full") as caught:
        everything(root, At(stage, number, fill))
    assert "free some space" in caught.value.hint
    if stage != "label":  # the first labels come as the last round is kept
        (run,) = Store(root).runs()
        assert all(state_of(run.path))
    ballast.unlink()
    everything(root)
    assert contents(root) == reference


def test_a_disk_that_cannot_be_written_can_be_read(small_disk: Path) -> None:
    everything(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert [outcome.reused for outcome in everything(small_disk)] == [True] * 4
    with pytest.raises(StoreError, match="read-only"):
        train_pool(session(small_disk), replace(RECIPE, teachers=replace(RECIPE.teachers, seed=1)))


def test_a_disk_without_enough_room_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, both = (job.cost().disk_bytes for job in jobs(session(tmp_path)))
    both += pool
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=both - 1))
    with pytest.raises(StoreError, match="are needed") as caught:
        distill_set(session(tmp_path, At("teachers", 1, pytest.fail)), RECIPE)
    assert caught.value.hint
    assert not (tmp_path / "pools").exists()
    assert pool < both - 1
    assert not train_pool(session(tmp_path), RECIPE).reused
    assert not distill_set(session(tmp_path), RECIPE).reused  # the pool is there and needs no room


def test_a_run_takes_no_more_room_than_was_asked_for(tmp_path: Path) -> None:
    recipe = replace(RECIPE, model=ModelConfig(arch="convnet2", width=64), distill=replace(RECIPE.distill, ipc=20))
    most: dict[str, int] = {}

    def measure(event: Event) -> None:
        for kind in ("pools", "sets"):
            used = sum(p.stat().st_size for p in (tmp_path / kind).rglob("*") if p.is_file())
            most[kind] = max(most.get(kind, 0), used)

    here = session(tmp_path, measure)
    distill_set(here, recipe)
    bounds = {f"{job.kind}s": job.cost().disk_bytes for job in jobs(here, recipe)}
    for kind, bound in bounds.items():
        assert (bound - OVERHEAD) / 6 < most[kind] <= bound


# --- memory


def cut(root: Path, emit: Emit = silent) -> Outcome:
    here = replace(session(root, emit), runtime=resolve("cpu", compile=False, segment=None))
    return distill_set(here, replace(RECIPE, distill=replace(RECIPE.distill, ipc=3)))


@pytest.mark.parametrize("first", [0, 10**12])
def test_a_run_that_finds_other_memory_ends_at_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Another segment rounds differently: one that was begun whole goes on whole, one that was cut goes on so."""
    left = {0: 10**12, 10**12: 0}
    monkeypatch.setattr(memory, "free", lambda device: first)
    expected = cut(tmp_path / "whole").artifact
    assert expected.manifest.environment["segment"] == (0 if first else 1)
    with pytest.raises(Interrupted):
        cut(tmp_path / "stopped", At("distill", 2, lambda: signal.raise_signal(signal.SIGTERM)))
    monkeypatch.setattr(memory, "free", lambda device: left[first])
    interrupts.install()
    resumed = cut(tmp_path / "stopped").artifact
    assert resumed.manifest.environment["segment"] == expected.manifest.environment["segment"]
    assert resumed.file("set.safetensors").read_bytes() == expected.file("set.safetensors").read_bytes()
    assert sorted(p.name for p in resumed.path.iterdir()) == sorted(p.name for p in expected.path.iterdir())


def test_segments_that_were_shortened_in_mid_run_are_resumed_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_LEAST_SECONDS", 1e9)  # only what must be saved is
    cycles: list[int] = []
    right = Apm.cycle

    def counted(self: Any, *more: Any) -> Any:
        update = right(self, *more)
        cycles.append(1)
        return update

    def latest(device: torch.device) -> int:
        return 10**12 if len(cycles) == 2 else 0

    monkeypatch.setattr(Apm, "cycle", counted)
    monkeypatch.setattr(memory, "latest_peak", latest)
    expected = cut(tmp_path / "whole").artifact
    limit = expected.manifest.environment["segment"]
    assert limit == 15  # half of the 30 images
    cycles.clear()
    # The state of the cycle that was too much is there although nothing else is, as after SIGKILL.
    monkeypatch.setattr(checkpoint.ThrottledSaver, "last", lambda self, make: None)
    with pytest.raises(Interrupted):
        cut(tmp_path / "stopped", At("distill", 3, lambda: signal.raise_signal(signal.SIGTERM)))
    interrupts.install()
    monkeypatch.setattr(memory, "latest_peak", lambda device: 0)
    resumed = cut(tmp_path / "stopped").artifact
    assert resumed.manifest.environment["segment"] == limit
    assert resumed.file("set.safetensors").read_bytes() == expected.file("set.safetensors").read_bytes()


# --- numbers


def test_numbers_that_go_wrong_leave_the_last_good_state_and_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: dict[str, bytes]
) -> None:
    right = matching.Matcher.gradient
    calls = []

    def wrong(self: Any, u: torch.Tensor, *more: Any) -> Any:
        calls.append(1)
        gradient, loss = right(self, u, *more)
        return (gradient * float("nan") if len(calls) > 7 else gradient), loss

    monkeypatch.setattr(checkpoint, "_LEAST_SECONDS", 1e9)  # nothing is saved but because of the error
    with monkeypatch.context() as patch, pytest.raises(NumericsError, match="round 6, segment 0") as caught:
        patch.setattr(matching.Matcher, "gradient", wrong)
        everything(tmp_path)
    assert "`distill.image_lr`" in caught.value.hint
    store = Store(tmp_path)
    (run,) = store.runs()
    assert run.progress == {"done": 6, "total": 12, "unit": "round"}
    assert store.list("set") == []
    everything(tmp_path)
    assert contents(tmp_path) == reference


def test_a_teacher_that_diverges_keeps_its_last_good_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apmctl_core.training.loop import Trainer

    right = Trainer._step
    steps = []

    def wrong(self: Any, *more: Any) -> torch.Tensor:
        steps.append(1)
        return right(self, *more) * (float("inf") if len(steps) > 3 * 6 else 1.0)  # 1,438 images in batches of 256

    monkeypatch.setattr(Trainer, "_step", wrong)
    with pytest.raises(NumericsError, match=r"teacher 1 .* epoch 2"):
        train_pool(session(tmp_path), RECIPE)
    (run,) = Store(tmp_path).runs()
    assert run.progress == {"done": 3, "total": 4, "unit": "epoch"}
    assert Store(tmp_path).list() == []


# --- what killed processes leave


def test_the_lock_of_a_process_killed_after_publishing_is_removed_by_the_next(tmp_path: Path) -> None:
    made = train_pool(session(tmp_path), RECIPE).artifact
    locks = Store(tmp_path).locks
    (locks / f"pool-{made.id}.lock").touch()
    (locks / f"pool-{made.id}.json").write_text("{}")
    assert train_pool(session(tmp_path), RECIPE).reused
    assert [p.name for p in locks.iterdir()] == []


def test_a_note_that_a_killed_process_did_not_finish_is_removed_by_the_next(tmp_path: Path) -> None:
    pool, _ = jobs(session(tmp_path))
    locks = Store(tmp_path).locks
    locks.mkdir(exist_ok=True)
    (locks / f".pool-{pool.id}.json.00112233.tmp").write_text("{")
    train_pool(session(tmp_path), RECIPE)
    assert [p.name for p in locks.iterdir()] == []


def test_a_whitening_that_a_killed_process_did_not_finish_is_removed_by_the_next(tmp_path: Path) -> None:
    recipe = replace(RECIPE, data=DataConfig(dataset="digits", preprocessing="zca"))
    dataset = session(tmp_path).load(recipe.data)
    folder = tmp_path / "cache" / "preprocessing"
    folder.mkdir()
    (folder / f".zca-{dataset.fingerprint}.tmp").write_text("half")
    train_pool(session(tmp_path), recipe)
    assert sorted(p.name for p in folder.iterdir()) == [f"zca-{dataset.fingerprint}.safetensors"]


def test_who_does_not_wait_leaves(tmp_path: Path) -> None:
    here = session(tmp_path)
    job, _ = jobs(here)
    with here.store.workspace("pool", job.label, job.id), pytest.raises(StoreError, match="locked by") as caught:
        train_pool(here, RECIPE)
    assert caught.value.hint == "wait for it to end"


def test_the_lock_of_a_pool_that_a_killed_distillation_had_published_is_removed_by_the_next(tmp_path: Path) -> None:
    pool = train_pool(session(tmp_path), RECIPE).artifact
    locks = Store(tmp_path).locks
    (locks / f"pool-{pool.id}.lock").touch()
    (locks / f"pool-{pool.id}.json").write_text("{}")
    distill_set(session(tmp_path), RECIPE)
    assert list(locks.iterdir()) == []
