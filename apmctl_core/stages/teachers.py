"""Teachers: networks trained on the real data, which the synthetic images are matched against."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from apmctl_core.config import ModelConfig, TeacherConfig
from apmctl_core.data import Dataset
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.errors import Interrupted, NumericsError
from apmctl_core.events import Emit, Progress, silent
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models.registry import build
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Keeper, Nowhere, Snapshot, Thrifty
from apmctl_core.training.examples import RealSource
from apmctl_core.training.loop import Predictor, Progressed, Schedule, Trainer, accuracy, cross_entropy
from apmctl_core.values import State, TeacherPool

_SEPARATOR = "|"  # between the kind of a tensor and its name in a saved state; no weight has it in its name


@dataclass(frozen=True)
class _Teacher:
    weights: State
    test_accuracy: float


def train_teachers(
    dataset: Dataset,
    preprocessing: Preprocessing,
    model: ModelConfig,
    config: TeacherConfig,
    *,
    stream: Stream,
    runtime: Runtime,
    precision: str,
    keeper: Keeper | None = None,
    emit: Emit = silent,
) -> tuple[TeacherPool, dict[str, float]]:
    """Train `config.count` teachers; each is its last epoch's weights (METHOD: settings of teachers).

    Returns the pool and its metrics. Finished teachers and the epochs of an unfinished one are saved with `keeper`
    and found again. Raises NumericsError where a loss stops being finite.
    """
    work = _Work(dataset, preprocessing, model, config, runtime, precision, keeper or Nowhere(), emit)
    teachers = [work.teacher(number, stream.at("teacher", number)) for number in range(config.count)]
    accuracies = torch.tensor([t.test_accuracy for t in teachers])
    metrics = {
        "teachers": float(config.count),
        "test_accuracy_mean": float(accuracies.mean()),
        "test_accuracy_std": float(accuracies.std(correction=0)),
    }
    pool = TeacherPool(
        model=model,
        shape=dataset.shape,
        num_classes=dataset.num_classes,
        states=[t.weights for t in teachers],
        preprocessing=preprocessing,
    )
    return pool, metrics


class _Work:
    """What the teachers of a pool share: the network's compiled code and the sources."""

    def __init__(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        model: ModelConfig,
        config: TeacherConfig,
        runtime: Runtime,
        precision: str,
        keeper: Keeper,
        emit: Emit,
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._keeper = keeper
        self._emit = emit
        self._build = functools.partial(build, model, dataset.shape, dataset.num_classes)
        self._train = RealSource(dataset.train, preprocessing, runtime.device, precision)
        self._test = RealSource(dataset.test, preprocessing, runtime.device, precision)
        self._trainer = Trainer(self._build(0), cross_entropy, runtime, precision, batch=config.batch)
        self._predict = Predictor(self._build(0), runtime, precision)

    def teacher(self, number: int, stream: Stream) -> _Teacher:
        """Train one teacher, or take it from where it was kept."""
        done, running = f"teacher-{number:03d}", f"training-{number:03d}"
        kept = self._keeper.load(done)
        if kept is not None:
            self._report(number, self._config.epochs, {})
            return _Teacher(kept.tensors, float(kept.meta["test_accuracy"]))
        self._fit(number, stream, running)
        weights = {name: value.cpu() for name, value in self._trainer.weights().items()}
        self._predict.load(weights)
        segment, device = self._runtime.segment, self._runtime.device
        tested = segment.attempt(lambda: accuracy(self._predict, self._test, segment), device)
        teacher = _Teacher(weights, tested)
        meta = {"test_accuracy": teacher.test_accuracy, "progress": self._progress(number, self._config.epochs)}
        self._keeper.save(done, Snapshot(weights, meta))
        self._keeper.clear(running)
        return teacher

    def _fit(self, number: int, stream: Stream, name: str) -> None:
        c = self._config
        schedule = Schedule(epochs=c.epochs, lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay, batch=c.batch)
        saving = Thrifty(self._keeper, name)
        latest: Progressed | None = None

        def snapshot() -> Snapshot:
            assert latest is not None
            return _pack(latest, self._progress(number, latest.epoch))

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal latest
            loss = float(total)
            if loss != loss or loss == float("inf"):
                raise NumericsError(
                    f"the loss of teacher {number} stopped being finite in epoch {epoch}",
                    "try a lower learning rate (--lr, in distill --teacher-lr); the epochs before are kept",
                )
            latest = self._trainer.progressed(epoch)
            self._report(number, epoch, {"loss": loss})
            if epoch < c.epochs:
                saving.offer(snapshot)
                self._runtime.segment.checkpoint(self._runtime.device)

        kept = self._keeper.load(name)
        initial = self._build(stream.at("weights").number).state_dict()
        latest = _unpack(kept) if kept else None

        def fit() -> None:
            # Where memory runs out, the epochs that are done stay done.
            self._trainer.fit(initial, self._train, schedule, stream, resume=latest, after_epoch=after_epoch)

        try:
            self._runtime.segment.attempt(fit, self._runtime.device)
        except (Interrupted, NumericsError):
            if latest is not None:
                saving.last(snapshot)
            raise

    def _progress(self, number: int, epoch: int) -> dict[str, object]:
        return {
            "done": number * self._config.epochs + epoch,
            "total": self._config.count * self._config.epochs,
            "unit": "epoch",
        }

    def _report(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        done = number * self._config.epochs + epoch
        total = self._config.count * self._config.epochs
        self._emit(Progress(stage="teachers", done=done, total=total, unit="epoch", metrics=metrics))


def _pack(state: Progressed, progress: dict[str, object]) -> Snapshot:
    tensors = {f"weight{_SEPARATOR}{k}": v for k, v in state.weights.items()}
    tensors |= {f"momentum{_SEPARATOR}{k}": v for k, v in state.momentum.items()}
    return Snapshot(tensors, {"epoch": state.epoch, "progress": progress})


def _unpack(snapshot: Snapshot) -> Progressed:
    parts: dict[str, dict[str, Tensor]] = {"weight": {}, "momentum": {}}
    for key, value in snapshot.tensors.items():
        kind, _, name = key.partition(_SEPARATOR)
        parts[kind][name] = value
    return Progressed(int(snapshot.meta["epoch"]), parts["weight"], parts["momentum"])
