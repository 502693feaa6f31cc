"""Plans: the steps that are left, what they need, and how long a trial says that they take."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from apmctl_core.config import DataConfig, ModelConfig
from apmctl_core.jobs import Session, distill_set, plan, train_pool
from apmctl_core.jobs.commands import pool_job, set_job
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.models import size_of
from apmctl_core.training.loop import Trainer

from .conftest import RECIPE

RATE = 1e9
plans = importlib.import_module("apmctl_core.jobs.plan")  # the package's `plan` is the function


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Jobs that were tried out, with the images in a step; each reaches RATE."""
    tried: list[tuple[str, int]] = []

    def rate(job: Any, batch: int, runtime: Any) -> float:
        tried.append((job.kind, batch))
        return RATE

    monkeypatch.setattr(plans, "_rate", rate)
    return tried


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


class Clock:
    """A clock by which the n-th training of a trial takes the n-th number of seconds, and further ones the last."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.now, self.asked = seconds, 0.0, 0

    def __call__(self) -> float:
        if self.asked % 2:
            self.now += self.seconds[min(self.asked // 2, len(self.seconds) - 1)]
        self.asked += 1
        return self.now


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images of each training of a trial, which trains nothing."""
    trainings: list[int] = []
    monkeypatch.setattr(Trainer, "fit", lambda self, initial, source, *more: trainings.append(len(source)))
    return trainings


@pytest.mark.parametrize(
    ("seconds", "trials", "median"),
    [
        ((9.0, 0.2, 0.4, 0.3), 4, 0.3),  # the first one warms up
        ((0.125,), 5, 0.125),  # four are over too soon
    ],
)
def test_a_trial_is_the_median_of_a_few_short_trainings(session, monkeypatch, trained, seconds, trials, median):
    monkeypatch.setattr(plans, "time", SimpleNamespace(perf_counter=Clock(*seconds)))
    (pool, _) = jobs(session)
    operations = 6 * size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    assert plans._rate(pool, 20, session.runtime) == pytest.approx(20 * operations / median)
    assert trained == [20] * trials
    assert plans._rate(pool, 1000, session.runtime) == pytest.approx(64 * operations / seconds[-1])


def test_compiled_training_is_taken_to_be_faster_the_smaller_the_network(session, monkeypatch, trained):
    monkeypatch.setattr(plans, "time", SimpleNamespace(perf_counter=Clock(0.5)))
    (small, _) = jobs(session)
    large = replace(small, recipe=replace(small.recipe, model=ModelConfig(arch="convnet2", width=512)))
    compiled = replace(session.runtime, compile=True)
    for job, gain in ((small, 2.0), (large, 1.5)):
        eager, faster = (plans._rate(job, 4, runtime) for runtime in (session.runtime, compiled))
        assert faster == pytest.approx(gain * eager)
