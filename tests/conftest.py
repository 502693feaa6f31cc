"""Settings that hold for all tests."""

import os

# Small tensors gain nothing from a second thread, and lose much where another process has the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
