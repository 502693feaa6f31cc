#!/usr/bin/env python3
"""Check that a tag is the version that would be released, and that the README's links will lead to its repository."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems(tag: str, address: str) -> list[str]:
    """What keeps `tag` of the repository at `address` from being released."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version, repository = project["version"], project["urls"]["Repository"]
    checks = {
        f"the tag is {tag}, the version in pyproject.toml {version}": tag == f"v{version}",
        f"this is {address}, Repository in pyproject.toml {repository}": address == repository,
        f"CITATION.cff is not of version {version}": f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(),
        f"CHANGELOG.md has no heading [{version}]": f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(),
    }
    return [problem for problem, fine in checks.items() if not fine]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: check_release.py TAG ADDRESS")
    sys.exit("\n".join(problems(*sys.argv[1:])) or None)
