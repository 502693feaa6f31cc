"""Segments: how they cut, how long they may be, and what happens where memory runs out."""

import dataclasses
import itertools
import subprocess
import sys
import textwrap

import pytest
import torch

from apmctl_core.config import ApmConfig, EvalConfig, TeacherConfig, TrainConfig
from apmctl_core.errors import ConfigError, MemoryExhaustedError
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.machine import memory
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.runtime import Runtime
from apmctl_core.machine.segment import Segment, attempt, checkpoint, padded, segment_length, segments
from apmctl_core.models.convnet import ConvNet
from apmctl_core.stages.distill import distill
from apmctl_core.stages.labelling import Labeller
from apmctl_core.stages.teachers import train_teachers
from apmctl_core.values import DistilledSet
from tests.helpers import MODEL, context, standard, toy_dataset, toy_pool

CPU = torch.device("cpu")
# How torch's allocator on the CPU words it.
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
STUDENT = TrainConfig(epochs=4, lr=0.02, momentum=0.9, weight_decay=5e-4, batch=256)
CONFIG = ApmConfig(ipc=2, rounds=4, student=STUDENT, checkpoints=2, refresh_every=2, image_lr=0.5, alpha=0.5)
COST = Cost(flops=1e9, step_flops=1e6, images=100, image_bytes=1e6, fixed_bytes=20e6)


@pytest.mark.parametrize(("count", "limit", "lengths"), [(10, 0, [10]), (10, 3, [3, 3, 3, 1]), (10, 7, [5, 5])])
def test_segments_cover_everything_and_stay_under_the_limit(count, limit, lengths):
    parts = [part for part, _ in segments(count, segment_length(count, limit), pad=False)]
    assert [part.stop - part.start for part in parts] == lengths
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))


def test_padding_repeats_rows_or_adds_zeros():
    x = torch.tensor([[1.0], [2.0]])
    assert padded(x, 4).flatten().tolist() == [1, 2, 1, 1]
    assert padded(x, 3, zero=True).flatten().tolist() == [1, 2, 0]
    assert padded(x, 2) is x


@pytest.fixture
def machine(monkeypatch):
    """A machine with 100 MB in use, 200 MB free, and a peak that tests set."""
    state = {"peak": 100_000_000}
    monkeypatch.setattr(memory, "held", lambda device: 100_000_000)
    monkeypatch.setattr(memory, "free", lambda device: 200_000_000)
    monkeypatch.setattr(memory, "latest_peak", lambda device: state["peak"])
    monkeypatch.setattr(memory, "begin_peak", lambda device: state.update(peak=100_000_000))
    monkeypatch.setattr(memory, "give_back", lambda device: None)
    monkeypatch.setattr(Runtime, "with_torch", lambda self, cost: cost)
    return state


class Heard(list):
    def __call__(self, event):
        self.append(event.text)


def runtime(limit=None, budget=None):
    """A runtime that does as memory demands, or as asked."""
    return Runtime(device=CPU, compile=False, limit=limit, memory_budget=budget)


def silent(event):
    pass


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        (runtime(), 0),  # 180 MB may be taken, 120 are needed
        (runtime(budget=300_000_000), 0),
        (runtime(budget=170_000_000), 50),
        (runtime(20, 170_000_000), 20),
        (runtime(80, 170_000_000), 50),
        (runtime(80), 80),
        (runtime(0), 0),
    ],
)
def test_the_longest_segment_that_is_predicted_to_fit_is_taken(machine, asked, limit):
    assert asked.for_cost(COST).segment.limit == limit


def test_what_is_free_bounds_a_segment_that_nobody_bounds(machine, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 100_000_000)
    assert runtime().for_cost(COST).segment.limit == 70
    monkeypatch.setattr(memory, "free", lambda device: 0)
    assert runtime().for_cost(COST).segment.limit == 1  # a guess is no reason not to try


def test_a_budget_that_one_image_exceeds_is_refused_with_what_is_needed(machine):
    with pytest.raises(ConfigError, match=r"0.12 GB is too small: about 0.12 GB") as caught:
        runtime(budget=120_500_000).require(COST)
    assert caught.value.hint
    runtime(budget=121_500_000).require(COST)
    runtime().require(COST)


def test_a_batch_that_must_stay_whole_is_neither_cut_nor_begun_without_room(machine):
    whole = dataclasses.replace(COST, whole=64)
    with pytest.raises(ConfigError, match="`segment` 20 would divide a batch of 64"):
        runtime(20).require(whole)
    with pytest.raises(ConfigError, match="with 64 images at a time"):
        runtime(budget=170_000_000).require(whole)
    assert runtime(64).for_cost(whole).segment.limit == 64
    assert runtime(budget=185_000_000).for_cost(whole).segment.limit == 65


