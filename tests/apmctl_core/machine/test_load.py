"""How much other processes slow this one down, by the times of processors that are set by hand."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from apmctl_core.machine import load

CPU = torch.device("cpu")


class Machine:
    """Two cores: the seconds that passed, that all processes computed, and that this one did."""

    def __init__(self, monkeypatch):
        self.passed = self.all = self.own = 0.0
        self.waiting = 0.0
        monkeypatch.setattr(load.time, "perf_counter", lambda: self.passed)
        monkeypatch.setattr(psutil, "cpu_times", self.cpu_times)
        monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: SimpleNamespace(user=self.own, system=0.0))
        monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
        monkeypatch.setattr(psutil, "getloadavg", lambda: (self.waiting, 0.0, 0.0))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    def cpu_times(self):
        times = psutil._pslinux.scputimes if hasattr(psutil, "_pslinux") else None
        if times is None:
            pytest.skip("the fields are Linux'")
        idle = 2 * self.passed - self.all
        return times(*({"user": self.all, "idle": idle}.get(name, 0.0) for name in times._fields))

    def run(self, passed, others, own):
        self.passed, self.all, self.own = self.passed + passed, self.all + others + own, self.own + own


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("others", "own", "waiting", "cores", "slow"),
    [
        (0.0, 10.0, 0.0, 0.0, 1.0),  # alone
        (10.0, 10.0, 2.0, 1.0, 1.5),  # a core each, and another one waits
        (10.0, 9.5, 0.0, 1.0, 1.0),
        (13.0, 7.0, 0.0, 1.3, 10 / 7),  # it waits
        (13.0, 7.0, 5.0, 1.3, 3.0),  # five others want two cores
        (1.0, 9.9, 5.0, 0.1, 1.0),  # what has ended is still in the load average
    ],
)
def test_a_machine_is_slow_where_threads_want_more_than_its_cores(machine, others, own, waiting, cores, slow):
    machine.run(5.0, 3.0, 1.0)  # before anything is measured
    machine.waiting = waiting
    neighbours = load.Neighbours()
    machine.run(10.0, others, own)
    assert neighbours.cores() == pytest.approx(cores)
    assert neighbours.slowdown(CPU) == pytest.approx(slow)
    assert neighbours.slowdown(torch.device("cuda")) == 1.0


def test_this_machine_has_such_times():
    neighbours = load.Neighbours()
    assert 0 <= neighbours.cores() < 10_000
    assert neighbours.slowdown(CPU) >= 1
