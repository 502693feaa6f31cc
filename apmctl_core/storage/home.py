"""Where a user's store is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "APMCTL_HOME"


def user_store() -> Path:
    """The folder that the environment names, else the one in the user's data."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("apmctl", appauthor=False)
