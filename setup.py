"""The README as a package index shows it: relative links and pictures become addresses in the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)]+)\)")


def readme(root: Path) -> str:
    """README.md with each relative link made absolute: to this version's tag, and for pictures to the file itself."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    repository, tag = project["urls"]["Repository"], f"v{project['version']}"

    def absolute(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        return f"{mark}{text}({repository}/{'raw' if mark else 'blob'}/{tag}/{path})"

    return _LINK.sub(absolute, (root / "README.md").read_text(encoding="utf-8"))


setup(long_description=readme(Path(__file__).resolve().parent), long_description_content_type="text/markdown")
