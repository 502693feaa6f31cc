"""Segments: how they cut, how long they may be, and what happens where memory runs out."""

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
from apmctl_core.machine.segment import Load, Segment, padded, segment_length, segments
from apmctl_core.models.convnet import ConvNet
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.stages.labelling import Labeller
from apmctl_core.stages.teachers import train_teachers
from apmctl_core.values import DistilledSet
from tests.helpers import MODEL, runtime, standard, toy_dataset, toy_pool

CPU = torch.device("cpu")
# How torch's allocator on the CPU words it.
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
CONFIG = ApmConfig(
    ipc=2, rounds=4, student=TrainConfig(epochs=4), checkpoints=2, refresh_every=2, image_lr=0.5, alpha=0.5
)
LOAD = Load(flops=1e9, step_flops=1e6, images=100, image_bytes=1e6, fixed_bytes=20e6)


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
    found = {"peak": 100_000_000}
    monkeypatch.setattr(memory, "held", lambda device: 100_000_000)
    monkeypatch.setattr(memory, "free", lambda device: 200_000_000)
    monkeypatch.setattr(memory, "latest_peak", lambda device: found["peak"])
    monkeypatch.setattr(memory, "begin_peak", lambda device: found.update(peak=100_000_000))
    monkeypatch.setattr(memory, "give_back", lambda device: None)
    return found


class Heard(list):
    def __call__(self, event):
        self.append(event.text)


@pytest.mark.parametrize(
    ("segment", "limit"),
    [
        (Segment(automatic=True), 0),  # 180 MB may be taken, 120 are needed
        (Segment(automatic=True, budget=300_000_000), 0),
        (Segment(automatic=True, budget=170_000_000), 50),
        (Segment(20, budget=170_000_000), 20),
        (Segment(80, budget=170_000_000), 50),
        (Segment(80), 80),
        (Segment(), 0),
    ],
)
def test_the_longest_segment_that_is_predicted_to_fit_is_taken(machine, segment, limit):
    assert segment.for_load(LOAD, CPU).limit == limit
    assert segment.limit in (0, 20, 80)  # what was asked for stays for the next stage


def test_what_is_free_bounds_a_segment_that_nobody_bounds(machine, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 100_000_000)
    assert Segment(automatic=True).for_load(LOAD, CPU).limit == 70
    monkeypatch.setattr(memory, "free", lambda device: 0)
    assert Segment(automatic=True).for_load(LOAD, CPU).limit == 1  # a guess is no reason not to try


def test_a_budget_that_one_image_exceeds_is_refused_with_what_is_needed(machine):
    with pytest.raises(ConfigError, match=r"0.12 GB is too small: about 0.12 GB") as caught:
        Segment(automatic=True, budget=120_500_000).require(LOAD, CPU)
    assert caught.value.hint
    Segment(automatic=True, budget=121_500_000).require(LOAD, CPU)
    Segment(automatic=True).require(LOAD, CPU)


def test_segments_that_are_cut_from_the_start_say_so(machine):
    heard = Heard()
    Segment(automatic=True, budget=170_000_000, emit=heard).for_load(LOAD, CPU)
    assert heard == ["segments of 50 images, to stay within memory"]
    Segment(20, budget=170_000_000, emit=heard).for_load(LOAD, CPU)
    assert len(heard) == 1


def test_segments_halve_until_the_work_fits_and_say_so():
    heard, tried = Heard(), []
    segment = Segment(emit=heard)

    def piece():
        tried.append(segment.length(100))
        if tried[-1] > 30:
            raise RuntimeError(NO_MEMORY)
        return "done"

    assert segment.attempt(piece, CPU) == "done"
    assert tried == [100, 50, 25]
    assert segment.limit == 25
    assert heard == [
        "memory ran out: segments of 50 images from here on, after 100",
        "memory ran out: segments of 25 images from here on, after 50",
    ]


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError(), torch.OutOfMemoryError("of CUDA")])
def test_work_that_fits_in_no_segment_ends_in_an_error_of_its_own(error):
    segment = Segment(limit=2)

    def piece():
        segment.length(4)
        raise error

    with pytest.raises(MemoryExhaustedError, match="one image at a time") as caught:
        segment.attempt(piece, CPU)
    assert caught.value.__cause__ is error
    assert segment.limit == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_pass_through(error):
    segment = Segment()
    with pytest.raises(type(error)):
        segment.attempt(lambda: (_ for _ in ()).throw(error), CPU)
    assert segment.limit == 0


def taking(machine, segment, image_bytes):
    """A piece of work that takes so many bytes an image."""

    def piece():
        machine["peak"] = 120_000_000 + segment.length(80) * image_bytes

    return piece


def test_a_first_round_above_the_budget_shortens_the_segments(machine):
    heard = Heard()
    segment = Segment(automatic=True, budget=200_000_000, emit=heard).for_load(LOAD, CPU)
    assert segment.limit == 80
    del heard[:]
    segment.attempt(taking(machine, segment, 1_500_000), CPU)  # half more than was predicted
    assert segment.limit == 39
    assert heard == ["0.24 GB were taken, 0.20 may be: segments of 27 images from here on, after 80"]
    segment.attempt(taking(machine, segment, 1_500_000), CPU)
    assert segment.limit == 39  # 27 images take 160 MB
    segment.attempt(taking(machine, segment, 4_000_000), CPU)  # it may come worse at any time
    assert segment.limit < 27


