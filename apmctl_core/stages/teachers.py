"""Teachers: networks trained on the real data, which the synthetic images are matched against."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from apmctl_core.config import ModelConfig, TeacherConfig
from apmctl_core.data import Dataset
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.errors import Interrupted, NumericsError
from apmctl_core.events import Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.segment import Segment
from apmctl_core.models import NetworkSize, build
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Snapshot, ThrottledSaver
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource
from apmctl_core.training.loop import Predictor, Trainer, TrainState
from apmctl_core.training.procedure import CROSS_ENTROPY, Procedure
from apmctl_core.values import State, Task, TeacherPool

_WEIGHT, _MOMENTUM = "weight|", "momentum|"  # before the names of tensors in a saved state


def train_teachers(
    dataset: Dataset, preprocessing: Preprocessing, model: ModelConfig, config: TeacherConfig, context: Context
) -> tuple[TeacherPool, dict[str, float]]:
    """Train `config.count` teachers; each is its last epoch's weights (METHOD: settings of teachers).

    Returns the pool and its metrics, without an accuracy where the data has no test split. Finished teachers and the
    epochs of an unfinished one are kept. Raises NumericsError where a loss stops being finite.
    """
    training = _Training(dataset, preprocessing, model, config, context)
    teachers = [training.teacher(number) for number in range(config.count)]
    metrics = {"teachers": float(config.count)}
    measured = [accuracy for _, accuracy in teachers if accuracy is not None]
    if measured:
        accuracies = torch.tensor(measured)
        metrics["test_accuracy_mean"] = float(accuracies.mean())
        metrics["test_accuracy_std"] = float(accuracies.std(correction=0))
    pool = TeacherPool(
        model=model,
        shape=dataset.shape,
        num_classes=dataset.num_classes,
        states=[weights for weights, _ in teachers],
        preprocessing=preprocessing,
    )
    return pool, metrics


def cost(config: TeacherConfig, task: Task, size: NetworkSize) -> Cost:
    """What training a pool asks of the machine; on disk, the running teacher has its momentum, too."""
    passes = config.count * (config.epochs * task.train * ALL_GRADIENTS + task.test * FORWARD)
    return size.cost(task, passes=passes, step=min(config.batch, task.train))


class _Training:
    """What the teachers of a pool share: the network's compiled code, the sources and the current segment."""

    def __init__(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        model: ModelConfig,
        config: TeacherConfig,
        context: Context,
    ) -> None:
        self._config = config
        self._context = context
        self._segment = context.segment
        self._build = functools.partial(build, model, dataset.shape, dataset.num_classes)
        self._train = RealSource(dataset.train, preprocessing, context.device, context.precision)
        self._test = RealSource(dataset.test, preprocessing, context.device, context.precision)
        self._trainer = Trainer(self._build(0), Procedure(loss=CROSS_ENTROPY), context)
        self._predict = Predictor(self._build(0), context)

    def teacher(self, number: int) -> tuple[State, float | None]:
        """The weights and the test accuracy of one teacher, trained or kept; None without test images."""
        done, running = f"teacher-{number:03d}", f"training-{number:03d}"
        kept = self._load(done)
        if kept is not None:
            self._context.emit(self._progress(number, self._config.epochs))
            return kept.tensors, kept.meta["test_accuracy"]
        self._fit(number, self._context.stream.at("teacher", number), running)
        weights = {name: value.cpu() for name, value in self._trainer.weights().items()}
        accuracy = self._accuracy(weights) if len(self._test) else None
        whole = self._progress(number, self._config.epochs)
        self._context.keeper.save(done, Snapshot(weights, {"test_accuracy": accuracy}, self._segment.limit, whole))
        self._context.keeper.clear(running)
        return weights, accuracy

    def _accuracy(self, weights: State) -> float:
        self._predict.load(weights)
        accuracy, self._segment = self._context.attempt(
            lambda segment: self._predict.accuracy(self._test, segment), self._segment
        )
        return accuracy

    def _load(self, name: str) -> Snapshot | None:
        kept = self._context.keeper.load(name)
        if kept is not None:
            self._segment = self._context.runtime.resumed(kept.segment)
        return kept

    def _fit(self, number: int, stream: Stream, name: str) -> None:
        """Train the network of a teacher; where memory runs out, the epochs that are done stay done."""
        saver = ThrottledSaver(self._context.keeper, name)
        kept = self._load(name)
        latest = _unpacked(kept) if kept else None
        initial = self._build(stream.at("weights").number).state_dict()

        def snapshot() -> Snapshot:
            assert latest is not None
            return _packed(latest, self._segment.limit, self._progress(number, latest.epoch))

        def fit(segment: Segment) -> None:
            def after_epoch(epoch: int, total: Tensor) -> None:
                nonlocal latest
                self._check(number, epoch, float(total))
                latest = self._trainer.state(epoch)
                self._segment = segment
                self._context.emit(self._progress(number, epoch, loss=float(total)))
                if epoch < self._config.epochs:
                    saver.offer(snapshot)
                    self._context.checkpoint(segment)

            self._trainer.fit(
                initial, self._train, self._config, stream, segment, resume=latest, after_epoch=after_epoch
            )

        try:
            _, self._segment = self._context.attempt(fit, self._segment)
        except (Interrupted, NumericsError):
            if latest is not None:
                saver.last(snapshot)
            raise

    @staticmethod
    def _check(number: int, epoch: int, loss: float) -> None:
        if math.isnan(loss) or loss == math.inf:
            raise NumericsError(
                f"the loss of teacher {number} stopped being finite in epoch {epoch}",
                "try a lower `teachers.lr`; the epochs before are kept",
            )

    def _progress(self, number: int, epoch: int, **metrics: float) -> Progress:
        done, total = number * self._config.epochs + epoch, self._config.count * self._config.epochs
        return Progress(stage="teachers", done=done, total=total, unit="epoch", metrics=metrics)


def _packed(state: TrainState, limit: int, progress: Progress) -> Snapshot:
    tensors = {_WEIGHT + name: value for name, value in state.weights.items()}
    tensors |= {_MOMENTUM + name: value for name, value in state.momentum.items()}
    return Snapshot(tensors, {"epoch": state.epoch}, limit, progress)


def _unpacked(snapshot: Snapshot) -> TrainState:
    def part(kind: str) -> State:
        return {k.removeprefix(kind): value for k, value in snapshot.tensors.items() if k.startswith(kind)}

    return TrainState(int(snapshot.meta["epoch"]), part(_WEIGHT), part(_MOMENTUM))
