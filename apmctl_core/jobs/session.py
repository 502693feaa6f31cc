"""Where a run keeps things and how it computes: what all commands share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from apmctl_core import data as datasets
from apmctl_core.artifacts import Artifact, Store
from apmctl_core.artifacts.request import Request
from apmctl_core.config import DataConfig
from apmctl_core.data import Choices, Dataset
from apmctl_core.errors import DataError, MismatchError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.hub.find import find
from apmctl_core.machine.runtime import Runtime
from apmctl_core.network.references import PREFIX


@dataclass(frozen=True, kw_only=True)
class Session:
    """The store, the runtime, where the data lies, who listens, and whether to wait for other processes.

    `request` is what unfinished runs keep of what they were begun for, `line` what a person typed.
    `skip_broken` leaves out images of the data that cannot be decoded. `test_path` is where the test images of an
    artifact lie now, whose recipe has the name of their folder alone.
    """

    store: Store
    runtime: Runtime
    data_path: Path | None = None
    emit: Emit = silent
    wait: bool = True
    request: Request | None = None
    line: str = ""
    skip_broken: bool = False
    test_path: Path | None = None

    def find(self, ref: str, kind: str) -> Artifact:
        """The artifact that a user names: in the store, in a folder, or on the Hub, from which it is pulled."""
        return find(self.store, ref, kind, wait=self.wait, emit=self.emit)

    def load(self, config: DataConfig, fingerprint: str = "") -> Dataset:
        """The data set of a config, from the cache or decoded into it; with `fingerprint`, that very data.

        The first reading of a command, which knows no fingerprint, tells what is tested on where that is not obvious.

        Raises DataError, NetworkError; MismatchError where the data has another fingerprint.
        """
        if fingerprint:
            return self._cached(config, fingerprint) or self._found(config, fingerprint)
        dataset = datasets.load(
            config.dataset, self.store.cache, emit=self.emit, **self._choices(config, self.data_path)
        )
        self.tell(dataset)
        return dataset

    def _cached(self, config: DataConfig, fingerprint: str) -> Dataset | None:
        """The copy of that very data in the cache, if the user does not say where it lies."""
        # A recipe has the name of a folder of test images, not where it lies.
        if self.test_path is None and (self.data_path is None or config.test_split is not None):
            return datasets.find_fingerprint(fingerprint, self.store.cache, name=config.dataset)
        return None

    def _found(self, config: DataConfig, fingerprint: str) -> Dataset:
        """The data of an artifact, where the user says that it lies now."""
        name, path = config.dataset, self.data_path
        if name not in datasets.KNOWN and not name.startswith(PREFIX):  # the name of a folder, not where it lies
            if path is None and not datasets.is_path(name):
                problem = f"the artifact was made from a folder called {name}, which is neither here nor in the cache"
                raise DataError(problem, "say where it lies with `data_path`")
            name, path = str(path or name), None
        if self.test_path is not None:
            config = replace(config, test_split=str(self.test_path.expanduser().absolute()))
        dataset = datasets.load(name, self.store.cache, emit=self.emit, **self._choices(config, path))
        if dataset.fingerprint != fingerprint:
            also = " and `data.test_split`" if self.test_path is not None else ""
            raise MismatchError(
                f"{config.dataset} as it is here is not the data that the artifact was made from",
                f"give the same files with `data_path`{also}",
            )
        return dataset

    def find_data(self, config: DataConfig) -> Dataset | None:
        """The data set if it is at hand without a download or hours of decoding, else None.

        Files of a known data set are checked all the same, as `load` does before it decodes them.
        """
        name, choices = config.dataset, self._choices(config, self.data_path)
        cached = datasets.find_cached(name, self.store.cache, **choices)
        if cached is not None:
            self.tell(cached)
        elif name not in datasets.KNOWN or datasets.KNOWN[name].open is not None:
            return self.load(config)
        elif self.data_path is not None:
            datasets.inspect(name, self.emit, **choices)
        return cached

    def tell(self, dataset: Dataset) -> None:
        """Say what everybody who reads a data set is told."""
        for note in dataset.notes:
            self.emit(Note(text=note))

    def _choices(self, config: DataConfig, path: Path | None) -> Choices:
        return {
            "path": path,
            "resolution": config.resolution,
            "test_split": config.test_split,
            "skip_broken": self.skip_broken,
        }
