"""How much room on the disk a job needs: its states at their largest, and the artifact that they become."""

from __future__ import annotations

import math

from apmctl_core.values import Task

# A state takes its bytes three times: the newest, the one before, and the one that is being written.
GENERATIONS = 3
OVERHEAD = 1 << 20  # manifest, history, contact sheet, headers


def preprocessing_bytes(task: Task) -> int:
    """Bytes of the preprocessing of an artifact."""
    pixels = math.prod(task.shape)
    return 4 * (2 * pixels**2 + pixels) if task.preprocessing == "zca" else 0
