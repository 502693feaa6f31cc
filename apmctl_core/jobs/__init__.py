"""What can be made, as picklable values: where stages and artifacts meet.

A job knows what its id covers, what it reads, what it costs and how it is made; each kind has a file of its own.
"""

from __future__ import annotations

from apmctl_core.jobs.advice import Advice
from apmctl_core.jobs.commands import distill_set, evaluate_set, relabel_set, release, train_pool
from apmctl_core.jobs.compare import Comparison, compare_sets
from apmctl_core.jobs.job import Outcome, run
from apmctl_core.jobs.plan import Plan, PlanStep, plan
from apmctl_core.jobs.resume import resume
from apmctl_core.jobs.session import Session
from apmctl_core.jobs.work import StageTime

__all__ = [
    "Advice",
    "Comparison",
    "Outcome",
    "Plan",
    "PlanStep",
    "Session",
    "StageTime",
    "compare_sets",
    "distill_set",
    "evaluate_set",
    "plan",
    "relabel_set",
    "release",
    "resume",
    "run",
    "train_pool",
]