def test_segments_that_are_cut_from_the_start_say_so(machine):
    heard = Heard()
    runtime(budget=170_000_000).for_cost(COST, heard)
    assert heard == ["using segments of 50 images to stay within memory"]
    runtime(20, 170_000_000).for_cost(COST, heard)
    assert len(heard) == 1


def test_segments_halve_until_the_work_fits_and_say_so():
    heard, tried = Heard(), []

    def work(segment):
        tried.append(segment.length(100))
        if tried[-1] > 30:
            raise RuntimeError(NO_MEMORY)
        return "done"

    value, segment = attempt(work, Segment(images=100), CPU, heard)
    assert (value, segment.limit) == ("done", 25)
    assert tried == [100, 50, 25]
    assert heard == [
        "memory ran out: using segments of 50 images instead of 100",
        "memory ran out: using segments of 25 images instead of 50",
    ]


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError(), torch.OutOfMemoryError("of CUDA")])
def test_work_that_fits_in_no_segment_ends_in_an_error_of_its_own(error):
    tried = []

    def work(segment):
        tried.append(segment.limit)
        raise error

    with pytest.raises(MemoryExhaustedError, match="one image at a time") as caught:
        attempt(work, Segment(limit=2, images=4), CPU, silent)
    assert caught.value.__cause__ is error
    assert tried == [2, 1]
    with pytest.raises(MemoryExhaustedError, match="a batch of 3 images at a time"):
        attempt(work, Segment(images=4, whole=3), CPU, silent)
    assert tried[2:] == [0, 3, 3][: len(tried) - 2]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_pass_through(error):
    def work(segment):
        raise error

    with pytest.raises(type(error)):
        attempt(work, Segment(images=4), CPU, silent)


def using(machine, image_bytes):
    """Work that takes so many bytes an image."""

    def work(segment):
        machine["peak"] = 120_000_000 + segment.longest * image_bytes

    return work


def test_a_first_round_above_the_budget_shortens_the_segments(machine):
    heard = Heard()
    segment = runtime(budget=200_000_000).for_cost(COST).segment
    assert (segment.limit, segment.longest) == (80, 50)
    _, segment = attempt(using(machine, 2_000_000), segment, CPU, heard)  # twice what was predicted
    assert segment.limit == 29
    assert heard == ["memory use reached 0.22 GB, the limit is 0.20 GB: using segments of 25 images instead of 50"]
    _, segment = attempt(using(machine, 2_000_000), segment, CPU, heard)
    assert segment.limit == 29  # 25 images take 170 MB
    _, segment = attempt(using(machine, 6_000_000), segment, CPU, heard)  # it may come worse at any time
    assert segment.limit < 25


def test_a_round_within_the_budget_or_hardly_above_leaves_the_segments_alone(machine):
    segment = runtime(budget=200_000_000).for_cost(COST).segment
    for peak in (199_000_000, 203_000_000):
        _, after = attempt(lambda _, peak=peak: machine.update(peak=peak), segment, CPU, silent)
        assert after == segment


def test_long_work_is_begun_again_where_it_takes_too_much(machine):
    begun = []

    def work(segment):
        begun.append(segment.limit)
        using(machine, 2_000_000)(segment)
        checkpoint(segment, CPU, silent)
        return "done"

    value, segment = attempt(work, runtime(budget=200_000_000).for_cost(COST).segment, CPU, silent)
    assert (value, begun, segment.limit) == ("done", [80, 29], 29)


def test_a_budget_that_one_image_exceeds_in_earnest_is_said_once(machine):
    heard = Heard()
    segment = runtime(budget=200_000_000).for_cost(COST).segment
    for _ in range(12):
        _, segment = attempt(lambda _: machine.update(peak=400_000_000), segment, CPU, heard)
    assert segment.limit == 1
    assert heard[-1] == "memory use reached 0.40 GB, the limit is 0.20 GB; segments cannot be shorter"
    assert sum("cannot be shorter" in text for text in heard) == 1


def test_a_resumed_run_takes_the_segments_that_it_had(machine):
    resumed = runtime(budget=170_000_000).for_cost(COST).resumed(0)
    _, segment = attempt(using(machine, 9_000_000), resumed, CPU, silent)
    assert segment.limit == 0  # others would round otherwise; running out of memory still shortens them
    assert runtime(7).for_cost(COST).resumed(3).limit == 7


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_peak_can_be_begun_again():
    big = torch.ones(50_000_000)
    before, whole = memory.latest_peak(CPU), memory.peak(CPU)
    del big
    memory.give_back(CPU)
    memory.begin_peak(CPU)
    assert memory.latest_peak(CPU) < before - 100_000_000
    assert memory.peak(CPU) >= whole


