"""The states of a stage, kept in the workspace of its run."""

from __future__ import annotations

from apmctl_core.artifacts.workspace import Workspace
from apmctl_core.training.checkpoint import Snapshot


class WorkspaceKeeper:
    """A `checkpoint.Keeper` whose states lie in a workspace, atomically and two generations deep."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def load(self, name: str) -> Snapshot | None:
        """The newest whole state of that name."""
        state = self._workspace.load_state(name)
        return None if state is None else Snapshot(*state)

    def save(self, name: str, snapshot: Snapshot) -> None:
        """Keep a state. Raises StoreError where the disk refuses; the states before it are then intact."""
        self._workspace.save_state(name, snapshot.tensors, snapshot.meta)

    def clear(self, name: str) -> None:
        """Forget a state."""
        self._workspace.clear_state(name)
