"""What a command would do, before it does it: its jobs, which of them are done, and what the others cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from apmctl_core.artifacts import Artifact
from apmctl_core.config import Recipe, TrainConfig
from apmctl_core.jobs.commands import pool_job, set_job
from apmctl_core.jobs.job import Job, Located, pending, pools_at_hand
from apmctl_core.jobs.session import Session
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models import build
from apmctl_core.models.size import ALL_GRADIENTS
from apmctl_core.seeding import Stream
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure

_COMPILE_SECONDS = 25.0
_WHITENING = 1.25  # whitening real images costs a teacher about a quarter more, measured at width 32
_TRIAL = 64  # images in a step of the trial, at most
_TRIAL_SECONDS = 0.6
# How much faster compiled training is than eager, by precision and whether the network is small: measured at widths 32
# and 128 on 32x32 images (METHOD).
_COMPILE_GAIN = {("bf16", True): 3.2, ("bf16", False): 2.0, ("fp32", True): 2.0, ("fp32", False): 1.5}
_SMALL = 1.2e7  # multiply-adds an image: about those of ConvNet-3 of width 64 on 32x32 images


@dataclass(frozen=True)
class PlanStep:
    """One job, to be done or reused; `seconds` is 0 for one that is done."""

    name: str
    detail: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run. `id` is None while the data is not at hand: it depends on them."""

    command: str
    id: str | None
    exists: bool
    recipe: Recipe
    steps: tuple[PlanStep, ...]
    memory_bytes: int
    disk_bytes: int
    segment: int  # images in the largest pass of the command's own job
    test_split: str | None = None  # what is tested on, in words; None while the data is not at hand

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


def plan(session: Session, recipe: Recipe, command: str, *, pool: str | None = None, name: str | None = None) -> Plan:
    """What `teachers` or `distill` would do with a recipe. Runs a network for a second to learn how fast it is here.

    Raises what the command itself would raise for the same recipe and pool, as far as it can be told beforehand.
    """
    dataset = session.find_data(recipe.data)
    if command == "distill":
        job: Job = set_job(session, recipe, dataset, pool=pool, name=name)
    else:
        job = pool_job(session, recipe, dataset, name=name)
    todo = pending(session, job)
    costs = {each: each.cost() for each in todo}
    # Before the networks are tried out, which takes memory itself.
    runtimes = {each: session.runtime.for_cost(cost) for each, cost in costs.items()}
    return Plan(
        command=command,
        id=job.id if job.fingerprint else None,
        exists=not todo,
        recipe=job.recipe,
        memory_bytes=max((runtimes[each].peak_bytes(cost) for each, cost in costs.items()), default=0),
        disk_bytes=sum(cost.disk_bytes for cost in costs.values()),
        segment=runtimes[job].segment.longest if todo else 0,
        test_split=(dataset.split if dataset else None) or None,
        steps=tuple(map(_reused, pools_at_hand(session, job))) + tuple(_step(each, runtimes[each]) for each in todo)
        if todo
        else (),
    )


def _reused(pool: Artifact | Located) -> PlanStep:
    return PlanStep("teachers", f"reuse pool {pool.ref}", 0.0)


def _step(job: Job, runtime: Runtime) -> PlanStep:
    """A job with the time it would take: its operations by the rate of a short trial."""
    cost = job.cost()
    whitened = job.kind == "pool" and job.recipe.data.preprocessing == "zca"
    batch = max(1, round(cost.step_flops / ALL_GRADIENTS / max(1.0, job.size.multiply_adds)))
    seconds = cost.flops / _rate(job, batch, runtime) * (_WHITENING if whitened else 1.0)
    return PlanStep(job.stage, job.describe(), seconds + (_COMPILE_SECONDS if runtime.compile else 0.0))


def _rate(job: Job, batch: int, runtime: Runtime) -> float:
    """Operations a second that training of a job's network reaches here; compilation is allowed for."""
    batch, task = min(batch, _TRIAL), job.task
    network = build(job.recipe.model, task.shape, task.num_classes)
    initial = {k: v.clone() for k, v in network.state_dict().items()}
    eager = Runtime(device=runtime.device, compile=False)
    context = Context(stream=Stream(0), runtime=eager, precision=job.recipe.precision)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context)
    source = TensorSource(
        torch.randn(batch, *task.shape, device=runtime.device),
        torch.randn(batch, task.num_classes, device=runtime.device),
    )
    config = TrainConfig(epochs=1, batch=batch)
    times: list[float] = []
    while sum(times) < _TRIAL_SECONDS or len(times) < 4:
        began = time.perf_counter()
        trainer.fit(initial, source, config, context.stream, context.segment)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    median = sorted(times[1:])[len(times[1:]) // 2]
    gain = _COMPILE_GAIN[job.recipe.precision, job.size.multiply_adds < _SMALL] if runtime.compile else 1.0
    return batch * ALL_GRADIENTS * max(1.0, job.size.multiply_adds) / median * gain