def test_a_round_within_the_budget_or_hardly_above_leaves_the_segments_alone(machine):
    segment = Segment(automatic=True, budget=200_000_000).for_load(LOAD, CPU)
    segment.attempt(lambda: machine.update(peak=199_000_000), CPU)
    segment.attempt(lambda: machine.update(peak=203_000_000), CPU)
    assert segment.limit == 80


def test_a_long_piece_of_work_is_begun_again_where_it_takes_too_much(machine):
    segment = Segment(automatic=True, budget=200_000_000).for_load(LOAD, CPU)
    begun = []

    def piece():
        begun.append(segment.limit)
        taking(machine, segment, 1_500_000)()
        segment.checkpoint(CPU)
        return "done"

    assert segment.attempt(piece, CPU) == "done"
    assert begun == [80, 39]


def test_a_budget_that_one_image_exceeds_in_earnest_is_said_once(machine):
    heard = Heard()
    segment = Segment(automatic=True, budget=200_000_000, emit=heard).for_load(LOAD, CPU)
    for _ in range(12):
        segment.attempt(lambda: (segment.length(80), machine.update(peak=400_000_000)), CPU)
    assert segment.limit == 1
    assert heard[-1] == "0.40 GB were taken, 0.20 may be, with one image at a time"
    assert sum("one image" in text for text in heard) == 1


def test_a_resumed_run_takes_the_segments_that_it_had(machine):
    segment = Segment(automatic=True, budget=170_000_000).for_load(LOAD, CPU)
    segment.resume(0)
    segment.attempt(taking(machine, segment, 9_000_000), CPU)
    assert segment.limit == 0  # others would round otherwise; running out of memory still shortens them
    asked = Segment(7)
    asked.resume(3)
    assert asked.limit == 7


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


def distilled(runtime):
    return distill(toy_dataset(), toy_pool(), CONFIG, stream=Stream(0), runtime=runtime, precision="fp32")[0]


@pytest.mark.parametrize("after", [0, 20])
def test_a_distillation_that_runs_out_of_memory_ends_at_the_same_images(monkeypatch, after):
    expected = distilled(runtime())
    narrow(monkeypatch, after)
    here = runtime()
    torch.testing.assert_close(distilled(here), expected, atol=1e-4, rtol=0)
    assert here.segment.limit == 3


def test_teachers_labels_and_evaluation_run_in_shorter_segments_too(monkeypatch):
    narrow(monkeypatch)
    here = runtime()
    pool, _ = train_teachers(
        toy_dataset(),
        standard(),
        MODEL,
        TeacherConfig(count=1, epochs=2, batch=8),
        stream=Stream(0),
        runtime=here,
        precision="fp32",
    )
    assert here.segment.limit <= 3
    here = runtime()
    images = torch.randn(6, 3, 8, 8)
    logits = Labeller(pool, "mean", stream=Stream(0), runtime=here, precision="fp32")(images)
    assert here.segment.limit == 3
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
    here = runtime()
    config = EvalConfig(epochs=2, repeats=1)
    (row, *_) = evaluate(values, toy_dataset(), [MODEL], config, stream=Stream(0), runtime=here, precision="fp32")
    assert 0 <= row.accuracies[0] <= 1
    assert here.segment.limit <= 3


def test_epochs_that_are_done_stay_done_when_memory_runs_out(monkeypatch):
    narrow(monkeypatch, after=17)  # 60 images, batches of 8: two epochs and a bit
    epochs = []
    train_teachers(
        toy_dataset(),
        standard(),
        MODEL,
        TeacherConfig(count=1, epochs=3, batch=8),
        stream=Stream(0),
        runtime=runtime(),
        precision="fp32",
        emit=lambda event: epochs.append(event.done),
    )
    assert epochs == [1, 2, 3]


REAL = """
import resource, torch
from apmctl_core.machine import memory
from apmctl_core.config import ModelConfig
from apmctl_core.models.registry import build
from apmctl_core.training.examples import TensorSource
from apmctl_core.machine.runtime import Runtime
from apmctl_core.seeding import Stream
from apmctl_core.machine.segment import Segment
from apmctl_core.training.loop import Schedule, Trainer, match_logits

torch.set_num_threads(1)
runtime = Runtime(device=torch.device("cpu"), compile=False, segment=Segment(emit=lambda note: print(note.text)))
network = build(ModelConfig(arch="convnet2", width=32), (3, 64, 64), 10)
trainer = Trainer(network, match_logits, runtime, "fp32", batch=256)
source = TensorSource(torch.randn(256, 3, 64, 64), torch.randn(256, 10))
initial = {k: v.clone() for k, v in network.state_dict().items()}
schedule = Schedule(epochs=1, lr=0.01, momentum=0.9, weight_decay=0.0, batch=256)
trainer.fit(initial, TensorSource(source.images[:2], source.targets[:2]), schedule, Stream(0))
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
runtime.segment.attempt(lambda: trainer.fit(initial, source, schedule, Stream(0)), runtime.device)
print("limit", runtime.segment.limit)
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
