"""The benchmarks are scripts that import each other by name: their folder goes on the path, for children by itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
