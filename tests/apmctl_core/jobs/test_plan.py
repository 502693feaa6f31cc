"""Plans: the steps that are left, what they need, and how long a trial says that they take."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from apmctl_core.config import DataConfig, ModelConfig
from apmctl_core.config.presets import PRESETS
from apmctl_core.jobs import Session, distill_set, plan, train_pool, trial
from apmctl_core.jobs.advice import advise
from apmctl_core.jobs.commands import pool_job, set_job
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.jobs.settings import resolve
from apmctl_core.models import size_of
from apmctl_core.training.loop import Trainer

from .conftest import RECIPE

RATE = 1e9
plans = importlib.import_module("apmctl_core.jobs.plan")  # the package's `plan` is the function
CPU = torch.device("cpu")


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Jobs that were tried out, with the images in a step; each reaches RATE."""
    tried: list[tuple[str, int]] = []

    def speed(job: Any, batch: int, runtime: Any) -> trial.Speed:
        tried.append((job.kind, batch))
        return trial.Speed(RATE, RATE / 3)

    monkeypatch.setattr(trial, "speed", speed)
    return tried


@pytest.fixture(autouse=True)
def neighbours(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What other processes do: nothing, unless a test says so."""
    quiet = SimpleNamespace(busy=0.0, slow=1.0)
    quiet.cores, quiet.slowdown = lambda: quiet.busy, lambda device: quiet.slow
    monkeypatch.setattr(plans, "Neighbours", lambda: quiet)
    monkeypatch.setattr(trial, "Neighbours", lambda: quiet)
    return quiet


def jobs(session: Session, recipe: Any = RECIPE) -> list[Any]:
    dataset = session.load(recipe.data)
    return [pool_job(session, recipe, dataset), set_job(session, recipe, dataset)]


def test_a_plan_has_the_steps_that_are_left_and_what_they_come_to(session, rates):
    both = jobs(session)
    found = plan(session, RECIPE, "distill")
    assert [(step.name, step.detail) for step in found.steps] == [
        ("teachers", "train 2 convnet1 of width 4, 1 epochs each"),
        ("distill", "10 images, 2 rounds on 10 of them"),
    ]
    costs = [job.cost() for job in both]
    assert [step.seconds for step in found.steps] == pytest.approx([cost.flops / RATE for cost in costs])
    assert found.seconds == pytest.approx(sum(cost.flops for cost in costs) / RATE)
    assert found.disk_bytes == sum(cost.disk_bytes for cost in costs)
    assert found.memory_bytes > max(cost.fixed_bytes + cost.images * cost.image_bytes for cost in costs)
    assert (found.command, found.id, found.exists, found.segment) == ("distill", both[1].id, False, 10)
    assert found.recipe == both[1].recipe
    assert rates == [("pool", 256), ("set", 10)]
    assert session.store.list() == []


def test_what_exists_is_reused_and_takes_no_time(session, rates):
    pool = train_pool(session, RECIPE).artifact
    found = plan(session, RECIPE, "distill")
    assert [step.name for step in found.steps] == ["teachers", "distill"]
    assert (found.steps[0].detail, found.steps[0].seconds) == (f"reuse pool {pool.ref}", 0.0)
    assert found.disk_bytes == jobs(session)[1].cost().disk_bytes
    named = plan(session, RECIPE, "distill", pool=pool.ref, name="mine")
    assert named.steps == found.steps
    assert named.id == found.id
    distill_set(session, RECIPE)
    done = plan(session, RECIPE, "distill")
    assert (done.exists, done.steps, done.seconds) == (True, (), 0)
    assert (done.memory_bytes, done.disk_bytes, done.segment) == (0, 0, 0)


def test_teachers_alone_are_one_step(session, rates):
    found = plan(session, RECIPE, "teachers")
    assert [step.name for step in found.steps] == ["teachers"]
    assert found.id == jobs(session)[0].id


def test_without_the_data_a_plan_has_no_id_and_the_sizes_that_are_known(session, rates):
    known = replace(RECIPE, data=DataConfig(dataset="cifar10"), model=ModelConfig(arch="auto", width=4))
    found = plan(session, known, "distill")
    assert found.id is None
    assert found.recipe.model.arch == "convnet3"
    assert [step.name for step in found.steps] == ["teachers", "distill"]
    larger = plan(session, replace(known, data=DataConfig(dataset="cifar10", resolution=64)), "distill")
    assert larger.recipe.model.arch == "convnet4"


def test_whitening_and_compilation_take_time(session, rates):
    white = replace(RECIPE, data=DataConfig(dataset="digits", preprocessing="zca"))
    plain, whitened = (plan(session, recipe, "distill").steps for recipe in (RECIPE, white))
    assert whitened[0].seconds == pytest.approx(1.25 * plain[0].seconds)
    assert whitened[1].seconds == pytest.approx(plain[1].seconds)
    compiled = replace(session, runtime=replace(session.runtime, compile=True))
    slower = plan(compiled, RECIPE, "distill").steps
    assert [b.seconds - a.seconds for a, b in zip(plain, slower, strict=True)] == pytest.approx([25, 25])


def test_a_job_that_trains_nothing_is_tried_out_with_one_image(session, rates, monkeypatch):
    right = PoolJob.cost
    monkeypatch.setattr(PoolJob, "cost", lambda self: replace(right(self), step_flops=0))
    plan(session, RECIPE, "teachers")
    assert rates == [("pool", 1)]


def test_a_plan_gives_a_range_which_is_wider_on_a_busy_machine(session, rates, neighbours):
    quiet = plan(session, RECIPE, "distill")
    assert quiet.seconds_low == pytest.approx(quiet.seconds / 1.6)
    assert quiet.seconds_high == pytest.approx(quiet.seconds * 1.6)
    assert (quiet.busy, quiet.other_cores) == (False, 0)
    for step in quiet.steps:
        assert step.seconds_low < step.seconds < step.seconds_high
    neighbours.busy, neighbours.slow = 1.504, 2.5
    busy = plan(session, RECIPE, "distill")
    assert (busy.seconds, busy.seconds_low) == (quiet.seconds, quiet.seconds_low)
    assert busy.seconds_high == pytest.approx(3 * quiet.seconds_high)  # as fast as the trial was
    assert (busy.busy, busy.other_cores) == (True, 1.5)
    neighbours.slow = 5.0
    assert plan(session, RECIPE, "distill").seconds_high == pytest.approx(5 * quiet.seconds_high)


def of(dataset: str, **tables: Any) -> Any:
    return resolve(dataset, flags=tables)[0]


def test_work_that_does_not_take_long_needs_no_advice(session, rates):
    assert plan(session, RECIPE, "distill").advice == ()


def test_long_work_is_weighed_against_a_gpu_and_a_smaller_preset_of_the_same_data(session, rates, monkeypatch):
    found = plan(session, of("cifar10", distill={"ipc": 50}), "distill")
    gpu, preset = found.advice
    assert (gpu.kind, preset.kind, preset.what) == ("gpu", "preset", "preset cifar10-laptop-ipc10")
    assert "assumed" in gpu.what
    # Either way the operations are the same.
    assert gpu.seconds == pytest.approx(found.seconds * RATE / 1e13, rel=0.3)
    smaller = plan(session, PRESETS["cifar10-laptop-ipc10"], "distill")
    assert preset.seconds == pytest.approx(smaller.seconds)
    assert [each.kind for each in smaller.advice if each.kind == "preset"] == []


def test_without_a_smaller_preset_fewer_settings_are_advised(session, rates):
    (_, settings) = plan(session, of("imagenet-1k", distill={"ipc": 10}), "distill").advice
    assert settings.kind == "settings"
    assert settings.what == "`model.width 32`, `teachers.count 4`, `teachers.epochs 30`, `distill.rounds 240`"
    (_, alone) = plan(session, of("imagenet-1k", model={"width": 16}, teachers={"count": 4}), "teachers").advice
    assert alone.what == "`teachers.epochs 30`"


def test_what_saves_too_little_is_not_advised():
    recipe = of("imagenet-1k", distill={"ipc": 10})
    for device, kinds in ((CPU, ["gpu"]), (torch.device("cuda"), [])):
        found = advise(recipe, "distill", 1e18, 1e6, device, lambda other: 6e5)
        assert [each.kind for each in found] == kinds
    assert advise(recipe, "distill", 1e18, 1e6, torch.device("cuda"), lambda other: 4e5) != []
    assert advise(recipe, "distill", 1e18, 10_799, CPU, pytest.fail) == []
    asked: list[Any] = []
    advise(PRESETS["imagenet-1k-ipc10"], "distill", 1e18, 1e6, CPU, lambda other: asked.append(other) or 1.0)
    assert [other.model.width for other in asked] == [32]  # no preset of the data is smaller


class Clock:
    """A clock by which the n-th step takes the n-th number of seconds, and further ones the last."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.now, self.asked = seconds, 0.0, 0

    def __call__(self) -> float:
        self.now += self.seconds[min(self.asked, len(self.seconds) - 1)]
        self.asked += 1
        return self.now


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images of each step of a trial, which trains nothing."""
    steps: list[int] = []

    def fit(self: Any, initial: Any, source: Any, config: Any, *more: Any, after_epoch: Any) -> None:
        for epoch in range(config.epochs):
            steps.append(len(source))
            after_epoch(epoch + 1, torch.zeros(()))

    monkeypatch.setattr(Trainer, "fit", fit)
    return steps


def clocks(monkeypatch: pytest.MonkeyPatch, wall: tuple[float, ...], own: tuple[float, ...] = (1e9,)) -> None:
    named = SimpleNamespace(perf_counter=Clock(*wall), process_time=Clock(*own))
    monkeypatch.setattr(trial, "time", named)


@pytest.mark.parametrize(
    ("wall", "own", "steps", "fastest", "mean"),
    [
        ((9.0, 0.4, 0.2, 0.3), (1e9,), 6, 0.2, 0.3),  # the first one warms up
        ((0.06,), (1e9,), 16, 0.06, 0.06),  # a stretch is three steps
        ((0.06,), (0.02,), 16, 0.02, 0.06),  # the rest was spent waiting
        ((4.0, 5.0, 3.0), (1e9,), 3, 3.0, 4.0),  # two are enough
    ],
)
def test_a_trial_is_the_fastest_of_a_few_stretches(session, monkeypatch, trained, wall, own, steps, fastest, mean):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    clocks(monkeypatch, wall, own)
    (pool, _) = jobs(session)
    operations = 6 * size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    found = trial.speed(pool, 20, session.runtime)
    assert found.quiet == pytest.approx(20 * operations / fastest)
    assert found.now == pytest.approx(20 * operations / mean)
    assert trained == [20] * steps


def test_where_several_threads_compute_their_time_says_nothing(session, monkeypatch, trained):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clocks(monkeypatch, (0.5,), (0.1,))
    (pool, _) = jobs(session)
    operations = 6 * size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    assert trial.speed(pool, 20, session.runtime).quiet == pytest.approx(20 * operations / 0.5)


def test_threads_that_wait_for_each_other_are_judged_by_a_single_one(session, monkeypatch, trained):
    (pool, _) = jobs(session)
    given: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: given[-1] if given else 2)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(trial, "Neighbours", lambda: SimpleNamespace(slowdown=lambda device: 1.5))
    # Three steps of two threads; then as many of one, which computes a tenth of the time.
    clocks(monkeypatch, (2.0,), (0.2,))
    operations = 20 * 6 * size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    found = trial.speed(pool, 20, session.runtime)
    assert found.quiet == pytest.approx(2**0.8 * operations / 0.2)
    assert found.now == pytest.approx(operations / 2.0)
    assert (given, trained) == ([1, 2], [20] * 6)


@pytest.mark.parametrize(("allowed", "images"), [(1e12, 256), (100, 100), (1, 16)])
def test_a_step_of_a_trial_is_shorter_for_a_large_network(session, monkeypatch, trained, allowed, images):
    clocks(monkeypatch, (0.5,))
    (pool, _) = jobs(session)
    one = 6 * size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    monkeypatch.setattr(trial, "_STEP_FLOPS", (allowed + 0.5) * one)
    trial.speed(pool, 1000, session.runtime)
    assert set(trained) == {images}


def test_compiled_training_is_taken_to_be_faster_the_smaller_the_network(session, monkeypatch, trained):
    clocks(monkeypatch, (0.5,))
    (small, _) = jobs(session)
    large = replace(small, recipe=replace(small.recipe, model=ModelConfig(arch="convnet2", width=512)))
    compiled = replace(session.runtime, compile=True)
    for job, gain in ((small, 2.0), (large, 1.5)):
        eager, faster = (trial.speed(job, 4, runtime).quiet for runtime in (session.runtime, compiled))
        assert faster == pytest.approx(gain * eager)