def narrow(monkeypatch, after=0):
    """From the `after`-th pass on, networks run out of memory with more than three images at once."""
    passes = itertools.count(1)
    forward = ConvNet.forward

    def limited(self, x):
        if next(passes) > after and len(x) > 3:
            raise RuntimeError(NO_MEMORY)
        return forward(self, x)

    monkeypatch.setattr(ConvNet, "forward", limited)


def distilled():
    return distill(toy_dataset(), toy_pool(), CONFIG, context(images=6))


@pytest.mark.parametrize("after", [0, 20])
def test_a_distillation_that_runs_out_of_memory_ends_at_the_same_images(monkeypatch, after):
    expected = distilled()
    narrow(monkeypatch, after)
    state = distilled()
    torch.testing.assert_close(state.images, expected.images, atol=1e-4, rtol=0)
    assert state.segment.limit == 3


class Limits:
    """A keeper that remembers with which segments each state was computed."""

    def __init__(self):
        self.limits = {}

    def load(self, name):
        return None

    def save(self, name, snapshot):
        self.limits[name] = snapshot.segment

    def clear(self, name):
        pass


def test_teachers_labels_and_evaluation_run_in_shorter_segments_too(monkeypatch):
    narrow(monkeypatch)
    keeper = Limits()
    config = TeacherConfig(count=1, epochs=2, batch=8)
    pool, _ = train_teachers(toy_dataset(), standard(), MODEL, config, context(images=8, keeper=keeper))
    assert 1 <= keeper.limits["teacher-000"] <= 3
    images = torch.randn(6, 3, 8, 8)
    labeller = Labeller(pool, "mean", context(images=6))
    logits = labeller(images)
    assert labeller.segment.limit == 3
    assert logits.shape == (6, 3)
    labels = torch.arange(3).repeat(2)
    values = DistilledSet(
        images=images,
        logits=logits,
        labels=labels,
        stage=torch.zeros_like(labels),
        classes=toy_dataset().classes,
        preprocessing=standard(),
        baseline=None,
    )
    config = EvalConfig(epochs=2, repeats=1)
    (row, *_) = evaluate(values, toy_dataset(), [MODEL], config, context(images=6, keeper=keeper))
    assert 0 <= row.accuracies[0] <= 1
    assert 1 <= keeper.limits["networks"] <= 3


def test_epochs_that_are_done_stay_done_when_memory_runs_out(monkeypatch):
    narrow(monkeypatch, after=17)  # 60 images, batches of 8: two epochs and a bit
    epochs = []
    train_teachers(
        toy_dataset(),
        standard(),
        MODEL,
        TeacherConfig(count=1, epochs=3, batch=8),
        context(images=8, emit=lambda event: epochs.append(getattr(event, "done", None))),
    )
    assert [done for done in epochs if done] == [1, 2, 3]


REAL = """
import resource, torch
from apmctl_core.config import ModelConfig, TrainConfig
from apmctl_core.machine.runtime import Runtime
from apmctl_core.machine.segment import Segment
from apmctl_core.models import build
from apmctl_core.seeding import Stream
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure

torch.set_num_threads(1)
runtime = Runtime(device=torch.device("cpu"), compile=False, segment=Segment(images=256))
context = Context(stream=Stream(0), runtime=runtime, emit=lambda note: print(note.text))
network = build(ModelConfig(arch="convnet2", width=32), (3, 64, 64), 10)
trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context)
source = TensorSource(torch.randn(256, 3, 64, 64), torch.randn(256, 10))
initial = {k: v.clone() for k, v in network.state_dict().items()}
config = TrainConfig(epochs=1, lr=0.01, momentum=0.9, weight_decay=0.0, batch=256)
trainer.fit(initial, TensorSource(source.images[:2], source.targets[:2]), config, Stream(0), context.segment)
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
_, segment = context.attempt(lambda s: trainer.fit(initial, source, config, Stream(0), s), context.segment)
print("limit", segment.limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps")
def test_a_real_lack_of_memory_is_recognised_and_survived():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REAL)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *notes, last = done.stdout.splitlines()
    assert notes
    assert all("memory ran out" in note for note in notes)
    assert 1 <= int(last.split()[1]) <= 128
